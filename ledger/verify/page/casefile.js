// The recipe for a case file: ledger/verify/casefile.py, with the same numbers; no clock is read.
//
// Files of the zip are read one after another and in parts; kept are case.json, a digest a file, a report an item.

import {
    BAGIT,
    BAGIT_TEXT,
    BAG_INFO,
    CASE,
    DECISION,
    INDEX_HTML,
    MANIFEST,
    MAX_CASE_BYTES,
    MAX_SMALL_BYTES,
    MAX_TAG_BYTES,
    SIGNATURE,
    TAGGED,
    TAG_MANIFEST,
    TRUST,
    amendments,
    amendsOf,
    isPath,
    parseBagInfo,
    parseCase,
    parseManifest,
    parseSignature,
    pathsOfCase,
    pathsOfItem,
    roleOf,
    verifyCaseSignature,
} from "./casefile_format.js";
import { CaseFileInvalid } from "./casefile_invalid.js";
import { captureOf, namedRecords } from "./casefile_units.js";
import { control, inOtherHands } from "./control.js";
import {
    AnchorInvalid,
    CheckpointInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    Refusal,
    TimestampInvalid,
} from "./errors.js";
import { MAX_EVIDENCE_BYTES } from "./evidence.js";
import { MANIFEST_NAME, MANIFEST_UNIT, parseLines } from "./manifest.js";
import { leafHash } from "./merkle.js";
import { refusal } from "./refusals.js";
import { MAX_RENEWAL_BYTES } from "./renewal.js";
import { MAX_PRESENTATION_BYTES } from "./sdjwt.js";
import { seenByOthers } from "./sentences.js";
import { Sha256 } from "./sha256.js";
import { Float } from "./strictjson.js";
import { byCodePoints, concat, equal, isObject, toHex } from "./text.js";
import { MAX_TOKEN_BYTES, digestOf } from "./timestamp.js";
import { MAX_PROOF_BYTES } from "./tlogproof.js";
import { isValidAt } from "./trust.js";
import { entryOf } from "./verifier.js";
import { Moment, Span } from "./words.js";
import { ZipReader } from "./zipfiles.js";

export const LEVELS = [
    "integrity",
    "authorship",
    "inclusion",
    "completeness",
    "witnesses",
    "chain",
    "time",
    "credibility",
];

const MAX_FINDINGS = 1_000;
const KEPT_FILES = 32;
// up to this size a file is handed to WebCrypto as a whole: it is some three times faster than our own SHA-256
const WHOLE_BYTES = 32n * 1024n * 1024n;
const PAYLOAD = "data/";
const CAPTURED = ["evidence", "derived"];
// what the index shows as it is, whatever made it
const PLAIN = /^[\x20-\x7e\u3001-\u3011\u4e00-\u9fa5\uff01-\uff5e]+$/;
const PIECE = />([^<>]+)(?=<)/g;
const MAX_PIECE = 1 << 16;
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
const NUMBERED = /^data\/(?:records|receipts|attachments|manifests)\/([0-9]{6})[.-]/;
const ORDINAL = /^attachment-([1-9][0-9]?)$/;
const OWN_FILES = [...TAGGED, TAG_MANIFEST, SIGNATURE];
const WITNESS_REASONS = ["cosignature-wrong", "witness-missing", "quorum"];
const LEVEL_OF = {
    "signature-wrong": "authorship",
    "case-department": "authorship",
    "signature-key": "authorship",
    "signature-department": "authorship",
    "case-consortium": "authorship",
    "log-forked": "inclusion",
    "item-index": "inclusion",
    "item-receipt": "inclusion",
    "item-before": "completeness",
    "decision-missing": "completeness",
    "decision-differs": "completeness",
    "decision-foreign": "completeness",
    "frozen-missing": "completeness",
    "frozen-unlisted": "completeness",
};

// {facts or null, findings, total} of the case file in `file`; with facts also {zip, manifest, broken: path → finding}.
// `progress` is told ("read" or "items", done, total): of all bytes, then of all items. `trustSha256`: of the trust
// file that was handed in.
export async function verifyCaseFile(verifier, file, trustSha256, progress = () => {}) {
    let bag;
    let contents;
    try {
        bag = await openBag(file, progress);
        contents = await contentsOf(bag, verifier.trust);
    } catch (error) {
        if (error instanceof Refusal) {
            return { facts: null, findings: [findingOf(error)], total: 1 };
        }
        throw error;
    }
    return await new Examination(bag, contents, verifier, trustSha256).result();
}

