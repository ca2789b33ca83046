// The zip of a case file, read strictly: ledger/formats/zipfiles.py. Every header is made again and compared.
//
// Sizes and offsets of entries are BigInt. The file is read in parts, never as a whole.

import { CaseFileInvalid } from "./casefile_invalid.js";
import { concat, encode, equal, grouped } from "./text.js";
import { refusal } from "./refusals.js";

export const HEAD = encode("PK\x03\x04");
export const CHUNK_BYTES = 4 * 1024 * 1024;

export const MAX_ENTRIES = 500_000;
const MAX_PATH_CHARS = 120;
const MAX_ZIP_BYTES = 2 ** 46;
const PAYLOAD = "data/";
const PATH = /^[A-Za-z0-9][A-Za-z0-9._-]*(?:\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;

const LOCAL_SIZE = 30;
const CENTRAL_SIZE = 46;
const END_SIZE = 22;
const END64_SIZE = 56;
const LOCATOR_SIZE = 20;
const CENTRAL_HEAD = 0x02014b50;
const END_HEAD = 0x06054b50;
const END64_HEAD = 0x06064b50;
const LOCATOR_HEAD = 0x07064b50;
const DATE = 0x0021;
const MADE_BY = 0x032d;
const FILE_MODE = 0o100644 * 2 ** 16;
const MAX16 = 0xffff;
const MAX32 = 0xffffffff;
const WIDE = 0xffffffffn;
// how much is read ahead where many small parts follow one another, and where they may lie far apart
const AHEAD = 1024 * 1024;
const NEAR = 16 * 1024;
// records and receipts are read by turns, and each kind lies together
const WINDOWS = 4;

// One file of the zip: its path, its size, its CRC-32, the offset of its local header.
class Entry {
    constructor(path, size, crc, offset) {
        Object.assign(this, { path, size, crc, offset });
    }

    get dataOffset() {
        return this.offset + BigInt(LOCAL_SIZE + this.path.length + (this.size >= WIDE ? 20 : 0));
    }

    get end() {
        return this.dataOffset + this.size;
    }
}

// A case file's zip. `file` is a File or Blob.
export class ZipReader {
    #source;
    #byPath;

    // Reads the directory and every local header, not the bytes between them. Throws CaseFileInvalid.
    static async open(file) {
        const reader = new ZipReader();
        await reader.#open(file);
        return reader;
    }

    async #open(file) {
        this.size = file.size;
        this.#source = new Source(file);
        if (this.size > MAX_ZIP_BYTES) {
            throw bad("zip-large", `the file is larger than ${grouped(MAX_ZIP_BYTES)} bytes`);
        }
        const [count, offset, length] = await this.#ending();
        this.entries = await this.#directory(count, offset, length);
        this.#byPath = new Map(this.entries.map((entry) => [entry.path, entry]));
        await this.#checkHeaders(offset);
    }

    has(path) {
        return this.#byPath.has(path);
    }

    entry(path) {
        const found = this.#byPath.get(path);
        if (found === undefined) {
            throw new CaseFileInvalid("file-missing", "the case file lacks a file that it must have", path);
        }
        return found;
    }

    // The bytes of an entry in pieces. Throws CaseFileInvalid, `zip-crc`, after the last.
    async *chunks(entry) {
        let [offset, left, crc] = [Number(entry.dataOffset), Number(entry.size), 0];
        const ahead = left < NEAR ? AHEAD : 0;
        while (left > 0) {
            const chunk = await this.#source.read(offset, Math.min(CHUNK_BYTES, left), ahead);
            if (chunk.length === 0) {
                throw new CaseFileInvalid("zip-end", "the file ends too early", entry.path);
            }
            crc = crc32(chunk, crc);
            offset += chunk.length;
            left -= chunk.length;
            yield chunk;
        }
        if (crc !== entry.crc) {
            const text = "a file in the zip does not have its CRC-32: it was damaged";
            throw new CaseFileInvalid("zip-crc", text, entry.path);
        }
    }

    // All bytes of the file at `path`, at most `limit`.
    async read(path, limit) {
        const entry = this.entry(path);
        if (entry.size > BigInt(limit)) {
            const text = `has ${grouped(entry.size)} bytes, more than the ${grouped(limit)} allowed`;
            throw new CaseFileInvalid("file-large", text, path);
        }
        const parts = [];
        for await (const chunk of this.chunks(entry)) {
            parts.push(chunk);
        }
        return parts.length === 1 ? parts[0] : concat(...parts);
    }

    // The bytes of an entry as a part of the file: nothing is read, nothing is checked.
    blob(entry, mediaType) {
        return this.#source.blob.slice(Number(entry.dataOffset), Number(entry.end), mediaType);
    }

    // [number of entries, offset and size of the directory]
    async #ending() {
        const tailAt = Math.max(0, this.size - END64_SIZE - LOCATOR_SIZE - END_SIZE);
        const tail = await this.#source.read(tailAt, this.size - tailAt);
        const last = tail.subarray(Math.max(0, tail.length - END_SIZE));
        if (last.length < END_SIZE || view(last).getUint32(0, true) !== END_HEAD) {
            throw bad("zip-end", "the zip does not end as it should: it was cut short, or something was added");
        }
        const end = view(last);
        let count = BigInt(end.getUint16(10, true));
        let [length, offset] = [12, 16].map((at) => BigInt(end.getUint32(at, true)));
        const is64 = tail.length >= END64_SIZE && view(tail).getUint32(0, true) === END64_HEAD;
        if (is64 && (count === BigInt(MAX16) || length === WIDE || offset === WIDE)) {
            [count, length, offset] = [32, 40, 48].map((at) => view(tail).getBigUint64(at, true));
        }
        if (count > BigInt(MAX_ENTRIES)) {
            throw bad("zip-many", `the zip has more than ${grouped(MAX_ENTRIES)} entries`);
        }
        const expected = ending(count, offset, length);
        if (offset + length + BigInt(expected.length) !== BigInt(this.size)) {
            throw bad("zip-gap", "bytes stand before, between or after the zip's parts that belong to none of them");
        }
        if (!equal(tail.subarray(tail.length - expected.length), expected)) {
            throw bad("zip-end", "the end of the zip says something that a case file does not say");
        }
        return [Number(count), offset, length];
    }

    async #directory(count, start, length) {
        const entries = [];
        let [offset, last] = [Number(start), null];
        const end = Number(start + length);
        for (let n = 0; n < count; n++) {
            const [entry, header] = await this.#central(offset, end);
            checkCentral(entry, header);
            if (last !== null && last.path === entry.path) {
                throw new CaseFileInvalid("zip-duplicate", "a file stands in the zip twice", entry.path);
            }
            if (last !== null && isAfter(last.path, entry.path)) {
                const text = "the zip's files are not in the order of case files";
                throw new CaseFileInvalid("zip-order", text, entry.path);
            }
            entries.push(entry);
            offset += header.length;
            last = entry;
        }
        if (offset !== end) {
            throw bad("zip-gap", "the zip's directory has another size than it says");
        }
        return entries;
    }

    // [the entry, its header]
    async #central(offset, end) {
        const fixed = await this.#source.read(offset, CENTRAL_SIZE, AHEAD);
        if (fixed.length < CENTRAL_SIZE || view(fixed).getUint32(0, true) !== CENTRAL_HEAD) {
            throw bad("zip-directory", "the zip's directory cannot be read");
        }
        const fields = view(fixed);
        const [pathLength, extraLength, commentLength] = [28, 30, 32].map((at) => fields.getUint16(at, true));
        const rest = pathLength + extraLength + commentLength;
        const header = concat(fixed, await this.#source.read(offset + CENTRAL_SIZE, rest, AHEAD));
        if (offset + header.length > end) {
            throw bad("zip-directory", "the zip's directory is longer than it says");
        }
        const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
        const path = decoder.decode(header.subarray(CENTRAL_SIZE).subarray(0, pathLength));
        checkPath(path);
        const wide = wideOf(header.subarray(CENTRAL_SIZE + pathLength).subarray(0, extraLength));
        let [size, at] = [BigInt(fields.getUint32(24, true)), BigInt(fields.getUint32(42, true))];
        if (size === WIDE && wide.length >= 2) {
            size = wide[1];
            wide.splice(0, 2);
        }
        if (at === WIDE && wide.length > 0) {
            at = wide[0];
        }
        return [new Entry(path, size, fields.getUint32(16, true), at), header];
    }

    async #checkHeaders(directory) {
        let expected = 0n;
        for (const entry of this.entries) {
            if (entry.offset !== expected) {
                const reason = entry.offset < expected ? "zip-overlap" : "zip-gap";
                throw new CaseFileInvalid(reason, "the zip's files do not follow each other without gap", entry.path);
            }
            if (entry.end > directory) {
                const text = "a file in the zip reaches into its directory";
                throw new CaseFileInvalid("zip-overlap", text, entry.path);
            }
            const header = localHeader(entry);
            if (!equal(await this.#source.read(Number(entry.offset), header.length, NEAR), header)) {
                const text = "the zip's directory and the file's own header say different things";
                throw new CaseFileInvalid("zip-header", text, entry.path);
            }
            expected = entry.end;
        }
        if (expected !== directory) {
            throw bad("zip-gap", "bytes stand before the zip's directory that belong to no file");
        }
    }
}

