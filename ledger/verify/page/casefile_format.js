// What stands in a case file: ledger/formats/casefile.py. Items and the rest of case.json are objects with its members.

import { verifySignature } from "./ed25519.js";
import { b64urlDecode, b64urlEncode } from "./encoding.js";
import { CaseFileInvalid } from "./casefile_invalid.js";
import { Malformed, SignatureInvalid } from "./errors.js";
import { canonical, canonicalUtf8, loadsObject } from "./strictjson.js";
import { decodeUtf8, encode, equal, grouped, head, lengthOf, repr, startsWith } from "./text.js";
import { isFlag, isList, isObject, isText } from "./text.js";
import { EXTENSIONS, ROLES_OF_TYPES } from "./texts.js";
import { MAX_ENTRIES, HEAD as ZIP_HEAD } from "./zipfiles.js";

export const SEALED_HEAD = encode("YXF");
export const MAX_CASE_BYTES = 64 * 1024 * 1024;
export const MAX_TAG_BYTES = 64 * 1024 * 1024;
export const MAX_SMALL_BYTES = 16 * 1024;

export const BAGIT = "bagit.txt";
export const BAG_INFO = "bag-info.txt";
export const CASE = "case.json";
export const SIGNATURE = "signature.jws";
const README = "README.txt";
const PAGE = "verify.html";
export const MANIFEST = "manifest-sha256.txt";
export const TAG_MANIFEST = "tagmanifest-sha256.txt";
// what the tag manifest lists
export const TAGGED = [README, BAG_INFO, BAGIT, CASE, MANIFEST, PAGE].sort();
export const TRUST = "data/trust.json";
export const INDEX_HTML = "data/index.html";
const INDEX_PDF = "data/index.pdf";
const CUSTODY = "data/custody.jsonld";
const FIXED = [TRUST, INDEX_HTML, INDEX_PDF, CUSTODY];
export const BAGIT_TEXT = encode("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n");
export const DECISION = "decision.made";

const FORMAT = "yunxi-case-file";
const VERSION = 1;
const SIGNATURE_TYPE = "yunxi-case-file+jws";
const SOFTWARE = "yunxi";
const ROLES = ["step", "evidence", "decision", "custody", "derived"];
const MAX_CASE_VALUES = 2_500_000;
const MAX_ITEMS = 50_000;
const MAX_ATTACHMENTS = 50;
const MAX_TIMES = 16;
const MAX_VOLUMES = 999;
const MAX_TEXT_CHARS = 2_000;

const WHAT = "case.json";
const DEPARTMENT = "[a-z][a-z0-9-]{1,30}";
const PATHS = {
    record: /^data\/records\/[0-9]{6}\.sd-jwt$/,
    receipt: /^data\/receipts\/[0-9]{6}\.tlog-proof$/,
    attachment: /^data\/attachments\/[0-9]{6}-[0-9]{2}\.[a-z0-9]{1,5}$/,
    anchor: new RegExp(`^data/anchors/${DEPARTMENT}-[0-9]{1,16}\\.anchor\\.json$`),
    token: new RegExp(`^data/times/${DEPARTMENT}-[0-9]{1,16}-[0-9]{1,3}\\.tst$`),
    renewals: new RegExp(`^data/times/${DEPARTMENT}-[0-9]{1,16}-[0-9]{1,3}\\.renewals\\.json$`),
    manifest: /^data\/manifests\/[0-9]{6}\.txt$/,
    volume: /^data\/index-[0-9]{3}\.pdf$/,
};
const DEPARTMENT_ID = new RegExp(`^${DEPARTMENT}$`);
const RECORD_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TYPE = /^[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)+$/;
const CODE = /^[a-z][a-z0-9-]{0,63}$/;
const DATE = /^(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$/;
const HEX = /^[0-9a-f]{64}$/;
const CONTROL = /[\x00-\x1f\x7f-\x9f]/;
const MANIFEST_LINE = /^([0-9a-f]{64})  ([\x21-\x7e]+)$/;
const OXUM = /^(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,8})$/;

