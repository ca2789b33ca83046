// Anchor evidence, what a chain itself says about an anchor: ledger/formats/evidence.py.

import { Malformed } from "./errors.js";
import { MAX_HEADER_BYTES } from "./header.js";
import { keccak256 } from "./keccak.js";
import { MAX_INTEGER, loadsObject } from "./strictjson.js";
import { MAX_NODES } from "./trie.js";
import { encode, equal, fromHex, fromInteger, grouped, isList, isObject, isText, toHex } from "./text.js";

export const MAX_EVIDENCE_BYTES = 512 * 1024;
export const HEAD = encode('{"format":"yunxi.anchor-evidence/');

const FORMAT = "yunxi.anchor-evidence/v1";
const WHAT = "anchor evidence";
const MAX_HEADERS = 128;
const MAX_INDEX = 2 ** 32 - 1;
const ANCHORED = keccak256(encode("Anchored(bytes32,uint64,bytes32,uint64,address)"));
const ANCHOR = ["chain_id", "contract", "log_id", "size", "root"];
const LISTS = ["headers", "transaction_proof", "receipt_proof"];
const MEMBERS = ["format", "anchor", "headers", "index", "transaction_proof", "receipt_proof"];
const BYTES = /^0x[0-9a-f]+$/;

// {claim: {chainId, contract[20], logId[32], size, root[32]}, headers, index, transactionProof, receiptProof}
export function parseEvidence(data) {
    const value = loadsObject(data, WHAT, MAX_EVIDENCE_BYTES);
    if (value.get("format") !== FORMAT) {
        throw new Malformed(WHAT, `format must be ${FORMAT}`);
    }
    const anchor = value.get("anchor");
    if (!isObject(anchor) || !hasExactly(value, MEMBERS) || !hasExactly(anchor, ANCHOR)) {
        throw new Malformed(WHAT, `must have ${MEMBERS.join(", ")}, and anchor ${ANCHOR.join(", ")}`);
    }
    const [contract, logId, root] = ["contract", "log_id", "root"].map((name) => bytesOf(anchor.get(name), name));
    const [headers, transactionProof, receiptProof] = LISTS.map((name) => byteStrings(value.get(name), name));
    const claim = { chainId: anchor.get("chain_id"), contract, logId, size: anchor.get("size"), root };
    checkClaim(claim);
    const evidence = { claim, headers, index: value.get("index"), transactionProof, receiptProof };
    checkEvidence(evidence);
    if (!equal(serialize(evidence), data)) {
        const form = "not in its one form: members in order, ASCII, no white space, a newline at the end";
        throw new Malformed(WHAT, form);
    }
    return Object.freeze(evidence);
}

// Whether `event` is the contract's word that it accepted this root, at this size, for this log.
export function isStatedBy(claim, event) {
    const topics = [ANCHORED, claim.logId, fromInteger(claim.size, 32)];
    return (
        equal(event.address, claim.contract) &&
        event.topics.length === 4 &&
        topics.every((topic, n) => equal(topic, event.topics[n])) &&
        // root, previous size
        event.data.length === 64 &&
        equal(event.data.subarray(0, 32), claim.root)
    );
}

function checkClaim({ chainId, contract, logId, size, root }) {
    checkNumber(chainId, "chain_id", MAX_INTEGER);
    checkNumber(size, "size", MAX_INTEGER);
    if (contract.length !== 20 || logId.length !== 32 || root.length !== 32) {
        throw new Malformed(WHAT, "contract, log_id and root must have 20, 32 and 32 bytes");
    }
}

function checkEvidence({ headers, index, transactionProof, receiptProof }) {
    checkNumber(index, "index", MAX_INDEX);
    if (headers.length === 0 || headers.length > MAX_HEADERS) {
        throw new Malformed(WHAT, `must have 1 to ${MAX_HEADERS} headers`);
    }
    if (headers.some((header) => header.length > MAX_HEADER_BYTES)) {
        throw new Malformed(WHAT, `has a header of more than ${grouped(MAX_HEADER_BYTES)} bytes`);
    }
    for (const [name, nodes] of [["transaction_proof", transactionProof], ["receipt_proof", receiptProof]]) {
        if (nodes.length === 0 || nodes.length > MAX_NODES) {
            throw new Malformed(WHAT, `${name} must have 1 to ${MAX_NODES} nodes`);
        }
    }
}

function serialize({ claim, headers, index, transactionProof, receiptProof }) {
    const value = {
        format: FORMAT,
        anchor: {
            chain_id: claim.chainId,
            contract: hex(claim.contract),
            log_id: hex(claim.logId),
            size: claim.size,
            root: hex(claim.root),
        },
        headers: headers.map(hex),
        index,
        transaction_proof: transactionProof.map(hex),
        receipt_proof: receiptProof.map(hex),
    };
    return encode(JSON.stringify(value) + "\n");
}

function hasExactly(members, names) {
    return members.size === names.length && names.every((name) => members.has(name));
}

function checkNumber(value, name, largest) {
    if (typeof value !== "number" || value < 0 || value > largest) {
        throw new Malformed(WHAT, `${name} must be a whole number from 0 to ${largest}`);
    }
}

function byteStrings(value, name) {
    if (!isList(value)) {
        throw new Malformed(WHAT, `${name} must be a list`);
    }
    return value.map((item) => bytesOf(item, name));
}

function bytesOf(value, name) {
    if (!isText(value) || !BYTES.test(value) || value.length % 2 !== 0) {
        throw new Malformed(WHAT, `${name} must be 0x and pairs of lowercase hex digits`);
    }
    return fromHex(value.slice(2));
}

function hex(data) {
    return "0x" + toHex(data);
}
