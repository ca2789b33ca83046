// Time-stamp tokens (RFC 3161) in their CMS envelope (RFC 5652): ledger/formats/timestamp.py, with its step numbers.
// Times are BigInt microseconds since 1970.

import { GENERALIZED_TIME, INTEGER, OCTETS, OID, SEQUENCE, SET, context, readDer } from "./der.js";
import { b64decode } from "./encoding.js";
import { Malformed, NotProven } from "./errors.js";
import { concat, equal, grouped } from "./text.js";
import { Certificate, certificatesOf, chainOf, isSignedBy, momentOf, readAlgorithm, readDigest, readable } from "./x509.js";

export const MAX_TOKEN_BYTES = 64 * 1024;

const MAX_CERTIFICATES = 32;
const WHAT = "time-stamp token";
const MAX_ACCURACY_BYTES = 6;
const SIGNED_DATA = "1.2.840.113549.1.7.2";
const TST_INFO = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
const SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12";
const SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47";
const TIME_STAMPING = "1.3.6.1.5.5.7.3.8";
const TIME = /^(\d{14})(?:\.(\d{1,6}))?Z$/;

// Step 1. Throws Malformed.
export function parseToken(data) {
    if (data.length > MAX_TOKEN_BYTES) {
        throw new Malformed(WHAT, `is longer than ${grouped(MAX_TOKEN_BYTES)} bytes`);
    }
    const fields = readDer(data, WHAT).fields();
    requireOid(fields.take(OID), SIGNED_DATA, "signed data");
    const signed = explicit(fields.take(context(0))).fields();
    fields.end();
    signed.take(INTEGER);
    signed.take(SET);
    const encapsulated = signed.take().fields();
    requireOid(encapsulated.take(OID), TST_INFO, "a TSTInfo");
    const { content } = explicit(encapsulated.take(context(0))).of(OCTETS);
    encapsulated.end();
    const certificates = signed.maybe(context(0));
    signed.maybe(context(1));
    const signers = signed.take(SET).values();
    signed.end();
    if (signers.length !== 1) {
        throw new Malformed(WHAT, `has ${signers.length} signers instead of one`);
    }
    const offered = certificates === null ? [] : certificates.values().map(({ encoded }) => encoded);
    if (offered.length > MAX_CERTIFICATES) {
        throw new Malformed(WHAT, `carries more than ${MAX_CERTIFICATES} certificates`);
    }
    return tokenOf(content, offered, signers[0].fields());
}

// The facts of a token over `stamped`, under one of the trusted `roots` (Certificates).
export async function verifyToken(data, stamped, roots) {
    // 1
    const token = parseToken(data);
    // 2
    if (!equal(await digestOf(token.imprintDigest, stamped), token.imprint)) {
        throw new NotProven("the time stamp is of other data: ask for the one that belongs to this checkpoint");
    }
    try {
        // 3
        const certificate = await signerCertificate(token);
        // 4
        await checkAttributes(token);
        // 5
        await checkSignature(token, certificate);
        // 6
        checkPurpose(certificate);
        // 7
        const chain = await chainOf(certificate, readable(token.certificates), roots, token.time);
        return Object.freeze({
            time: token.time,
            expires: chain.map((link) => link.notAfter).reduce((least, time) => (time < least ? time : least)),
            accuracy: token.accuracy,
            authority: certificate.name,
            root: chain[chain.length - 1].name,
            policy: token.policy,
            serial: token.serial,
        });
    } catch (error) {
        throw error instanceof Malformed && error.what === "certificate"
            ? new Malformed(WHAT, "holds a certificate that cannot be read")
            : error;
    }
}

// The trust file's `tsa_roots` as certificates. Throws Malformed.
export function readRoots(pems) {
    try {
        return certificatesOf(pems, (text) => b64decode(text, WHAT));
    } catch (error) {
        if (error instanceof Malformed) {
            throw new Malformed("trust file", "tsa_roots holds what is no certificate");
        }
        throw error;
    }
}

function tokenOf(content, certificates, signer) {
    signer.take(INTEGER);
    const sid = signer.take();
    const digest = readDigest(signer.take());
    const attributes = signer.take(context(0));
    const algorithm = readAlgorithm(signer.take());
    const signature = signer.take(OCTETS).content;
    signer.maybe(context(1));
    signer.end();
    const info = readDer(content, WHAT).fields();
    if (info.take(INTEGER).integer() !== 1n) {
        throw new Malformed(WHAT, "has a TSTInfo of another version than 1");
    }
    const policy = info.take(OID).oid();
    const stamped = info.take().fields();
    const [imprintDigest, imprint] = [readDigest(stamped.take()), stamped.take(OCTETS).content];
    stamped.end();
    const serial = info.take(INTEGER).integer();
    const time = timeOf(info.take(GENERALIZED_TIME).content);
    const accuracy = accuracyOf(info.maybe(SEQUENCE));
    info.maybe(0x01);
    const nonce = info.maybe(INTEGER);
    info.maybe(context(0));
    info.maybe(context(1));
    info.end();
    nonce?.integer();
    return {
        imprint,
        imprintDigest,
        time,
        accuracy,
        policy,
        serial,
        content,
        certificates,
        signer: sid.encoded,
        attributes: attributesOf(attributes),
        // what is signed is the set with a set's own tag (RFC 5652 section 5.4)
        attributesEncoded: concat(Uint8Array.of(SET), attributes.encoded.subarray(1)),
        digest,
        algorithm,
        signature,
    };
}

