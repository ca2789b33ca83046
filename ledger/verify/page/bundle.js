// Files of any kind in any order: which is which, which belong together, what each proves: ledger/verify/bundle.py.
//
// A further kind of file gets a line in `KINDS`, and a step in `examine` that fills `findings` for it.

import { parseCheckpoint } from "./checkpoint.js";
import { Refusal } from "./errors.js";
import { HEAD, MAX_EVIDENCE_BYTES, parseEvidence } from "./evidence.js";
import { leafHash, verifyInclusion } from "./merkle.js";
import { parseNote } from "./note.js";
import { refusal } from "./refusals.js";
import { MAX_PRESENTATION_BYTES } from "./sdjwt.js";
import { encode, equal, startsWith } from "./text.js";
import { MAX_PROOF_BYTES, parseProof } from "./tlogproof.js";
import { entryOf } from "./verifier.js";
import { sameAttachment } from "./sentences.js";

export const HEAD_BYTES = 64;

// [kind, how such a file begins, the largest]; what fits none is `file`, perhaps an attachment
const KINDS = [
    ["receipt", encode("c2sp.org/tlog-proof"), MAX_PROOF_BYTES],
    // the base64url of every JSON object that begins with a member, and so of every JWT in use
    ["record", encode("eyJ"), MAX_PRESENTATION_BYTES],
    ["evidence", HEAD, MAX_EVIDENCE_BYTES],
];

// What a file seems to be by its first bytes (64 suffice) and its size.
export function kindOf(first, size) {
    const start = first.subarray(first.findIndex((byte) => byte !== 0x0d && byte !== 0x0a) >>> 0);
    return KINDS.find(([, begins, largest]) => startsWith(start, begins) && size <= largest)?.[0] ?? "file";
}

// A finding for every file, in the order given: {given, error, facts, attachment, attachments}. A file that was handed
// in is {name, kind, data} or, of the kind `file`, {name, kind, size, sha256}.
export async function examine(verifier, files, allowUnlogged) {
    const of = (kind) => [...files.keys()].filter((n) => files[n].kind === kind);
    const [records, receipts, evidence] = [of("record"), of("receipt"), of("evidence")];
    const parsed = new Map(receipts.map((m) => [m, receiptOf(files[m].data)]));
    const pairs = pairReceipts(files, records, receipts, parsed);
    const claims = pairEvidence(files, receipts, evidence, parsed);
    const findings = new Map();
    for (const n of records) {
        const own = receipts.filter((m) => pairs.get(m) === n);
        for (const m of own) {
            findings.set(m, await verifyPair(verifier, files[n], files[m]));
        }
        for (const e of evidence) {
            for (const m of own.filter((other) => claims.get(e).has(other))) {
                const [judged, pair] = withEvidence(verifier, findings.get(m), files[m], files[e]);
                findings.set(m, pair);
                if (!findings.has(e) || findings.get(e).error !== null) {
                    findings.set(e, judged);
                }
            }
        }
        const tried = own.map((m) => findings.get(m));
        findings.set(n, await recordFinding(verifier, files[n], tried, allowUnlogged));
    }
    for (const e of evidence) {
        findings.set(e, findings.get(e) ?? evidenceAlone(files[e]));
    }
    for (const m of receipts) {
        findings.set(m, receiptFinding(files[m], findings.get(m)));
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
    return { given, error, facts, attachment, attachments: [] };
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
function withEvidence(verifier, pair, receipt, evidence) {
    if (pair.error !== null || pair.facts === null) {
        return [finding(evidence, refusal("evidence-unverified", { receipt: receipt.name })), pair];
    }
    try {
        const facts = verifier.confirm(pair.facts, evidence.data);
        return [finding(evidence, null, facts), { ...pair, facts }];
    } catch (error) {
        if (error instanceof Refusal) {
            return [finding(evidence, error), pair];
        }
        throw error;
    }
}

function evidenceAlone(evidence) {
    return finding(evidence, refusedBy(() => parseEvidence(evidence.data)) ?? refusal("evidence-alone"));
}

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
    return finding(given, refusal("file-unknown"));
}

function withAttachments(record, findings) {
    const named = record.facts?.attachments ?? [];
    const isNamed = (attachment) => named.some((other) => sameAttachment(other, attachment));
    const handedIn = findings.filter(({ attachment }) => attachment !== null && isNamed(attachment));
    return { ...record, attachments: handedIn.map(({ given, attachment }) => [given.name, attachment]) };
}