// --- case.json ---

// Reads case.json. Nothing of what it says is checked against a record.
export function parseCase(data) {
    const value = loadsObject(data, WHAT, MAX_CASE_BYTES, MAX_CASE_VALUES);
    const members = new Members(value, "the file");
    if (members.take("format") !== FORMAT || members.number("v") !== VERSION) {
        throw new Malformed(WHAT, `must be ${FORMAT}, version ${VERSION}`);
    }
    const found = {
        case: members.text("case", 200),
        consortium: members.text("consortium", 500),
        department: members.matching("department", DEPARTMENT_ID),
        exported_for: members.maybeText("exported_for"),
        log_size: members.number("log_size"),
        volumes: members.number("volumes"),
        items: members.each("items", itemOf, MAX_ITEMS),
        decisions: members.each("decisions", decisionOf, MAX_ITEMS),
        gaps: members.each("gaps", gapOf, MAX_ITEMS),
    };
    members.end();
    checkNumbers(found);
    if (!equal(encode(`${canonicalUtf8(value)}\n`), data)) {
        throw new Malformed(WHAT, "is not canonical: sorted members, no white space, one line feed at the end");
    }
    return found;
}

// Every file of the payload that an item names.
export function pathsOfItem({ record, receipt, anchor, times, attachments }) {
    const named = [
        record,
        receipt,
        anchor,
        ...times.flatMap(({ token, renewals }) => [token, renewals]),
        ...attachments.map(({ path }) => path),
    ];
    return named.filter((path) => path !== null);
}

// Every path of the payload that is named, some more than once.
export function pathsOfCase({ items, decisions, volumes }) {
    const index = Array.from({ length: volumes - 1 }, (_, at) => `data/index-${padded(at + 2, 3)}.pdf`);
    return [...items.flatMap(pathsOfItem), ...decisions.map(({ manifest }) => manifest), ...index, ...FIXED];
}

// For the number of each item that was corrected or withdrawn, the numbers of the items that did so.
export function amendments(items) {
    const known = new Map(items.map((item) => [`${item.department} ${item.record_id}`, item]));
    const found = new Map();
    for (const { n, department, index, amends } of known.values()) {
        const before = known.get(`${department} ${amends}`);
        if (before !== undefined && before.index < index) {
            found.set(before.n, [...(found.get(before.n) ?? []), n]);
        }
    }
    return found;
}

// The `amends` of an item whose statement has this claim: what is no record's id names nothing.
export function amendsOf(claim) {
    return isText(claim) && RECORD_ID.test(claim) ? claim : null;
}

// What a record of this type is to a case; types that are not in the table are evidence.
export function roleOf(type) {
    return Object.hasOwn(ROLES_OF_TYPES, type) ? ROLES_OF_TYPES[type] : "evidence";
}

function attachmentPath(n, ordinal, mediaType) {
    const end = Object.hasOwn(EXTENSIONS, mediaType) ? EXTENSIONS[mediaType] : "bin";
    return `data/attachments/${padded(n, 6)}-${padded(ordinal, 2)}.${end}`;
}

function recordPath(n) {
    return `data/records/${padded(n, 6)}.sd-jwt`;
}

function receiptPath(n) {
    return `data/receipts/${padded(n, 6)}.tlog-proof`;
}

function manifestPath(n) {
    return `data/manifests/${padded(n, 6)}.txt`;
}

// Whether a case file can have a file of this name.
export function isPath(path) {
    const known = [...TAGGED, TAG_MANIFEST, SIGNATURE, ...FIXED];
    return known.includes(path) || Object.values(PATHS).some((pattern) => pattern.test(path));
}

function padded(number, width) {
    return String(number).padStart(width, "0");
}

