// Certificates (X.509, RFC 5280), the signatures on them, and chains of them: ledger/formats/certificate.py, and what a
// library does for it. Signatures are checked by WebCrypto.

import { BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, NULL, OCTETS, OID, SEQUENCE, SET, UTC_TIME } from "./der.js";
import { context, readDer } from "./der.js";
import { Malformed, NotProven, Refusal } from "./errors.js";
import { concat, equal, fromHex, fromInteger, toHex } from "./text.js";

const MAX_CHAIN = 6;
const MIN_RSA_BITS = 2_048;
const MAX_RSA_BITS = 8_192;
const MAX_EXPONENT = 2n ** 32n;
const MAX_SALT = 512n;

const WHAT = "certificate";
const RSA = "1.2.840.113549.1.1.1";
const PSS = "1.2.840.113549.1.1.10";
const MGF1 = "1.2.840.113549.1.1.8";
const EC = "1.2.840.10045.2.1";
const ED25519 = "1.3.101.112";
const DIGESTS = {
    "2.16.840.1.101.3.4.2.1": "SHA-256",
    "2.16.840.1.101.3.4.2.2": "SHA-384",
    "2.16.840.1.101.3.4.2.3": "SHA-512",
};
const CURVES = {
    "1.2.840.10045.3.1.7": ["P-256", 32],
    "1.3.132.0.34": ["P-384", 48],
    "1.3.132.0.35": ["P-521", 66],
};
// [kind of signature, digest]; two leave the digest to the format
const ALGORITHMS = {
    [RSA]: ["rsa", null],
    "1.2.840.113549.1.1.11": ["rsa", "SHA-256"],
    "1.2.840.113549.1.1.12": ["rsa", "SHA-384"],
    "1.2.840.113549.1.1.13": ["rsa", "SHA-512"],
    "1.2.840.10045.4.3.2": ["ec", "SHA-256"],
    "1.2.840.10045.4.3.3": ["ec", "SHA-384"],
    "1.2.840.10045.4.3.4": ["ec", "SHA-512"],
    [ED25519]: ["ed25519", null],
};
const FITS = { rsa: ["rsa", "pss"], pss: ["pss"], ec: ["ec"], ed25519: ["ed25519"] };
// SEQUENCE { rsaEncryption, NULL }
const PLAIN_RSA = fromHex("300d06092a864886f70d0101010500");
const SUBJECT_KEY_ID = "2.5.29.14";
const BASIC_CONSTRAINTS = "2.5.29.19";
const EXTENDED_KEY_USAGE = "2.5.29.37";
const SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
};
// the kinds of text in names: how they are decoded, and what they may hold
const TEXTS = {
    0x0c: ["utf-8", /^[^]*$/],
    0x13: ["latin1", /^[A-Za-z0-9 '()+,\-./:=?]*$/],
    0x14: ["latin1", /^[^]*$/],
    0x16: ["latin1", /^[\x00-\x7f]*$/],
    0x1e: ["utf-16be", /^[^]*$/],
};
const PEM = /-----BEGIN (X509 )?CERTIFICATE-----([^-]*)-----END \1?CERTIFICATE-----/g;
const DAYS_PATTERN = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

// One certificate, read and not verified. Times are BigInt microseconds since 1970. `key.kind` null: a key that no
// signature here can be by; `algorithm` null: its own signature does not count.
export class Certificate {
    constructor(encoded) {
        const whole = readDer(encoded, WHAT).fields();
        const [signed, outer] = [whole.take(SEQUENCE), whole.take(SEQUENCE)];
        this.encoded = encoded;
        this.signed = signed.encoded;
        this.signature = bits(whole.take(BIT_STRING));
        whole.end();
        this.#read(signed.fields(), outer);
    }

    #read(fields, outer) {
        const version = fields.maybe(context(0));
        this.version = version === null ? 0n : inside(version).integer();
        if (this.version !== 0n && this.version !== 2n) {
            throw new Malformed(WHAT, "is of a version that is not known");
        }
        this.serial = fields.take(INTEGER).integer();
        const inner = fields.take(SEQUENCE);
        const issuer = fields.take(SEQUENCE);
        const validity = fields.take(SEQUENCE).fields();
        [this.notBefore, this.notAfter] = [timeOf(validity.take()), timeOf(validity.take())];
        validity.end();
        const subject = fields.take(SEQUENCE);
        [this.issuer, this.subject] = [issuer.encoded, subject.encoded];
        const key = fields.take(SEQUENCE);
        fields.maybe(0x81);
        fields.maybe(0x82);
        const extensions = fields.maybe(context(3));
        fields.end();
        this.extensions = extensions === null ? new Map() : extensionsOf(inside(extensions));
        // read at once, as others do: a certificate is readable or it is not
        [outer, inner, key.fields().take(SEQUENCE)].forEach(checkAlgorithm);
        this.algorithm = equal(outer.encoded, inner.encoded) ? countingOf(outer) : null;
        this.key = publicKeyOf(key);
        attributesOf(issuer);
        const text = ([name, value]) => `${SHORT_NAMES[name] ?? name}=${escaped(value)}`;
        this.name = attributesOf(subject).map((set) => set.map(text).join("+")).reverse().join(",");
        this.isAuthority = this.#isAuthority();
    }

    subjectKeyId() {
        const found = this.extensions.get(SUBJECT_KEY_ID);
        return found === undefined ? null : readDer(found.value, WHAT).of(OCTETS).content;
    }

    #isAuthority() {
        const found = this.extensions.get(BASIC_CONSTRAINTS);
        if (found === undefined) {
            return false;
        }
        const flag = readDer(found.value, WHAT).fields().maybe(BOOLEAN);
        return flag !== null && flag.content[0] === 0xff;
    }

    // {critical, purposes: object identifiers} or null
    extendedKeyUsage() {
        const found = this.extensions.get(EXTENDED_KEY_USAGE);
        if (found === undefined) {
            return null;
        }
        const purposes = readDer(found.value, WHAT).of(SEQUENCE).values().map((value) => value.oid());
        return { critical: found.critical, purposes };
    }
}

