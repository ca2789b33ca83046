// Files of any kind in any order: which is which, which belong together, what each proves: ledger/verify/bundle.py.
//
// A further kind of file gets a line in `KINDS`, and a step in `examine` that fills `findings` for it.

import { verifyCaseFile } from "./casefile.js";
import { SEALED_HEAD, isCaseFile } from "./casefile_format.js";
import { parseCheckpoint } from "./checkpoint.js";
import { Refusal } from "./errors.js";
import { HEAD, MAX_EVIDENCE_BYTES, parseEvidence } from "./evidence.js";
import { leafHash, verifyInclusion } from "./merkle.js";
import { parseNote } from "./note.js";
import { refusal } from "./refusals.js";
import { MAX_RENEWAL_BYTES, covers, parseRenewals } from "./renewal.js";
import { MAX_PRESENTATION_BYTES } from "./sdjwt.js";
import { encode, equal, fromHex, indexOf, startsWith } from "./text.js";
import { MAX_TOKEN_BYTES, digestOf, parseToken } from "./timestamp.js";
import { MAX_PROOF_BYTES, parseProof } from "./tlogproof.js";
import { entryOf } from "./verifier.js";
import { sameAttachment } from "./sentences.js";

export const HEAD_BYTES = 128;

// [kind, how such a file begins, the largest]; what fits none of either table is `file`, perhaps an attachment
const KINDS = [
    ["receipt", encode("c2sp.org/tlog-proof"), MAX_PROOF_BYTES],
    // the base64url of every JSON object that begins with a member, and so of every JWT in use
    ["record", encode("eyJ"), MAX_PRESENTATION_BYTES],
    ["evidence", HEAD, MAX_EVIDENCE_BYTES],
];

// [kind, how such a file begins, what follows near, the largest]
const KINDS_BY_TWO = [
    // a DER sequence, and the name of what time-stamp tokens hold (id-ct-TSTInfo)
    ["time", Uint8Array.of(0x30), fromHex("060b2a864886f70d0109100104"), MAX_TOKEN_BYTES],
    ["renewals", encode('{\n "index": '), encode('"renewals": ['), MAX_RENEWAL_BYTES],
];

// What a file seems to be by its first bytes (128 suffice) and its size.
export function kindOf(first, size) {
    const start = first.subarray(first.findIndex((byte) => byte !== 0x0d && byte !== 0x0a) >>> 0);
    const found = KINDS.find(([, begins, largest]) => startsWith(start, begins) && size <= largest);
    const isIt = ([, begins, near, largest]) =>
        startsWith(first, begins) && indexOf(first, near) >= 0 && size <= largest;
    return (found ?? KINDS_BY_TWO.find(isIt))?.[0] ?? kindOfCaseFile(first);
}

function kindOfCaseFile(first) {
    if (startsWith(first, SEALED_HEAD)) {
        return "sealed-case-file";
    }
    return isCaseFile(first) ? "case-file" : "file";
}

// A finding for every file, in the order given: {given, error, facts, attachment, attachments, caseFile}. A file that
// was handed in is {name, kind, data}, of the kind `file` {name, kind, size, sha256}, of the kind `case-file`
// {name, kind, blob}. `trustSha256`: of the trust file as it was handed in; `progress` as in `verifyCaseFile`.
export async function examine(verifier, files, allowUnlogged, { trustSha256 = "", progress = undefined } = {}) {
    const of = (kind) => [...files.keys()].filter((n) => files[n].kind === kind);
    const [records, receipts, evidence] = [of("record"), of("receipt"), of("evidence")];
    const parsed = new Map(receipts.map((m) => [m, receiptOf(files[m].data)]));
    const pairs = pairReceipts(files, records, receipts, parsed);
    const claims = pairEvidence(files, receipts, evidence, parsed);
    const stamps = await pairStamps(files, receipts, of("time"), of("renewals"));
    const findings = new Map();
    for (const n of records) {
        const own = receipts.filter((m) => pairs.get(m) === n);
        for (const m of own) {
            findings.set(m, await verifyPair(verifier, files[n], files[m]));
        }
        for (const e of evidence) {
            for (const m of own.filter((other) => claims.get(e).has(other))) {
                const [judged, pair] = await withEvidence(verifier, findings.get(m), files[m], files[e]);
                findings.set(m, pair);
                if (!findings.has(e) || findings.get(e).error !== null) {
                    findings.set(e, judged);
                }
            }
        }
        for (const m of own) {
            findings.set(m, await judgeStamps(verifier, files, findings, m, stamps));
        }
        const tried = own.map((m) => findings.get(m));
        findings.set(n, await recordFinding(verifier, files[n], tried, allowUnlogged));
    }
    for (const t of of("time")) {
        findings.set(t, findings.get(t) ?? alone(files[t], parseToken, "time-alone"));
    }
    for (const r of of("renewals")) {
        findings.set(r, findings.get(r) ?? alone(files[r], parseRenewals, "renewals-alone"));
    }
    for (const e of evidence) {
        findings.set(e, findings.get(e) ?? alone(files[e], parseEvidence, "evidence-alone"));
    }
    for (const m of receipts) {
        findings.set(m, receiptFinding(files[m], findings.get(m)));
    }
    for (const n of of("case-file")) {
        findings.set(n, await caseFinding(verifier, files[n], trustSha256, progress));
    }
    for (const n of of("file")) {
        findings.set(n, fileFinding(files[n], records.map((r) => findings.get(r))));
    }
    for (const n of records) {
        findings.set(n, withAttachments(findings.get(n), [...findings.values()]));
    }
    return files.map((_, n) => findings.get(n));
}

