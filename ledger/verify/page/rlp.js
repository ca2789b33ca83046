// Recursive Length Prefix, the encoding of everything on an EVM chain: ledger/formats/rlp.py.
//
// A string is a Uint8Array, a list an Array. Only the one encoding that `encodeItem` gives is taken.

import { Malformed } from "./errors.js";
import { concat, toInteger } from "./text.js";

const MAX_DEPTH = 16;
const STRING = 0x80;
const LIST = 0xc0;
const SHORT = 55;

export function encodeItem(item) {
    if (item instanceof Uint8Array) {
        return item.length === 1 && item[0] < STRING ? item : concat(prefix(item.length, STRING), item);
    }
    const body = concat(...item.map(encodeItem));
    return concat(prefix(body.length, LIST), body);
}

// The string that stands for a number, which is not negative.
export function stringOf(number) {
    const digits = [];
    for (let rest = BigInt(number); rest > 0n; rest >>= 8n) {
        digits.unshift(Number(rest & 0xffn));
    }
    return Uint8Array.from(digits);
}

export function decodeItem(data, what) {
    const [item, end] = itemAt(data, 0, what, MAX_DEPTH);
    if (end !== data.length) {
        throw new Malformed(what, "bytes follow the end of its RLP");
    }
    return item;
}

// The items of a list, whose number must be one of `counts` where any are given.
export function items(item, what, ...counts) {
    if (!Array.isArray(item)) {
        throw new Malformed(what, "has a string where a list belongs");
    }
    if (counts.length > 0 && !counts.includes(item.length)) {
        throw new Malformed(what, `has a list of ${item.length} items`);
    }
    return item;
}

export function string(item, what, size = null) {
    if (Array.isArray(item)) {
        throw new Malformed(what, "has a list where a string belongs");
    }
    if (size !== null && item.length !== size) {
        throw new Malformed(what, `has ${item.length} bytes where ${size} belong`);
    }
    return item;
}

// A BigInt below 2^256, without leading zeros.
export function number(item, what) {
    const data = string(item, what);
    if (data.length > 32 || data[0] === 0) {
        throw new Malformed(what, "has a number that is too large or has leading zeros");
    }
    return toInteger(data);
}

function prefix(length, offset) {
    if (length <= SHORT) {
        return Uint8Array.of(offset + length);
    }
    const digits = stringOf(length);
    return concat(Uint8Array.of(offset + SHORT + digits.length), digits);
}

// [the item that begins at `at`, where it ends]
function itemAt(data, at, what, depth) {
    if (at >= data.length) {
        throw new Malformed(what, "its RLP is cut short");
    }
    if (data[at] < STRING) {
        return [data.subarray(at, at + 1), at + 1];
    }
    const [start, end] = bodyAt(data, at, what);
    if (data[at] < LIST) {
        if (end - start === 1 && data[start] < STRING) {
            throw new Malformed(what, "its RLP is not the shortest");
        }
        return [data.subarray(start, end), end];
    }
    if (depth === 0) {
        throw new Malformed(what, `its RLP has more than ${MAX_DEPTH} lists in each other`);
    }
    return [listBetween(data, start, end, what, depth - 1), end];
}

function listBetween(data, start, end, what, depth) {
    const found = [];
    let at = start;
    while (at < end) {
        const [item, next] = itemAt(data, at, what, depth);
        found.push(item);
        at = next;
    }
    if (at !== end) {
        throw new Malformed(what, "an item of its RLP is longer than the list around it");
    }
    return found;
}

// where the content of the string or list at `at` begins and ends
function bodyAt(data, at, what) {
    let length = data[at] - (data[at] < LIST ? STRING : LIST);
    let start = at + 1;
    if (length > SHORT) {
        const digits = data.subarray(start, start + length - SHORT);
        start += digits.length;
        length = Number(toInteger(digits));
        if (digits.length === 0 || digits[0] === 0 || length <= SHORT) {
            throw new Malformed(what, "its RLP is not the shortest");
        }
    }
    if (start + length > data.length) {
        throw new Malformed(what, "its RLP is cut short");
    }
    return [start, start + length];
}
