// The OpenWallet Foundation's SD-JWT library on what standard input holds: {"presentation", "jwk"}. Prints the claims.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { SDJwtInstance } from "@sd-jwt/core";

const { presentation, jwk } = JSON.parse(readFileSync(0, "utf8"));
const key = createPublicKey({ key: jwk, format: "jwk" });
const sdjwt = new SDJwtInstance({
    hashAlg: "sha-256",
    hasher: (data) => new Uint8Array(createHash("sha256").update(Buffer.from(data)).digest()),
    verifier: (data, signature) => verify(null, Buffer.from(data), key, Buffer.from(signature, "base64url")),
});
const { payload } = await sdjwt.verify(presentation);
process.stdout.write(JSON.stringify(payload));
