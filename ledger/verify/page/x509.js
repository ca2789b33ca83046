// Certificates (X.509, RFC 5280) as far as time stamps need them: what a library does for ledger/formats/timestamp.py.
//
// Signatures are checked by WebCrypto: RSA (PKCS #1 v1.5), ECDSA on P-256, P-384 and P-521, Ed25519.

import { BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, NULL, OCTETS, OID, SEQUENCE, SET, UTC_TIME } from "./der.js";
import { context, readDer } from "./der.js";
import { Malformed, Refusal } from "./errors.js";
import { concat, equal, toHex } from "./text.js";

const WHAT = "certificate";
const RSA = "1.2.840.113549.1.1.1";
const EC = "1.2.840.10045.2.1";
const ED25519 = "1.3.101.112";
const CURVES = {
    "1.2.840.10045.3.1.7": ["P-256", 32],
    "1.3.132.0.34": ["P-384", 48],
    "1.3.132.0.35": ["P-521", 66],
};
// signature algorithm of a certificate: [kind of key, digest]
const SIGNED_WITH = {
    "1.2.840.113549.1.1.5": ["RSA", "SHA-1"],
    "1.2.840.113549.1.1.11": ["RSA", "SHA-256"],
    "1.2.840.113549.1.1.12": ["RSA", "SHA-384"],
    "1.2.840.113549.1.1.13": ["RSA", "SHA-512"],
    "1.2.840.10045.4.1": ["EC", "SHA-1"],
    "1.2.840.10045.4.3.2": ["EC", "SHA-256"],
    "1.2.840.10045.4.3.3": ["EC", "SHA-384"],
    "1.2.840.10045.4.3.4": ["EC", "SHA-512"],
    [ED25519]: ["Ed25519", null],
};
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

// One certificate as it was parsed; nothing of it is verified. Times are BigInt microseconds since 1970.
export class Certificate {
    #subject;

    constructor(encoded) {
        const whole = readDer(encoded, WHAT).fields();
        const signed = whole.take(SEQUENCE);
        this.encoded = encoded;
        this.signed = signed.encoded;
        this.algorithm = whole.take(SEQUENCE);
        this.signature = bits(whole.take(BIT_STRING));
        whole.end();
        this.#read(signed.fields());
    }

    #read(fields) {
        const version = fields.maybe(context(0));
        this.version = version === null ? 0n : only(version).integer();
        if (this.version !== 0n && this.version !== 2n) {
            throw new Malformed(WHAT, "is of a version that is not known");
        }
        this.serial = fields.take(INTEGER).integer();
        this.innerAlgorithm = fields.take(SEQUENCE);
        const issuer = fields.take(SEQUENCE);
        const validity = fields.take(SEQUENCE).fields();
        [this.notBefore, this.notAfter] = [timeOf(validity.take()), timeOf(validity.take())];
        validity.end();
        const subject = fields.take(SEQUENCE);
        [this.issuer, this.subject] = [issuer.encoded, subject.encoded];
        this.key = fields.take(SEQUENCE);
        fields.maybe(0x81);
        fields.maybe(0x82);
        const extensions = fields.maybe(context(3));
        fields.end();
        this.extensions = extensions === null ? new Map() : extensionsOf(only(extensions));
        // read at once, as others do: a certificate is readable or it is not
        [this.algorithm, this.innerAlgorithm, this.key.values()[0]].forEach(checkAlgorithm);
        attributesOf(issuer);
        this.#subject = attributesOf(subject);
    }

    // The subject as RFC 4514 writes it.
    subjectName() {
        const text = ([name, value]) => `${SHORT_NAMES[name] ?? name}=${escaped(value)}`;
        return this.#subject.map((set) => set.map(text).join("+")).reverse().join(",");
    }

    isSame(other) {
        return equal(this.encoded, other.encoded);
    }

    subjectKeyId() {
        const found = this.extensions.get(SUBJECT_KEY_ID);
        return found === undefined ? null : readDer(found.value, WHAT).of(OCTETS).content;
    }

    isAuthority() {
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

    // {kind: "RSA" | "EC" | "Ed25519", size: bits of an RSA modulus, curve} of its public key
    publicKey() {
        return publicKeyOf(this.key);
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

// Whether `issuer` issued `certificate`: their names fit and the signature is right. Nothing else is checked.
export async function isIssuedBy(certificate, issuer) {
    if (!equal(certificate.issuer, issuer.subject)) {
        return false;
    }
    if (!equal(certificate.algorithm.encoded, certificate.innerAlgorithm.encoded)) {
        return false;
    }
    const [kind, digest] = SIGNED_WITH[certificate.algorithm.fields().take(OID).oid()] ?? [null, null];
    const key = issuer.publicKey();
    return key.kind === kind && (await isSignedBy(key, digest, certificate.signature, certificate.signed));
}

// Whether the key of a certificate signed `data`. `digest`: SHA-1, SHA-256, SHA-384 or SHA-512.
export async function isSignedBy({ kind, spki, curve, width }, digest, signature, data) {
    if (kind === "RSA") {
        return await verifyBy(spki, { name: "RSASSA-PKCS1-v1_5", hash: digest }, signature, data);
    }
    if (kind === "EC") {
        const raw = rawSignature(signature, width);
        const algorithm = { name: "ECDSA", namedCurve: curve, hash: digest };
        return raw !== null && (await verifyBy(spki, algorithm, raw, data));
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
    return await crypto.subtle.verify(algorithm, key, signature, data);
}

function publicKeyOf(value) {
    const fields = value.fields();
    const algorithm = fields.take(SEQUENCE).fields();
    const kind = algorithm.take(OID).oid();
    const key = bits(fields.take(BIT_STRING));
    fields.end();
    if (kind === RSA) {
        return { kind: "RSA", spki: value.encoded, size: modulusSize(key) };
    }
    if (kind === EC) {
        const named = CURVES[algorithm.take(OID).oid()];
        if (named === undefined) {
            throw new Malformed(WHAT, "has a key on a curve that browsers do not know");
        }
        const [curve, width] = named;
        return { kind: "EC", spki: value.encoded, curve, width };
    }
    return { kind: kind === ED25519 ? "Ed25519" : "other", spki: value.encoded };
}

// in bits; 0 for what is no RSA key
function modulusSize(key) {
    try {
        return readDer(key, WHAT).fields().take(INTEGER).integer().toString(2).length;
    } catch (error) {
        if (error instanceof Refusal) {
            return 0;
        }
        throw error;
    }
}

function checkAlgorithm(value) {
    const fields = value.fields();
    const name = fields.take(OID).oid();
    if (name === RSA || SIGNED_WITH[name]?.[0] === "RSA") {
        const nothing = fields.maybe(NULL);
        fields.end();
        if (nothing !== null && nothing.content.length > 0) {
            throw new Malformed(WHAT, "names an algorithm in another form");
        }
    } else if (name === ED25519 || SIGNED_WITH[name] !== undefined) {
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

function only(value) {
    const values = value.values();
    if (values.length !== 1) {
        throw new Malformed(WHAT, "has several values where one belongs");
    }
    return values[0];
}