// --- 1 to 3: all or nothing ---

async function openBag(file, progress) {
    // 1
    const zip = await ZipReader.open(file);
    for (const { path } of zip.entries) {
        if (!isPath(path)) {
            throw invalid("file-stranger", path);
        }
    }
    const bag = { zip, progress, meter: meterOf(zip, progress) };
    // 2
    if (!equal(await zip.read(BAGIT, MAX_SMALL_BYTES), BAGIT_TEXT)) {
        throw invalid("bag-declaration", BAGIT);
    }
    bag.tagManifest = await zip.read(TAG_MANIFEST, MAX_SMALL_BYTES);
    bag.signature = parseSignature(await zip.read(SIGNATURE, MAX_SMALL_BYTES));
    const tags = parseManifest(bag.tagManifest, TAG_MANIFEST);
    if ([...tags.keys()].join() !== TAGGED.join()) {
        throw invalid("bag-tags", TAG_MANIFEST);
    }
    for (const [path, sha256] of tags) {
        if ((await digestOfEntry(bag, path)) !== sha256) {
            throw invalid("bag-digest", path);
        }
    }
    bag.manifest = parseManifest(await zip.read(MANIFEST, MAX_TAG_BYTES), MANIFEST);
    const payload = zip.entries.filter(({ path }) => path.startsWith(PAYLOAD));
    for (const { path } of payload) {
        if (!bag.manifest.has(path)) {
            throw invalid("file-unlisted", path);
        }
    }
    for (const path of bag.manifest.keys()) {
        zip.entry(path);
    }
    bag.info = parseBagInfo(await zip.read(BAG_INFO, MAX_SMALL_BYTES));
    const octets = payload.reduce((sum, { size }) => sum + size, 0n);
    const { info, manifest } = bag;
    if (manifest.size !== payload.length || info.octets !== octets || info.files !== payload.length) {
        throw invalid("bag-info", BAG_INFO);
    }
    return bag;
}

async function contentsOf({ zip, info }, trust) {
    // 3
    const contents = parseCase(await zip.read(CASE, MAX_CASE_BYTES));
    if (info.case !== contents.case) {
        throw invalid("bag-info", BAG_INFO);
    }
    if (trust.departments.every(({ id }) => id !== contents.department)) {
        throw invalid("case-department", CASE);
    }
    return contents;
}

function meterOf(zip, progress) {
    const total = Number(zip.entries.reduce((sum, { size }) => sum + size, 0n));
    let done = 0;
    return (size) => {
        done += size;
        progress("read", done, total);
    };
}

// The SHA-256 in hex.
async function digestOfEntry({ zip, meter }, path) {
    const entry = zip.entry(path);
    const [parts, hash] = [[], new Sha256()];
    for await (const chunk of zip.chunks(entry)) {
        if (entry.size <= WHOLE_BYTES) {
            parts.push(chunk);
        } else {
            hash.update(chunk);
        }
        meter(chunk.length);
    }
    const isWhole = entry.size <= WHOLE_BYTES;
    return toHex(isWhole ? await digestOf("SHA-256", parts.length === 1 ? parts[0] : concat(...parts)) : hash.digest());
}

// --- 4 to 12 ---

// The state of one verification; `result` runs the steps in order.
class Examination {
    #bag;
    #case;
    #trust;
    #verifier;
    #trustSha256;
    #department;
    #key = null;
    #findings = [];
    #bad = new Map(LEVELS.map((level) => [level, 0]));
    #broken = new Map();
    #kept = new Map();
    #roots = new Map();
    #named = new Map();
    #frozenUnits = new Map();
    #cases = new Set();
    #listed = null;
    #reports = [];
    #witnesses = new Map();
    #stamps = new Map();
    #control = new Map();

    constructor(bag, contents, verifier, trustSha256) {
        this.#bag = bag;
        this.#case = contents;
        this.#trust = verifier.trust;
        this.#verifier = verifier;
        this.#trustSha256 = trustSha256;
        this.#department = verifier.trust.department(contents.department);
    }

