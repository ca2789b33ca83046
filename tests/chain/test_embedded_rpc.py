"""The JSON-RPC of the embedded chain, over HTTP and on a chain in this process."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import rlp
from eth_account import Account
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3

from ledger.chain.abi import load_artifact
from ledger.chain.contracts import department_bytes
from ledger.chain.embedded import describe
from ledger.chain.embedded.directory import DATABASE
from ledger.chain.embedded.evm import TRANSACTION_GAS, DevelopmentChain, create_chain
from ledger.chain.embedded.rpc import Rpc
from ledger.chain.embedded.store import Busy, ChainStore
from ledger.errors import StorageFailed

# deployment code, each with a runtime of its own: store 1 at slot 0 and log topic 1; burn all gas at once
EMITTER = bytes.fromhex("600d600c600039600d6000f3" + "6001600055600160006000a100")
BURNER = bytes.fromhex("6001600c60003960016000f3" + "fe")


class InProcess:
    """A chain, its store and its RPC, with a clock that the test sets."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_800_000_000.0
        self.info = create_chain(directory, clock=lambda: self.now)
        self.store = ChainStore(directory / DATABASE)
        self.chain = DevelopmentChain(self.store, clock=lambda: self.now)
        self.rpc = Rpc(self.chain, "0" * 64, lambda: None)
        self.account = Account.create()

    def ask(self, method: str, *params: Any) -> Any:
        answer: Any = self.rpc.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        return answer["error"] if "error" in answer else answer["result"]

    def sign(self, **changes: Any) -> str:
        fields = {
            "chainId": self.info.chain_id,
            "nonce": int(self.ask("eth_getTransactionCount", self.account.address, "latest"), 16),
            "to": self.account.address,
            "value": 0,
            "gas": 100_000,
            "maxFeePerGas": 0,
            "maxPriorityFeePerGas": 0,
            **changes,
        }
        return "0x" + bytes(self.account.sign_transaction(fields).raw_transaction).hex()

    def send(self, **changes: Any) -> Any:
        return self.ask("eth_sendRawTransaction", self.sign(**changes))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[InProcess]:
    opened = InProcess(tmp_path / "chain")
    yield opened
    opened.store.close()


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).hostname or "", urlsplit(url).port, timeout=10)
    try:
        connection.request("POST", "/", body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


BLOCK_NUMBER = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'

REFUSED_HTTP: dict[str, tuple[dict[str, str], int]] = {
    "a name that points here (DNS rebinding)": ({"Host": "evil.example"}, 403),
    "this host on another port": ({"Host": "127.0.0.1:1"}, 403),
    "a web page": ({"Origin": "http://127.0.0.1"}, 403),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "plain text": ({"Content-Type": "text/plain"}, 415),
    "a length that is no number": ({"Content-Length": "-1"}, 411),
    "a body of a gigabyte": ({"Content-Length": "1000000000"}, 413),
}


@pytest.mark.parametrize("case", REFUSED_HTTP, ids=str)
def test_http_that_does_not_come_from_a_program_of_this_machine_is_refused(network: Any, case: str) -> None:
    headers, status = REFUSED_HTTP[case]
    assert post(network.url, BLOCK_NUMBER, **headers)[0] == status


def test_other_verbs_do_not_exist(network: Any) -> None:
    for verb in ("GET", "OPTIONS", "PUT"):
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(network.url).port, timeout=10)
        connection.request(verb, "/")
        assert connection.getresponse().status == 501
        connection.close()


REFUSED_JSON: dict[str, tuple[bytes, int]] = {
    "not JSON": (b"{", -32700),
    "not UTF-8": (b'"\xff"', -32700),
    "a member twice": (b'{"method":"a","method":"b"}', -32700),
    "deeply nested": (b"[" * 100_000, -32700),
    "a number": (b"1", -32600),
    "an empty batch": (b"[]", -32600),
    "a large batch": (b"[" + b",".join([BLOCK_NUMBER] * 201) + b"]", -32600),
    "no method": (b"{}", -32600),
    "an unknown method": (b'{"method":"eth_sign","params":[]}', -32601),
    "unlocked accounts": (b'{"method":"eth_sendTransaction","params":[{}]}', -32601),
    "too many parameters": (b'{"method":"eth_blockNumber","params":[1]}', -32602),
    "too few parameters": (b'{"method":"eth_getBalance","params":[]}', -32602),
    "named parameters": (b'{"method":"eth_getBalance","params":{}}', -32602),
    "a short address": (b'{"method":"eth_getBalance","params":["0x00","latest"]}', -32602),
    "a block that is not there": (b'{"method":"eth_getBalance","params":["0x%s","0xffffff"]}' % (b"00" * 20), -32001),
    "a leading zero": (b'{"method":"eth_getBlockByNumber","params":["0x01",false]}', -32602),
    "an empty transaction": (b'{"method":"eth_sendRawTransaction","params":["0x"]}', -32000),
    "a transaction of noise": (b'{"method":"eth_sendRawTransaction","params":["0x02c0"]}', -32000),
    "logs up to a block that is not there yet, which is none": (
        b'{"method":"eth_getLogs","params":[{"fromBlock":"0x0","toBlock":"0xffffffff","address":[]}]}',
        0,
    ),
    "five topics": (b'{"method":"eth_getLogs","params":[{"topics":[null,null,null,null,null]}]}', -32602),
}


