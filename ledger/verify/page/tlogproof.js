// Receipts (C2SP tlog-proof v1): ledger/formats/tlogproof.py. Only the form is read here.

import { parseCheckpoint, parseDecimal } from "./checkpoint.js";
import { b64decode } from "./encoding.js";
import { Malformed } from "./errors.js";
import { HASH_SIZE, MAX_PATH, MAX_SIZE } from "./merkle.js";
import { decodeLines, parseNote } from "./note.js";
import { concat, encode, grouped, indexOf } from "./text.js";

export const MAX_PROOF_BYTES = 256 * 1024;

const HEADER = "c2sp.org/tlog-proof@v1";
const WHAT = "tlog-proof";
const NEWLINE = encode("\n");
const BLANK_LINE = encode("\n\n");

// {extra: bytes or null, index, path: [hash], checkpoint: bytes of the whole note}
export function parseProof(data) {
    if (data.length > MAX_PROOF_BYTES) {
        const sizes = `${grouped(data.length)} bytes is more than the ${grouped(MAX_PROOF_BYTES)} allowed`;
        throw new Malformed(WHAT, sizes);
    }
    const blank = indexOf(data, BLANK_LINE);
    if (blank < 0) {
        throw new Malformed(WHAT, "has no blank line before the checkpoint");
    }
    const [header, ...lines] = decodeLines(concat(data.subarray(0, blank), NEWLINE), WHAT);
    if (header !== HEADER) {
        throw new Malformed(WHAT, `does not begin with ${HEADER}`);
    }
    const extra = lines[0]?.startsWith("extra ") ? b64decode(lines.shift().slice(6), "tlog-proof extra") : null;
    if (!lines[0]?.startsWith("index ")) {
        throw new Malformed(WHAT, "has no index line where it belongs");
    }
    const index = parseDecimal(lines.shift().slice(6), "tlog-proof index");
    const path = lines.map((line) => b64decode(line, "tlog-proof path"));
    const proof = { extra, index, path, checkpoint: data.subarray(blank + 2) };
    checkProof(proof);
    return Object.freeze(proof);
}

function checkProof({ extra, index, path, checkpoint }) {
    if (extra !== null && extra.length === 0) {
        throw new Malformed(WHAT, "has an extra line without data; leave the line out");
    }
    if (index >= MAX_SIZE) {
        throw new Malformed(WHAT, "the index is not between 0 and 2^63-2");
    }
    if (path.length > MAX_PATH || path.some((hash) => hash.length !== HASH_SIZE)) {
        throw new Malformed(WHAT, "the path is not made of up to 64 hashes of 32 bytes");
    }
    parseCheckpoint(parseNote(checkpoint).text);
}
