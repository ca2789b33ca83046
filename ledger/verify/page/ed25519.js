// Ed25519 (RFC 8032) by the browser's own WebCrypto.

import { SignatureInvalid } from "./errors.js";
import { fromHex } from "./text.js";

// RFC 8032 section 7.1, test 1: an empty message
const PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const SIGNATURE =
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

// Throws SignatureInvalid unless `signature` over `message` is by `publicKey` (32 bytes).
export async function verifySignature(publicKey, signature, message) {
    if (!(await isValid(publicKey, signature, message))) {
        throw new SignatureInvalid("the signature does not verify");
    }
}

// Whether this browser can verify at all, and does so rightly: without it every good signature would look bad.
export async function canVerify() {
    if (globalThis.crypto?.subtle === undefined) {
        return false;
    }
    const [publicKey, good] = [fromHex(PUBLIC), fromHex(SIGNATURE)];
    const bad = good.map((byte, n) => (n === 40 ? byte ^ 1 : byte));
    const none = new Uint8Array();
    try {
        return (await isValid(publicKey, good, none)) && !(await isValid(publicKey, bad, none));
    } catch {
        return false;
    }
}

async function isValid(publicKey, signature, message) {
    let key;
    try {
        key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
    } catch (error) {
        // some browsers refuse 32 bytes that are no point of the curve; under others nothing verifies with them
        if (error.name === "DataError") {
            return false;
        }
        throw error;
    }
    return await crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
}
