// Block headers of an EVM chain and their seals, Clique and QBFT: ledger/formats/header.py.

import { Malformed } from "./errors.js";
import { keccak256 } from "./keccak.js";
import { decodeItem, encodeItem, items, number, string } from "./rlp.js";

export const MAX_HEADER_BYTES = 16 * 1024;

const SEAL_SIZE = 65;
const ADDRESS_SIZE = 20;
const VANITY_SIZE = 32;
const WHAT = "block header";
const EXTRA = "extra data of the block header";
const SIZES = { 0: 32, 1: 32, 2: 20, 3: 32, 4: 32, 5: 32, 6: 256, 13: 32, 14: 8 };
const NUMBERS = [7, 8, 9, 10, 11];
const FEWEST = 15;
const MOST = 21;
const EXTRA_DATA = 12;
const EMPTY = new Uint8Array();

// {fields, number, time, parentHash, transactionsRoot, receiptsRoot}
export function parseHeader(data) {
    if (data.length > MAX_HEADER_BYTES) {
        throw new Malformed(WHAT, "is too long");
    }
    const listed = items(decodeItem(data, WHAT), WHAT);
    if (listed.length < FEWEST || listed.length > MOST) {
        throw new Malformed(WHAT, `has ${listed.length} fields, not ${FEWEST} to ${MOST}`);
    }
    const fields = listed.map((item, n) => string(item, WHAT, SIZES[n] ?? null));
    NUMBERS.forEach((n) => number(fields[n], WHAT));
    return Object.freeze({
        fields,
        number: number(fields[8], WHAT),
        time: number(fields[11], WHAT),
        parentHash: fields[0],
        transactionsRoot: fields[4],
        receiptsRoot: fields[5],
    });
}

function hashWith(header, extraData) {
    return keccak256(encodeItem(header.fields.map((field, n) => (n === EXTRA_DATA ? extraData : field))));
}

// {blockHash, digest: what was signed, seals}
function cliqueSealing(header) {
    const extra = header.fields[EXTRA_DATA];
    const listed = extra.length - VANITY_SIZE - SEAL_SIZE;
    if (listed < 0 || listed % ADDRESS_SIZE !== 0) {
        throw new Malformed(EXTRA, "is not a vanity of 32 bytes, addresses and a seal of 65 bytes, as Clique has it");
    }
    return {
        blockHash: hashWith(header, extra),
        digest: hashWith(header, extra.subarray(0, -SEAL_SIZE)),
        seals: [extra.subarray(-SEAL_SIZE)],
    };
}

function qbftSealing(header) {
    const found = items(decodeItem(header.fields[EXTRA_DATA], EXTRA), EXTRA, 5);
    const [vanity, validators, vote, turn, seals] = found;
    string(vanity, EXTRA, VANITY_SIZE);
    items(validators, EXTRA).forEach((validator) => string(validator, EXTRA, ADDRESS_SIZE));
    items(vote, EXTRA, 0, 2);
    number(turn, EXTRA);
    return {
        blockHash: hashWith(header, encodeItem([vanity, validators, vote, EMPTY, []])),
        digest: hashWith(header, encodeItem([vanity, validators, vote, turn, []])),
        seals: items(seals, EXTRA).map((seal) => string(seal, EXTRA, SEAL_SIZE)),
    };
}

// by the trust file's name of the engine
export const SEALINGS = new Map([
    ["clique", cliqueSealing],
    ["qbft", qbftSealing],
]);
