// The key behind a recoverable ECDSA signature over secp256k1 (SEC 1 section 4.1.6): ledger/crypto/secp256k1.py.
//
// No browser has this curve. Points are in Jacobian coordinates [X, Y, Z] for x = X/Z², y = Y/Z³; Z = 0 is infinity.
// Everything that goes in is public, so nothing is lost to timing.

import { SignatureInvalid } from "./errors.js";
import { keccak256 } from "./keccak.js";
import { concat, fromInteger, toInteger } from "./text.js";

const P = 2n ** 256n - 2n ** 32n - 977n;
const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = [
    0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
    0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
];
const INFINITY = [1n, 1n, 0n];

// The point [x, y] of the curve, null where there is none; a coordinate beyond the field is none.
export function pointAt(x, y) {
    if (x >= P || y >= P) {
        return null;
    }
    return modulo(y * y - x * x * x - 7n, P) === 0n ? [x, y] : null;
}

// The point [x, y] of the key that made `signature` (r[32], s[32], parity) over `digest`, 32 bytes.
export function recover(digest, signature) {
    const [r, s, parity] = [toInteger(signature.subarray(0, 32)), toInteger(signature.subarray(32, 64)), signature[64]];
    if (signature.length !== 65 || !(r > 0n && r < N && s > 0n && s < N) || parity > 1) {
        throw new SignatureInvalid("the signature has a value out of its range");
    }
    // Q = r⁻¹(sR - eG)
    const inverse = inverseOf(r, N);
    const e = toInteger(digest);
    const made = sumOfProducts(modulo(-e * inverse, N), G, modulo(s * inverse, N), lift(r, BigInt(parity)));
    if (made[2] === 0n) {
        throw new SignatureInvalid("no key can have made the signature");
    }
    return affine(made);
}

// The account of a key: the last 20 bytes of Keccak-256 over x and y.
export function addressOf([x, y]) {
    return keccak256(concat(fromInteger(x, 32), fromInteger(y, 32))).subarray(-20);
}

function lift(x, parity) {
    const square = modulo(x * x * x + 7n, P);
    const y = power(square, (P + 1n) / 4n);
    if (modulo(y * y, P) !== square) {
        throw new SignatureInvalid("the signature names a point that is not on the curve");
    }
    return [x, y % 2n === parity ? y : P - y];
}

// aP + bQ, both at once
function sumOfProducts(a, p, b, q) {
    const [left, right] = [[...p, 1n], [...q, 1n]];
    const table = [INFINITY, left, right, add(left, right)];
    let total = INFINITY;
    for (let bit = 255n; bit >= 0n; bit--) {
        total = double(total);
        total = add(total, table[Number(((a >> bit) & 1n) + 2n * ((b >> bit) & 1n))]);
    }
    return total;
}

function double([x, y, z]) {
    const yy = modulo(y * y, P);
    const s = modulo(4n * x * yy, P);
    const m = modulo(3n * x * x, P);
    const x3 = modulo(m * m - 2n * s, P);
    return [x3, modulo(m * (s - x3) - 8n * yy * yy, P), modulo(2n * y * z, P)];
}

function add(p, q) {
    if (p[2] === 0n || q[2] === 0n) {
        return p[2] === 0n ? q : p;
    }
    const [zz1, zz2] = [modulo(p[2] * p[2], P), modulo(q[2] * q[2], P)];
    const [u1, u2] = [modulo(p[0] * zz2, P), modulo(q[0] * zz1, P)];
    const [s1, s2] = [modulo(p[1] * zz2 * q[2], P), modulo(q[1] * zz1 * p[2], P)];
    if (u1 === u2) {
        return s1 === s2 ? double(p) : INFINITY;
    }
    const [h, r] = [modulo(u2 - u1, P), modulo(s2 - s1, P)];
    const hh = modulo(h * h, P);
    const [hhh, v] = [modulo(hh * h, P), modulo(u1 * hh, P)];
    const x3 = modulo(r * r - hhh - 2n * v, P);
    return [x3, modulo(r * (v - x3) - s1 * hhh, P), modulo(h * p[2] * q[2], P)];
}

function affine([x, y, z]) {
    const inverse = inverseOf(z, P);
    const square = modulo(inverse * inverse, P);
    return [modulo(x * square, P), modulo(y * square * inverse, P)];
}

function modulo(value, m) {
    const rest = value % m;
    return rest < 0n ? rest + m : rest;
}

function power(base, exponent) {
    let [result, square] = [1n, base];
    for (let rest = exponent; rest > 0n; rest >>= 1n) {
        result = rest & 1n ? modulo(result * square, P) : result;
        square = modulo(square * square, P);
    }
    return result;
}

function inverseOf(value, m) {
    let [a, b, x, y] = [value, m, 1n, 0n];
    while (b !== 0n) {
        const quotient = a / b;
        [a, b, x, y] = [b, a - quotient * b, y, x - quotient * y];
    }
    return modulo(x, m);
}