@pytest.mark.parametrize("case", REFUSED_JSON, ids=str)
def test_json_that_is_no_request_gets_its_error_code(network: Any, case: str) -> None:
    body, code = REFUSED_JSON[case]
    status, answer = post(network.url, body)
    assert status == 200
    assert answer.get("error", {"code": 0})["code"] == code


def test_a_batch_answers_each(network: Any) -> None:
    _, answers = post(network.url, b"[" + BLOCK_NUMBER + b',{"id":2,"method":"nope"}]')
    assert [("result" in answer, answer["id"]) for answer in answers] == [(True, 1), (False, 2)]


REFUSED_TRANSACTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a nonce that was used": ({"nonce": 0, "gas": 99_999}, "nonce too low"),
    "a nonce that leaves a gap": ({"nonce": 2}, "nonce too high"),
    "for another chain": ({"chainId": 1}, "invalid chain id"),
    "more gas than half a block": ({"gas": TRANSACTION_GAS + 1}, "exceeds block gas limit"),
    "too little gas to begin": ({"gas": 20_999}, "intrinsic gas too low"),
    "money that nobody has": ({"value": 1}, "insufficient funds"),
    "a fee that nobody can pay": ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, "insufficient funds"),
}


@pytest.mark.parametrize("case", REFUSED_TRANSACTIONS, ids=str)
def test_a_transaction_is_refused_and_leaves_no_trace(local: InProcess, case: str) -> None:
    local.send()
    changes, words = REFUSED_TRANSACTIONS[case]
    answer = local.send(**changes)
    assert answer["code"] == -32000 and words in answer["message"]
    assert local.ask("eth_blockNumber") == "0x1"
    assert local.send().startswith("0x")


def test_the_same_transaction_twice_is_known(local: InProcess) -> None:
    raw = local.sign()
    assert local.ask("eth_sendRawTransaction", raw).startswith("0x")
    assert local.ask("eth_sendRawTransaction", raw)["message"] == "already known"


def test_a_transaction_without_a_chain_id_is_refused(local: InProcess) -> None:
    fields = {"nonce": 0, "to": local.account.address, "value": 0, "gas": 21_000, "gasPrice": 0}
    raw = "0x" + bytes(local.account.sign_transaction(fields).raw_transaction).hex()
    assert "invalid chain id" in local.ask("eth_sendRawTransaction", raw)["message"]


