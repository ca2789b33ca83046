// The Merkle tree of RFC 9162 section 2.1: ledger/formats/merkle.py. Indexes and sizes are BigInt.

import { InclusionInvalid } from "./errors.js";
import { sha256 } from "./sha256.js";
import { equal } from "./text.js";

export const HASH_SIZE = 32;
export const MAX_SIZE = 2n ** 63n - 1n;
export const MAX_PATH = 64;

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(entry) {
    return sha256(LEAF, entry);
}

// RFC 9162 section 2.1.3.2: that the leaf hash is number `index` in the tree of `size` leaves with `root`.
export function verifyInclusion(leaf, index, size, path, root) {
    if (!(index >= 0n && index < size && size <= MAX_SIZE)) {
        throw new InclusionInvalid(`there is no entry ${index} in a tree of ${size}`);
    }
    if (path.length > MAX_PATH || [leaf, root, ...path].some((hash) => hash.length !== HASH_SIZE)) {
        throw new InclusionInvalid("the path is not made of up to 64 hashes of 32 bytes");
    }
    let [fn, sn, node] = [index, size - 1n, leaf];
    for (const sibling of path) {
        if (sn === 0n) {
            throw new InclusionInvalid(`the path is too long for a tree of ${size}`);
        }
        if (fn & 1n || fn === sn) {
            node = sha256(NODE, sibling, node);
            while (!(fn & 1n) && fn) {
                [fn, sn] = [fn >> 1n, sn >> 1n];
            }
        } else {
            node = sha256(NODE, node, sibling);
        }
        [fn, sn] = [fn >> 1n, sn >> 1n];
    }
    if (sn !== 0n) {
        throw new InclusionInvalid(`the path is too short for a tree of ${size}`);
    }
    if (!equal(node, root)) {
        throw new InclusionInvalid("the path leads to another root");
    }
}
