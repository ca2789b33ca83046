"""Where there is no anchor evidence to collect; without a network of validators."""

from __future__ import annotations

import pytest

from ledger.chain.contracts import department_bytes
from ledger.chain.evidence import collect, encode_transaction, read_validators
from ledger.errors import AnchorInvalid, ChainUnreachable, CouldNotRun
from tests.chain.conftest import Network


def test_the_embedded_chain_has_none(network: Network) -> None:
    with pytest.raises(AnchorInvalid, match="no validators"):
        collect(network.evidence_log, department_bytes("fire"), 1, "embedded")
    with pytest.raises(AnchorInvalid):
        read_validators(network.client, "embedded")


@pytest.mark.parametrize("engine", ["clique", "qbft"])
def test_nor_if_it_is_passed_off_as_another_engine(network: Network, engine: str) -> None:
    name, account = network.department()
    network.evidence_log.anchor(account, department_bytes(name), 1, b"\x01" * 32, [])
    with pytest.raises(ChainUnreachable, match=f"not a {engine} block"):
        collect(network.evidence_log, department_bytes(name), 1, engine)


def test_a_transaction_of_a_later_type() -> None:
    with pytest.raises(CouldNotRun, match="type 3"):
        encode_transaction({"type": "0x3"})