// Parts of a file; with `ahead`, so many bytes are read at once and kept for what is asked next.
class Source {
    #windows = [];

    constructor(blob) {
        this.blob = blob;
    }

    async read(offset, size, ahead = 0) {
        const holds = ({ start, data }) => start <= offset && offset + size <= start + data.length;
        const window = this.#windows.find(holds);
        if (window !== undefined) {
            return window.data.subarray(offset - window.start).subarray(0, size);
        }
        const data = await this.#bytes(offset, Math.max(size, ahead));
        if (ahead > 0) {
            this.#windows = [{ start: offset, data }, ...this.#windows].slice(0, WINDOWS);
        }
        return data.subarray(0, size);
    }

    async #bytes(offset, size) {
        try {
            return new Uint8Array(await this.blob.slice(offset, offset + size).arrayBuffer());
        } catch (error) {
            throw refusal("unreadable", { file: this.blob.name ?? "", cause: error.name });
        }
    }
}

// Throws CaseFileInvalid, `zip-name`, unless `path` is one that this format has.
function checkPath(path) {
    if ([...path].length > MAX_PATH_CHARS || !PATH.test(path)) {
        throw new CaseFileInvalid("zip-name", "a file in the zip has a name that case files do not have", path);
    }
}

// Whether `path` belongs after `other`: payload by path, then the rest by path.
function isAfter(path, other) {
    const [first, second] = [path, other].map((name) => !name.startsWith(PAYLOAD));
    return first === second ? path > other : first;
}

