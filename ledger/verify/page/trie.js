// Proofs in a Merkle-Patricia trie: ledger/formats/trie.py.

import { AnchorInvalid, Malformed } from "./errors.js";
import { keccak256 } from "./keccak.js";
import { decodeItem, encodeItem, items, string } from "./rlp.js";
import { equal } from "./text.js";

export const MAX_NODES = 64;

const HASH_SIZE = 32;
const ODD = 1;
const LEAF = 2;
const WHAT = "trie proof";

// The value, never empty, that the trie with `root` holds under `key`; all `nodes` are needed.
export function provenValue(root, key, nodes) {
    let rest = nibbles(key);
    let found = root;
    let used = 0;
    while (rest !== null) {
        if (!Array.isArray(found)) {
            found = named(found, nodes, used);
            used += 1;
        }
        [rest, found] = step(items(found, WHAT, 2, 17), rest);
    }
    if (used !== nodes.length) {
        throw new Malformed(WHAT, "has nodes that lead nowhere");
    }
    return string(found, WHAT);
}

function named(digest, nodes, used) {
    if (used === nodes.length) {
        throw new AnchorInvalid("the trie proof ends before it reaches the value");
    }
    if (!equal(keccak256(nodes[used]), digest)) {
        throw new AnchorInvalid(`node ${used + 1} of the trie proof is not the one that the trie has there`);
    }
    return decodeItem(nodes[used], WHAT);
}

// [the rest of the path, the child to follow], or [null, the value]
function step(node, path) {
    if (node.length === 17) {
        return path.length === 0 ? [null, value(node[16])] : [path.slice(1), child(node[path[0]])];
    }
    const [shared, isLeaf] = sharedPath(node[0]);
    if (!shared.every((nibble, n) => path[n] === nibble)) {
        throw absent();
    }
    const rest = path.slice(shared.length);
    if (!isLeaf) {
        return [rest, child(node[1])];
    }
    if (rest.length > 0) {
        throw absent();
    }
    return [null, value(node[1])];
}

function sharedPath(item) {
    const all = nibbles(string(item, WHAT));
    const [flags, ...path] = all.length > 0 ? all : [0xf];
    if (flags & ~(ODD | LEAF) || (!(flags & ODD) && path.shift() !== 0)) {
        throw new Malformed(WHAT, "has a path with flags that do not exist");
    }
    if (!(flags & LEAF) && path.length === 0) {
        throw new Malformed(WHAT, "has an extension that extends nothing");
    }
    return [path, Boolean(flags & LEAF)];
}

function child(item) {
    if (item.length === 0 && !Array.isArray(item)) {
        throw absent();
    }
    if (!Array.isArray(item)) {
        return string(item, WHAT, HASH_SIZE);
    }
    if (encodeItem(item).length >= HASH_SIZE) {
        throw new Malformed(WHAT, "holds a node of 32 bytes or more inside another, where its hash belongs");
    }
    return item;
}

function value(item) {
    const found = string(item, WHAT);
    if (found.length === 0) {
        throw absent();
    }
    return found;
}

function nibbles(data) {
    return Array.from(data).flatMap((byte) => [byte >> 4, byte & 0xf]);
}

function absent() {
    return new AnchorInvalid("the trie does not hold what the proof is said to lead to");
}
