// SHA-256 (FIPS 180-4) in constant memory and without waiting: WebCrypto takes whole buffers only, and a video does not
// fit into one. `page.js` compares it with WebCrypto's before anything is verified.

// signed words: engines keep them as plain machine integers
const START = Int32Array.from([
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
], (word) => word | 0);
const ROUNDS = Int32Array.from(roundConstants(), (word) => word | 0);

// The digest of all parts after one another.
export function sha256(...parts) {
    const hash = new Sha256();
    for (const part of parts) {
        hash.update(part);
    }
    return hash.digest();
}

export class Sha256 {
    #state = START.slice();
    #block = new Uint8Array(64);
    #words = new Int32Array(64);
    #length = 0;

    update(data) {
        let at = 0;
        while (at < data.length) {
            const used = this.#length % 64;
            if (used === 0 && data.length - at >= 64) {
                const whole = data.length - at - ((data.length - at) % 64);
                for (const end = at + whole; at < end; at += 64) {
                    this.#compress(data, at);
                }
                this.#length += whole;
                continue;
            }
            const take = Math.min(64 - used, data.length - at);
            this.#block.set(data.subarray(at, at + take), used);
            this.#length += take;
            at += take;
            if (used + take === 64) {
                this.#compress(this.#block, 0);
            }
        }
    }

    // Ends the hash; it takes nothing more.
    digest() {
        const bits = this.#length * 8;
        const padding = new Uint8Array(((this.#length % 64 < 56 ? 56 : 120) - (this.#length % 64)) + 8);
        padding[0] = 0x80;
        const tail = new DataView(padding.buffer, padding.length - 8);
        tail.setUint32(0, Math.floor(bits / 2 ** 32));
        tail.setUint32(4, bits % 2 ** 32);
        this.update(padding);
        const digest = new DataView(new ArrayBuffer(32));
        this.#state.forEach((word, n) => digest.setInt32(4 * n, word));
        return new Uint8Array(digest.buffer);
    }

    // the block at `at`; no arrays inside the loops: this is where a video spends its time
    #compress(data, at) {
        const w = this.#words;
        const state = this.#state;
        const rounds = ROUNDS;
        for (let t = 0, from = at; t < 16; t++, from += 4) {
            w[t] = (data[from] << 24) | (data[from + 1] << 16) | (data[from + 2] << 8) | data[from + 3];
        }
        for (let t = 16; t < 64; t++) {
            const x = w[t - 15];
            const y = w[t - 2];
            const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
            const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
            w[t] = (w[t - 16] + s0 + w[t - 7] + s1) | 0;
        }
        let a = state[0];
        let b = state[1];
        let c = state[2];
        let d = state[3];
        let e = state[4];
        let f = state[5];
        let g = state[6];
        let h = state[7];
        for (let t = 0; t < 64; t++) {
            const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
            const t1 = (h + s1 + (g ^ (e & (f ^ g))) + rounds[t] + w[t]) | 0;
            const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
            const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
            h = g;
            g = f;
            f = e;
            e = (d + t1) | 0;
            d = c;
            c = b;
            b = a;
            a = (t1 + t2) | 0;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2).
function roundConstants() {
    const primes = [];
    for (let n = 2; primes.length < 64; n++) {
        if (primes.every((prime) => n % prime !== 0)) {
            primes.push(n);
        }
    }
    return primes.map((prime) => Number(cubeRoot(BigInt(prime) << 96n) & 0xffffffffn));
}

function cubeRoot(value) {
    let root = 0n;
    for (let bit = 1n << 40n; bit > 0n; bit >>= 1n) {
        if ((root + bit) ** 3n <= value) {
            root += bit;
        }
    }
    return root;
}
