// A decision's manifest: ledger/formats/manifest.py. Indexes are numbers below 10^13.

import { Malformed } from "./errors.js";
import { grouped } from "./text.js";

export const MANIFEST_NAME = "manifest.txt";
export const MANIFEST_UNIT = "manifest";

const LINE = /^(0|[1-9][0-9]{0,12}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9a-f]{64})$/;

// {index, recordId, leaf: hex} of every line.
export function parseLines(data) {
    const text = new TextDecoder("latin1").decode(data);
    const lines = text.split("\n");
    const whole = lines.pop() === "";
    let last = -1;
    const found = lines.map((line, n) => {
        const match = LINE.exec(line);
        if (match === null || Number(match[1]) <= last) {
            throw wrong(n + 1);
        }
        last = Number(match[1]);
        return { index: last, recordId: match[2], leaf: match[3] };
    });
    if (!whole) {
        throw wrong(lines.length + 1);
    }
    return found;
}

function wrong(number) {
    const says = "is not an index above the last, a record id and a leaf hash";
    return new Malformed("manifest", `line ${grouped(number)} ${says}`);
}
