// JSON (RFC 8259) with one reading only, bounded in size, depth and number of values: ledger/formats/strictjson.py.
//
// Objects are Maps, so that no member name means anything; whole numbers are numbers, all others `Float`.

import { Malformed } from "./errors.js";
import { byCodePoints, decodeUtf8, grouped, head, isObject, lengthOf, repr } from "./text.js";

export const MAX_INTEGER = Number.MAX_SAFE_INTEGER;

const MAX_DEPTH = 32;
const MAX_VALUES = 500_000;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

const BLANK = /[ \t\n\r]*/y;
const NUMBER = /(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const PLAIN = /[^"\\\x00-\x1f]*/y;
const CONSTANTS = [
    ["null", null],
    ["true", true],
    ["false", false],
];
const NO_NUMBERS = ["NaN", "Infinity", "-Infinity"];
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

export class Float {
    constructor(value) {
        this.value = value;
    }
}

export function loads(data, what, maxBytes, maxValues = MAX_VALUES) {
    if (data.length > maxBytes) {
        throw new Malformed(what, `${grouped(data.length)} bytes is more than the ${grouped(maxBytes)} allowed`);
    }
    checkShape(data, what, maxValues);
    const text = decodeUtf8(data, what);
    const reader = new Reader(text, what);
    const value = reader.document();
    if (text.includes("\\u") && hasSurrogate(value)) {
        throw new Malformed(what, "a lone surrogate is not text");
    }
    return value;
}

export function loadsObject(data, what, maxBytes, maxValues = MAX_VALUES) {
    const value = loads(data, what, maxBytes, maxValues);
    if (!isObject(value)) {
        throw new Malformed(what, "must be a JSON object");
    }
    return value;
}

// Sorted members, ASCII, no white space: byte for byte what Python's json.dumps gives for the same value.
export function canonical(value) {
    if (isObject(value)) {
        const names = [...value.keys()].sort(byCodePoints);
        return `{${names.map((name) => `${ascii(name)}:${canonical(value.get(name))}`).join(",")}}`;
    }
    if (Array.isArray(value)) {
        return `[${value.map(canonical).join(",")}]`;
    }
    if (value instanceof Float) {
        return floatText(value.value);
    }
    return typeof value === "string" ? ascii(value) : String(value);
}

// Sorted members, no white space, texts as they are: Python's json.dumps with ensure_ascii=False. No `Float`s.
export function canonicalUtf8(value) {
    if (isObject(value)) {
        const names = [...value.keys()].sort(byCodePoints);
        return `{${names.map((name) => `${JSON.stringify(name)}:${canonicalUtf8(value.get(name))}`).join(",")}}`;
    }
    if (Array.isArray(value)) {
        return `[${value.map(canonicalUtf8).join(",")}]`;
    }
    return typeof value === "string" ? JSON.stringify(value) : String(value);
}

function ascii(text) {
    const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
    return JSON.stringify(text).replace(/[^\x20-\x7e]/g, escape);
}

// Python's repr of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
function floatText(value) {
    const sign = value < 0 || Object.is(value, -0) ? "-" : "";
    const [mantissa, exponent] = Math.abs(value).toExponential().split("e");
    const digits = mantissa.replace(".", "");
    const point = Number(exponent) + 1;
    if (point <= -4 || point > 16) {
        const fraction = digits.length > 1 ? `.${digits.slice(1)}` : "";
        const power = String(Math.abs(point - 1)).padStart(2, "0");
        return `${sign}${digits[0]}${fraction}e${point < 1 ? "-" : "+"}${power}`;
    }
    if (point <= 0) {
        return `${sign}0.${"0".repeat(-point)}${digits}`;
    }
    return `${sign}${digits.slice(0, point).padEnd(point, "0")}.${digits.slice(point) || "0"}`;
}

// before parsing: the parser recurses, and values are many times larger in memory than in the text
function checkShape(data, what, maxValues) {
    let [depth, values] = [0, 0];
    for (let at = 0; at < data.length; at++) {
        const byte = data[at];
        if (byte === QUOTE) {
            at = endOfString(data, at);
        } else if (byte === 0x5b || byte === 0x7b) {
            depth += 1;
            values += 1;
        } else if (byte === 0x2c) {
            values += 1;
        } else if (byte === 0x5d || byte === 0x7d) {
            depth -= 1;
        }
        if (depth > MAX_DEPTH) {
            throw new Malformed(what, `nested deeper than ${MAX_DEPTH}`);
        }
        if (values > maxValues) {
            throw new Malformed(what, `holds more than ${grouped(maxValues)} values`);
        }
    }
}

// a string that does not end is taken whole
function endOfString(data, at) {
    for (at += 1; at < data.length && data[at] !== QUOTE; at++) {
        if (data[at] === BACKSLASH) {
            at += 1;
        }
    }
    return at;
}

function hasSurrogate(value) {
    if (typeof value === "string") {
        return /\p{Surrogate}/u.test(value);
    }
    if (isObject(value)) {
        return [...value].some(([name, member]) => hasSurrogate(name) || hasSurrogate(member));
    }
    return Array.isArray(value) && value.some(hasSurrogate);
}

class Reader {
    constructor(text, what) {
        this.text = text;
        this.what = what;
        this.at = 0;
    }

    document() {
        if (this.text.startsWith("\ufeff")) {
            this.#fail("Unexpected UTF-8 BOM (decode using utf-8-sig)", 0);
        }
        this.#blank();
        const value = this.#value();
        this.#blank();
        if (this.at !== this.text.length) {
            this.#fail("Extra data");
        }
        return value;
    }

    #value() {
        const next = this.text[this.at];
        if (next === '"') {
            return this.#string();
        }
        if (next === "{") {
            return this.#object();
        }
        if (next === "[") {
            return this.#array();
        }
        for (const [word, value] of CONSTANTS) {
            if (this.text.startsWith(word, this.at)) {
                this.at += word.length;
                return value;
            }
        }
        return this.#number();
    }

    #number() {
        const found = this.#match(NUMBER);
        if (found === null) {
            const word = NO_NUMBERS.find((name) => this.text.startsWith(name, this.at));
            if (word !== undefined) {
                throw new Malformed(this.what, `${word} is not a JSON number`);
            }
            this.#fail("Expecting value");
        }
        const [text, , fraction, exponent] = found;
        return fraction === undefined && exponent === undefined ? this.#whole(text) : this.#float(text);
    }

    #whole(text) {
        const value = Number(text);
        if (text.length > 17 || !Number.isSafeInteger(value)) {
            throw new Malformed(this.what, `integer ${text.slice(0, 20)} is beyond 2^53-1; write it as a string`);
        }
        // there is one zero among whole numbers
        return value === 0 ? 0 : value;
    }

    #float(text) {
        const value = Number(text);
        if (!Number.isFinite(value)) {
            const start = text.slice(0, 20);
            throw new Malformed(this.what, `number ${start} is beyond what a double holds; write it as a string`);
        }
        return new Float(value);
    }

    #object() {
        let twice = null;
        const members = new Map();
        this.at += 1;
        this.#blank();
        if (this.text[this.at] !== "}") {
            do {
                this.#blank();
                if (this.text[this.at] !== '"') {
                    this.#fail("Expecting property name enclosed in double quotes");
                }
                const name = this.#string();
                this.#blank();
                this.#take(":");
                this.#blank();
                twice ??= members.has(name) ? name : null;
                members.set(name, this.#value());
                this.#blank();
            } while (this.#more("}"));
        }
        this.at += 1;
        if (twice !== null) {
            throw new Malformed(this.what, `member ${repr(head(twice, 64))} stands twice`);
        }
        return members;
    }

    #array() {
        const values = [];
        this.at += 1;
        this.#blank();
        if (this.text[this.at] !== "]") {
            do {
                this.#blank();
                values.push(this.#value());
                this.#blank();
            } while (this.#more("]"));
        }
        this.at += 1;
        return values;
    }

    // whether another item follows; `end` is left where it stands
    #more(end) {
        if (this.text[this.at] === end) {
            return false;
        }
        this.#take(",");
        return true;
    }

    #string() {
        const start = this.at;
        const parts = [];
        this.at += 1;
        for (;;) {
            parts.push(this.#match(PLAIN)[0]);
            const next = this.text[this.at];
            if (next === undefined) {
                this.#fail("Unterminated string starting at", start);
            }
            if (next === '"') {
                this.at += 1;
                return parts.join("");
            }
            if (next !== "\\") {
                this.#fail("Invalid control character at");
            }
            parts.push(this.#escape(start));
        }
    }

    #escape(start) {
        const letter = this.text[this.at + 1];
        if (letter === undefined) {
            this.#fail("Unterminated string starting at", start);
        }
        if (letter !== "u") {
            if (!Object.hasOwn(ESCAPES, letter)) {
                this.#fail("Invalid \\escape");
            }
            this.at += 2;
            return ESCAPES[letter];
        }
        const digits = this.text.slice(this.at + 2, this.at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) {
            this.#fail("Invalid \\uXXXX escape", this.at + 1);
        }
        this.at += 6;
        return String.fromCharCode(parseInt(digits, 16));
    }

    #take(character) {
        if (this.text[this.at] !== character) {
            this.#fail(`Expecting '${character}' delimiter`);
        }
        this.at += 1;
    }

    #blank() {
        this.#match(BLANK);
    }

    #match(pattern) {
        pattern.lastIndex = this.at;
        const found = pattern.exec(this.text);
        this.at += found === null ? 0 : found[0].length;
        return found;
    }

    #fail(message, at = this.at) {
        const before = this.text.slice(0, at);
        const line = before.split("\n").length;
        const column = lengthOf(before.slice(before.lastIndexOf("\n") + 1)) + 1;
        throw new Malformed(this.what, `not JSON at line ${line}, column ${column}: ${message}`);
    }
}