// Whether a file that begins with `head`, 64 bytes or more, is meant to be a case file: its first entry says so.
export function isCaseFile(head) {
    const size = (head[26] ?? 0) + 256 * (head[27] ?? 0);
    const path = new TextDecoder("latin1").decode(head.subarray(30, 30 + size));
    const tags = [...TAGGED, TAG_MANIFEST, SIGNATURE];
    return startsWith(head, ZIP_HEAD) && (path.startsWith("data/") || tags.includes(path));
}

// --- BagIt texts ---

// {organisation, case, octets: BigInt, files} of bag-info.txt
export function parseBagInfo(data) {
    const values = linesOf(data, BAG_INFO).map(afterColon);
    const oxum = values.length === 4 ? OXUM.exec(values[2]) : null;
    if (oxum === null) {
        const names = "Source-Organization, External-Identifier, Payload-Oxum, Bag-Software-Agent";
        throw new Malformed(BAG_INFO, `has the lines ${names}`);
    }
    const found = { organisation: values[0], case: values[1], octets: BigInt(oxum[1]), files: Number(oxum[2]) };
    if (!equal(encode(bagInfoText(found)), data)) {
        throw new Malformed(BAG_INFO, "is not written as case files have it");
    }
    return found;
}

function bagInfoText({ organisation, case: name, octets, files }) {
    const lines = [`Source-Organization: ${organisation}`, `External-Identifier: ${name}`];
    return `${lines.join("\n")}\nPayload-Oxum: ${octets}.${files}\nBag-Software-Agent: ${SOFTWARE}\n`;
}

function afterColon(line) {
    const at = line.indexOf(": ");
    return at < 0 ? "" : line.slice(at + 2);
}

// Map of path to SHA-256 in hex, in the order of the lines. `what` is the file's name.
export function parseManifest(data, what) {
    const found = new Map();
    let last = "";
    for (const line of linesOf(data, what)) {
        const match = MANIFEST_LINE.exec(line);
        if (match === null) {
            throw new Malformed(what, `line ${found.size + 1} is not a SHA-256 digest, two spaces and a path`);
        }
        if (match[2] <= last) {
            throw new Malformed(what, `line ${found.size + 1} is not in the order of paths, or names a path twice`);
        }
        last = match[2];
        found.set(last, match[1]);
    }
    return found;
}

function linesOf(data, what) {
    if (data.reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0) > MAX_ENTRIES) {
        throw new Malformed(what, `has more than ${grouped(MAX_ENTRIES)} lines`);
    }
    const text = decodeUtf8(data, what);
    if (text !== "" && !text.endsWith("\n")) {
        throw new Malformed(what, "its last line does not end; it may be cut short");
    }
    return text.split("\n").slice(0, -1);
}

// --- signature.jws ---

// {kid, iat, signature: 64 bytes}
export function parseSignature(data) {
    const parts = data.every((byte) => byte < 0x80) ? new TextDecoder().decode(data).split(".") : [];
    if (parts.length !== 3) {
        throw new Malformed(SIGNATURE, "is not a signature with its payload left out");
    }
    const [header, payload, text] = parts;
    const signature = b64urlDecode(text, SIGNATURE);
    const members = loadsObject(b64urlDecode(header, SIGNATURE), SIGNATURE, 4096);
    const [kid, iat] = [members.get("kid"), members.get("iat")];
    if (!isText(kid) || !isCount(iat) || signature.length !== 64 || payload !== "") {
        throw new Malformed(SIGNATURE, "lacks its key, its time or its signature of 64 bytes");
    }
    if (headerText(kid, iat) !== header) {
        throw new Malformed(SIGNATURE, `its header must have typ ${SIGNATURE_TYPE}, alg EdDSA, and nothing else`);
    }
    return { kid, iat, signature };
}