function localHeader({ path, size, crc }) {
    const large = size >= WIDE;
    const extra = large ? wideField(size, size) : new Uint8Array();
    const size32 = large ? MAX32 : Number(size);
    const fixed = [
        [0x04034b50, 4],
        [large ? 45 : 20, 2],
        ...[0, 0, 0, DATE].map((value) => [value, 2]),
        ...[crc, size32, size32].map((value) => [value, 4]),
        ...[path.length, extra.length].map((value) => [value, 2]),
    ];
    return concat(packed(fixed), encode(path), extra);
}

function centralHeader({ path, size, crc, offset }) {
    const wide = [...(size >= WIDE ? [size, size] : []), ...(offset >= WIDE ? [offset] : [])];
    const extra = wide.length > 0 ? wideField(...wide) : new Uint8Array();
    const size32 = size >= WIDE ? MAX32 : Number(size);
    const fixed = [
        [CENTRAL_HEAD, 4],
        ...[MADE_BY, wide.length > 0 ? 45 : 20, 0, 0, 0, DATE].map((value) => [value, 2]),
        ...[crc, size32, size32].map((value) => [value, 4]),
        ...[path.length, extra.length, 0, 0, 0].map((value) => [value, 2]),
        [FILE_MODE, 4],
        [offset >= WIDE ? MAX32 : Number(offset), 4],
    ];
    return concat(packed(fixed), encode(path), extra);
}

