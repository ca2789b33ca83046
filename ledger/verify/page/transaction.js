// Transactions and their receipts as they stand in a block's tries (EIP-2718): ledger/formats/transaction.py.

import { Malformed } from "./errors.js";
import { decodeItem, encodeItem, items, number, string, stringOf } from "./rlp.js";

const TYPES = [1, 2, 3, 4];
const LEGACY_FIELDS = 9;

export function trieKey(index) {
    return encodeItem(stringOf(index));
}

// The chain that the sender signed the transaction for, a BigInt.
export function chainId(transaction) {
    const what = "transaction";
    const [kind, body] = typed(transaction, what);
    const fields = items(decodeItem(body, what), what);
    if (kind !== 0) {
        return fields.length > 0 ? number(fields[0], what) : noChain();
    }
    if (fields.length !== LEGACY_FIELDS) {
        throw new Malformed(what, `has ${fields.length} fields, not ${LEGACY_FIELDS}`);
    }
    const v = number(fields[6], what);
    return v >= 35n ? (v - 35n) / 2n : noChain();
}

// {succeeded, events: [{address[20], topics, data}]}
export function parseReceipt(data) {
    const what = "transaction receipt";
    const [, body] = typed(data, what);
    const [status, gas, bloom, logs] = items(decodeItem(body, what), what, 4);
    const said = string(status, what);
    if (said.length > 1 || (said.length === 1 && said[0] !== 1)) {
        throw new Malformed(what, "has a status that is neither 0 nor 1");
    }
    number(gas, what);
    string(bloom, what, 256);
    return { succeeded: said.length === 1, events: items(logs, what).map((log) => event(log, what)) };
}

function event(item, what) {
    const [address, topics, data] = items(item, what, 3);
    const listed = items(topics, what, 0, 1, 2, 3, 4).map((topic) => string(topic, what, 32));
    return { address: string(address, what, 20), topics: listed, data: string(data, what) };
}

// [the type, 0 where there is none; the RLP]
function typed(data, what) {
    const first = data[0] ?? 0;
    if (TYPES.includes(first)) {
        return [first, data.subarray(1)];
    }
    if (first < 0xc0) {
        throw new Malformed(what, `is of type ${first}, which is not known here`);
    }
    return [0, data];
}

function noChain() {
    throw new Malformed("transaction", "does not say for which chain it was signed");
}
