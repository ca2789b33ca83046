"""Clique (EIP-225), go-ethereum's proof of authority: genesis and signer list.

    genesis extraData = vanity (32 bytes, zero) || signer addresses, ascending (20 bytes each) || seal (65 bytes, zero)

A signer may seal one block in floor(n/2) + 1; that many must be alive for the chain to go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eth_utils.address import to_canonical_address, to_checksum_address

from ledger.errors import Malformed

VANITY_LENGTH = 32
SEAL_LENGTH = 65
EPOCH = 30_000

# a block is never half full, which is what would raise a base fee of zero; still less than a node can run in a second
GAS_LIMIT = 300_000_000

_FORKS = (
    "homesteadBlock",
    "eip150Block",
    "eip155Block",
    "eip158Block",
    "byzantiumBlock",
    "constantinopleBlock",
    "petersburgBlock",
    "istanbulBlock",
    "berlinBlock",
    "londonBlock",
)


def signers_needed(validators: int) -> int:
    """How many of `validators` must be alive, and how many blocks make a block final: floor(n/2) + 1."""
    return validators // 2 + 1


def encode_extra_data(signers: Iterable[str]) -> bytes:
    """The genesis block's extraData. Raises Malformed for no signer or one named twice."""
    addresses = sorted(to_canonical_address(signer) for signer in signers)
    if not addresses or len(set(addresses)) != len(addresses):
        raise Malformed("Clique extraData", "needs at least one signer, each once")
    return bytes(VANITY_LENGTH) + b"".join(addresses) + bytes(SEAL_LENGTH)


def decode_extra_data(data: bytes) -> tuple[str, ...]:
    """The signers, checksummed, of a genesis or epoch block. Raises Malformed."""
    addresses = data[VANITY_LENGTH:-SEAL_LENGTH]
    if len(data) < VANITY_LENGTH + SEAL_LENGTH or len(addresses) % 20:
        raise Malformed("Clique extraData", f"{len(data)} bytes are not 32 + 20 for each signer + 65")
    return tuple(to_checksum_address(addresses[at : at + 20]) for at in range(0, len(addresses), 20))


def genesis(chain_id: int, signers: Sequence[str], *, period: int, funded: Iterable[str] = ()) -> dict[str, Any]:
    """go-ethereum's genesis.json. `period` is the seconds between blocks; `funded` accounts get a million ether.

    London from the start, so that fee-market transactions are understood, with a base fee of zero: the base fee
    follows how full blocks are and zero stays zero below half full, so accounts without a balance can send.
    """
    return {
        "config": {
            "chainId": chain_id,
            **dict.fromkeys(_FORKS, 0),
            "clique": {"period": period, "epoch": EPOCH},
        },
        "difficulty": "0x1",
        "gasLimit": hex(GAS_LIMIT),
        "baseFeePerGas": "0x0",
        "extraData": "0x" + encode_extra_data(signers).hex(),
        "alloc": {address: {"balance": hex(10**24)} for address in funded},
    }
