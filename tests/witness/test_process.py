"""Witnesses as processes of their own, run by the command, killed without warning."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.errors import CouldNotRun, Malformed, NodeMissing, TrustRefused, YunxiError
from ledger.formats.checkpoint import add_signatures
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.note import COSIGNATURE_ED25519, VerifierKey
from ledger.witness.client import HttpWitness, ask
from ledger.witness.directory import STATE, WitnessDirectory, create_witness, logs_by_origin, read_conflicts
from ledger.witness.protocol import AddCheckpoint, SizeConflict, WitnessUnreachable
from tests.conftest import ROOT
from tests.witness.simulation import ORIGIN, WITNESS, SimulatedLog, check_one_history, log_key

LOGS = {ORIGIN: (log_key(),)}


def yunxi(*arguments: str | Path, expect: int = 0) -> str:
    """Runs the command to its end; returns its output, errors included."""
    command = [sys.executable, str(ROOT / "yunxi.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(directory: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`yunxi witness run` in a process, and its URL; killed at the end if it still lives."""
    command = [sys.executable, str(ROOT / "yunxi.py"), "witness", "run", "--dir", str(directory)]
    command += ["--listen", f"127.0.0.1:{port}", "--log", str(log_key())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert "listens on" in said, said + process.stdout.read()
        yield process, said.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A fresh witness."""
    create_witness(tmp_path / "witness", WITNESS)
    return tmp_path / "witness"


def vkey_of(directory: Path) -> VerifierKey:
    opened = WitnessDirectory(directory, LOGS)
    opened.close()
    return opened.witness.vkey


@pytest.mark.slow
def test_from_init_to_the_proof_of_a_split_view(tmp_path: Path) -> None:
    """Two witnesses by command, shown two histories of one log: `compare` proves it, `verify-split` checks it."""
    honest, fork = SimulatedLog(9), SimulatedLog(9, fork=4, branch="'")
    key, proof = str(log_key()), tmp_path / "split.json"
    made = [
        json.loads(yunxi("witness", "init", tmp_path / name, "--name", f"{name}.example", "--json")) for name in "ab"
    ]
    vkeys = [VerifierKey.parse(answer["vkey"]) for answer in made]
    assert [(k.name, k.type) for k in vkeys] == [("a.example", COSIGNATURE_ED25519), ("b.example", COSIGNATURE_ED25519)]
    with running(tmp_path / "a") as (_, a), running(tmp_path / "b") as (_, b):
        ask(HttpWitness(a), vkeys[0], honest.note, 9, 0, honest.path)
        assert "nothing contradicts" in yunxi("witness", "compare", "--url", a, "--url", b, "--log", key)
        ask(HttpWitness(b), vkeys[1], fork.note, 9, 0, fork.path)
        said = yunxi("witness", "compare", "--url", a, "--url", b, "--log", key, "-o", proof, expect=1)
        assert "SPLIT VIEW" in said
        with pytest.raises(YunxiError):
            ask(HttpWitness(a), vkeys[0], fork.note, 9, 9, fork.path)
        assert "SPLIT VIEW, proven" in yunxi("witness", "conflicts", "--dir", tmp_path / "a", expect=1)
        assert "0 conflicts" in yunxi("witness", "conflicts", "--dir", tmp_path / "b")
    assert f"log {ORIGIN} has shown two histories" in yunxi("witness", "verify-split", proof, "--log", key)
    collected = [tmp_path / "honest", tmp_path / "fork"]
    for path, log in zip(collected, (honest, fork), strict=True):
        path.write_bytes(log.note)
    assert "SPLIT VIEW" in yunxi("witness", "compare", *collected, "--log", key, expect=1)
    assert "does not answer" in yunxi("witness", "compare", "--url", a, "--log", key, expect=2), (
        "silence is no all-clear"
    )


def test_sigterm_ends_it_and_the_state_stays(directory: Path) -> None:
    log = SimulatedLog(5)
    with running(directory) as (process, url):
        HttpWitness(url).add_checkpoint(log.request(0))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    with running(directory) as (_, url), pytest.raises(SizeConflict) as caught:
        HttpWitness(url).add_checkpoint(log.request(0))
    assert caught.value.size == 5


class Pusher(threading.Thread):
    """Pushes one branch of a log at a witness, as far as it gets, and keeps every cosignature that came out."""

    def __init__(self, url: str, vkey: VerifierKey, branch: SimulatedLog, start: int, kept: list[SimulatedLog]) -> None:
        super().__init__(daemon=True)
        self._url, self._vkey, self._branch, self._size, self._kept = url, vkey, branch, start, kept

    def run(self) -> None:
        old, size = 0, self._size
        while size < self._size + 60:
            log = self._branch.at(size)
            try:
                line = HttpWitness(self._url).add_checkpoint(
                    AddCheckpoint(old, tuple(log.path(old, size)) if old <= size else (), log.note)
                )
            except SizeConflict as conflict:
                old, size = conflict.size, max(size, conflict.size)
                continue
            except WitnessUnreachable:
                return  # killed
            except YunxiError:
                size += 1  # the other branch has won, or this size is past
                continue
            assert verify_cosignature(add_signatures(log.note, [line]), self._vkey)
            self._kept.append(log)
            old, size = size, size + 1


def kill_loop(directory: Path, rounds: int) -> int:
    """Kills a witness `rounds` times while two histories are pushed at it; returns how many cosignatures came out."""
    vkey, kept = vkey_of(directory), list[SimulatedLog]()
    luck = random.Random(20260301)
    for _ in range(rounds):
        start = max((log.size for log in kept), default=0) + 1
        with running(directory) as (process, url):
            branches = [SimulatedLog(0), SimulatedLog(0, fork=3, branch="'")]
            luck.shuffle(branches)
            threads = [Pusher(url, vkey, branch, start, kept) for branch in branches for _ in range(2)]
            for thread in threads:
                thread.start()
            threading.Event().wait(luck.uniform(0.005, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            for thread in threads:
                thread.join(timeout=30)
        check_one_history(kept)
    opened = WitnessDirectory(directory, LOGS)
    head = opened.witness.store.head(ORIGIN)
    opened.close()
    assert head is not None
    largest = max(kept, key=lambda log: log.size)
    assert head.size >= largest.size, "what left the witness it must remember"
    return len(kept)


def test_killed_three_times_it_never_cosigns_two_histories(directory: Path) -> None:
    assert kill_loop(directory, 3) > 0


@pytest.mark.slow
def test_killed_twenty_five_times_it_never_cosigns_two_histories(directory: Path) -> None:
    assert kill_loop(directory, 25) > 20


def test_two_processes_over_one_state_cosign_one_history(directory: Path) -> None:
    vkey, kept = vkey_of(directory), list[SimulatedLog]()
    with running(directory) as (_, one), running(directory) as (_, two):
        branches = [SimulatedLog(0), SimulatedLog(0, fork=3, branch="'")]
        threads = [Pusher(url, vkey, b, 1, kept) for b, url in zip(branches * 2, (one, two, two, one), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert kept
    check_one_history(kept)


# -- the directory --


def test_a_directory_that_is_taken_is_refused(directory: Path) -> None:
    with pytest.raises(CouldNotRun, match="not empty"):
        create_witness(directory, WITNESS)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 201, "a\nb"])
def test_an_unfit_name_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed):
        create_witness(tmp_path / "witness", name)
    assert not (tmp_path / "witness").exists()


def test_a_mistyped_directory_makes_no_witness(tmp_path: Path) -> None:
    with pytest.raises(NodeMissing):
        WitnessDirectory(tmp_path / "nowhere", LOGS)
    assert not (tmp_path / "nowhere").exists()


def test_a_witness_whose_state_is_gone_does_not_start_over(directory: Path) -> None:
    (directory / STATE).unlink()
    with pytest.raises(CouldNotRun, match="fork"):
        WitnessDirectory(directory, LOGS)
    assert not (directory / STATE).exists()
    (directory / STATE).write_bytes(b"")
    with pytest.raises(CouldNotRun, match="fork"):
        read_conflicts(directory)


def test_a_key_that_is_not_the_witness_s_is_refused(directory: Path, tmp_path: Path) -> None:
    create_witness(tmp_path / "other", WITNESS)
    (directory / "keys").rename(tmp_path / "away")
    (tmp_path / "other" / "keys").rename(directory / "keys")
    with pytest.raises(CouldNotRun, match="not that of"):
        WitnessDirectory(directory, LOGS)


def test_the_key_is_encrypted_and_private(directory: Path) -> None:
    keystore = directory / "keys" / "keystore.json"
    assert keystore.stat().st_mode & 0o077 == 0
    assert json.loads(keystore.read_text())["suite"] == "AES-256-GCM"


def test_a_witness_without_logs_is_refused(directory: Path) -> None:
    with pytest.raises(TrustRefused):
        logs_by_origin([])
    with pytest.raises(TrustRefused, match="0x01"):
        logs_by_origin([vkey_of(directory)])
    said = yunxi("witness", "run", "--dir", directory, "--listen", "127.0.0.1:0", expect=1)
    assert "--log" in said


@pytest.mark.parametrize("listen", ["8090", ":8090", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_unfit_address_is_a_sentence(directory: Path, listen: str) -> None:
    from cli.frame import listen_address

    with pytest.raises(CouldNotRun, match="HOST:PORT"):
        listen_address(listen)
