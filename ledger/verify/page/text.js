// Texts and bytes as the Python modules see them: strings are sequences of code points, not of UTF-16 units.

import { Malformed } from "./errors.js";

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// ledger/formats/texts.py
const NEVER_SEEN = /\p{Cn}(?<=[\u2065\ufdd0-\ufdef\ufff0-\ufff8\u{13430}-\u{1343f}\u{e0000}-\u{e0fff}]|\p{NChar})/u;
const NOT_FOR_PEOPLE = /(?! )[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Z}\u115f\u1160\u2800\u3164\uffa0]/u;
// what Python escapes when it quotes a text
const ESCAPED = /(?! )[\p{C}\p{Z}]/u;
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

// well-formed UTF-8 (Unicode table 3-7): first byte from, to; second byte from, to; length
const SEQUENCES = [
    [0x00, 0x7f, 0x00, 0xff, 1],
    [0xc2, 0xdf, 0x80, 0xbf, 2],
    [0xe0, 0xe0, 0xa0, 0xbf, 3],
    [0xe1, 0xec, 0x80, 0xbf, 3],
    [0xed, 0xed, 0x80, 0x9f, 3],
    [0xee, 0xef, 0x80, 0xbf, 3],
    [0xf0, 0xf0, 0x90, 0xbf, 4],
    [0xf1, 0xf3, 0x80, 0xbf, 4],
    [0xf4, 0xf4, 0x80, 0x8f, 4],
];

export const isText = (value) => typeof value === "string";
export const isWhole = (value) => typeof value === "number" || typeof value === "bigint";
export const isList = (value) => Array.isArray(value);
export const isObject = (value) => value instanceof Map;
export const isFlag = (value) => typeof value === "boolean";

export function encode(text) {
    return ENCODER.encode(text);
}

export function decodeUtf8(data, what) {
    try {
        return DECODER.decode(data);
    } catch {
        throw new Malformed(what, `not UTF-8 at byte ${faultAt(data)}`);
    }
}

export function decodeAscii(data, what) {
    for (let at = 0; at < data.length; at++) {
        if (data[at] > 0x7f) {
            throw new Malformed(what, "not ASCII");
        }
    }
    return DECODER.decode(data);
}

function faultAt(data) {
    let at = 0;
    for (let size = 1; size > 0 && at < data.length; at += size) {
        size = sequenceAt(data, at);
    }
    return at;
}

// its length, 0 for none
function sequenceAt(data, at) {
    const found = SEQUENCES.find(([from, to]) => from <= data[at] && data[at] <= to);
    if (found === undefined) {
        return 0;
    }
    const [, , low, high, size] = found;
    if (size > 1 && !(low <= data[at + 1] && data[at + 1] <= high)) {
        return 0;
    }
    for (let n = 2; n < size; n++) {
        if ((data[at + n] & 0xc0) !== 0x80) {
            return 0;
        }
    }
    return size;
}

export function lengthOf(text) {
    let length = 0;
    for (const _ of text) {
        length += 1;
    }
    return length;
}

// the first `count` code points
export function head(text, count) {
    return text.length <= count ? text : [...text].slice(0, count).join("");
}

export function isPrintable(text) {
    return !NOT_FOR_PEOPLE.test(text) && !NEVER_SEEN.test(text);
}

export function hasSpace(text) {
    return SPACE.test(text);
}

// A text without characters that move the cursor, change colours or turn the reading direction around.
// One of which nobody would see anything is shown by its code points.
export function clean(text) {
    const characters = [...text];
    const isSeen = characters.some((c) => isPrintable(c) && !/[\p{Z}\p{M}]/u.test(c));
    return characters.map((c) => (isSeen && isPrintable(c) ? c : `\\u{${c.codePointAt(0).toString(16)}}`)).join("");
}

// As Python shows a text in a message: quoted, what cannot be printed escaped.
export function repr(text) {
    const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
    const inside = [...text].map((c) => {
        if (c === quote || c === "\\") {
            return "\\" + c;
        }
        return ESCAPED.test(c) ? escaped(c) : c;
    });
    return quote + inside.join("") + quote;
}

function escaped(character) {
    const short = { "\t": "\\t", "\n": "\\n", "\r": "\\r" }[character];
    if (short !== undefined) {
        return short;
    }
    const code = character.codePointAt(0);
    const [letter, digits] = code <= 0xff ? ["x", 2] : code <= 0xffff ? ["u", 4] : ["U", 8];
    return `\\${letter}${code.toString(16).padStart(digits, "0")}`;
}

// The same in ASCII alone, as Python's ascii().
export function asciiRepr(text) {
    return [...repr(text)].map((c) => (c.codePointAt(0) > 0x7e ? escaped(c) : c)).join("");
}

// 1234567 → 1,234,567
export function grouped(number) {
    return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

// The order of code points, which is not that of UTF-16 units.
export function byCodePoints(a, b) {
    const [left, right] = [[...a], [...b]];
    for (let n = 0; n < Math.min(left.length, right.length); n++) {
        const difference = left[n].codePointAt(0) - right[n].codePointAt(0);
        if (difference !== 0) {
            return difference;
        }
    }
    return left.length - right.length;
}

// --- bytes ---

export function equal(a, b) {
    let same = a.length === b.length;
    for (let n = 0; same && n < a.length; n++) {
        same = a[n] === b[n];
    }
    return same;
}

export function concat(...parts) {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
        whole.set(part, at);
        at += part.length;
    }
    return whole;
}

export function startsWith(data, start) {
    return data.length >= start.length && equal(data.subarray(0, start.length), start);
}

// where `part` begins in `data` at or after `from`, -1 for nowhere
export function indexOf(data, part, from = 0) {
    for (let at = data.indexOf(part[0], from); at >= 0; at = data.indexOf(part[0], at + 1)) {
        if (startsWith(data.subarray(at), part)) {
            return at;
        }
    }
    return -1;
}

export function lastIndexOf(data, part) {
    for (let at = data.lastIndexOf(part[0]); at >= 0; at = at > 0 ? data.lastIndexOf(part[0], at - 1) : -1) {
        if (startsWith(data.subarray(at), part)) {
            return at;
        }
    }
    return -1;
}

export function stripNewlines(data) {
    let [start, end] = [0, data.length];
    while (start < end && data[start] === 0x0a) {
        start += 1;
    }
    while (end > start && data[end - 1] === 0x0a) {
        end -= 1;
    }
    return data.subarray(start, end);
}

export function toInteger(bytes) {
    return bytes.length === 0 ? 0n : BigInt("0x" + toHex(bytes));
}

export function fromInteger(value, size) {
    const bytes = new Uint8Array(size);
    for (let n = size - 1, rest = BigInt(value); n >= 0; n--, rest >>= 8n) {
        bytes[n] = Number(rest & 0xffn);
    }
    return bytes;
}

export function toHex(bytes) {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(digits) {
    return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