    async result() {
        const { zip, manifest, signature, info } = this.#bag;
        // 3
        if (this.#case.consortium !== this.#trust.consortium) {
            this.#find(invalid("case-consortium", CASE));
        }
        // 4
        await this.#checkSignature();
        // 5
        await this.#checkDigests();
        // 6
        this.#checkNames();
        await this.#checkIndex();
        // 7 to 9
        for (const item of this.#case.items) {
            this.#reports.push(await this.#item(item));
            this.#bag.progress("items", item.n, this.#case.items.length);
        }
        // 10
        const [decisions, openDecisions] = await this.#decisions();
        // 11
        this.#checkBefore();
        // 12
        const facts = {
            case: this.#case,
            department: this.#department,
            signedAt: signature.iat,
            key: this.#key,
            files: zip.entries.length,
            octets: info.octets,
            trustSame: manifest.get(TRUST) === this.#trustSha256,
            engine: this.#trust.chain.engine,
            authorities: this.#trust.tsaRoots.length > 0,
            counts: this.#counts(decisions, openDecisions),
            items: this.#reports,
            decisions,
            openDecisions,
            amended: amendments(this.#reports.filter(({ verified }) => verified).map(({ item }) => item)),
            witnesses: this.#witnesses,
            stamps: this.#stamps,
            control: this.#control,
        };
        const total = [...this.#bad.values()].reduce((sum, count) => sum + count, 0);
        return { facts, findings: this.#findings, total, zip, manifest, broken: this.#broken };
    }

    // --- 4 to 6: the file as a whole ---

    async #checkSignature() {
        const { signature, tagManifest } = this.#bag;
        try {
            const [owner, key] = this.#signer(signature.kid);
            if (owner.id !== this.#department.id) {
                throw invalid("signature-department", SIGNATURE);
            }
            if (!isValidAt(key, signature.iat)) {
                const validity = new Span(key.validFrom, key.validTo);
                throw refusal("signature-time", { at: new Moment(signature.iat), owner, validity });
            }
            await verifyCaseSignature(signature, tagManifest, key.public.public);
            this.#key = key;
        } catch (error) {
            this.#find(refusalOnly(error), SIGNATURE, null, "authorship");
        }
    }

    #signer(kid) {
        try {
            return this.#trust.statementKey(kid);
        } catch (error) {
            throw error instanceof KeyRefused ? invalid("signature-key", SIGNATURE) : error;
        }
    }

    async #checkDigests() {
        for (const [path, sha256] of this.#bag.manifest) {
            try {
                if ((await digestOfEntry(this.#bag, path)) !== sha256) {
                    throw invalid("bag-digest", path);
                }
            } catch (error) {
                if (!(error instanceof CaseFileInvalid)) {
                    throw error;
                }
                this.#broken.set(path, this.#find(error));
            }
        }
    }

    #checkNames() {
        const named = new Set(pathsOfCase(this.#case));
        for (const path of this.#bag.manifest.keys()) {
            if (!named.has(path)) {
                this.#find(invalid("file-unnamed", path));
            }
        }
        for (const path of [...named].sort()) {
            if (!this.#bag.manifest.has(path)) {
                this.#broken.set(path, this.#find(invalid("file-missing", path)));
            }
        }
    }

    async #checkIndex() {
        const { zip } = this.#bag;
        if (this.#broken.has(INDEX_HTML)) {
            return;
        }
        const texts = this.#case.items.map((item) => [item.n, textsOf(item)]);
        const found = await piecesOf(zip.chunks(zip.entry(INDEX_HTML)), new Set(texts.flatMap(([, each]) => each)));
        for (const [n, each] of texts) {
            if (!each.every((text) => found.has(text))) {
                this.#find(invalid("index-lacks", INDEX_HTML), INDEX_HTML, n);
            }
        }
    }

    // --- 7 to 9: one item ---

    async #item(item) {
        for (const path of [item.record, item.receipt]) {
            if (path !== null && this.#broken.has(path)) {
                return reportOf(item, null, this.#broken.get(path));
            }
        }
        const before = this.#findings.length;
        let [facts, record] = [null, null];
        try {
            record = await this.#bag.zip.read(item.record, MAX_PRESENTATION_BYTES);
            // 7: what the recipe for one record says without its receipt
            facts = await this.#verifier.verify(record, null);
            checkIdentity(item, facts, record);
        } catch (error) {
            return reportOf(item, null, this.#find(refusalOnly(error), item.record, item.n));
        }
        facts = await this.#logged(item, facts, record);
        facts = await this.#anchored(item, facts);
        this.#compare(item, facts);
        this.#checkAttachments(item, facts);
        facts = await this.#stamped(item, facts);
        this.#remember(item, facts);
        return reportOf(item, facts, this.#firstOf(item, before));
    }

    // Step 7: what the receipt adds. One that does not hold takes nothing from the record.
    async #logged(item, facts, record) {
        if (item.receipt === null) {
            return facts;
        }
        try {
            const receipt = await this.#bag.zip.read(item.receipt, MAX_PROOF_BYTES);
            const logged = await this.#verifier.verifyReceipt(facts.department, entryOf(record), receipt);
            return Object.freeze({ ...facts, logged });
        } catch (error) {
            const level = error instanceof Malformed ? "inclusion" : null;
            this.#find(refusalOnly(error), item.receipt, item.n, level);
            return facts;
        }
    }

    async #anchored(item, facts) {
        if (item.anchor === null || this.#broken.has(item.anchor) || facts.logged === null) {
            return facts;
        }
        try {
            return await this.#verifier.confirm(facts, await this.#file(item.anchor, MAX_EVIDENCE_BYTES));
        } catch (error) {
            this.#find(refusalOnly(error), item.anchor, item.n, "chain");
            return facts;
        }
    }

    #compare(item, facts) {
        const { logged, department, references } = facts;
        const own = department.id === this.#case.department;
        if ((logged !== null && BigInt(item.index) !== logged.index) || (own && item.index >= this.#case.log_size)) {
            this.#find(invalid("item-index", CASE), CASE, item.n);
        }
        if (logged !== null) {
            const state = `${logged.size} ${logged.origin}`;
            const known = this.#roots.get(state) ?? logged.root;
            this.#roots.set(state, known);
            if (!equal(known, logged.root)) {
                this.#find(invalid("log-forked", item.receipt), item.receipt, item.n);
            }
        }
        if (item.sealed_at !== facts.sealedAt) {
            this.#find(invalid("item-sealed-at", CASE), CASE, item.n);
        }
        if (item.amends !== amendsOf(references.get("amends"))) {
            this.#find(invalid("item-amends", CASE), CASE, item.n);
        }
        if (item.role !== roleOf(facts.type)) {
            this.#find(invalid("item-role", CASE), CASE, item.n);
        }
        if (own && (references.get("case") ?? this.#case.case) !== this.#case.case) {
            this.#find(invalid("item-case", item.record), item.record, item.n);
        }
        if (item.forgotten && facts.units.length > 0) {
            this.#find(invalid("item-forgotten", CASE), CASE, item.n);
        }
    }

    #checkAttachments(item, facts) {
        const named = facts.attachments
            .map(({ unit, name, mediaType, size, sha256 }) => [ORDINAL.exec(unit), name, mediaType, size, sha256])
            .filter(([found]) => found !== null)
            .map(([found, ...rest]) => [Number(found[1]), ...rest])
            .sort(byMembers);
        const said = item.attachments.map((a) => [a.ordinal, a.name, a.media_type, a.size, a.sha256]);
        if (JSON.stringify(named) !== JSON.stringify(said)) {
            this.#find(invalid("item-attachments", CASE), CASE, item.n);
        }
        for (const { path, sha256, size } of item.attachments) {
            if (path === null || this.#broken.has(path)) {
                continue;
            }
            if (this.#bag.manifest.get(path) !== sha256 || this.#bag.zip.entry(path).size !== BigInt(size)) {
                this.#find(invalid("attachment-differs", path), path, item.n);
            }
        }
    }

    async #stamped(item, facts) {
        if ((item.times.length > 0 || item.anchor !== null) && item.receipt === null) {
            this.#find(invalid("item-receipt", CASE), CASE, item.n);
        }
        const judged = this.#trust.tsaRoots.length > 0 && facts.logged !== null;
        let found = facts;
        for (const { token: path, renewals } of judged ? item.times : []) {
            if (this.#broken.has(path) || this.#broken.has(renewals)) {
                continue;
            }
            try {
                const token = await this.#file(path, MAX_TOKEN_BYTES);
                const renewed = renewals === null ? null : await this.#file(renewals, MAX_RENEWAL_BYTES);
                found = await this.#verifier.date(found, token, renewed);
            } catch (error) {
                this.#find(refusalOnly(error), path, item.n, "time");
            }
        }
        return found;
    }

    // What later steps and the levels need of an item, and no more.
    #remember(item, facts) {
        const units = new Map(facts.units.map(({ name, members }) => [name, members]));
        this.#named.set(item.n, namedRecords(facts.type, units));
        const own = facts.department.id === this.#case.department;
        if (own && facts.type === DECISION && units.has(MANIFEST_UNIT)) {
            this.#frozenUnits.set(item.n, units.get(MANIFEST_UNIT).get(MANIFEST_UNIT));
        }
        if (own && facts.references.get("case") === this.#case.case) {
            this.#cases.add(item.n);
        }
        const { logged } = facts;
        if (logged === null) {
            return;
        }
        if (!this.#control.has(facts.department.id)) {
            this.#control.set(facts.department.id, control(facts));
        }
        // whoever confirmed an item several times confirmed it once
        confirmIn(
            this.#witnesses,
            logged.cosigned.map(({ operator, name, time }) => ({ who: operator, name, time, until: null })),
        );
        confirmIn(
            this.#stamps,
            logged.times.map(({ authority, root, time, goodUntil }) => {
                return { who: authority, name: root, time, until: goodUntil };
            }),
        );
    }

