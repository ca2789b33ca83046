"""Keccak-256, the hash of EVM chains: Keccak[512] of the Keccak submission, or SHA3-256 of FIPS 202 with the padding
that it had before the standard added two bits. Neither hashlib nor `cryptography` has it.

Meant for the few kilobytes of a proof: a block of 136 bytes costs about 0.2 ms. The input is public, so nothing is
lost to timing.
"""

from __future__ import annotations

RATE = 136
"""Bytes a permutation takes in, for a digest of 32 bytes."""
ORIGINAL, SHA3 = 0x01, 0x06
"""What padding begins with: `pad10*1` alone, and after the suffix 01 of FIPS 202 section 6.1."""

_LANE = 2**64 - 1
_ROUNDS = 24


def keccak256(data: bytes) -> bytes:
    """The Keccak-256 digest, 32 bytes, of any bytes."""
    return sponge(data, ORIGINAL)


def sponge(data: bytes, padding: int) -> bytes:
    """Absorb `data` and squeeze 32 bytes (FIPS 202 section 4). `padding` is `ORIGINAL` or `SHA3`: tests compare the
    second with hashlib, which has the same permutation."""
    padded = bytearray(data) + bytearray(RATE - len(data) % RATE)
    padded[len(data)] ^= padding
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), RATE):
        for n in range(RATE // 8):
            at = start + 8 * n
            lanes[n] ^= int.from_bytes(padded[at : at + 8], "little")
        _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _permute(a: list[int]) -> None:
    """Keccak-p[1600, 24] in place (FIPS 202 section 3). Lane (x, y) stands at index x + 5y."""
    b = [0] * 25
    for constant in _CONSTANTS:
        # theta: every lane takes in the parity of the column before it and of the column after it, turned by one
        parity = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        mix = [parity[x - 1] ^ _turn(parity[(x + 1) % 5], 1) for x in range(5)]
        # rho and pi: lanes are turned and change places
        for n, (to, by) in enumerate(_MOVES):
            b[to] = _turn(a[n] ^ mix[n % 5], by)
        # chi: the only step that is not linear
        for y in range(0, 25, 5):
            p, q, r, s, t = b[y : y + 5]
            a[y : y + 5] = p ^ ~q & r, q ^ ~r & s, r ^ ~s & t, s ^ ~t & p, t ^ ~p & q
        # iota
        a[0] ^= constant


def _turn(lane: int, by: int) -> int:
    return (lane << by | lane >> 64 - by) & _LANE


def _moves() -> list[tuple[int, int]]:
    """For each lane where pi puts it (section 3.2.3) and by how much rho turns it (section 3.2.2)."""
    turns, x, y = {(0, 0): 0}, 1, 0
    for t in range(24):
        turns[x, y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return [(y + 5 * ((2 * x + 3 * y) % 5), turns[x, y]) for y in range(5) for x in range(5)]


def _constants() -> list[int]:
    """What iota adds: bit 2^j - 1 of round r's constant is output 7r + j of a shift register (section 3.2.5)."""
    register, outputs = 1, []
    for _ in range(7 * _ROUNDS):
        outputs.append(register & 1)
        # x^8 + x^6 + x^5 + x^4 + 1
        register = register << 1 ^ (register >> 7) * 0x171
    return [sum(outputs[7 * r + j] << 2**j - 1 for j in range(7)) for r in range(_ROUNDS)]


_MOVES = _moves()
_CONSTANTS = _constants()