// Throws CaseFileInvalid, `signature-wrong`, unless `key` (32 bytes) made it over the tag manifest.
export async function verifyCaseSignature({ kid, iat, signature }, tagManifest, key) {
    try {
        await verifySignature(key, signature, encode(`${headerText(kid, iat)}.${b64urlEncode(tagManifest)}`));
    } catch (error) {
        if (error instanceof SignatureInvalid) {
            const text = "the case file was changed after it was signed, or another than the named key signed it";
            throw new CaseFileInvalid("signature-wrong", text, SIGNATURE);
        }
        throw error;
    }
}

function headerText(kid, iat) {
    const members = [
        ["alg", "EdDSA"],
        ["iat", iat],
        ["kid", kid],
        ["typ", SIGNATURE_TYPE],
    ];
    return b64urlEncode(encode(canonical(new Map(members))));
}

// --- parsing ---

// An object of case.json on its way in: every member is taken once, none is left. `where` names it in errors.
class Members {
    constructor(value, where) {
        if (!isObject(value)) {
            throw new Malformed(WHAT, `${where} must be an object`);
        }
        this.rest = new Map(value);
        this.where = where;
    }

    take(name) {
        if (!this.rest.has(name)) {
            throw new Malformed(WHAT, `${this.where} lacks the member ${name}`);
        }
        const value = this.rest.get(name);
        this.rest.delete(name);
        return value;
    }

    number(name) {
        return this.#that(name, isCount, "a whole number, not negative");
    }

    truth(name) {
        return this.#that(name, isFlag, "true or false");
    }

    text(name, limit = MAX_TEXT_CHARS) {
        const isLine = (value) => isText(value) && value !== "" && lengthOf(value) <= limit && !CONTROL.test(value);
        return this.#that(name, isLine, `a line of 1 to ${grouped(limit)} characters`);
    }

    maybeText(name) {
        return this.absent(name) ? null : this.text(name);
    }

    matching(name, pattern) {
        return this.#that(name, (value) => isText(value) && pattern.test(value), "written as case files have it");
    }

    maybeMatching(name, pattern) {
        return this.absent(name) ? null : this.matching(name, pattern);
    }

    each(name, build, limit) {
        const fits = (value) => isList(value) && value.length <= limit;
        const values = this.#that(name, fits, `a list of at most ${grouped(limit)}`);
        return values.map((value, n) => {
            const members = new Members(value, `number ${n + 1} of ${name} of ${this.where}`);
            const found = build(members);
            members.end();
            return found;
        });
    }

    // Whether the member is null; then it is taken.
    absent(name) {
        return this.rest.get(name) === null && this.rest.delete(name);
    }

    end() {
        for (const name of this.rest.keys()) {
            throw new Malformed(WHAT, `${this.where} has the unknown member ${repr(head(name, 64))}`);
        }
    }

    #that(name, fits, says) {
        const value = this.take(name);
        if (!fits(value)) {
            throw this.wrong(name, says);
        }
        return value;
    }

    wrong(name, says) {
        return new Malformed(WHAT, `${name} of ${this.where} must be ${says}`);
    }
}

function isCount(value) {
    return typeof value === "number" && value >= 0;
}

// the order of members is that of Python's: of several faults the same one is named
function itemOf(members) {
    const role = members.take("role");
    if (!ROLES.includes(role)) {
        throw members.wrong("role", `one of ${ROLES.join(", ")}`);
    }
    return {
        n: members.number("n"),
        role,
        record_id: members.matching("record_id", RECORD_ID),
        type: members.matching("type", TYPE),
        v: members.number("v"),
        department: members.matching("department", DEPARTMENT_ID),
        index: members.number("index"),
        leaf: members.matching("leaf", HEX),
        sealed_at: members.number("sealed_at"),
        before_decision: members.absent("before_decision") ? null : members.truth("before_decision"),
        amends: members.maybeMatching("amends", RECORD_ID),
        name: members.text("name"),
        source: members.maybeText("source"),
        purpose: members.maybeText("purpose"),
        date: members.maybeMatching("date", DATE),
        page: members.maybeText("page"),
        record: members.matching("record", PATHS.record),
        receipt: members.maybeMatching("receipt", PATHS.receipt),
        anchor: members.maybeMatching("anchor", PATHS.anchor),
        times: members.each("times", timeOf, MAX_TIMES),
        attachments: members.each("attachments", attachmentOf, MAX_ATTACHMENTS),
        forgotten: members.truth("forgotten"),
    };
}