function finding(given, error, facts = null, attachment = null) {
    return { given, error, facts, attachment, attachments: [], caseFile: null };
}

async function caseFinding(verifier, given, trustSha256, progress) {
    // gigabytes are not read again because another file was added
    if (given.judged?.trustSha256 !== trustSha256) {
        const result = await verifyCaseFile(verifier, given.blob, trustSha256, progress);
        given.judged = { trustSha256, result };
    }
    const { result } = given.judged;
    return { ...finding(given, result.findings[0]?.error ?? null), caseFile: result };
}

// Receipt → record. If one of each is left over they are paired too, so that the recipe says what is wrong.
function pairReceipts(files, records, receipts, parsed) {
    const leaves = new Map(records.map((n) => [n, leafHash(entryOf(files[n].data))]));
    let waiting = records;
    const pairs = new Map();
    for (const m of receipts) {
        const belongs = (n) => isAbout(parsed.get(m), leaves.get(n));
        // the next record without a receipt first: files mostly come sorted
        const found = waiting.find(belongs) ?? records.find(belongs);
        if (found !== undefined) {
            pairs.set(m, found);
            waiting = waiting.filter((n) => n !== found);
        }
    }
    const left = receipts.filter((m) => !pairs.has(m));
    if (left.length === 1 && waiting.length === 1) {
        pairs.set(left[0], waiting[0]);
    }
    return pairs;
}

// Anchor evidence → Set of the receipts whose checkpoint it is about. What is left over is paired if one of each.
function pairEvidence(files, receipts, evidence, parsed) {
    const pairs = new Map();
    for (const e of evidence) {
        const claim = orNull(() => parseEvidence(files[e].data).claim);
        pairs.set(e, new Set(receipts.filter((m) => claim !== null && isState(parsed.get(m), claim))));
    }
    const left = evidence.filter((e) => pairs.get(e).size === 0);
    const without = receipts.filter((m) => ![...pairs.values()].some((found) => found.has(m)));
    if (left.length === 1 && without.length === 1) {
        pairs.set(left[0], new Set(without));
    }
    return pairs;
}

// {index, path, checkpoint} of a receipt, nothing of it verified; null for one that does not parse
function receiptOf(data) {
    return orNull(() => {
        const { index, path, checkpoint } = parseProof(data);
        return { index, path, checkpoint: parseCheckpoint(parseNote(checkpoint).text) };
    });
}

function isState(receipt, claim) {
    const checkpoint = receipt?.checkpoint;
    return checkpoint !== undefined && checkpoint.size === BigInt(claim.size) && equal(checkpoint.root, claim.root);
}

// Whether the receipt speaks of this leaf. Nothing signed is checked here: the recipe does that.
function isAbout(receipt, leaf) {
    if (receipt === null) {
        return false;
    }
    const { index, path, checkpoint } = receipt;
    return orNull(() => verifyInclusion(leaf, index, checkpoint.size, path, checkpoint.root)) !== null;
}

function orNull(read) {
    try {
        return read();
    } catch (error) {
        if (error instanceof Refusal) {
            return null;
        }
        throw error;
    }
}

async function verifyPair(verifier, record, receipt) {
    try {
        return finding(record, null, await verifier.verify(record.data, receipt?.data ?? null));
    } catch (error) {
        if (!(error instanceof Refusal)) {
            throw error;
        }
        // a bad receipt does not undo what the record's own signature shows
        const alone = receipt === null ? null : await verifyPair(verifier, record, null);
        return finding(record, error, alone?.facts ?? null);
    }
}

// [the finding about the evidence, the one about the record and receipt that it belongs to]
async function withEvidence(verifier, pair, receipt, evidence) {
    if (pair.error !== null || pair.facts === null) {
        return [finding(evidence, refusal("evidence-unverified", { receipt: receipt.name })), pair];
    }
    try {
        const facts = await verifier.confirm(pair.facts, evidence.data);
        return [finding(evidence, null, facts), { ...pair, facts }];
    } catch (error) {
        if (error instanceof Refusal) {
            return [finding(evidence, error), pair];
        }
        throw error;
    }
}

function alone(given, parse, reason) {
    return finding(given, refusedBy(() => parse(given.data)) ?? refusal(reason));
}

// --- time stamps and their renewals ---

