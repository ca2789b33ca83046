// A decision's manifest: ledger/formats/manifest.py. Indexes are numbers below 10^13.

import { Malformed } from "./errors.js";
import { grouped } from "./text.js";

export const MANIFEST_NAME = "manifest.txt";
export const MANIFEST_UNIT = "manifest";

const LINE = /^(0|[1-9][0-9]{0,12}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9a-f]{64})$/;

// {index, recordId, leaf: hex} of every line.
export function parseLines(data) {
    const text = new TextDecoder("latin1").decode(data);
    const found = [];
    let last = -1;
    // one line after the other: a text of empty lines must not become a list of them
    for (let at = 0; at < text.length; ) {
        const end = text.indexOf("\n", at);
        const match = end < 0 ? null : LINE.exec(text.slice(at, end));
        if (match === null || Number(match[1]) <= last) {
            throw wrong(found.length + 1);
        }
        last = Number(match[1]);
        found.push({ index: last, recordId: match[2], leaf: match[3] });
        at = end + 1;
    }
    return found;
}

function wrong(number) {
    const says = "is not an index above the last, a record id and a leaf hash";
    return new Malformed("manifest", `line ${grouped(number)} ${says}`);
}
