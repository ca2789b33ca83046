// What a receipt says about its anchor, signed by the log: ledger/formats/receipt.py.

import { verifySignature } from "./ed25519.js";
import { b64decode, b64encode } from "./encoding.js";
import { AnchorInvalid, Malformed, SignatureInvalid } from "./errors.js";
import { canonical, loadsObject } from "./strictjson.js";
import { encode, equal, isObject, isText } from "./text.js";

const MAX_EXTRA_BYTES = 16 * 1024;
const DOMAIN = "yunxi.anchor/v1";
const WHAT = "anchor of the receipt";
const NUMBERS = ["chain_id", "block_number", "time"];
const HEX = {
    contract: /^0x[0-9a-f]{40}$/,
    block_hash: /^0x[0-9a-f]{64}$/,
    transaction: /^0x[0-9a-f]{64}$/,
};

// [hint, its signature of 64 bytes, not verified]. A hint is the anchor's members, unknown ones included, as a Map.
export function decodeExtra(extra) {
    const value = loadsObject(extra, WHAT, MAX_EXTRA_BYTES);
    if (!equal(encode(canonical(value)), extra)) {
        throw new Malformed(WHAT, "not canonical JSON: sorted members, ASCII, no white space");
    }
    const [anchor, signature] = [value.get("anchor"), value.get("signature")];
    if (!isObject(anchor) || !isText(signature)) {
        throw new Malformed(WHAT, "must have an object anchor and a text signature");
    }
    const decoded = b64decode(signature, WHAT);
    if (decoded.length !== 64) {
        throw new Malformed(WHAT, "an Ed25519 signature has 64 bytes");
    }
    checkHint(anchor);
    return [anchor, decoded];
}

function checkHint(anchor) {
    for (const name of NUMBERS) {
        const value = anchor.get(name);
        if (typeof value !== "number" || value < 0) {
            throw new Malformed(WHAT, `${name} must be a whole number, not negative`);
        }
    }
    for (const [name, pattern] of Object.entries(HEX)) {
        const value = anchor.get(name);
        if (!isText(value) || !pattern.test(value)) {
            throw new Malformed(WHAT, `${name} must be 0x and lowercase hex of the right length`);
        }
    }
}

// That one of `keys`, the log's own, said that the checkpoint is anchored where `hint` says.
export async function verifyAnchorHint(hint, signature, checkpoint, keys) {
    const text = signedText(hint, checkpoint);
    for (const key of keys) {
        try {
            return await verifySignature(key.public, signature, text);
        } catch (error) {
            if (!(error instanceof SignatureInvalid)) {
                throw error;
            }
        }
    }
    throw new AnchorInvalid(`the receipt's anchor is not what ${checkpoint.origin} signed for this checkpoint`);
}

export function signedText(hint, { origin, size, root }) {
    const lines = [DOMAIN, origin, String(size), b64encode(root), canonical(hint)];
    return encode(lines.map((line) => `${line}\n`).join(""));
}