// The certificates in PEM texts. Throws Malformed.
export function certificatesOf(pems, readBase64) {
    return pems.flatMap((pem) => {
        const found = [...pem.matchAll(PEM)];
        if (found.length === 0) {
            throw new Malformed(WHAT, "is not PEM");
        }
        return found.map(([, , body]) => new Certificate(readBase64(body.replace(/\s/g, ""))));
    });
}

// What signed something: {kind: rsa, pss, ec or ed25519, digest or null, salt in bytes}. Throws Malformed for others.
export function readAlgorithm(value) {
    const fields = value.fields();
    const oid = fields.take(OID).oid();
    if (oid === PSS) {
        return pssOf(fields.take(SEQUENCE));
    }
    if (!Object.hasOwn(ALGORITHMS, oid)) {
        throw new Malformed(value.what, `is signed with an algorithm that is not accepted (${oid})`);
    }
    const [kind, digest] = ALGORITHMS[oid];
    return { kind, digest, salt: 0 };
}

// SHA-256, SHA-384 or SHA-512. Throws Malformed for others.
export function readDigest(value) {
    const found = value.fields().take(OID).oid();
    if (!Object.hasOwn(DIGESTS, found)) {
        throw new Malformed(value.what, `uses a digest that is not accepted (${found})`);
    }
    return DIGESTS[found];
}

// Those that can be read. What only may help to build a chain must not break one that stands without it.
export function readable(encoded) {
    return encoded.map((each) => orNull(() => new Certificate(each))).filter((found) => found !== null);
}

// The shortest chain from `signer` to one of `roots`, every certificate valid at `time`, those between authorities.
export async function chainOf(signer, offered, roots, time) {
    const trusted = new Set(roots.map(({ encoded }) => toHex(encoded)));
    const candidates = [...roots, ...offered.filter(({ isAuthority }) => isAuthority)];
    const seen = new Set([toHex(signer.encoded)]);
    const waiting = [[signer]];
    let late = false;
    while (waiting.length > 0) {
        const chain = waiting.shift();
        const last = chain[chain.length - 1];
        if (!(last.notBefore <= time && time <= last.notAfter)) {
            late = true;
        } else if (trusted.has(toHex(last.encoded))) {
            return chain;
        } else if (chain.length < MAX_CHAIN) {
            for (const found of candidates) {
                const name = toHex(found.encoded);
                if (!seen.has(name) && (await isIssuedBy(last, found))) {
                    seen.add(name);
                    waiting.push([...chain, found]);
                }
            }
        }
    }
    if (late) {
        throw new NotProven("a certificate behind the time stamp was not valid at the time that it states");
    }
    const message = "no chain leads from the time stamp to an authority that the trust file names (`tsa_roots`)";
    throw new NotProven(message);
}

