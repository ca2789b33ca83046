"""The daemon's life, with real processes: who starts it, who ends it, what survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from ledger.chain.client import ChainClient
from ledger.chain.embedded import create, describe, ensure_running, running_url, stop
from ledger.chain.embedded.directory import STATE, read_state
from ledger.errors import ChainUnreachable, HistoryRefused, NodeMissing, StorageFailed
from tests.fixtures.processes import gone


def transfer(client: ChainClient, account: Any) -> bytes:
    raw, tx_hash = client.sign(account, account.address, b"", gas=21_000)
    client.send_raw(raw)
    return tx_hash


def test_a_chain_is_created_only_on_purpose_and_only_once(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(NodeMissing):
        ensure_running(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
    before = describe(directory)
    with pytest.raises(StorageFailed, match="already holds a chain"):
        create(directory)
    assert describe(directory) == before


def test_two_chains_share_neither_id_nor_genesis(directory: Path, tmp_path: Path) -> None:
    other, mine = create(tmp_path / "other"), describe(directory)
    assert other.chain_id != mine.chain_id and other.genesis_hash != mine.genesis_hash
    assert "development" in mine.warning and "proves nothing" in mine.warning


def test_the_warning_is_said_once_at_the_start(directory: Path) -> None:
    ensure_running(directory)
    ensure_running(directory)
    assert (directory / "daemon.log").read_text().count("proves nothing") == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_daemon_does_not_keep_its_starter_s_secrets(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNXI_PASSPHRASE", "hunter2")
    ensure_running(directory)
    state = read_state(directory)
    assert state is not None
    environment = Path(f"/proc/{state.pid}/environ").read_bytes()
    assert b"hunter2" not in environment and b"YUNXI_CHAIN_IDLE_SECONDS=" in environment


def test_a_chain_goes_on_after_a_restart(directory: Path) -> None:
    account = Account.create()
    client = ChainClient(ensure_running(directory), describe(directory).chain_id)
    hashes = [transfer(client, account) for _ in range(3)]
    head, receipts = client.block(), [client.receipt(tx_hash) for tx_hash in hashes]
    stop(directory)
    assert running_url(directory) is None
    assert ensure_running(directory) == client.url  # its port is kept, so clients go on
    assert client.block() == head
    assert [client.receipt(tx_hash) for tx_hash in hashes] == receipts
    assert client.nonce(account.address) == 3
    assert client.genesis_hash().hex() == describe(directory).genesis_hash[2:]
    client.close()


def test_kill_9_loses_nothing_that_was_acknowledged(directory: Path) -> None:
    account = Account.create()
    for count in range(1, 4):
        client = ChainClient(ensure_running(directory))
        tx_hash = transfer(client, account)
        state = read_state(directory)
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
        assert gone(state.pid)
        assert read_state(directory) == state  # stale, and it must not matter
        client.close()
        client = ChainClient(ensure_running(directory))
        assert client.receipt(tx_hash) is not None
        assert client.nonce(account.address) == count
        client.close()


def test_callers_at_once_find_one_daemon(directory: Path) -> None:
    program = "import sys; from pathlib import Path; from ledger.chain.embedded import ensure_running\n"
    program += "print(ensure_running(Path(sys.argv[1])))"

    def run(_: int) -> str:
        command = [sys.executable, "-c", program, str(directory)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    with ThreadPoolExecutor(4) as pool:
        urls = list(pool.map(run, range(4)))
    assert len(set(urls)) == 1
    assert urls[0].strip() == running_url(directory)
    assert (directory / "daemon.log").read_text().count("Chain ") >= 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1, "port": "x", "instance": ""}', '{"pid":1}'])
def test_a_damaged_state_file_is_only_stale(directory: Path, text: str) -> None:
    (directory / STATE).write_text(text)
    assert running_url(directory) is None
    stop(directory)


def test_a_stranger_on_the_remembered_port_is_not_taken_for_the_chain(directory: Path) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"jsonrpc":"2.0","id":1,"result":{"instance":"somebody else"}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        stale = {"pid": os.getpid(), "port": server.server_port, "instance": "0" * 64}
        (directory / STATE).write_text(json.dumps(stale))
        url = ensure_running(directory)
        assert url != f"http://127.0.0.1:{server.server_port}"
        stop(directory)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_idle_daemon_ends_by_itself(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNXI_CHAIN_IDLE_SECONDS", "0.4")
    ensure_running(directory)
    state = read_state(directory)
    assert state is not None and gone(state.pid)
    assert running_url(directory) is None
    ensure_running(directory)


def test_a_directory_replaced_under_the_daemon_ends_it_and_nothing_is_acknowledged(directory: Path) -> None:
    client = ChainClient(ensure_running(directory), describe(directory).chain_id)
    account = Account.create()
    raw, _ = client.sign(account, account.address, b"", gas=21_000)
    state = read_state(directory)
    assert state is not None
    shutil.rmtree(directory)
    with pytest.raises(ChainUnreachable):
        client.send_raw(raw)
    assert gone(state.pid)
    with pytest.raises(NodeMissing):
        ensure_running(directory)
    create(directory)  # the reset: another chain in the same place
    fresh = ChainClient(ensure_running(directory), client.chain_id())
    with pytest.raises(HistoryRefused, match="not chain"):
        fresh.block()
    client.close()
    fresh.close()


def test_the_foreground_program_serves_until_told_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    command = [sys.executable, "-m", "ledger.chain.embedded", str(path)]
    with subprocess.Popen([*command, "--create"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        word, url = serving.stdout.readline().split()
        assert (word, url) == ("ready", running_url(path))
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2 and "Another process" in second.stderr
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(20) == 0
    assert running_url(path) is None
    missing = subprocess.run([*command[:-1], str(tmp_path / "none")], capture_output=True, timeout=60, check=False)
    assert missing.returncode == 2 and b"Traceback" not in missing.stderr


def test_a_file_that_is_no_chain_is_named(directory: Path) -> None:
    (directory / "chain.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(ChainUnreachable, match="cannot be opened"):
        ensure_running(directory)
    (directory / "chain.sqlite").unlink()


def test_a_file_that_lost_its_blocks_is_named(directory: Path) -> None:
    stop(directory)
    with sqlite3.connect(directory / "chain.sqlite") as connection:
        connection.execute("DELETE FROM pairs")
    connection.close()
    with pytest.raises(ChainUnreachable, match="damaged"):
        ensure_running(directory)


@pytest.mark.parametrize("text", ["", "{}", '{"chain_id": "x", "genesis_hash": "", "created_at": 0}'])
def test_a_chain_that_lost_its_description_is_named(directory: Path, text: str) -> None:
    (directory / "chain.json").write_text(text)
    with pytest.raises(StorageFailed, match="restore it"):
        describe(directory)


def test_stopping_what_does_not_run_is_nothing(directory: Path) -> None:
    stop(directory)
    stop(directory / "absent")


def test_stop_needs_the_instance(directory: Path) -> None:
    client = ChainClient(ensure_running(directory))
    with pytest.raises(ChainUnreachable, match="instance"):
        client.request("yunxi_shutdown", "0" * 64)
    with pytest.raises(ChainUnreachable, match="instance"):
        client.request("yunxi_shutdown", client.request("yunxi_describe")["instance"])
    time.sleep(0.1)
    assert running_url(directory) == client.url
    client.close()