function timeOf(members) {
    return {
        authority: members.text("authority"),
        token: members.matching("token", PATHS.token),
        renewals: members.maybeMatching("renewals", PATHS.renewals),
    };
}

function attachmentOf(members) {
    return {
        ordinal: members.number("ordinal"),
        name: members.text("name"),
        media_type: members.text("media_type", 200),
        size: members.number("size"),
        sha256: members.matching("sha256", HEX),
        path: members.maybeMatching("path", PATHS.attachment),
    };
}

function decisionOf(members) {
    return {
        n: members.number("n"),
        manifest: members.matching("manifest", PATHS.manifest),
        count: members.number("count"),
        sha256: members.matching("sha256", HEX),
        size: members.number("size"),
        root: members.matching("root", HEX),
    };
}

function gapOf(members) {
    return {
        kind: members.matching("kind", CODE),
        department: members.maybeMatching("department", DEPARTMENT_ID),
        record_id: members.maybeMatching("record_id", RECORD_ID),
        zh: members.text("zh"),
        en: members.text("en"),
    };
}

// Items, attachments and decisions are numbered without holes, in order, and their paths carry their numbers.
function checkNumbers({ items, decisions, department, volumes }) {
    if (volumes < 1 || volumes > MAX_VOLUMES) {
        throw new Malformed(WHAT, `volumes of the file must be from 1 to ${MAX_VOLUMES}`);
    }
    items.forEach((item, at) => {
        const n = at + 1;
        if (item.n !== n) {
            throw new Malformed(WHAT, `item ${n} of the list has the number ${item.n}`);
        }
        if (item.record !== recordPath(n) || ![null, receiptPath(n)].includes(item.receipt)) {
            throw new Malformed(WHAT, `item ${n} names a record or a receipt of another number`);
        }
        checkAttachments(item);
    });
    if (items.some((item, at) => at > 0 && !isBefore(items[at - 1], item, department))) {
        throw new Malformed(WHAT, "the items are not in the order of their logs, or one stands twice");
    }
    const numbers = decisions.map(({ n }) => n);
    if (!isRising(numbers) || decisions.some(({ n, manifest }) => manifest !== manifestPath(n))) {
        throw new Malformed(WHAT, "the decisions are not in order, or name a manifest of another number");
    }
    if (numbers.some((n) => items[n - 1]?.type !== DECISION)) {
        throw new Malformed(WHAT, "a decision names an item that is none");
    }
}

function checkAttachments({ n, attachments }) {
    const ordinals = attachments.map(({ ordinal }) => ordinal);
    if (!isRising(ordinals) || (ordinals.length > 0 && !(ordinals[0] >= 1 && ordinals[ordinals.length - 1] <= 99))) {
        throw new Malformed(WHAT, `the attachments of item ${n} are not in order`);
    }
    for (const { path, ordinal, media_type: mediaType } of attachments) {
        if (path !== null && path !== attachmentPath(n, ordinal, mediaType)) {
            throw new Malformed(WHAT, `an attachment of item ${n} names a file that is not its own`);
        }
    }
}

// Whether two items are in order: the exporting department's first, then by department and index.
function isBefore(one, two, department) {
    const [first, second] = [one, two].map((item) => item.department !== department);
    if (first !== second) {
        return second;
    }
    return one.department === two.department ? one.index < two.index : one.department < two.department;
}

function isRising(numbers) {
    return numbers.every((number, at) => at === 0 || numbers[at - 1] < number);
}