async function isIssuedBy(certificate, issuer) {
    const { algorithm, signature, signed } = certificate;
    if (!equal(certificate.issuer, issuer.subject) || algorithm === null) {
        return false;
    }
    return await isSignedBy(issuer.key, algorithm, "SHA-256", signature, signed);
}

// Whether the key of a certificate signed `data`; `digest` counts where the algorithm names none.
export async function isSignedBy({ kind, spki, curve, width }, algorithm, digest, signature, data) {
    if (kind === null || !FITS[kind].includes(algorithm.kind)) {
        return false;
    }
    const hash = algorithm.digest ?? digest;
    if (algorithm.kind === "rsa") {
        return await verifyBy(spki, { name: "RSASSA-PKCS1-v1_5", hash }, signature, data);
    }
    if (algorithm.kind === "pss") {
        return await verifyBy(spki, { name: "RSA-PSS", hash, saltLength: algorithm.salt }, signature, data);
    }
    if (algorithm.kind === "ec") {
        const raw = rawSignature(signature, width);
        return raw !== null && (await verifyBy(spki, { name: "ECDSA", namedCurve: curve, hash }, raw, data));
    }
    return await verifyBy(spki, { name: "Ed25519" }, signature, data);
}

async function verifyBy(spki, algorithm, signature, data) {
    let key;
    try {
        key = await crypto.subtle.importKey("spki", spki, algorithm, false, ["verify"]);
    } catch (error) {
        if (error.name === "DataError") {
            return false;
        }
        throw error;
    }
    try {
        return await crypto.subtle.verify(algorithm, key, signature, data);
    } catch (error) {
        // a salt that does not fit into the signature is an error to some, a wrong signature to others
        if (error.name === "OperationError") {
            return false;
        }
        throw error;
    }
}

// {kind: rsa, pss (for nothing else), ec, ed25519 or null, spki, curve, width} of a SubjectPublicKeyInfo
function publicKeyOf(value) {
    const fields = value.fields();
    const algorithm = fields.take(SEQUENCE).fields();
    const field = fields.take(BIT_STRING);
    fields.end();
    const [name, key] = [algorithm.take(OID).oid(), bits(field)];
    if (name === RSA || name === PSS) {
        // browsers read RSA keys under their plain name only
        const spki = name === RSA ? value.encoded : sequenceOf(PLAIN_RSA, field.encoded);
        return { kind: isLarge(key) ? (name === RSA ? "rsa" : "pss") : null, spki };
    }
    if (name === EC) {
        const [curve, width] = CURVES[algorithm.take(OID).oid()] ?? [null, 0];
        const kind = curve !== null && key.length === 1 + 2 * width && key[0] === 4 ? "ec" : null;
        return { kind, spki: value.encoded, curve, width };
    }
    return { kind: name === ED25519 ? "ed25519" : null, spki: value.encoded };
}

function isLarge(key) {
    const fields = readDer(key, WHAT).fields();
    const [modulus, exponent] = [fields.take(INTEGER).integer(), fields.take(INTEGER).integer()];
    fields.end();
    const size = modulus > 0n ? modulus.toString(2).length : 0;
    return size >= MIN_RSA_BITS && size <= MAX_RSA_BITS && exponent >= 3n && exponent < MAX_EXPONENT;
}

function countingOf(value) {
    const found = orNull(() => readAlgorithm(value));
    return found !== null && found.kind === "rsa" && found.digest === null ? null : found;
}

function pssOf(parameters) {
    const fields = parameters.fields();
    const digest = readDigest(inside(fields.take(context(0))));
    const mask = inside(fields.take(context(1))).fields();
    const same = mask.take(OID).oid() === MGF1 && readDigest(mask.take(SEQUENCE)) === digest;
    mask.end();
    const [salt, trailer] = [fields.maybe(context(2)), fields.maybe(context(3))];
    fields.end();
    const length = salt === null ? 20n : inside(salt).integer();
    const isOne = trailer === null || inside(trailer).integer() === 1n;
    if (!same || length < 0n || length > MAX_SALT || !isOne) {
        throw new Malformed(parameters.what, "is signed with RSA-PSS in a form that is not accepted");
    }
    return { kind: "pss", digest, salt: Number(length) };
}