function attributesOf(attributes) {
    const found = new Map();
    for (const attribute of attributes.values()) {
        const fields = attribute.fields();
        const [name, values] = [fields.take(OID).oid(), fields.take(SET).values()];
        fields.end();
        if (found.has(name) || values.length !== 1) {
            throw new Malformed(WHAT, "has a signed attribute twice, or one with several values");
        }
        found.set(name, values[0]);
    }
    return found;
}

async function signerCertificate({ attributes, certificates, signer }) {
    const second = attributes.get(SIGNING_CERTIFICATE_V2);
    const named = second ?? attributes.get(SIGNING_CERTIFICATE);
    if (named === undefined) {
        throw new NotProven("the time stamp does not name its signer's certificate among what is signed");
    }
    const first = named.fields().take().fields().take().fields(); // certs, the first ESSCertID
    // RFC 2634 fixes SHA-1; the certificate must also be the one that the signer id names
    let digest = "SHA-1";
    if (second !== undefined) {
        const algorithm = first.maybe(SEQUENCE);
        digest = algorithm === null ? "SHA-256" : readDigest(algorithm);
    }
    const wanted = first.take(OCTETS).content;
    for (const encoded of certificates) {
        if (equal(await digestOf(digest, encoded), wanted)) {
            const certificate = new Certificate(encoded);
            if (isSigner(signer, certificate)) {
                return certificate;
            }
        }
    }
    throw new NotProven("the time stamp does not carry the certificate of its signer");
}

function isSigner(sid, certificate) {
    const value = readDer(sid, WHAT);
    if (value.tag === 0x80) {
        // [0] subject key identifier
        const found = certificate.subjectKeyId();
        return found !== null && equal(found, value.content);
    }
    const fields = value.fields();
    const [issuer, serial] = [fields.take(SEQUENCE).encoded, fields.take(INTEGER).integer()];
    return equal(issuer, certificate.issuer) && serial === certificate.serial;
}

async function checkAttributes({ attributes, digest, content }) {
    const [kind, named] = [attributes.get(CONTENT_TYPE), attributes.get(MESSAGE_DIGEST)];
    if (kind === undefined || kind.oid() !== TST_INFO || named === undefined) {
        throw new NotProven("the time stamp's signed attributes do not name its content");
    }
    if (!equal(named.of(OCTETS).content, await digestOf(digest, content))) {
        throw new NotProven("the time stamp's content is not what its authority signed");
    }
}

async function checkSignature({ algorithm, digest, signature, attributesEncoded }, { key }) {
    if (key.kind === null) {
        const kinds = "(RSA from 2048 bits, EC)";
        throw new NotProven(`the time stamp's signer has a key of a kind that is not accepted ${kinds}`);
    }
    if (!(await isSignedBy(key, algorithm, digest, signature, attributesEncoded))) {
        throw new NotProven("the time stamp is not signed by its authority: it was changed");
    }
}

function checkPurpose(certificate) {
    const usage = certificate.extendedKeyUsage();
    if (usage === null) {
        throw new NotProven("the time stamp's certificate is not one for time-stamping");
    }
    if (!usage.critical || usage.purposes.length !== 1 || usage.purposes[0] !== TIME_STAMPING) {
        throw new NotProven("the time stamp's certificate is not one for time-stamping alone");
    }
}

function timeOf(content) {
    const found = TIME.exec(String.fromCharCode(...content));
    if (found === null || (found[2] ?? "1").endsWith("0")) {
        throw new Malformed(WHAT, "has a time that is not written as RFC 3161 section 2.4.2 asks");
    }
    try {
        return momentOf(`${found[1]}Z`) + BigInt((found[2] ?? "").padEnd(6, "0"));
    } catch (error) {
        if (error instanceof Malformed) {
            throw new Malformed(WHAT, "has a time that does not exist");
        }
        throw error;
    }
}

// in seconds, null where the authority does not say
function accuracyOf(value) {
    if (value === null) {
        return null;
    }
    const fields = value.fields();
    let total = 0;
    for (const [tag, unit] of [[INTEGER, 1], [0x80, 1e-3], [0x81, 1e-6]]) {
        const found = fields.maybe(tag);
        if (found !== null) {
            if (found.content.length > MAX_ACCURACY_BYTES) {
                throw new Malformed(WHAT, "states an accuracy that no clock has");
            }
            total += found.content.reduce((sum, byte) => sum * 256 + byte, 0) * unit;
        }
    }
    fields.end();
    return total;
}

function explicit(value) {
    const inside = value.values();
    if (inside.length !== 1) {
        throw new Malformed(WHAT, "has several values where one belongs");
    }
    return inside[0];
}

function requireOid(value, wanted, name) {
    if (value.oid() !== wanted) {
        throw new Malformed(WHAT, `is not ${name}`);
    }
}

export async function digestOf(name, data) {
    return new Uint8Array(await crypto.subtle.digest(name, data));
}
