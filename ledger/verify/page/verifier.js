// The recipe: how a presentation and its receipt become facts. The seventeen steps are those of
// ledger/verify/verifier.py, with the same numbers; no clock is read.

import { SealRule, verifyEvidence } from "./chain_evidence.js";
import { checkpoint as checkpointOf, checkpointText, openCheckpointBy } from "./checkpoint.js";
import { outsideHands } from "./control.js";
import { verifyCosignature } from "./cosignature.js";
import { Malformed, Refusal, SignatureInvalid, inStep, inStepNow } from "./errors.js";
import { leafHash, verifyInclusion } from "./merkle.js";
import { decodeExtra, signedText, verifyAnchorHint } from "./receipt.js";
import { refusal } from "./refusals.js";
import { MAX_PRESENTATION_BYTES, openDisclosures, parseStatement, verifyStatement } from "./sdjwt.js";
import { sha256 } from "./sha256.js";
import { decodeUtf8, grouped, head, isText, stripNewlines, toHex } from "./text.js";
import { readRoots } from "./timestamp.js";
import { verifyTime } from "./timestamps.js";
import { parseProof } from "./tlogproof.js";
import { endOf, evidenceLogs, isValidAt } from "./trust.js";
import { Moment, Span } from "./words.js";

const ATTACHMENT_PREFIX = "attachment-";
const MEMO_ENTRIES = 256;
const REFERENCES = ["matter", "case", "inspection", "amends"];
const SHA256_HEX = /^[0-9a-f]{64}$/;
const TILDE = 0x7e;

// Verifies any number of records against one trust file. What was found about checkpoints, anchors, evidence and
// time stamps, refusals too, is remembered, by all their bytes.
export class Verifier {
    #opened = new Map();
    #anchors = new Map();
    #onChain = new Map();
    #stamped = new Map();
    #roots = null;

    constructor(trust) {
        // 1
        this.trust = trust;
        this.rule = new SealRule(trust.chain);
    }

