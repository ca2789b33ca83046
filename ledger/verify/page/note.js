// Signed notes and verifier keys (C2SP signed-note): ledger/formats/note.py.

import { verifySignature } from "./ed25519.js";
import { b64decode, hexDecode } from "./encoding.js";
import { Malformed, SignatureInvalid } from "./errors.js";
import { sha256 } from "./sha256.js";
import { concat, decodeUtf8, encode, equal, grouped, hasSpace, lastIndexOf, toInteger } from "./text.js";

export const ED25519 = 0x01;
export const COSIGNATURE_ED25519 = 0x04;

const MAX_NOTE_BYTES = 64 * 1024;
const MAX_SIGNATURES = 64;
const BLANK_LINE = encode("\n\n");
const UNPRINTABLE = /[\x00-\x1f]|\p{Surrogate}/u;

const FIELD = 2n ** 255n - 19n;
const ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
// the y coordinates of the points of small order, in every encoding that a library may take
const SMALL_ORDER = new Set([0n, 1n, FIELD - 1n, FIELD, FIELD + 1n, ORDER_8, FIELD - ORDER_8]);

// {name, keyId[4], type, public}
export function parseVerifierKey(text) {
    // not split with a limit, which would drop the rest: base64 has plus signs of its own
    const [name, id, ...rest] = text.split("+");
    if (rest.length === 0) {
        throw new Malformed("verifier key", "is not name+id+key");
    }
    const material = b64decode(rest.join("+"), "verifier key");
    const keyId = hexDecode(id, 4, "verifier key");
    const key = { name, keyId, type: material[0] ?? 0, public: material.subarray(1) };
    checkVerifierKey(key);
    return Object.freeze(key);
}

function checkVerifierKey(key) {
    checkName(key.name, "verifier key");
    if (key.public.length === 0) {
        throw new Malformed("verifier key", "needs a key id of 4 bytes, a type of one byte and a public key");
    }
    if (key.type !== ED25519 && key.type !== COSIGNATURE_ED25519) {
        return;
    }
    checkEd25519(key.public, "verifier key");
    const named = concat(encode(key.name), encode("\n"), Uint8Array.of(key.type), key.public);
    if (!equal(key.keyId, sha256(named).subarray(0, 4))) {
        throw new Malformed("verifier key", "the key id is not that of this name and public key");
    }
}

export function sameKey(a, b) {
    return a.name === b.name && a.type === b.type && equal(a.keyId, b.keyId) && equal(a.public, b.public);
}

export function checkEd25519(publicKey, what) {
    if (publicKey.length !== 32) {
        throw new Malformed(what, `an Ed25519 public key is 32 bytes, not ${publicKey.length}`);
    }
    if (SMALL_ORDER.has(toInteger(publicKey.toReversed()) % 2n ** 255n)) {
        throw new Malformed(what, "a public key of small order, under which anyone can sign; make a new key pair");
    }
}

// {text: bytes, signatures: [{name, keyId, signature}]}
export function parseNote(data) {
    if (data.length > MAX_NOTE_BYTES) {
        const sizes = `${grouped(data.length)} bytes is more than the ${grouped(MAX_NOTE_BYTES)} allowed`;
        throw new Malformed("note", sizes);
    }
    const end = lastIndexOf(data, BLANK_LINE) + 1;
    if (end === 0) {
        throw new Malformed("note", "has no blank line between text and signatures");
    }
    const text = data.subarray(0, end);
    decodeLines(text, "note");
    return { text, signatures: parseSignatures(data.subarray(end + 1)) };
}

// The signatures that name `key`, none of them verified.
export function signaturesBy(note, key) {
    return note.signatures.filter((found) => found.name === key.name && equal(found.keyId, key.keyId));
}

// Throws SignatureInvalid when no signature names `key`, or any that does fails.
export async function verifyNote(note, key) {
    const claimed = signaturesBy(note, key);
    if (claimed.length === 0) {
        throw new SignatureInvalid(`the note is not signed by ${key.name}`);
    }
    for (const found of claimed) {
        await verifySignature(key.public, found.signature, note.text);
    }
}

function parseSignatures(data) {
    const lines = decodeLines(data, "note signature");
    if (lines.length > MAX_SIGNATURES) {
        throw new Malformed("note", `${lines.length} signatures are more than the ${MAX_SIGNATURES} allowed`);
    }
    return lines.map(parseSignature);
}

function parseSignature(line) {
    const parts = line.split(" ");
    if (parts.length !== 3 || parts[0] !== "—") {
        throw new Malformed("note signature", "is not a dash, a name and a signature");
    }
    const data = b64decode(parts[2], "note signature");
    checkName(parts[1], "note signature");
    if (data.length <= 4) {
        throw new Malformed("note signature", "needs a key id of 4 bytes and a signature");
    }
    return { name: parts[1], keyId: data.subarray(0, 4), signature: data.subarray(4) };
}

// The lines of `data`, each ended by a newline and without it.
export function decodeLines(data, what) {
    const lines = decodeUtf8(data, what).split("\n");
    if (lines.pop() !== "") {
        throw new Malformed(what, "does not end in a newline");
    }
    if (lines.length === 0) {
        throw new Malformed(what, "is empty");
    }
    lines.forEach((line) => checkLine(line, what));
    return lines;
}

export function checkLine(line, what) {
    if (UNPRINTABLE.test(line)) {
        throw new Malformed(what, "has a control character");
    }
}

function checkName(name, what) {
    checkLine(name, what);
    if (name === "" || name.includes("+") || hasSpace(name)) {
        throw new Malformed(what, "a key's name is not empty and has neither spaces nor plus signs");
    }
}
