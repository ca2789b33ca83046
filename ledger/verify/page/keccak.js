// Keccak-256, the hash of EVM chains (FIPS 202 with the padding it had before): ledger/formats/keccak.py.

const RATE = 136;
const ROUNDS = 24;
const MOVES = moves();
const CONSTANTS = constants();

export function keccak256(data) {
    const padded = new Uint8Array(data.length + RATE - (data.length % RATE));
    padded.set(data);
    padded[data.length] ^= 0x01;
    padded[padded.length - 1] ^= 0x80;
    const view = new DataView(padded.buffer);
    const lanes = new BigUint64Array(25);
    for (let start = 0; start < padded.length; start += RATE) {
        for (let n = 0; n < RATE / 8; n++) {
            lanes[n] ^= view.getBigUint64(start + 8 * n, true);
        }
        permute(lanes);
    }
    const digest = new DataView(new ArrayBuffer(32));
    for (let n = 0; n < 4; n++) {
        digest.setBigUint64(8 * n, lanes[n], true);
    }
    return new Uint8Array(digest.buffer);
}

// Keccak-p[1600, 24] in place (section 3). Lane (x, y) stands at index x + 5y.
function permute(a) {
    const b = new BigUint64Array(25);
    const parity = new BigUint64Array(5);
    for (const constant of CONSTANTS) {
        // theta
        for (let x = 0; x < 5; x++) {
            parity[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        }
        // rho and pi
        for (let n = 0; n < 25; n++) {
            const x = n % 5;
            const [to, by] = MOVES[n];
            b[to] = turn(a[n] ^ parity[(x + 4) % 5] ^ turn(parity[(x + 1) % 5], 1n), by);
        }
        // chi
        for (let n = 0; n < 25; n++) {
            const row = n - (n % 5);
            a[n] = b[n] ^ (~b[row + ((n + 1) % 5)] & b[row + ((n + 2) % 5)]);
        }
        // iota
        a[0] ^= constant;
    }
}

function turn(lane, by) {
    return BigInt.asUintN(64, (lane << by) | (lane >> (64n - by)));
}

// for each lane where pi puts it (section 3.2.3) and by how much rho turns it (section 3.2.2)
function moves() {
    const turns = new Array(25).fill(0n);
    for (let t = 0, x = 1, y = 0; t < 24; t++) {
        turns[x + 5 * y] = BigInt((((t + 1) * (t + 2)) / 2) % 64);
        [x, y] = [y, (2 * x + 3 * y) % 5];
    }
    return turns.map((by, n) => {
        const [x, y] = [n % 5, Math.floor(n / 5)];
        return [y + 5 * ((2 * x + 3 * y) % 5), by];
    });
}

// bit 2^j - 1 of round r's constant is output 7r + j of a shift register (section 3.2.5)
function constants() {
    const found = new Array(ROUNDS).fill(0n);
    for (let n = 0, register = 1; n < 7 * ROUNDS; n++) {
        found[Math.floor(n / 7)] |= BigInt(register & 1) << (2n ** BigInt(n % 7) - 1n);
        register = (register << 1) ^ ((register >> 7) * 0x171);
    }
    return found;
}