// What stands after a directory of `count` entries, `length` bytes long, at `offset`.
function ending(count, offset, length) {
    const least = (value, most) => (value < BigInt(most) ? Number(value) : most);
    const [count16, length32, offset32] = [least(count, MAX16), least(length, MAX32), least(offset, MAX32)];
    const end = packed([
        [END_HEAD, 4],
        ...[0, 0, count16, count16].map((value) => [value, 2]),
        ...[length32, offset32].map((value) => [value, 4]),
        [0, 2],
    ]);
    if (count16 < MAX16 && length32 < MAX32 && offset32 < MAX32) {
        return end;
    }
    const end64 = packed([
        [END64_HEAD, 4],
        [END64_SIZE - 12, 8],
        [MADE_BY, 2],
        [45, 2],
        [0, 4],
        [0, 4],
        ...[count, count, length, offset].map((value) => [value, 8]),
    ]);
    const locator = packed([
        [LOCATOR_HEAD, 4],
        [0, 4],
        [offset + length, 8],
        [1, 4],
    ]);
    return concat(end64, locator, end);
}

function wideField(...values) {
    const fields = [1, 8 * values.length].map((value) => [value, 2]);
    return packed([...fields, ...values.map((value) => [value, 8])]);
}

// [[value, how many bytes], …] after one another, the lowest byte of each first
function packed(fields) {
    const data = new Uint8Array(fields.reduce((sum, [, width]) => sum + width, 0));
    let at = 0;
    for (const [value, width] of fields) {
        if (width === 2) {
            view(data).setUint16(at, value, true);
        } else if (width === 4) {
            view(data).setUint32(at, value, true);
        } else {
            view(data).setBigUint64(at, BigInt(value), true);
        }
        at += width;
    }
    return data;
}

// The numbers of a ZIP64 field that stands alone; what is anything else shows when the header is made again.
function wideOf(extra) {
    if (extra.length < 4 || (extra.length - 4) % 8 !== 0) {
        return [];
    }
    const numbers = Array.from({ length: (extra.length - 4) / 8 }, (_, n) => 4 + 8 * n);
    return numbers.map((at) => view(extra).getBigUint64(at, true));
}

function checkCentral(entry, header) {
    if (equal(header, centralHeader(entry))) {
        return;
    }
    const fields = view(header);
    if (fields.getUint16(8, true) & 1) {
        throw new CaseFileInvalid("zip-encrypted", "a file in the zip is encrypted", entry.path);
    }
    if (fields.getUint16(10, true) !== 0) {
        const text = "a file in the zip is compressed: case files store them as they are";
        throw new CaseFileInvalid("zip-method", text, entry.path);
    }
    if (fields.getUint32(38, true) !== FILE_MODE) {
        const text = "an entry of the zip is no plain file, but a link or a folder";
        throw new CaseFileInvalid("zip-kind", text, entry.path);
    }
    const text = "the zip's directory says something that a case file does not say";
    throw new CaseFileInvalid("zip-header", text, entry.path);
}

function view(data) {
    return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function bad(reason, text) {
    return new CaseFileInvalid(reason, text);
}

// --- CRC-32 (ISO 3309), eight bytes at a time ---

const TABLES = crcTables();

function crc32(data, before = 0) {
    const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
    let [crc, at] = [~before, 0];
    for (const last = data.length - 7; at < last; at += 8) {
        crc ^= data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24);
        crc =
            t7[crc & 0xff] ^
            t6[(crc >>> 8) & 0xff] ^
            t5[(crc >>> 16) & 0xff] ^
            t4[crc >>> 24] ^
            t3[data[at + 4]] ^
            t2[data[at + 5]] ^
            t1[data[at + 6]] ^
            t0[data[at + 7]];
    }
    for (; at < data.length; at++) {
        crc = (crc >>> 8) ^ t0[(crc ^ data[at]) & 0xff];
    }
    return ~crc >>> 0;
}

function crcTables() {
    const first = Int32Array.from({ length: 256 }, (_, n) => {
        let value = n;
        for (let bit = 0; bit < 8; bit++) {
            value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
        }
        return value;
    });
    const tables = [first];
    for (let n = 1; n < 8; n++) {
        tables.push(tables[n - 1].map((value) => (value >>> 8) ^ first[value & 0xff]));
    }
    return tables;
}
