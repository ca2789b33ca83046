"""The client: what it refuses, and what every kind of silence becomes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account

from ledger.chain.client import ChainClient, RpcError
from ledger.errors import ChainUnreachable, HistoryRefused


@pytest.fixture
def mute() -> Iterator[str]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_nobody_there(closed: str) -> None:
    client = ChainClient(closed, 1)
    with pytest.raises(ChainUnreachable, match="cannot be reached"):
        client.block()
    client.close()


def test_no_answer_in_time(mute: str) -> None:
    client = ChainClient(mute, 1, timeout=0.2)
    with pytest.raises(ChainUnreachable, match="in time"):
        client.block()
    client.close()


def test_a_server_that_is_no_chain(network: Any) -> None:
    client = ChainClient(network.url + "/x", timeout=5)
    assert client.chain_id() == network.client.chain_id()  # the path is not ours to judge
    client._session.headers["Origin"] = "http://page.example"
    with pytest.raises(ChainUnreachable, match="403"):
        client.block()
    client.close()


NONSENSE: dict[str, dict[str, Any]] = {
    "neither result nor error": {},
    "a number for a chain id": {"result": 5},
    "text for a chain id": {"result": "five"},
    "nothing for a chain id": {"result": None},
    "an error that is text": {"error": "no"},
    "an error without a message": {"error": {}},
}


@pytest.mark.parametrize("case", NONSENSE, ids=str)
def test_an_answer_that_makes_no_sense(proxy: Any, case: str) -> None:
    proxy.hook = lambda *_: NONSENSE[case]
    client = ChainClient(proxy.url, timeout=5)
    with pytest.raises(ChainUnreachable):
        client.chain_id()
    client.close()


@pytest.mark.parametrize("result", [None, 5, "0x5", [], {"number": "0x1"}, {"number": "zz"}])
def test_a_block_that_is_none(proxy: Any, result: Any) -> None:
    proxy.hook = lambda method, _, forward: {"result": result} if method == "eth_getBlockByNumber" else forward()
    client = ChainClient(proxy.url, timeout=5)
    with pytest.raises(ChainUnreachable):
        client.genesis_hash()
    client.close()


def test_another_chain_is_refused_before_anything_is_sent(proxy: Any, network: Any) -> None:
    client = ChainClient(proxy.url, network.client.chain_id() + 1)
    account = Account.create()
    with pytest.raises(HistoryRefused, match="not chain"):
        client.sign(account, account.address, b"", gas=21_000, nonce=0)
    with pytest.raises(HistoryRefused):
        client.send_raw(b"\x02")
    assert set(proxy.seen) == {"eth_chainId"}
    client.close()


def test_another_beginning_is_refused_even_with_the_same_id(network: Any) -> None:
    client = ChainClient(network.url, network.client.chain_id(), expected_genesis=bytes(32))
    with pytest.raises(HistoryRefused, match="reset or replaced"):
        client.block()
    client.close()
    right = ChainClient(network.url, network.client.chain_id(), expected_genesis=network.client.genesis_hash())
    assert right.block() is not None
    right.close()


def test_a_node_replaced_while_we_are_connected_is_noticed_before_the_next_transaction(proxy: Any) -> None:
    client = ChainClient(proxy.url)  # no expectation: the first answer becomes one
    account = Account.create()
    client.sign(account, account.address, b"", gas=21_000)
    proxy.hook = lambda method, _, forward: {"result": "0x1"} if method == "eth_chainId" else forward()
    with pytest.raises(HistoryRefused):
        client.sign(account, account.address, b"", gas=21_000)
    client.close()


def test_the_environment_s_proxies_are_not_used(network: Any, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, closed)
    client = ChainClient(network.url)
    assert client.block() is not None
    client.close()


def test_fees_follow_the_chain(proxy: Any) -> None:
    client, account = ChainClient(proxy.url), Account.create()

    def london(method: str, _: Any, forward: Any) -> dict[str, Any]:
        answer = forward()
        if method == "eth_getBlockByNumber":
            answer["result"]["baseFeePerGas"] = hex(7)
        return answer

    assert client._fees(0) == {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
    proxy.hook = london
    assert client._fees(3) == {"maxFeePerGas": 17, "maxPriorityFeePerGas": 3}
    raw, _ = client.sign(bytes(account.key), account.address, b"", gas=21_000, extra_fee=3)
    with pytest.raises(RpcError, match="insufficient funds"):
        client.send_raw(raw)
    client.close()