// {about: time stamp → Set of the receipts whose checkpoint it is over, renewed: renewals → the time stamp they are of}
async function pairStamps(files, receipts, times, renewals) {
    const texts = new Map(receipts.map((m) => [m, orNull(() => parseNote(parseProof(files[m].data).checkpoint).text)]));
    const about = new Map();
    for (const t of times) {
        about.set(t, new Set());
        for (const m of receipts) {
            if (await isOver(files[t].data, texts.get(m))) {
                about.get(t).add(m);
            }
        }
    }
    const left = times.filter((t) => about.get(t).size === 0);
    const without = receipts.filter((m) => ![...about.values()].some((found) => found.has(m)));
    if (left.length === 1 && without.length === 1) {
        about.set(left[0], new Set(without));
    }
    return { about, renewed: await pairRenewals(files, times, renewals) };
}

async function pairRenewals(files, times, renewals) {
    const pairs = new Map();
    for (const r of renewals) {
        const chain = orNull(() => parseRenewals(files[r].data));
        for (const t of chain === null ? [] : times) {
            if (!pairs.has(r) && (await isOf(chain, files[t].data))) {
                pairs.set(r, t);
            }
        }
    }
    const left = renewals.filter((r) => !pairs.has(r));
    const without = times.filter((t) => ![...pairs.values()].includes(t));
    if (left.length === 1 && without.length === 1) {
        pairs.set(left[0], without[0]);
    }
    return pairs;
}

async function isOver(token, text) {
    const parsed = orNull(() => parseToken(token));
    return parsed !== null && text !== null && equal(await digestOf(parsed.imprintDigest, text), parsed.imprint);
}

async function isOf(chain, token) {
    try {
        return await covers(token, chain);
    } catch (error) {
        if (error instanceof Refusal) {
            return false;
        }
        throw error;
    }
}

// The finding about receipt `m` with what its time stamps add; theirs and their renewals' go to `findings`.
async function judgeStamps(verifier, files, findings, m, { about, renewed }) {
    let pair = findings.get(m);
    const keepBetter = (n, found) => {
        const known = findings.get(n);
        if (known === undefined || known.error !== null) {
            findings.set(n, found);
        }
    };
    for (const t of [...about.keys()].filter((n) => about.get(n).has(m))) {
        let judged;
        [judged, pair] = await withStamp(verifier, pair, files, m, t, null);
        keepBetter(t, judged);
        for (const r of [...renewed.keys()].filter((n) => renewed.get(n) === t)) {
            let found = finding(files[r], refusal("renewals-unverified", { token: files[t].name }));
            if (judged.error === null) {
                [found, pair] = await withStamp(verifier, pair, files, m, t, r);
            }
            keepBetter(r, found);
        }
    }
    return pair;
}

// [the finding about the time stamp, or about its renewals if `r` is not null; the one about record and receipt]
async function withStamp(verifier, pair, files, m, t, r) {
    const judged = files[r ?? t];
    if (pair.error !== null || pair.facts === null) {
        return [finding(judged, refusal("time-unverified", { receipt: files[m].name })), pair];
    }
    try {
        const facts = await verifier.date(pair.facts, files[t].data, r === null ? null : files[r].data);
        return [finding(judged, null, facts), { ...pair, facts }];
    } catch (error) {
        if (error instanceof Refusal) {
            return [finding(judged, error), pair];
        }
        throw error;
    }
}

// --- records, receipts, other files ---

async function recordFinding(verifier, record, tried, allowUnlogged) {
    if (tried.length > 0) {
        return tried.find(({ error }) => error === null) ?? tried[0];
    }
    const found = await verifyPair(verifier, record, null);
    if (found.error === null && !allowUnlogged) {
        return finding(record, refusal("unlogged"), found.facts);
    }
    return found;
}

function receiptFinding(receipt, pair) {
    if (pair !== undefined) {
        return finding(receipt, pair.error, pair.error === null ? pair.facts : null);
    }
    return finding(receipt, refusedBy(() => parseProof(receipt.data)) ?? refusal("receipt-alone"));
}

function refusedBy(read) {
    try {
        read();
        return null;
    } catch (error) {
        if (error instanceof Refusal) {
            return error;
        }
        throw error;
    }
}

function fileFinding(given, records) {
    // records that verified come first, in case several name the same file
    const verified = records.filter(({ error }) => error === null);
    for (const record of [...verified, ...records.filter(({ error }) => error !== null)]) {
        const isIt = ({ sha256, size }) => sha256 === given.sha256 && size === given.size;
        const attachment = record.facts?.attachments.find(isIt);
        if (attachment === undefined) {
            continue;
        }
        if (record.error === null) {
            return finding(given, null, record.facts, attachment);
        }
        const values = { name: attachment.name, record: record.facts.recordId };
        return finding(given, refusal("attachment-unverified", values), null, attachment);
    }
    return finding(given, refusal(given.size > 0 ? "file-unknown" : "file-empty"));
}

function withAttachments(record, findings) {
    const named = record.facts?.attachments ?? [];
    const isNamed = (attachment) => named.some((other) => sameAttachment(other, attachment));
    const handedIn = findings.filter(({ attachment }) => attachment !== null && isNamed(attachment));
    return { ...record, attachments: handedIn.map(({ given, attachment }) => [given.name, attachment]) };
}
