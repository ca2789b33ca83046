// Steps 12 to 15 of the recipe: ledger/verify/chain_evidence.py.

import { AnchorInvalid, Malformed, SignatureInvalid, TrustRefused, inStepNow } from "./errors.js";
import { isStatedBy, parseEvidence } from "./evidence.js";
import { SEALINGS, parseHeader } from "./header.js";
import { toPublicKey } from "./jwk.js";
import { keccak256 } from "./keccak.js";
import { refusal } from "./refusals.js";
import { addressOf, recover } from "./secp256k1.js";
import { encode, equal, isList, isObject, isPrintable, isText, toHex } from "./text.js";
import { chainId, parseReceipt, trieKey } from "./transaction.js";
import { provenValue } from "./trie.js";
import { evidenceLogs } from "./trust.js";

const NO_TRANSACTION = "0x" + "00".repeat(32);

// Who may seal blocks of the trust file's chain, and how many different ones must have.
export class SealRule {
    constructor(chain) {
        const { threshold, addresses, unknown } = chain.validators;
        const names = namesOf(unknown.has("names") ? unknown.get("names") : new Map());
        this.chain = chain;
        this.threshold = threshold;
        this.sealers = new Map();
        for (const address of addresses.map((listed) => listed.toLowerCase())) {
            this.sealers.set(address, { address, name: names.get(address) ?? "" });
            names.delete(address);
        }
        for (const stranger of names.keys()) {
            throw new TrustRefused(`The trust file names ${stranger}, which is not among its validators.`);
        }
        for (const point of keysOf(unknown.has("keys") ? unknown.get("keys") : [])) {
            const address = hex(addressOf(point));
            if (!this.sealers.has(address)) {
                throw new TrustRefused(`The trust file has a key of ${address}, which is not among its validators.`);
            }
        }
    }

    // [the block's hash, the addresses of those who sealed it]; `parent`: hash of the block before it, or null
    sealed(header, parent) {
        const sealing = reading("evidence-header", () => SEALINGS.get(this.chain.engine)(header));
        if (parent !== null && !equal(header.parentHash, parent)) {
            throw refusal("evidence-not-linked", { block: String(header.number) });
        }
        const addresses = new Set();
        for (const seal of sealing.seals) {
            // one after the other: a seal costs milliseconds, and the same one may stand there hundreds of times
            const address = this.#address(sealing.digest, seal, header);
            if (addresses.has(address)) {
                throw refusal("evidence-seal-twice", { block: String(header.number) });
            }
            addresses.add(address);
        }
        return [sealing.blockHash, [...addresses]];
    }

    #address(digest, seal, header) {
        const address = addressBehind(digest, seal);
        if (address === null || !this.sealers.has(address)) {
            throw refusal("evidence-seal", { block: String(header.number) });
        }
        return address;
    }
}

function addressBehind(digest, seal) {
    try {
        return hex(addressOf(recover(digest, seal)));
    } catch (error) {
        if (error instanceof SignatureInvalid) {
            return null;
        }
        throw error;
    }
}

// That `checkpoint`, a verified one of `department`, is anchored where the file `data` shows. `hint`: the receipt's
// verified anchor, or null.
export function verifyEvidence(rule, data, department, checkpoint, hint) {
    const [evidence, headers] = inStepNow(12, () => readEvidence(rule, data, department, checkpoint));
    const [blockHash, sealedBy] = inStepNow(13, () => checkSeals(rule, headers, hint));
    const transaction = inStepNow(14, () => checkTransaction(rule.chain, evidence, headers[0], hint));
    inStepNow(15, () => checkEvent(evidence, headers[0], checkpoint));
    return Object.freeze({
        contract: hex(evidence.claim.contract),
        blockNumber: headers[0].number,
        blockHash: hex(blockHash),
        time: headers[0].time,
        transaction,
        sealedBy: [...rule.sealers.values()].filter((sealer) => sealedBy.has(sealer.address)),
        threshold: rule.threshold,
        validators: rule.sealers.size,
    });
}

// [the evidence, its headers]
function readEvidence(rule, data, department, checkpoint) {
    const evidence = parseEvidence(data);
    checkRule(rule);
    checkClaim(rule.chain, evidence.claim, department, checkpoint);
    return [evidence, reading("evidence-header", () => evidence.headers.map(parseHeader))];
}

// [the block's hash, Set of the addresses of those who sealed]
function checkSeals(rule, headers, hint) {
    const [blockHash, sealedBy] = sealedHeaders(rule, headers);
    checkBlock(hint, headers[0], blockHash);
    return [blockHash, sealedBy];
}

