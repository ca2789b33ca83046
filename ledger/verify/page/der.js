// Reading DER (ITU-T X.690 section 10): ledger/formats/der.py. Whole numbers are BigInt.

import { Malformed } from "./errors.js";
import { grouped, toHex } from "./text.js";

export const BOOLEAN = 0x01;
export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTETS = 0x04;
export const NULL = 0x05;
export const OID = 0x06;
export const SEQUENCE = 0x30;
export const SET = 0x31;
export const UTC_TIME = 0x17;
export const GENERALIZED_TIME = 0x18;

const MAX_VALUES = 10_000;
const LONG = 0x80;
const MAX_LENGTH_BYTES = 4;
const MAX_OID_BYTES = 32;

// The tag of a constructed, context-specific value.
export function context(number) {
    return 0xa0 | number;
}

// One value. `content` is what follows tag and length, `encoded` all of it; `what` names the format in errors.
export class Value {
    constructor(tag, content, encoded, what) {
        Object.assign(this, { tag, content, encoded, what });
    }

    values() {
        return splitValues(this.content, this.what);
    }

    of(tag) {
        if (this.tag !== tag) {
            throw new Malformed(this.what, `has tag 0x${hex(this.tag)} where 0x${hex(tag)} belongs`);
        }
        return this;
    }

    fields(tag = SEQUENCE) {
        return new Fields(this.of(tag).values(), this.what);
    }

    integer() {
        const { content } = this.of(INTEGER);
        const [first, second] = content;
        const long = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
        if (content.length === 0 || long) {
            throw new Malformed(this.what, "has a number that is not written in the fewest bytes");
        }
        return BigInt.asIntN(content.length * 8, BigInt("0x" + toHex(content)));
    }

    // dotted
    oid() {
        return dotted(this.of(OID).content, this.what);
    }
}

// The values of a sequence in their order: `take` the next, `maybe` the next if it has this tag, `end`.
export class Fields {
    #values;
    #what;

    constructor(values, what) {
        this.#values = [...values];
        this.#what = what;
    }

    take(tag = null) {
        if (this.#values.length === 0) {
            throw new Malformed(this.#what, "ends where another value belongs");
        }
        const value = this.#values.shift();
        return tag === null ? value : value.of(tag);
    }

    maybe(tag) {
        return this.#values[0]?.tag === tag ? this.#values.shift() : null;
    }

    end() {
        if (this.#values.length > 0) {
            throw new Malformed(this.#what, `has ${this.#values.length} more values than its format knows`);
        }
    }
}

// The one value that `data` is, wholly.
export function readDer(data, what) {
    const values = splitValues(data, what);
    if (values.length !== 1) {
        throw new Malformed(what, "is not one DER value");
    }
    return values[0];
}

function splitValues(data, what) {
    const values = [];
    for (let position = 0; position < data.length; ) {
        if (values.length === MAX_VALUES) {
            throw new Malformed(what, `holds more than ${grouped(MAX_VALUES)} values`);
        }
        const [start, tag] = [position, data[position]];
        if ((tag & 0x1f) === 0x1f) {
            throw new Malformed(what, "has a tag of several bytes");
        }
        const [length, begin] = lengthAt(data, position + 1, what);
        position = begin + length;
        if (position > data.length) {
            throw new Malformed(what, "ends in the middle of a value");
        }
        values.push(new Value(tag, data.subarray(begin, position), data.subarray(start, position), what));
    }
    return values;
}

// [length, where the content begins]
function lengthAt(data, position, what) {
    if (position >= data.length) {
        throw new Malformed(what, "ends where a length belongs");
    }
    const first = data[position];
    if (first < LONG) {
        return [first, position + 1];
    }
    const count = first - LONG;
    const digits = data.subarray(position + 1, position + 1 + count);
    if (!(count >= 1 && count <= MAX_LENGTH_BYTES) || digits.length !== count) {
        throw new Malformed(what, "has a length that is indefinite, cut off, or of more than four bytes");
    }
    const length = digits.reduce((sum, digit) => sum * 256 + digit, 0);
    if (digits[0] === 0 || length < LONG) {
        throw new Malformed(what, "has a length that is not written in the fewest bytes");
    }
    return [length, position + 1 + count];
}

function dotted(content, what) {
    if (content.length === 0 || content.length > MAX_OID_BYTES || content[content.length - 1] & 0x80) {
        throw new Malformed(what, "has an object identifier that is empty, cut off or too long");
    }
    const numbers = [];
    let [number, fresh] = [0n, true];
    for (const byte of content) {
        if (fresh && byte === 0x80) {
            throw new Malformed(what, "has an object identifier that is not written in the fewest bytes");
        }
        number = (number << 7n) | BigInt(byte & 0x7f);
        fresh = !(byte & 0x80);
        if (fresh) {
            numbers.push(number);
            number = 0n;
        }
    }
    const [head, ...rest] = numbers;
    const first = head < 80n ? head / 40n : 2n;
    return [first, head - 40n * first, ...rest].join(".");
}

function hex(tag) {
    return tag.toString(16).padStart(2, "0");
}
