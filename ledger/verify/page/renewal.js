// Renewal of time stamps: ledger/formats/renewal.py. Numbers of tokens are whole numbers below 2^53.

import { b64decode } from "./encoding.js";
import { InclusionInvalid, Malformed, NotProven } from "./errors.js";
import { MAX_PATH } from "./merkle.js";
import { loadsObject } from "./strictjson.js";
import { concat, equal, isList, isObject, isText } from "./text.js";
import { MAX_TOKEN_BYTES, digestOf, parseToken, verifyToken } from "./timestamp.js";

const HASH_SIZE = 64;
const MAX_RENEWALS = 64;
export const MAX_RENEWAL_BYTES = MAX_RENEWALS * (2 * MAX_TOKEN_BYTES + 16 * 1024);

const WHAT = "time-stamp renewal";
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

// {index, renewals: [{size, path, token, index}]}
export function parseRenewals(data) {
    const value = loadsObject(data, WHAT, MAX_RENEWAL_BYTES);
    if (!hasMembers(value, ["index", "renewals"]) || !isList(value.get("renewals"))) {
        throw new Malformed(WHAT, "has the members index and renewals, a list");
    }
    const renewals = value.get("renewals");
    if (!(renewals.length > 0 && renewals.length <= MAX_RENEWALS)) {
        throw new Malformed(WHAT, `holds 1 to ${MAX_RENEWALS} renewals`);
    }
    return { index: numberOf(value.get("index")), renewals: renewals.map(renewalOf) };
}

// Whether the first renewal is over a tree with `token` in it. Nothing that is signed is checked.
export async function covers(token, chain) {
    const [first] = chain.renewals;
    const { imprint, imprintDigest } = parseToken(first.token);
    try {
        const leaf = await digestOf("SHA-512", concat(LEAF, token));
        const root = await rootBy(leaf, chain.index, first.size, first.path);
        return equal(imprint, await digestOf(imprintDigest, root));
    } catch (error) {
        if (error instanceof InclusionInvalid) {
            return false;
        }
        throw error;
    }
}

// The renewals of `token`, which was verified to say `stamp`. Each covers the one before it, and was made while the
// certificates of that one were valid.
export async function verifyRenewals(token, stamp, chain, roots) {
    let [covered, index, last] = [token, chain.index, stamp];
    const found = [];
    for (const renewal of chain.renewals) {
        const leaf = await digestOf("SHA-512", concat(LEAF, covered));
        const root = await rootBy(leaf, index, renewal.size, renewal.path);
        const fresh = await verifyToken(renewal.token, root, roots);
        if (!(last.time <= fresh.time && fresh.time <= last.expires)) {
            const late = "a time stamp was renewed only when its certificates had ended: nothing vouches between";
            throw new NotProven(late);
        }
        found.push(fresh);
        [covered, index, last] = [renewal.token, renewal.index, fresh];
    }
    return found;
}

// The root that a path leads to (RFC 9162 section 2.1.3.2, with SHA-512).
async function rootBy(leaf, index, size, path) {
    if (!(index >= 0 && index < size)) {
        throw new InclusionInvalid(`there is no token ${index} among ${size}: ask for the renewals of this one`);
    }
    let [fn, sn, node] = [BigInt(index), BigInt(size) - 1n, leaf];
    for (const sibling of path) {
        if (sn === 0n) {
            throw new InclusionInvalid("the path of a renewal is too long: ask for the renewals again");
        }
        if (fn & 1n || fn === sn) {
            node = await nodeOf(sibling, node);
            while (!(fn & 1n) && fn) {
                [fn, sn] = [fn >> 1n, sn >> 1n];
            }
        } else {
            node = await nodeOf(node, sibling);
        }
        [fn, sn] = [fn >> 1n, sn >> 1n];
    }
    if (sn !== 0n) {
        throw new InclusionInvalid("the path of a renewal is too short: ask for the renewals again");
    }
    return node;
}

async function nodeOf(left, right) {
    return await digestOf("SHA-512", concat(NODE, left, right));
}

function renewalOf(value) {
    if (!isObject(value) || !hasMembers(value, ["size", "path", "token", "index"])) {
        throw new Malformed(WHAT, "each has the members size, path, token and index");
    }
    const [path, token] = [value.get("path"), value.get("token")];
    if (!isList(path) || path.length > MAX_PATH || !isText(token)) {
        throw new Malformed(WHAT, `a path is a list of at most ${MAX_PATH}, a token is text`);
    }
    const nodes = path.map((node) => b64decode(isText(node) ? node : "", WHAT));
    if (nodes.some((node) => node.length !== HASH_SIZE)) {
        throw new Malformed(WHAT, `a path is made of hashes of ${HASH_SIZE} bytes`);
    }
    const size = numberOf(value.get("size"));
    return { size, path: nodes, token: b64decode(token, WHAT), index: numberOf(value.get("index")) };
}

function hasMembers(value, names) {
    return value.size === names.length && names.every((name) => value.has(name));
}

function numberOf(value) {
    if (typeof value !== "number" || value < 0) {
        throw new Malformed(WHAT, "index and size are numbers, 0 or more");
    }
    return value;
}
