// Statements and disclosures (SD-JWT, RFC 9901): ledger/formats/sdjwt.py.

import { verifySignature } from "./ed25519.js";
import { b64urlDecode, b64urlEncode } from "./encoding.js";
import { DisclosureInvalid, Malformed } from "./errors.js";
import { sha256 } from "./sha256.js";
import { loads, loadsObject } from "./strictjson.js";
import { decodeAscii, encode, grouped, isList, isObject, isText, lengthOf, repr } from "./text.js";

export const MAX_PRESENTATION_BYTES = 16 * 1024 * 1024;

const TYPE = "yunxi+sd-jwt";
const ALGORITHM = "EdDSA";
const DIGEST_ALGORITHM = "sha-256";
const MAX_STATEMENT_BYTES = 65_535;
const MAX_HEADER_BYTES = 4096;
const MAX_DISCLOSURE_BYTES = 2 * 1024 * 1024;
const MAX_DISCLOSURES = 1_000;
const SALT_BYTES = 16;
const TILDE = 0x7e;
const OPTIONAL_TEXTS = ["matter", "case", "inspection", "amends"];
// names that no disclosure unit may have
const CLAIMS = new Set(["iss", "jti", "iat", "type", "v", ...OPTIONAL_TEXTS, "subj", "_sd_alg", "_sd", "...", ""]);
const RECORD_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// {kid, issuer, recordId, issuedAt, type, version, digests: Set, payload: Map, signed, signature}
export function parseStatement(data) {
    if (data.length > MAX_STATEMENT_BYTES) {
        throw new Malformed("statement", `longer than ${grouped(MAX_STATEMENT_BYTES)} bytes`);
    }
    const parts = decodeAscii(data, "statement").split(".");
    if (parts.length !== 3) {
        throw new Malformed("statement", "must be three parts joined by dots");
    }
    const header = loadsObject(b64urlDecode(parts[0], "statement"), "statement header", MAX_HEADER_BYTES);
    const payload = loadsObject(b64urlDecode(parts[1], "statement"), "statement payload", MAX_STATEMENT_BYTES);
    const signature = b64urlDecode(parts[2], "statement");
    if (signature.length !== 64) {
        throw new Malformed("statement", "an Ed25519 signature has 64 bytes");
    }
    if (header.get("typ") !== TYPE || header.get("alg") !== ALGORITHM || header.has("crit")) {
        throw new Malformed("statement header", `typ must be ${TYPE}, alg ${ALGORITHM}, and nothing critical`);
    }
    return Object.freeze({
        kid: textOf(header, "kid"),
        issuer: textOf(payload, "iss"),
        recordId: recordIdOf(payload),
        issuedAt: integerOf(payload, "iat"),
        type: textOf(payload, "type"),
        version: integerOf(payload, "v"),
        digests: digestsOf(payload),
        payload,
        signed: encode(`${parts[0]}.${parts[1]}`),
        signature,
    });
}

export async function verifyStatement(statement, publicKey) {
    await verifySignature(publicKey, statement.signature, statement.signed);
}

// The disclosures in `joined` (each followed by ~), held against the statement: [{text, unit, members}].
export function openDisclosures(statement, joined) {
    if (joined.reduce((count, byte) => count + (byte === TILDE ? 1 : 0), 0) > MAX_DISCLOSURES) {
        throw new Malformed("presentation", `more than ${grouped(MAX_DISCLOSURES)} disclosures`);
    }
    const texts = decodeAscii(joined, "disclosure").split("~").slice(0, -1);
    if (texts.some((text) => !statement.digests.has(b64urlEncode(sha256(encode(text)))))) {
        throw new DisclosureInvalid("a part that is shown is not in the statement");
    }
    const disclosures = texts.map(parseDisclosure);
    if (disclosures.some(({ unit }) => statement.payload.has(unit))) {
        throw new DisclosureInvalid("a unit is also a claim that stands in clear");
    }
    const distinct = (member) => new Set(disclosures.map((disclosure) => disclosure[member])).size;
    if (distinct("text") < disclosures.length || distinct("unit") < disclosures.length) {
        throw new DisclosureInvalid("a unit is shown twice");
    }
    return disclosures;
}

function parseDisclosure(text) {
    if (text.length > MAX_DISCLOSURE_BYTES) {
        throw new Malformed("disclosure", `longer than ${grouped(MAX_DISCLOSURE_BYTES)} bytes`);
    }
    const value = loads(b64urlDecode(text, "disclosure"), "disclosure", MAX_DISCLOSURE_BYTES);
    if (!isList(value) || value.length !== 3) {
        throw new Malformed("disclosure", "must be [salt, unit, members]");
    }
    const [salt, unit, members] = value;
    if (!isText(salt) || !isText(unit) || !isObject(members)) {
        throw new Malformed("disclosure", "must be a string, a string and an object");
    }
    if (CLAIMS.has(unit)) {
        throw new Malformed("disclosure", `no unit may be named ${repr(unit)}`);
    }
    checkFlat(members, "disclosure");
    if (b64urlDecode(salt, "disclosure salt").length < SALT_BYTES) {
        throw new Malformed("disclosure", `its salt has fewer than ${SALT_BYTES} bytes`);
    }
    return Object.freeze({ text, unit, members });
}

function textOf(members, name) {
    const value = members.get(name);
    if (!isText(value) || value === "" || lengthOf(value) > 200) {
        throw new Malformed("statement", `member ${name} must be a text of 1 to 200 characters`);
    }
    return value;
}

function integerOf(members, name) {
    const value = members.get(name);
    if (typeof value !== "number" || value < 0) {
        throw new Malformed("statement", `member ${name} must be a whole number, not negative`);
    }
    return value;
}

function recordIdOf(payload) {
    const text = textOf(payload, "jti");
    if (!RECORD_ID.test(text)) {
        throw new Malformed("statement", "member jti must be a UUIDv7 in lowercase");
    }
    return text;
}

function digestsOf(payload) {
    OPTIONAL_TEXTS.filter((name) => payload.has(name)).forEach((name) => textOf(payload, name));
    if (payload.get("_sd_alg") !== DIGEST_ALGORITHM) {
        throw new Malformed("statement", `_sd_alg must be ${DIGEST_ALGORITHM}`);
    }
    const digests = textsOf(payload, "_sd");
    checkFlat(new Map([...payload].filter(([name]) => name !== "_sd")), "statement");
    textsOf(payload, "subj");
    if (new Set(digests).size !== digests.length || !digests.every((digest) => lengthOf(digest) === 43)) {
        throw new Malformed("statement", "_sd must hold distinct SHA-256 digests");
    }
    return new Set(digests);
}

// That a value has, at no depth, what RFC 9901 section 4.2.4 reads as hidden parts.
function checkFlat(value, what) {
    if (isObject(value) && (value.has("_sd") || value.has("..."))) {
        throw new Malformed(what, "has hidden parts inside of parts, which are not in use here");
    }
    const inside = isObject(value) ? [...value.values()] : value;
    inside.filter((each) => isObject(each) || isList(each)).forEach((each) => checkFlat(each, what));
}

function textsOf(payload, name) {
    const value = payload.get(name);
    if (!isList(value) || !value.every(isText)) {
        throw new Malformed("statement", `member ${name} must be a list of texts`);
    }
    return value;
}