    // The first finding about the item: a broken file that it names, or one of those made since `before`.
    #firstOf(item, before) {
        const broken = pathsOfItem(item).find((path) => this.#broken.has(path));
        return this.#broken.get(broken) ?? this.#findings[before] ?? null;
    }

    // --- 10, 11: what was frozen ---

    async #decisions() {
        const listed = new Set(this.#case.decisions.map(({ n }) => n));
        for (const n of this.#frozenUnits.keys()) {
            if (!listed.has(n)) {
                this.#find(invalid("decision-missing", CASE), CASE, n);
            }
        }
        const verified = this.#reports.filter((report) => report.verified).map(({ item }) => item);
        const ownItems = verified.filter(({ department }) => department === this.#case.department);
        const own = new Map(ownItems.filter(({ type }) => type === DECISION).map((item) => [item.n, item]));
        const entries = new Map(ownItems.map((item) => [lineOf(item), item]));
        const found = [];
        for (const decision of this.#case.decisions) {
            try {
                found.push(await this.#decision(decision, own, entries));
            } catch (error) {
                this.#find(refusalOnly(error), decision.manifest, decision.n, "completeness");
            }
        }
        return [found, [...own.keys()].filter((n) => !listed.has(n)).length];
    }

    async #decision(decision, own, entries) {
        const { n, manifest: path, size, root, count, sha256 } = decision;
        const [item, unit] = [own.get(n), this.#frozenUnits.get(n)];
        if (item === undefined) {
            throw invalid("decision-foreign", path);
        }
        const attached = item.attachments.some((a) => a.name === MANIFEST_NAME && a.sha256 === sha256);
        const sealed = isFreeze(unit, { size, root, count, sha256 }) && attached && size === item.index;
        if (!sealed || this.#bag.manifest.get(path) !== sha256) {
            throw invalid("decision-differs", path);
        }
        const lines = parseLines(await this.#bag.zip.read(path, MAX_TAG_BYTES));
        if (lines.length !== count || (lines.length > 0 && lines[lines.length - 1].index >= size)) {
            throw invalid("decision-differs", path);
        }
        const frozen = new Set(lines.map(({ index, recordId, leaf }) => `${index} ${recordId} ${leaf}`));
        if (decision === this.#case.decisions[0]) {
            this.#listed = frozen;
        }
        const missing = [...frozen].filter((line) => !entries.has(line));
        missing.forEach(() => this.#find(invalid("frozen-missing", path), path, n));
        for (const [line, entry] of entries) {
            if (entry.index < size && !frozen.has(line) && this.#cases.has(entry.n)) {
                this.#find(invalid("frozen-unlisted", path), path, entry.n);
            }
        }
        return { decision, found: lines.length - missing.length, missing: missing.length };
    }

    #checkBefore() {
        if (this.#case.decisions.length > 0 && this.#listed === null) {
            // what the first decision froze is in dispute: that is the finding
            return;
        }
        const holds = this.#listed === null ? null : this.#freeze();
        this.#reports.forEach((report, at) => {
            const expected = holds === null ? null : holds(report.item);
            if (report.verified && report.item.before_decision !== expected) {
                const finding = this.#find(invalid("item-before", CASE), CASE, report.item.n);
                this.#reports[at] = { ...report, finding: report.finding ?? finding };
            }
        });
    }

    // Whether an item is evidence that existed when the first decision was made.
    #freeze() {
        const frozen = this.#reports.map(({ item }) => item);
        const naming = frozen.filter((item) => this.#named.has(item.n) && this.#listed.has(lineOf(item)));
        const named = new Set(naming.flatMap(({ n }) => this.#named.get(n)));
        return (item) => {
            const { department, record_id: recordId, index, leaf } = item;
            const own = department === this.#case.department && this.#listed.has(lineOf(item));
            const names = [
                [department, recordId, index, null],
                [department, recordId, null, leaf],
            ];
            return own || names.some((name) => named.has(JSON.stringify(name)));
        };
    }

    // --- 12 ---

    #counts(decisions, openDecisions) {
        const good = this.#reports.filter((report) => report.verified);
        const files = this.#bag.zip.entries.length;
        const broken = [...this.#broken.keys()].filter((path) => this.#bag.manifest.has(path)).length;
        const evidence = good.filter(({ item }) => CAPTURED.includes(item.role));
        const judged = this.#trust.tsaRoots.length > 0;
        const frozen = decisions.reduce((sum, { found }) => sum + found, 0);
        const many = (reports, holds) => reports.filter(holds).length;
        const without = ({ witnessed, logged, item }) => !witnessed && (logged || item.receipt === null);
        const unstamped = ({ stampedAt, item }) => stampedAt.length === 0 && !(judged && item.times.length > 0);
        // per level: good, absent, whether it applies
        const counts = {
            integrity: [files - broken, 0, true],
            authorship: [good.length + (this.#key === null ? 0 : 1), 0, true],
            inclusion: [
                many(good, ({ logged }) => logged),
                many(good, ({ item }) => item.receipt === null),
                good.length > 0,
            ],
            completeness: [frozen, openDecisions, this.#case.decisions.length > 0 || openDecisions > 0],
            witnesses: [many(good, ({ witnessed }) => witnessed), many(good, without), good.length > 0],
            chain: [
                many(good, ({ anchoredAt }) => anchoredAt !== null),
                many(good, ({ item }) => item.anchor === null),
                good.length > 0,
            ],
            time: [many(good, ({ stampedAt }) => stampedAt.length > 0), many(good, unstamped), good.length > 0],
            credibility: [
                many(evidence, ({ capture }) => capture !== null),
                many(evidence, ({ capture }) => capture === null),
                evidence.length > 0,
            ],
        };
        return new Map(LEVELS.map((level) => [level, countOf(counts[level], this.#bad.get(level))]));
    }

    // --- helpers ---

    // A file that many items name: the last few are kept.
    async #file(path, limit) {
        if (!this.#kept.has(path)) {
            if (this.#kept.size >= KEPT_FILES) {
                this.#kept.clear();
            }
            this.#kept.set(path, await this.#bag.zip.read(path, limit));
        }
        return this.#kept.get(path);
    }

    #find(error, path = null, item = null, level = null) {
        const finding = findingOf(error, path, item, level);
        this.#bad.set(finding.level, this.#bad.get(finding.level) + 1);
        if (this.#findings.length < MAX_FINDINGS) {
            this.#findings.push(finding);
        }
        return finding;
    }
}

// What index.html must say of an item, as it stands between tags.
function textsOf({ name, record_id: recordId, leaf }) {
    const said = PLAIN.test(name) ? [name.replace(/[&<>"']/g, (character) => ESCAPES[character])] : [];
    return [...said, recordId, leaf];
}

// The texts between two tags that are among `wanted`.
async function piecesOf(chunks, wanted) {
    const decoder = new TextDecoder();
    const found = new Set();
    let rest = "";
    for await (const chunk of chunks) {
        const data = rest + decoder.decode(chunk, { stream: true });
        for (const [, piece] of data.matchAll(PIECE)) {
            if (wanted.has(piece)) {
                found.add(piece);
            }
        }
        rest = data.slice(Math.max(data.lastIndexOf("<"), data.lastIndexOf(">"), 0)).slice(-MAX_PIECE);
    }
    return found;
}

function checkIdentity(item, { recordId, type, version, department }, record) {
    const same = item.record_id === recordId && item.type === type && item.v === version;
    if (!same || item.department !== department.id) {
        throw invalid("item-record", item.record);
    }
    if (item.leaf !== toHex(leafHash(entryOf(record)))) {
        throw invalid("item-leaf", item.record);
    }
}

// {level, error, path, item}: what is wrong at which level, in which file and at which item, or null.
function findingOf(error, path = null, item = null, level = null) {
    let named = error instanceof CaseFileInvalid && error.path !== null ? error.path : path;
    if (named === null && error instanceof Malformed && OWN_FILES.includes(error.what)) {
        named = error.what;
    }
    const number = NUMBERED.exec(named ?? "");
    const found = number === null ? null : Number(number[1]);
    return { level: level ?? levelOf(error), error, path: named, item: item ?? found };
}

function levelOf(error) {
    if (error instanceof CaseFileInvalid) {
        return LEVEL_OF[error.reason] ?? "integrity";
    }
    if (error instanceof Malformed) {
        return "integrity";
    }
    if (error instanceof InclusionInvalid) {
        return "inclusion";
    }
    if (error instanceof CheckpointInvalid) {
        return WITNESS_REASONS.includes(error.reason) ? "witnesses" : "inclusion";
    }
    if (error instanceof AnchorInvalid) {
        return "chain";
    }
    return error instanceof TimestampInvalid ? "time" : "authorship";
}

// One item after verification; `facts` null: its record did not pass.
function reportOf(item, facts, finding) {
    const logged = facts?.logged ?? null;
    const cosigned = logged?.cosigned ?? [];
    const units = new Map((facts?.units ?? []).map(({ name, members }) => [name, members]));
    return {
        item,
        finding,
        verified: facts !== null,
        logged: logged !== null,
        witnessed: cosigned.some(({ operator }) => inOtherHands(operator, facts.department) !== false),
        seenAt: facts === null ? null : seenByOthers(facts),
        anchoredAt: logged?.onChain?.time ?? null,
        stampedAt: (logged?.times ?? []).map(({ time }) => time),
        units: facts?.units.length ?? 0,
        masked: facts?.masked ?? 0,
        capture: captureOf(units),
        given: item.attachments.filter(({ path }) => path !== null).length,
    };
}

function countOf([good, absent, applies], bad) {
    const fits = applies ? (absent > 0 ? "absent" : "good") : "not-applicable";
    return { good, bad, absent, applies, state: bad > 0 ? "bad" : fits };
}

// What outside operators or authorities confirmed: of how many items, since when, under which names. `said`: of an item.
function confirmIn(table, said) {
    const least = (one, two) => (one === null || two < one ? two : one);
    for (const { who, name, time, until } of said) {
        const found = table.get(who) ?? { count: 0, first: null, until: null, names: new Set() };
        found.names.add(name);
        found.first = least(found.first, time);
        found.until = until === null ? found.until : least(found.until, until);
        table.set(who, found);
    }
    for (const who of new Set(said.map((one) => one.who))) {
        table.get(who).count += 1;
    }
}

// The line of a decision's manifest that an item must have.
function lineOf({ index, record_id: recordId, leaf }) {
    return `${index} ${recordId} ${leaf}`;
}

// Whether a decision's unit says the same as case.json.
function isFreeze(unit, said) {
    const plain = (value) => (value instanceof Float ? value.value : value);
    const names = Object.keys(said);
    return isObject(unit) && unit.size === names.length && names.every((name) => plain(unit.get(name)) === said[name]);
}

function byMembers(one, two) {
    for (let n = 0; n < one.length; n++) {
        const order = typeof one[n] === "number" ? one[n] - two[n] : byCodePoints(one[n], two[n]);
        if (order !== 0) {
            return order;
        }
    }
    return 0;
}

function invalid(reason, path) {
    return new CaseFileInvalid(reason, reason, path);
}

// What is no refusal is an error of this page itself.
function refusalOnly(error) {
    if (error instanceof Refusal) {
        return error;
    }
    throw error;
}
