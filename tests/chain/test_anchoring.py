"""The idempotent step, against everything that can go wrong between us and the chain."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from ledger.chain.anchoring import FINAL, PENDING, Anchored, anchor_once
from ledger.chain.client import ChainClient
from ledger.chain.contracts import EvidenceLogContract, department_bytes
from ledger.chain.embedded import create, ensure_running, stop
from ledger.chain.embedded.directory import DATABASE, read_state
from ledger.errors import ChainUnreachable, HistoryRefused, KeyRefused


def through(proxy: Any, network: Any) -> EvidenceLogContract:
    client = ChainClient(proxy.url, network.client.chain_id(), timeout=60)
    return EvidenceLogContract(client, network.addresses.evidence_log)


def step(log: Any, contract: EvidenceLogContract, account: Any, **options: Any) -> Anchored:
    anchored = anchor_once(log, contract, account, **options)
    assert anchored is not None
    return anchored


def test_an_empty_log_has_nothing_to_anchor(network: Any, worker: Any) -> None:
    name, account = network.department()
    assert anchor_once(worker.ListLog(name, 0), network.evidence_log, account) is None
    assert network.evidence_log.head(department_bytes(name)).size == 0


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 3), (255, 256, 257), (1, 600), (512, 513, 1024)])
def test_a_growing_log_is_anchored_step_by_step(network: Any, worker: Any, sizes: tuple[int, ...]) -> None:
    name, account = network.department()
    for size in sizes:
        log = worker.ListLog(name, size)
        anchored = step(log, network.evidence_log, account)
        assert (anchored.size, anchored.root, anchored.finality) == (size, log.root, FINAL)
        assert anchored.chain_id == network.client.chain_id()
        assert anchored.contract == network.addresses.evidence_log
        block = network.client.block(anchored.block_number)
        assert (block.hash, block.timestamp) == (anchored.block_hash, anchored.timestamp)
        assert network.client.receipt(anchored.tx_hash).block_number == anchored.block_number


def test_running_the_step_again_finds_the_same_anchor_and_sends_nothing(network: Any, worker: Any) -> None:
    name, account = network.department()
    log = worker.ListLog(name, 7)
    first = step(log, network.evidence_log, account)
    before = network.client.block()
    assert step(log, network.evidence_log, account) == first
    assert step(log, network.evidence_log, Account.create()) == first  # finding needs no key
    step(worker.ListLog(name, 9), network.evidence_log, account)
    assert step(worker.ListLog(name, 7, grown=9), network.evidence_log, account) == first  # also when it is old
    assert network.client.block().number == before.number + 1


def test_a_larger_anchor_of_the_same_log_serves_a_checkpoint_between(network: Any, worker: Any) -> None:
    name, account = network.department()
    larger = step(worker.ListLog(name, 9), network.evidence_log, account)
    assert step(worker.ListLog(name, 8, grown=9), network.evidence_log, account) == larger


HISTORIES: dict[str, tuple[Callable[[Any, str], Any], str]] = {
    "a log that was rolled back": (lambda w, d: w.ListLog(d, 6), "chain holds 9 .* only 6: .*rolled back"),
    "a log rewritten at the same size": (lambda w, d: w.ListLog(d, 9, salt=b"x"), "At 9 entries .*rewritten"),
    "a log rewritten and grown": (lambda w, d: w.ListLog(d, 12, salt=b"x"), "At 9 entries .*rewritten"),
    "a log rewritten and shorter": (lambda w, d: w.ListLog(d, 8, grown=20, salt=b"x"), "At 9 entries .*rewritten"),
}


@pytest.mark.parametrize("case", HISTORIES, ids=str)
def test_a_history_that_is_not_the_chain_s_is_refused_naming_both(network: Any, worker: Any, case: str) -> None:
    name, account = network.department()
    honest = worker.ListLog(name, 9)
    step(honest, network.evidence_log, account)
    before = network.client.block()
    make, words = HISTORIES[case]
    with pytest.raises(HistoryRefused, match=words) as caught:
        anchor_once(make(worker, name), network.evidence_log, account)
    assert honest.root.hex() in str(caught.value)
    assert network.client.block() == before


def test_an_account_without_the_right_is_refused_before_sending(network: Any, worker: Any) -> None:
    name, _ = network.department()
    before = network.client.block()
    with pytest.raises(KeyRefused, match="not a valid anchoring account"):
        anchor_once(worker.ListLog(name, 3), network.evidence_log, Account.create())
    assert network.client.block() == before


# -- nodes that lie or lose


def fake_receipt(tx_hash: str) -> dict[str, Any]:
    return {
        "transactionHash": tx_hash,
        "blockNumber": "0x1",
        "blockHash": "0x" + "ab" * 32,
        "status": "0x1",
        "gasUsed": "0x1",
        "contractAddress": None,
        "logs": [],
    }


def test_a_receipt_that_is_a_lie_is_not_believed(network: Any, proxy: Any, worker: Any) -> None:
    name, account = network.department()
    log = worker.ListLog(name, 4)
    contract = through(proxy, network)

    def liar(method: str, params: list[Any], forward: Any) -> dict[str, Any]:
        if method == "eth_sendRawTransaction":
            return {"result": "0x" + "cd" * 32}
        if method == "eth_getTransactionReceipt":
            return {"result": fake_receipt(params[0])}
        return forward()

    proxy.hook = liar
    with pytest.raises(ChainUnreachable, match="does not hold it"):
        anchor_once(log, contract, account, wait_seconds=0.3)
    with pytest.raises(HistoryRefused, match="was not anchored, although"):
        contract.anchor(account, log.log_id, 4, log.root, [])
    proxy.hook = lambda _, __, forward: forward()
    assert step(log, contract, account).size == 4
    contract.client.close()


def test_a_transaction_whose_answer_was_lost_is_found_not_repeated(network: Any, proxy: Any, worker: Any) -> None:
    name, account = network.department()
    log = worker.ListLog(name, 4)
    contract = through(proxy, network)

    def deaf(method: str, _: list[Any], forward: Any) -> dict[str, Any]:
        answer = forward()
        return {"error": {"code": -1, "message": "gateway lost"}} if method == "eth_sendRawTransaction" else answer

    proxy.hook = deaf
    with pytest.raises(ChainUnreachable, match="gateway lost"):
        anchor_once(log, contract, account)
    sent = network.client.nonce(account.address)
    proxy.hook = lambda _, __, forward: forward()
    assert step(log, contract, account).size == 4
    assert network.client.nonce(account.address) == sent == 1
    contract.client.close()


def test_a_stuck_transaction_is_replaced_at_the_same_nonce(network: Any, proxy: Any, worker: Any) -> None:
    name, account = network.department()
    log = worker.ListLog(name, 4)
    contract = through(proxy, network)
    raw_seen: list[str] = []

    def full_pool(method: str, params: list[Any], forward: Any) -> dict[str, Any]:
        if method == "eth_sendRawTransaction":
            raw_seen.append(params[0])
            free = params[0] == raw_seen[0]
            words = "replacement transaction underpriced" if free else "insufficient funds for gas"
            return {"error": {"code": -32000, "message": words}}
        return forward()

    proxy.hook = full_pool
    with pytest.raises(ChainUnreachable, match="does not hold it"):
        anchor_once(log, contract, account, wait_seconds=0.2)
    assert len(set(raw_seen)) == 2  # at the chain's fee and above it, again and again: the stuck one may go any time
    proxy.hook = lambda _, __, forward: forward()
    assert step(log, contract, account).size == 4
    contract.client.close()


def test_another_anchorer_between_two_reads_is_not_an_error(network: Any, proxy: Any, worker: Any) -> None:
    name, account = network.department()
    step(worker.ListLog(name, 2), network.evidence_log, account)
    log, contract = worker.ListLog(name, 4, grown=6), through(proxy, network)
    raced: list[bool] = []

    def race(method: str, params: list[Any], forward: Any) -> dict[str, Any]:
        selector = "0x" + contract.artifact.functions["anchor"].selector.hex()
        if method == "eth_call" and params[0]["data"].startswith(selector) and not raced:
            raced.append(True)
            step(worker.ListLog(name, 6), network.evidence_log, account)
        return forward()

    proxy.hook = race
    assert step(log, contract, account).size == 6
    assert raced
    contract.client.close()


def test_a_node_that_has_the_state_but_not_the_event_gives_no_transaction(
    network: Any, proxy: Any, worker: Any
) -> None:
    name, account = network.department()
    contract = through(proxy, network)
    proxy.hook = lambda method, _, forward: {"result": []} if method == "eth_getLogs" else forward()
    assert step(worker.ListLog(name, 4), contract, account).tx_hash is None
    contract.client.close()


def test_the_answer_is_pending_until_the_confirmations_are_there(network: Any, worker: Any) -> None:
    name, account = network.department()
    log = worker.ListLog(name, 4)
    pending = step(log, network.evidence_log, account, confirmations=2, wait_seconds=3)
    assert pending.finality == PENDING
    for _ in range(2):
        network.department()
    final = step(log, network.evidence_log, account, confirmations=2)
    assert (final.finality, final.tx_hash) == (FINAL, pending.tx_hash)


# -- chains that were reset, rolled back or killed


def test_a_chain_that_forgot_an_anchor_gets_it_again(fragile: Any, worker: Any, tmp_path: Path) -> None:
    name, account = fragile.department()
    log = worker.ListLog(name, 4)
    stop(fragile.directory)
    shutil.copy(fragile.directory / DATABASE, tmp_path / "before")
    ensure_running(fragile.directory)
    first = step(log, fragile.evidence_log, account)
    stop(fragile.directory)
    shutil.copy(tmp_path / "before", fragile.directory / DATABASE)
    ensure_running(fragile.directory)
    assert fragile.evidence_log.head(log.log_id).size == 0
    again = step(log, fragile.evidence_log, account)
    assert (again.size, again.root, again.tx_hash) == (first.size, first.root, first.tx_hash)


def test_a_chain_that_was_reset_is_a_stranger(fragile: Any, worker: Any) -> None:
    name, account = fragile.department()
    log = worker.ListLog(name, 4)
    anchored = step(log, fragile.evidence_log, account)
    stop(fragile.directory)
    shutil.rmtree(fragile.directory)
    create(fragile.directory)
    fresh = ChainClient(ensure_running(fragile.directory), anchored.chain_id)
    contract = EvidenceLogContract(fresh, fragile.addresses.evidence_log)
    with pytest.raises(HistoryRefused, match="not chain"):
        anchor_once(log, contract, account)
    unaware = EvidenceLogContract(ChainClient(fresh.url), fragile.addresses.evidence_log)
    with pytest.raises(HistoryRefused, match="There is no EvidenceLog"):
        anchor_once(log, unaware, account)
    fresh.close()
    unaware.client.close()


def test_an_unreachable_chain_is_said_so_and_the_next_step_catches_up(fragile: Any, worker: Any) -> None:
    name, account = fragile.department()
    stop(fragile.directory)
    with pytest.raises(ChainUnreachable):
        anchor_once(worker.ListLog(name, 4), fragile.evidence_log, account)
    ensure_running(fragile.directory)
    assert step(worker.ListLog(name, 9), fragile.evidence_log, account).size == 9


def spawn(path: Path, network: Any, name: str, account: Any, first: int, last: int) -> subprocess.Popen[str]:
    arguments = [network.directory, network.addresses.evidence_log, name, bytes(account.key).hex(), first, last]
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen[str]) -> list[list[str]]:
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    return [line.split() for line in output.splitlines()]


def check_acknowledged(network: Any, worker: Any, name: str, lines: list[list[str]]) -> None:
    """Everything that was acknowledged stands: same root as the log, same block, a receipt by hash."""
    contract = network.evidence_log
    for _, size, number, block_hash, tx_hash in lines:
        anchored = contract.root_at(department_bytes(name), int(size))
        assert anchored is not None
        assert anchored.root == worker.ListLog(name, int(size)).root
        assert anchored.block_number == int(number)
        receipt = network.client.receipt(bytes.fromhex(tx_hash))
        assert (receipt.block_hash.hex(), receipt.succeeded) == (block_hash, True)


def race_two(network: Any, worker: Any, worker_path: Path, last: int) -> None:
    name, account = network.department()
    both = [spawn(worker_path, network, name, account, 1, last) for _ in range(2)]
    lines = [line for process in both for line in acknowledged(process)]
    assert len(lines) == 2 * last
    check_acknowledged(network, worker, name, lines)
    assert network.evidence_log.head(department_bytes(name)).size == last


def kill_while_anchoring(fragile: Any, worker: Any, worker_path: Path, last: int, pause: float) -> int:
    """Anchors 1..last in another process while the daemon is killed again and again; returns how often."""
    name, account = fragile.department()
    process, kills = spawn(worker_path, fragile, name, account, 1, last), 0
    ended = threading.Event()
    lines: list[list[str]] = []

    def collect() -> None:
        try:
            lines.extend(acknowledged(process))
        finally:
            ended.set()

    thread = threading.Thread(target=collect)
    thread.start()
    while not ended.wait(pause):
        state = read_state(fragile.directory)
        if state is not None and _is_ours(state.pid, fragile.directory):
            os.kill(state.pid, signal.SIGKILL)
            kills += 1
    thread.join()
    ensure_running(fragile.directory)
    assert len(lines) == last
    check_acknowledged(fragile, worker, name, lines)
    step(worker.ListLog(name, last + 5), fragile.evidence_log, account)
    return kills


def _is_ours(pid: int, directory: Path) -> bool:
    try:
        return str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_two_processes_anchor_at_once(network: Any, worker: Any, worker_path: Path) -> None:
    race_two(network, worker, worker_path, 5)


def test_kill_9_while_anchoring(fragile: Any, worker: Any, worker_path: Path) -> None:
    assert kill_while_anchoring(fragile, worker, worker_path, 10, pause=0.7) >= 1


@pytest.mark.slow
def test_two_processes_anchor_at_once_for_long(network: Any, worker: Any, worker_path: Path) -> None:
    race_two(network, worker, worker_path, 80)


@pytest.mark.slow
def test_kill_9_in_a_loop_while_anchoring(fragile: Any, worker: Any, worker_path: Path) -> None:
    started = time.monotonic()
    kills = kill_while_anchoring(fragile, worker, worker_path, 60, pause=0.73)
    assert kills >= 3, f"{kills} kills in {time.monotonic() - started:.0f} s"
