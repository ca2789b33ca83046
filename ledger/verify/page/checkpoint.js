// Checkpoints (C2SP tlog-checkpoint): ledger/formats/checkpoint.py. Sizes are BigInt.

import { b64decode, b64encode } from "./encoding.js";
import { CheckpointInvalid, Malformed, SignatureInvalid } from "./errors.js";
import { HASH_SIZE, MAX_SIZE } from "./merkle.js";
import { checkLine, decodeLines, parseNote, signaturesBy, verifyNote } from "./note.js";
import { encode } from "./text.js";

const DECIMAL = /^(?:0|[1-9][0-9]{0,18})$/;

// {origin, size, root[32], extensions}
export function parseCheckpoint(text) {
    const lines = decodeLines(text, "checkpoint");
    if (lines.length < 3) {
        throw new Malformed("checkpoint", "needs three lines: origin, size and root hash");
    }
    const [origin, size, root, ...extensions] = lines;
    return checkpoint(origin, parseDecimal(size, "tree size"), b64decode(root, "root hash"), extensions);
}

export function checkpoint(origin, size, root, extensions = []) {
    for (const line of [origin, ...extensions]) {
        if (line === "") {
            throw new Malformed("checkpoint", "has an empty line");
        }
        checkLine(line, "checkpoint");
    }
    if (root.length !== HASH_SIZE) {
        throw new Malformed("checkpoint", `the root hash is ${root.length} bytes, not 32`);
    }
    return Object.freeze({ origin, size, root, extensions });
}

export function checkpointText({ origin, size, root, extensions }) {
    const lines = [origin, String(size), b64encode(root), ...extensions];
    return encode(lines.map((line) => `${line}\n`).join(""));
}

// [the checkpoint, the first of `vkeys` that signed it]: every signature that names one of them must verify.
export async function openCheckpointBy(data, vkeys) {
    const note = parseNote(data);
    const signers = vkeys.filter((vkey) => signaturesBy(note, vkey).length > 0);
    const named = signers.length > 0 ? signers : vkeys.slice(0, 1);
    const opened = [];
    for (const vkey of named) {
        opened.push(await open(note, vkey));
    }
    return [opened[0], named[0]];
}

async function open(note, vkey) {
    try {
        await verifyNote(note, vkey);
    } catch (error) {
        if (error instanceof SignatureInvalid) {
            throw new CheckpointInvalid(`the checkpoint is not one of ${vkey.name}`);
        }
        throw error;
    }
    const found = parseCheckpoint(note.text);
    if (found.origin !== vkey.name) {
        throw new CheckpointInvalid(`the checkpoint is of ${found.origin}, not of ${vkey.name}`);
    }
    return found;
}

export function parseDecimal(text, what) {
    if (!DECIMAL.test(text) || BigInt(text) > MAX_SIZE) {
        throw new Malformed(what, "is not a number below 2^63 without leading zeros");
    }
    return BigInt(text);
}
