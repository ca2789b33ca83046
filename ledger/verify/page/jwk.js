// JSON Web Keys (RFC 7517) of the kinds that the ledger uses, and thumbprints (RFC 7638): ledger/formats/jwk.py.

import { b64urlDecode, b64urlEncode } from "./encoding.js";
import { Malformed } from "./errors.js";
import { checkEd25519 } from "./note.js";
import { pointAt } from "./secp256k1.js";
import { sha256 } from "./sha256.js";
import { canonical } from "./strictjson.js";
import { encode, isText, toInteger } from "./text.js";

const REQUIRED = { OKP: ["crv", "kty", "x"], EC: ["crv", "kty", "x", "y"] };

// {kind: "Ed25519" | "X25519" | "secp256k1"} with its 32 bytes as `public`, or its `point` [x, y]
export function toPublicKey(jwk) {
    const [kty, crv] = [jwk.get("kty"), jwk.get("crv")];
    if (kty === "OKP" && crv === "Ed25519") {
        const publicKey = coordinate(jwk, "x");
        checkEd25519(publicKey, "JWK");
        return { kind: crv, public: publicKey };
    }
    if (kty === "OKP" && crv === "X25519") {
        return { kind: crv, public: coordinate(jwk, "x") };
    }
    if (kty === "EC" && crv === "secp256k1") {
        const point = pointAt(...["x", "y"].map((name) => toInteger(coordinate(jwk, name))));
        if (point === null) {
            throw new Malformed("JWK", `not a ${crv} public key`);
        }
        return { kind: crv, point };
    }
    throw new Malformed("JWK", "kty and crv must be OKP Ed25519, OKP X25519 or EC secp256k1");
}

export function thumbprint(jwk) {
    const names = Object.hasOwn(REQUIRED, jwk.get("kty")) ? REQUIRED[jwk.get("kty")] : null;
    if (names === null || !names.every((name) => isText(jwk.get(name)))) {
        throw new Malformed("JWK", "kty, crv, x (and y for EC) must be strings");
    }
    return b64urlEncode(sha256(encode(canonical(new Map(names.map((name) => [name, jwk.get(name)]))))));
}

function coordinate(jwk, name) {
    const text = jwk.get(name);
    if (!isText(text)) {
        throw new Malformed("JWK", `member ${name} must be a string`);
    }
    const value = b64urlDecode(text, "JWK");
    if (value.length !== 32) {
        throw new Malformed("JWK", `member ${name} must hold 32 bytes`);
    }
    return value;
}
