"""Block headers of an EVM chain, and how validators seal them: Clique (EIP-225) and QBFT (Hyperledger Besu).

    header = RLP list of 15 to 21 strings (yellow paper section 4.4; later ones by EIP-1559, 4895, 4844, 4788, 7685):
        0 parentHash[32]  1 ommersHash[32]  2 beneficiary[20]  3 stateRoot[32]  4 transactionsRoot[32]
        5 receiptsRoot[32]  6 logsBloom[256]  7 difficulty  8 number  9 gasLimit  10 gasUsed  11 timestamp
        12 extraData  13 mixHash[32]  14 nonce[8]  15 baseFeePerGas …

    Clique   extraData = vanity[32] *address[20] seal[65]
             block hash = Keccak-256 of the header;  signed = Keccak-256 of the header without the seal
    QBFT     extraData = RLP [vanity[32], [address[20] …], vote, round, [seal[65] …]]
             block hash = Keccak-256 of the header with round 0 and no seals;  signed = the same with the round
    seal     = r[32] s[32] parity of R's y (0 or 1): ECDSA over secp256k1 (SEC 1 section 4.1), recoverable

A Clique header has one seal, its maker's; the seals of blocks on top of it stand for those who built on it. A QBFT
header carries the seals of all who committed to it. Who may seal is not in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger.errors import Malformed
from ledger.formats import rlp
from ledger.formats.keccak import keccak256

MAX_HEADER_BYTES = 16 * 1024
SEAL_SIZE = 65
ADDRESS_SIZE = 20
VANITY_SIZE = 32

_WHAT = "block header"
_EXTRA = "extra data of the block header"
_SIZES = {0: 32, 1: 32, 2: 20, 3: 32, 4: 32, 5: 32, 6: 256, 13: 32, 14: 8}
_NUMBERS = (7, 8, 9, 10, 11)
_FEWEST, _MOST = 15, 21
_EXTRA_DATA = 12


@dataclass(frozen=True, slots=True)
class Header:
    """A header's fields in order, as they stand in its RLP. `number` counts blocks, `time` is seconds since 1970."""

    fields: tuple[bytes, ...]
    number: int
    time: int

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """The header that `data`, at most 16 KiB, holds; `encode` gives `data` again. Raises Malformed."""
        if len(data) > MAX_HEADER_BYTES:
            raise Malformed(_WHAT, f"{len(data):,} bytes is more than the {MAX_HEADER_BYTES:,} allowed")
        listed = rlp.items(rlp.decode(data, _WHAT), _WHAT)
        if not _FEWEST <= len(listed) <= _MOST:
            raise Malformed(_WHAT, f"has {len(listed)} fields, not {_FEWEST} to {_MOST}")
        fields = tuple(rlp.string(item, _WHAT, _SIZES.get(n)) for n, item in enumerate(listed))
        numbers = {n: rlp.number(fields[n], _WHAT) for n in _NUMBERS}
        return cls(fields, number=numbers[8], time=numbers[11])

    @property
    def parent_hash(self) -> bytes:
        return self.fields[0]

    @property
    def transactions_root(self) -> bytes:
        return self.fields[4]

    @property
    def receipts_root(self) -> bytes:
        return self.fields[5]

    @property
    def extra_data(self) -> bytes:
        return self.fields[_EXTRA_DATA]

    def encode(self) -> bytes:
        """The header's RLP."""
        return rlp.encode(self.fields)

    def hash_with(self, extra_data: bytes) -> bytes:
        """Keccak-256 of the header as it would be with other extra data."""
        return keccak256(rlp.encode((*self.fields[:_EXTRA_DATA], extra_data, *self.fields[_EXTRA_DATA + 1 :])))


@dataclass(frozen=True, slots=True)
class Sealing:
    """What seals of a header are about: the block's hash, the 32 bytes that were signed, the seals of 65 bytes."""

    block_hash: bytes
    digest: bytes
    seals: tuple[bytes, ...]


def clique_sealing(header: Header) -> Sealing:
    """The one seal of a Clique header. Raises Malformed for extra data of another form."""
    extra = header.extra_data
    if len(extra) < VANITY_SIZE + SEAL_SIZE or (len(extra) - VANITY_SIZE - SEAL_SIZE) % ADDRESS_SIZE:
        raise Malformed(_EXTRA, "is not a vanity of 32 bytes, addresses and a seal of 65 bytes, as Clique has it")
    return Sealing(header.hash_with(extra), header.hash_with(extra[:-SEAL_SIZE]), (extra[-SEAL_SIZE:],))


def clique_signers(header: Header) -> tuple[bytes, ...]:
    """The addresses that an epoch block of Clique lists; none in other blocks. Raises Malformed."""
    clique_sealing(header)
    listed = header.extra_data[VANITY_SIZE:-SEAL_SIZE]
    return tuple(listed[at : at + ADDRESS_SIZE] for at in range(0, len(listed), ADDRESS_SIZE))


def qbft_sealing(header: Header) -> Sealing:
    """The committed seals of a QBFT header, in its order. Raises Malformed for extra data of another form."""
    vanity, validators, vote, turn, seals = _qbft_items(header)
    return Sealing(
        block_hash=header.hash_with(rlp.encode((vanity, validators, vote, b"", ()))),
        digest=header.hash_with(rlp.encode((vanity, validators, vote, turn, ()))),
        seals=tuple(rlp.string(seal, _EXTRA, SEAL_SIZE) for seal in rlp.items(seals, _EXTRA)),
    )


def qbft_validators(header: Header) -> tuple[bytes, ...]:
    """The addresses of the validators of a QBFT block. Raises Malformed."""
    return tuple(rlp.string(address, _EXTRA) for address in rlp.items(_qbft_items(header)[1], _EXTRA))


def _qbft_items(header: Header) -> tuple[rlp.Item, ...]:
    found = rlp.items(rlp.decode(header.extra_data, _EXTRA), _EXTRA, 5)
    vanity, validators, vote, turn, _ = found
    rlp.string(vanity, _EXTRA, VANITY_SIZE)
    for validator in rlp.items(validators, _EXTRA):
        rlp.string(validator, _EXTRA, ADDRESS_SIZE)
    rlp.items(vote, _EXTRA, 0, 2)
    rlp.number(turn, _EXTRA)
    return found


SEALINGS: dict[str, Callable[[Header], Sealing]] = {"clique": clique_sealing, "qbft": qbft_sealing}
"""By the trust file's name of the engine; an engine that is not here has no seals."""