function inside(value) {
    const values = value.values();
    if (values.length !== 1) {
        throw new Malformed(value.what, "has several values where one belongs");
    }
    return values[0];
}

// DER of a sequence of values, up to 64 KiB
function sequenceOf(...parts) {
    const content = concat(...parts);
    return concat(Uint8Array.of(SEQUENCE, 0x82), fromInteger(content.length, 2), content);
}

function orNull(read) {
    try {
        return read();
    } catch (error) {
        if (error instanceof Refusal) {
            return null;
        }
        throw error;
    }
}

function checkAlgorithm(value) {
    const fields = value.fields();
    const name = fields.take(OID).oid();
    if (["rsa", "ec"].includes(ALGORITHMS[name]?.[0])) {
        const nothing = fields.maybe(NULL);
        fields.end();
        if (nothing !== null && nothing.content.length > 0) {
            throw new Malformed(WHAT, "names an algorithm in another form");
        }
    } else if (ALGORITHMS[name] !== undefined) {
        fields.end();
    }
}

// [[[object identifier, value], …], …]
function attributesOf(value) {
    return value.values().map((set) => set.of(SET).values().map(attributeOf));
}

function attributeOf(value) {
    const fields = value.fields();
    const found = [fields.take(OID).oid(), fields.take()];
    fields.end();
    return found;
}

// WebCrypto takes both halves of an ECDSA signature in full width; null where they are none.
function rawSignature(signature, width) {
    try {
        const fields = readDer(signature, WHAT).fields();
        const halves = [fields.take(INTEGER), fields.take(INTEGER)];
        fields.end();
        const numbers = halves.map((half) => half.integer());
        const padded = numbers.map((number) => (number < 0n ? "" : number.toString(16).padStart(2 * width, "0")));
        if (padded.some((text) => text.length !== 2 * width)) {
            return null;
        }
        return concat(...padded.map((text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16))));
    } catch (error) {
        if (error instanceof Refusal) {
            return null;
        }
        throw error;
    }
}

function extensionsOf(value) {
    const found = new Map();
    for (const extension of value.of(SEQUENCE).values()) {
        const fields = extension.fields();
        const name = fields.take(OID).oid();
        const critical = fields.maybe(BOOLEAN);
        const octets = fields.take(OCTETS).content;
        fields.end();
        if (found.has(name)) {
            throw new Malformed(WHAT, "has an extension twice");
        }
        found.set(name, { critical: critical !== null && critical.content[0] === 0xff, value: octets });
    }
    return found;
}

function escaped(value) {
    const [encoding, form] = TEXTS[value.tag] ?? [null, null];
    if (encoding === null) {
        return "#" + toHex(value.content);
    }
    const text = textOf(value.content, encoding);
    if (!form.test(text)) {
        throw new Malformed(WHAT, "has a name that is no text");
    }
    return text
        .replace(/[\\"+,;<>]/g, "\\$&")
        .replaceAll("\0", "\\00")
        .replace(/^(?:#| (?=.))/s, "\\$&")
        .replace(/ $/, "\\ ");
}

function textOf(content, encoding) {
    if (encoding === "latin1") {
        // browsers take that name for Windows' own alphabet
        return String.fromCharCode(...content);
    }
    try {
        return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(content);
    } catch {
        throw new Malformed(WHAT, "has a name that is no text");
    }
}

function timeOf(value) {
    const text = textOf(value.content, "latin1");
    if (value.tag === UTC_TIME) {
        return momentOf((text < "50" ? "20" : "19") + text);
    }
    return momentOf(textOf(value.of(GENERALIZED_TIME).content, "latin1"));
}

// "YYYYMMDDhhmmssZ" as microseconds since 1970
export function momentOf(text) {
    const found = DAYS_PATTERN.exec(text);
    if (found === null) {
        throw new Malformed(WHAT, "has a time in another form");
    }
    const [year, month, day, hour, minute, second] = found.slice(1).map(Number);
    const date = new Date(0);
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second);
    // a calendar that carries over would have changed a part
    if (year === 0 || date.toISOString().replace(/[-:T]|\.000/g, "") !== text) {
        throw new Malformed(WHAT, "has a time that does not exist");
    }
    return BigInt(date.getTime()) * 1000n;
}

function bits({ content }) {
    if (content[0] !== 0) {
        throw new Malformed(WHAT, "has a string of bits that is not made of bytes");
    }
    return content.subarray(1);
}