// the transaction's hash
function checkTransaction(chain, { index, transactionProof }, header, hint) {
    const [transaction, signedFor] = reading("evidence-transaction", () => {
        const value = provenValue(header.transactionsRoot, trieKey(index), transactionProof);
        return [value, chainId(value)];
    });
    if (signedFor !== BigInt(chain.id)) {
        throw refusal("anchor-chain", { found: String(signedFor), expected: String(chain.id) });
    }
    const found = hex(keccak256(transaction));
    const expected = hint === null ? found : hint.get("transaction");
    if (expected !== found && expected !== NO_TRANSACTION) {
        throw refusal("evidence-other-transaction", { found, expected });
    }
    return found;
}

function checkEvent({ claim, index, receiptProof }, header, checkpoint) {
    const receipt = reading("evidence-receipt", () =>
        parseReceipt(provenValue(header.receiptsRoot, trieKey(index), receiptProof)),
    );
    if (!receipt.succeeded || !receipt.events.some((event) => isStatedBy(claim, event))) {
        throw refusal("evidence-event", { contract: hex(claim.contract), size: checkpoint.size });
    }
}

function checkRule(rule) {
    if (!SEALINGS.has(rule.chain.engine)) {
        throw refusal("evidence-embedded");
    }
    if (rule.threshold === 0) {
        throw refusal("evidence-no-rule");
    }
}

function checkClaim(chain, claim, department, checkpoint) {
    const contracts = evidenceLogs(chain);
    const contract = hex(claim.contract);
    if (claim.chainId !== chain.id) {
        throw refusal("anchor-chain", { found: String(claim.chainId), expected: String(chain.id) });
    }
    if (!contracts.includes(contract)) {
        throw refusal("anchor-contract", { found: contract, expected: contracts[0] });
    }
    if (!equal(claim.logId, logId(department))) {
        throw refusal("evidence-other-log", { department });
    }
    if (BigInt(claim.size) !== checkpoint.size || !equal(claim.root, checkpoint.root)) {
        throw refusal("evidence-other-state", { found: claim.size, expected: checkpoint.size });
    }
}

// [hash of the first block, Set of the addresses of those who sealed it or a block on top of it]
function sealedHeaders(rule, headers) {
    let [first, last] = [null, null];
    const sealedBy = new Set();
    for (const header of headers) {
        const [hash, together] = rule.sealed(header, last);
        together.forEach((address) => sealedBy.add(address));
        [first, last] = [first ?? hash, hash];
    }
    if (sealedBy.size < rule.threshold) {
        throw refusal("evidence-threshold", { found: sealedBy.size, threshold: rule.threshold });
    }
    return [first, sealedBy];
}

function checkBlock(hint, header, blockHash) {
    if (hint === null) {
        return;
    }
    const [found, expected] = [hex(blockHash), hint.get("block_hash")];
    const numbers = header.number === BigInt(hint.get("block_number")) && header.time === BigInt(hint.get("time"));
    if (!numbers || found !== expected) {
        throw refusal("evidence-other-block", { found, expected });
    }
}

// A department's log on chain: its id in ASCII, zero bytes up to 32.
function logId(department) {
    const id = new Uint8Array(32);
    id.set(encode(department.id));
    return id;
}

// Whatever is wrong with a part of the evidence is said by one refusal.
function reading(reason, read) {
    try {
        return read();
    } catch (error) {
        if (error instanceof Malformed || error instanceof AnchorInvalid) {
            throw refusal(reason);
        }
        throw error;
    }
}

function namesOf(value) {
    const isName = (name) => isText(name) && name !== "" && isPrintable(name);
    if (!isObject(value) || ![...value.values()].every(isName)) {
        throw new Malformed("trust file", "names of the validators must map addresses to texts");
    }
    const names = new Map([...value].map(([address, name]) => [address.toLowerCase(), name]));
    if (names.size !== value.size) {
        throw new TrustRefused("The trust file names a validator twice, so it cannot say who is meant.");
    }
    return names;
}

function keysOf(value) {
    if (!isList(value) || !value.every(isObject)) {
        throw new Malformed("trust file", "keys of the validators must be a list of JWKs");
    }
    const found = value.map(toPublicKey);
    if (!found.every((key) => key.kind === "secp256k1")) {
        throw new Malformed("trust file", "keys of the validators must be secp256k1 keys");
    }
    return found.map((key) => key.point);
}

function hex(data) {
    return "0x" + toHex(data);
}
