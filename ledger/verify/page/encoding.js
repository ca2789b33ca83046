// Base64 and hex that have exactly one text for every byte string: ledger/formats/encoding.py.

import { Malformed } from "./errors.js";
import { fromHex } from "./text.js";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Map([...ALPHABET].map((character, value) => [character.charCodeAt(0), value]));
const PADDED = /^[A-Za-z0-9+/]*={0,2}$/;

export function b64encode(data) {
    let text = "";
    for (let at = 0; at < data.length; at += 3) {
        const bits = (data[at] << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0);
        text += ALPHABET[bits >> 18] + ALPHABET[(bits >> 12) & 63];
        text += at + 1 < data.length ? ALPHABET[(bits >> 6) & 63] : "=";
        text += at + 2 < data.length ? ALPHABET[bits & 63] : "=";
    }
    return text;
}

export function b64decode(text, what) {
    return decoded(text, what, "base64");
}

export function b64urlEncode(data) {
    return b64encode(data).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function b64urlDecode(text, what) {
    const standard = text.replaceAll("-", "+").replaceAll("_", "/");
    const data = decoded(standard + "=".repeat((4 - (text.length % 4)) % 4), what, "base64url");
    if (/[+/=]/.test(text)) {
        throw new Malformed(what, "base64url with stray bits or padding");
    }
    return data;
}

export function hexDecode(text, size, what) {
    // Python's own reader lets capitals and white space between pairs pass; the message tells the two apart
    if (!/^(?:[\t-\r ]*[0-9a-fA-F]{2})*[\t-\r ]*$/.test(text)) {
        throw new Malformed(what, "not hex");
    }
    const data = fromHex(text);
    if (!/^[0-9a-f]*$/.test(text) || data.length !== size) {
        throw new Malformed(what, `expected ${size} bytes in lowercase hex`);
    }
    return data;
}

function decoded(text, what, name) {
    if (text.length % 4 !== 0 || !PADDED.test(text)) {
        throw new Malformed(what, `not ${name}`);
    }
    const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
    const digits = text.length - padding;
    const data = new Uint8Array(Math.floor((digits * 6) / 8));
    let [bits, held, at] = [0, 0, 0];
    for (let n = 0; n < digits; n++) {
        bits = ((bits << 6) | VALUES.get(text.charCodeAt(n))) & 0xffff;
        held += 6;
        if (held >= 8) {
            held -= 8;
            data[at++] = (bits >> held) & 0xff;
        }
    }
    if (bits & ((1 << held) - 1)) {
        throw new Malformed(what, `${name} with stray bits or padding`);
    }
    return data;
}