    // The facts of one record. `receipt`: bytes or null.
    async verify(presentation, receipt) {
        const { entry, joined, statement } = inStepNow(2, () => readPresentation(presentation));
        const [department, key] = inStepNow(3, () => this.#key(statement));
        await inStep(4, () => verifyStatement(statement, key.public.public));
        const disclosures = inStepNow(5, () => openDisclosures(statement, joined));
        // 6 to 11
        const logged = receipt === null ? null : await this.verifyReceipt(department, entry, receipt);
        const described = disclosures.filter(({ unit }) => unit.startsWith(ATTACHMENT_PREFIX));
        const attachments = inStepNow(5, () => described.map(attachmentOf));
        const { payload } = statement;
        return Object.freeze({
            recordId: statement.recordId,
            type: statement.type,
            version: statement.version,
            references: new Map(REFERENCES.filter((n) => payload.has(n)).map((n) => [n, payload.get(n)])),
            consortium: this.trust.consortium,
            engine: this.trust.chain.engine,
            validators: this.trust.chain.validators,
            department,
            key,
            sealedAt: statement.issuedAt,
            units: disclosures.map(({ unit, members }) => ({ name: unit, members })),
            masked: statement.digests.size - disclosures.length,
            attachments,
            logged,
        });
    }

    // Steps 12 to 15 alone: the facts of a record, with what a file of anchor evidence adds to them.
    async confirm(facts, evidence) {
        const { logged, department } = facts;
        if (logged === null) {
            throw refusal("evidence-alone");
        }
        const checkpoint = checkpointOf(logged.origin, logged.size, logged.root);
        const said = logged.anchor === null ? new Uint8Array() : signedText(logged.anchor, checkpoint);
        const key = [sha256(evidence), sha256(checkpointText(checkpoint)), sha256(said)].map(toHex).join();
        const judge = () => verifyEvidence(this.rule, evidence, department, checkpoint, logged.anchor);
        const onChain = await remembered(this.#onChain, key, judge);
        return Object.freeze({ ...facts, logged: Object.freeze({ ...logged, onChain }) });
    }

    // Step 17: the facts of a record, with what a time stamp and its renewals (or null) add to them. One that is there
    // already, renewed less far, gives way.
    async date(facts, token, renewals) {
        return await inStep(17, () => this.#date(facts, token, renewals));
    }

    async #date(facts, token, renewals) {
        const { logged } = facts;
        if (logged === null) {
            throw refusal("time-alone");
        }
        const text = checkpointText(checkpointOf(logged.origin, logged.size, logged.root));
        const key = [token, renewals ?? new Uint8Array(), text].map((part) => toHex(sha256(part))).join();
        const stamped = await remembered(this.#stamped, key, () =>
            verifyTime(text, token, renewals, this.#authorities()),
        );
        const isSame = ({ authority, time }) => authority === stamped.authority && time === stamped.time;
        const same = logged.times.filter(isSame);
        if (same.some(({ goodUntil }) => goodUntil >= stamped.goodUntil)) {
            return facts;
        }
        const times = [...logged.times.filter((other) => !same.includes(other)), stamped];
        return Object.freeze({ ...facts, logged: Object.freeze({ ...logged, times }) });
    }

    // Steps 6 to 11 alone: that `entry`, a statement's bytes, stands in the department's log.
    async verifyReceipt(department, entry, receipt) {
        const proof = inStepNow(6, () => parseProof(receipt));
        inStepNow(7, () => this.#checkLog(department, proof.checkpoint));
        // 8, 9
        const { checkpoint, cosigned, logKeyEnded } = await this.#open(department, proof.checkpoint);
        const { size, root } = checkpoint;
        inStepNow(10, () => verifyInclusion(leafHash(entry), proof.index, size, proof.path, root));
        const anchored = () => this.#anchor(department, proof, checkpoint);
        const anchor = proof.extra === null ? null : await inStep(11, anchored);
        return Object.freeze({
            origin: checkpoint.origin,
            index: proof.index,
            size,
            root,
            cosigned,
            logKeyEnded,
            quorum: this.trust.quorum,
            anchor,
            onChain: null,
            times: [],
        });
    }

    #authorities() {
        this.#roots ??= readRoots(this.trust.tsaRoots);
        return this.#roots;
    }

    #key({ kid, issuer, issuedAt }) {
        const [owner, key] = this.trust.statementKey(kid);
        if (owner.id !== issuer) {
            const claimed = this.trust.departments.find((department) => department.id === issuer) ?? issuer;
            throw refusal("key-of-another", { claimed, owner });
        }
        if (!isValidAt(key, issuedAt)) {
            const validity = new Span(key.validFrom, key.validTo);
            throw refusal("key-not-valid", { at: new Moment(issuedAt), owner, validity });
        }
        return [owner, key];
    }

    #checkLog(department, checkpoint) {
        // the origin is not signed for yet: a lie here fails in step 8
        const origin = decodeUtf8(checkpoint.subarray(0, checkpoint.indexOf(0x0a)), "checkpoint");
        if (origin === department.log.origin) {
            return;
        }
        const other = this.trust.departments.find((known) => known.log.origin === origin);
        if (other !== undefined) {
            throw refusal("log-of-another", { other, issuer: department });
        }
        throw refusal("log-unknown", { origin });
    }

    async #open(department, note) {
        return await remembered(this.#opened, toHex(sha256(note)), async () => {
            const [checkpoint, signer] = await inStep(8, () => openCheckpointBy(note, department.log.vkeys));
            const cosigned = await inStep(9, () => this.#cosigned(department, note));
            return { checkpoint, cosigned, logKeyEnded: endOf(department.log, signer) };
        });
    }

