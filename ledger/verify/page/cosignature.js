// Cosignatures of witnesses (C2SP tlog-cosignature, Ed25519): ledger/formats/cosignature.py.

import { parseCheckpoint } from "./checkpoint.js";
import { verifySignature } from "./ed25519.js";
import { SignatureInvalid } from "./errors.js";
import { parseNote, signaturesBy } from "./note.js";
import { concat, encode, toInteger } from "./text.js";

const MAX_TIME = 2n ** 63n - 1n;
const SIGNATURE_BYTES = 8 + 64;

// When the witness saw the checkpoint, in seconds since 1970; null if no line names it. All its lines must verify.
export async function verifyCosignature(data, vkey) {
    const note = parseNote(data);
    parseCheckpoint(note.text);
    let earliest = null;
    for (const { signature } of signaturesBy(note, vkey)) {
        const time = await verifyLine(signature, vkey, note.text);
        earliest = earliest === null || time < earliest ? time : earliest;
    }
    return earliest;
}

async function verifyLine(signature, vkey, text) {
    const time = toInteger(signature.subarray(0, 8));
    if (signature.length !== SIGNATURE_BYTES || time > MAX_TIME) {
        throw new SignatureInvalid(`the cosignature by ${vkey.name} is not a time and an Ed25519 signature`);
    }
    const message = concat(encode(`cosignature/v1\ntime ${time}\n`), text);
    await verifySignature(vkey.public, signature.subarray(8), message);
    return time;
}
