"""QBFT on Hyperledger Besu: genesis and the extraData that names the first validators.

    extraData = RLP([vanity, [validator, ...], vote, round, [seal, ...]])
    vanity 32 bytes; validators 20 bytes each; vote [] or [address, 0xff | 0x00]; round big-endian without
    leading zeroes; seals 65 bytes each. In the genesis block vote, round and seals are empty.

Blocks are final at once while fewer than a third of the validators fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_canonical_address, to_checksum_address

from ledger.chain.consortium.clique import GAS_LIMIT
from ledger.errors import Malformed
from ledger.formats import rlp

VANITY_LENGTH = 32
EPOCH = 30_000

_WHAT = "QBFT extraData"

# Keccak-256 of "Istanbul practical byzantine fault tolerance": marks a block as one of this family
MIX_HASH = "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"


@dataclass(frozen=True, slots=True)
class ExtraData:
    """The extraData of a QBFT block. `validators` are checksummed; `vote` is (validator, whether to add) or None."""

    vanity: bytes
    validators: tuple[str, ...]
    vote: tuple[str, bool] | None
    round: int
    seals: tuple[bytes, ...]


def quorum(validators: int) -> int:
    """How many of `validators` must seal a block: two thirds, rounded up."""
    return -(-2 * validators // 3)


def encode_extra_data(validators: Iterable[str]) -> bytes:
    """The genesis block's extraData, validators in the order given. None: a contract selects them.

    Raises Malformed for one named twice.
    """
    addresses = [to_canonical_address(validator) for validator in validators]
    if len(set(addresses)) != len(addresses):
        raise Malformed(_WHAT, "a validator is named twice")
    return rlp.encode((bytes(VANITY_LENGTH), addresses, (), b"", ()))


def decode_extra_data(data: bytes) -> ExtraData:
    """The extraData of any QBFT block. Raises Malformed."""
    vanity, validators, vote, number, seals = rlp.items(rlp.decode(data, _WHAT), _WHAT, 5)
    return ExtraData(
        vanity=rlp.string(vanity, _WHAT, VANITY_LENGTH),
        validators=tuple(_address(item) for item in rlp.items(validators, _WHAT)),
        vote=_vote(vote),
        round=rlp.number(number, _WHAT),
        seals=tuple(rlp.string(item, _WHAT, 65) for item in rlp.items(seals, _WHAT)),
    )


def _address(item: rlp.Item) -> str:
    return to_checksum_address(rlp.string(item, _WHAT, 20))


def _vote(item: rlp.Item) -> tuple[str, bool] | None:
    parts = rlp.items(item, _WHAT, 0, 2)
    if not parts:
        return None
    kind = rlp.string(parts[1], _WHAT)
    if kind not in (b"\xff", b"\x00", b""):
        raise Malformed(_WHAT, "the vote neither adds (0xff) nor drops (0x00)")
    return _address(parts[0]), kind == b"\xff"


def genesis(chain_id: int, validators: Sequence[str], *, period: int, funded: Iterable[str] = ()) -> dict[str, Any]:
    """Besu's genesis.json, validators ascending as Besu's documentation asks.

    `period` is the seconds between blocks; a round is given up after twice as long. The base fee is switched off, so
    accounts without a balance can send.
    """
    return {
        "config": {
            "chainId": chain_id,
            "berlinBlock": 0,
            "londonBlock": 0,
            "zeroBaseFee": True,
            "qbft": {"epochlength": EPOCH, "blockperiodseconds": period, "requesttimeoutseconds": 2 * period},
        },
        "nonce": "0x0",
        "timestamp": "0x0",
        "gasLimit": hex(GAS_LIMIT),
        "difficulty": "0x1",
        "mixHash": MIX_HASH,
        "coinbase": "0x" + "00" * 20,
        "extraData": "0x" + encode_extra_data(sorted(validators, key=str.lower)).hex(),
        "alloc": {address.lower().removeprefix("0x"): {"balance": hex(10**24)} for address in funded},
    }