    async #cosigned(department, note) {
        const found = [];
        for (const witness of this.trust.witnesses) {
            const { name, operator, required } = witness;
            const time = await seenBy(witness, note);
            if (time !== null) {
                found.push({ name, operator, time });
            } else if (required) {
                throw refusal("witness-missing", { witness: name });
            }
        }
        const hands = outsideHands(found.map((witness) => witness.operator), department);
        if (hands.size < this.trust.quorum) {
            throw refusal("quorum", { quorum: this.trust.quorum, found: hands.size });
        }
        return found;
    }

    async #anchor(department, { checkpoint: note, extra }, checkpoint) {
        const memo = [sha256(note), sha256(extra)].map(toHex).join();
        return await remembered(this.#anchors, memo, async () => {
            const [hint, signature] = decodeExtra(extra);
            this.#checkChain(hint);
            await verifyAnchorHint(hint, signature, checkpoint, department.log.vkeys);
            return hint;
        });
    }

    #checkChain(hint) {
        const { chain } = this.trust;
        const contracts = evidenceLogs(chain);
        if (hint.get("chain_id") !== chain.id) {
            throw refusal("anchor-chain", { found: String(hint.get("chain_id")), expected: String(chain.id) });
        }
        if (!contracts.includes(hint.get("contract"))) {
            throw refusal("anchor-contract", { found: hint.get("contract"), expected: contracts[0] });
        }
    }
}

// When the witness saw the checkpoint, by its present key or by an earlier one before that ended; null: it did not.
async function seenBy({ name, key, earlier }, note) {
    let first = null;
    for (const { key: one, validTo } of [{ key, validTo: null }, ...earlier]) {
        const time = await timeOfWitness(note, name, one);
        if (time !== null && (validTo === null || time < validTo) && (first === null || time < first)) {
            first = time;
        }
    }
    return first;
}

async function timeOfWitness(note, witness, key) {
    try {
        return await verifyCosignature(note, key);
    } catch (error) {
        if (error instanceof SignatureInvalid) {
            throw refusal("cosignature-wrong", { witness });
        }
        throw error;
    }
}

// The signature is checked before the disclosures, `joined`, each followed by ~, are read.
function readPresentation(presentation) {
    if (presentation.length > MAX_PRESENTATION_BYTES) {
        throw new Malformed("presentation", `longer than ${grouped(MAX_PRESENTATION_BYTES)} bytes`);
    }
    const data = stripNewlines(presentation);
    const tilde = data.indexOf(TILDE);
    if (tilde < 0 || data[data.length - 1] !== TILDE) {
        const form = "must be a statement and disclosures, each followed by ~; it may be cut short";
        throw new Malformed("presentation", form);
    }
    const entry = data.subarray(0, tilde);
    return { entry, joined: data.subarray(tilde + 1), statement: parseStatement(entry) };
}

// The statement's bytes in a presentation of any form: what the log's leaf is made from.
export function entryOf(presentation) {
    const data = stripNewlines(presentation);
    const tilde = data.indexOf(TILDE);
    return tilde < 0 ? data : data.subarray(0, tilde);
}

function attachmentOf({ unit, members }) {
    const [name, mediaType, size, sha256Hex] = ["name", "media_type", "size", "sha256"].map((n) => members.get(n));
    if (!isText(name) || !isText(mediaType)) {
        throw new Malformed("attachment", `${head(unit, 64)} must have a name and a media type`);
    }
    if (typeof size !== "number" || size < 0) {
        throw new Malformed("attachment", `${head(unit, 64)} must have its size in bytes`);
    }
    if (!isText(sha256Hex) || !SHA256_HEX.test(sha256Hex)) {
        throw new Malformed("attachment", `${head(unit, 64)} must have its SHA-256 in lowercase hex`);
    }
    return Object.freeze({ unit, name, mediaType, size, sha256: sha256Hex });
}

// What `judge` gives or refuses, from memory where it did before.
async function remembered(memo, key, judge) {
    if (!memo.has(key)) {
        const found = await judged(judge);
        if (memo.size >= MEMO_ENTRIES) {
            memo.clear();
        }
        memo.set(key, found);
    }
    const { value, refused } = memo.get(key);
    if (refused !== null) {
        throw refused;
    }
    return value;
}

async function judged(judge) {
    try {
        return { value: await judge(), refused: null };
    } catch (error) {
        if (error instanceof Refusal) {
            return { value: null, refused: error };
        }
        throw error;
    }
}