def test_legacy_and_access_list_transactions_are_taken(local: InProcess) -> None:
    common = {"chainId": local.info.chain_id, "to": local.account.address, "value": 0, "gas": 60_000, "gasPrice": 0}
    listed = [{"address": local.account.address, "storageKeys": ["0x" + "00" * 31 + "07"]}]
    for nonce, extra in enumerate(({}, {"accessList": listed})):
        signed = local.account.sign_transaction({**common, **extra, "nonce": nonce})
        tx_hash = local.ask("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        found = local.ask("eth_getTransactionByHash", tx_hash)
        assert (found["type"], found["nonce"], found["gasPrice"]) == (hex(nonce), hex(nonce), "0x0")
    assert found["accessList"][0]["storageKeys"] == listed[0]["storageKeys"]


def test_time_follows_the_clock_and_never_goes_back(local: InProcess) -> None:
    times = []
    for step in (0, 0, 5, -3600, 0):
        local.now += step
        local.send()
        times.append(int(local.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16))
    start = 1_800_000_000
    assert times == [start, start, start + 5, start + 5, start + 5]


def test_the_base_fee_stays_zero_under_load(local: InProcess) -> None:
    local.send(to="", data=BURNER, gas=200_000)
    address = local.ask("eth_getTransactionReceipt", local.ask("eth_getBlockByNumber", "0x1", False)["transactions"][0])
    tx_hash = local.send(to=Web3.to_checksum_address(address["contractAddress"]), gas=TRANSACTION_GAS)
    receipt = local.ask("eth_getTransactionReceipt", tx_hash)
    assert (receipt["status"], receipt["gasUsed"]) == ("0x0", hex(TRANSACTION_GAS))
    assert local.send().startswith("0x")
    assert local.ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"] == "0x0"


def test_logs_and_state_are_found_by_block_topic_and_address(local: InProcess) -> None:
    tx_hash = local.send(to="", data=EMITTER, gas=200_000)
    address = local.ask("eth_getTransactionReceipt", tx_hash)["contractAddress"]
    sent = [local.send(to=Web3.to_checksum_address(address)) for _ in range(3)]
    everything = {"fromBlock": "0x0", "toBlock": "latest"}
    one = "0x" + "00" * 31 + "01"
    assert [log["transactionHash"] for log in local.ask("eth_getLogs", everything)] == sent
    assert len(local.ask("eth_getLogs", {**everything, "address": [address], "topics": [[one]]})) == 3
    assert local.ask("eth_getLogs", {**everything, "topics": ["0x" + "00" * 32]}) == []
    assert local.ask("eth_getLogs", {**everything, "address": "0x" + "11" * 20}) == []
    assert len(local.ask("eth_getLogs", {"fromBlock": "0x3", "toBlock": "0x3"})) == 1
    block_hash = local.ask("eth_getBlockByNumber", "0x3", False)["hash"]
    assert [log["blockHash"] for log in local.ask("eth_getLogs", {"blockHash": block_hash})] == [block_hash]
    assert int(local.ask("eth_getStorageAt", address, "0x0", "latest"), 16) == 1
    assert int(local.ask("eth_getStorageAt", address, "0x0", "0x1"), 16) == 0
    assert local.ask("eth_getCode", address, "0x0") == "0x"


def test_a_block_hashes_to_its_hash(local: InProcess) -> None:
    local.send()
    block = local.ask("eth_getBlockByNumber", "latest", True)
    names = "parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit "
    names += "gasUsed timestamp extraData mixHash nonce baseFeePerGas"
    numbers = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas"}
    fields = [int(block[name], 16) if name in numbers else bytes.fromhex(block[name][2:]) for name in names.split()]
    assert "0x" + keccak(rlp.encode(fields)).hex() == block["hash"]
    parent = local.ask("eth_getBlockByHash", block["parentHash"], False)
    assert (parent["number"], block["transactions"][0]["blockHash"]) == ("0x0", block["hash"])


def test_web3_with_its_defaults_reads_it(network: Any) -> None:
    web3 = Web3(Web3.HTTPProvider(network.url))
    assert web3.eth.chain_id == describe(network.directory).chain_id
    contract = web3.eth.contract(network.addresses.consortium, abi=_abi("Consortium"))
    assert contract.functions.deployer().call() == network.deployer.address
    block = web3.eth.get_block(1, full_transactions=True)
    receipt = web3.eth.get_transaction_receipt(block["transactions"][0]["hash"])
    assert receipt["contractAddress"] == network.addresses.consortium
    assert web3.eth.get_logs({"fromBlock": 0, "address": network.addresses.consortium})
    assert web3.eth.fee_history(2, "latest", [50.0])["baseFeePerGas"][-1] == 0
    assert web3.eth.accounts == []


def test_a_call_at_an_old_block_sees_the_old_state(network: Any) -> None:
    name, _ = network.department()
    ids = load_artifact("Consortium").functions["departmentIds"]
    now = ids.decode_output(network.client.call(network.addresses.consortium, ids.encode()))[0]
    then = ids.decode_output(network.client.call(network.addresses.consortium, ids.encode(), block=3))[0]
    assert department_bytes(name) in now and then == ()


def test_a_block_that_the_disk_refuses_never_was(local: InProcess) -> None:
    local.send()
    connection: sqlite3.Connection = local.store._connection
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")
    answer = local.send(to="", data=b"\xfe" * 10_000, gas=1_000_000)
    assert answer["code"] == -32603 and "full" in answer["message"]
    assert local.ask("eth_blockNumber") == "0x1"
    connection.execute("PRAGMA max_page_count=1000000")
    assert local.send().startswith("0x")
    assert local.ask("eth_blockNumber") == "0x2"


def test_a_failure_inside_a_block_undoes_all_of_it(local: InProcess) -> None:
    with pytest.raises(KeyError), local.store.block():
        local.store.put(b"key", b"value")
        raise KeyError
    assert local.store.get(b"key") is None


def test_an_open_chain_has_one_holder(local: InProcess) -> None:
    with pytest.raises(Busy):
        ChainStore(local.store.path)
    with pytest.raises(StorageFailed):
        ChainStore(local.store.path.with_name("absent.sqlite"))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**53)
    | st.text(max_size=70)
    | st.sampled_from(["0x", "latest", "0x0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["to", "from", "data", "gas", "value", "topics", "address", "blockHash", "fromBlock"]),
            inner,
        )
    ),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_parameters_bring_it_down(shared_local: InProcess, data: Any) -> None:
    method = data.draw(st.sampled_from(sorted(shared_local.rpc._methods)))
    answer = shared_local.ask(method, *data.draw(st.lists(JSON, max_size=3)))
    json.dumps(answer)


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x00", b"\x01", b"\x02", b"\x03"]))
@settings(max_examples=300, deadline=None)
def test_no_transaction_bytes_bring_it_down(shared_local: InProcess, noise: bytes, kind: bytes) -> None:
    answer = shared_local.ask("eth_sendRawTransaction", "0x" + (kind + noise).hex())
    assert answer["code"] == -32000


@pytest.fixture(scope="module")
def shared_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    opened = InProcess(tmp_path_factory.mktemp("rpc") / "chain")
    yield opened
    opened.store.close()


def _abi(name: str) -> Any:
    path = Path(__file__).resolve().parents[2] / "ledger/chain/artifacts" / f"{name}.json"
    return json.loads(path.read_text())["abi"]
