"""A chain that is gone, a reader that is gone, a user who has had enough."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import record_file
from tests.cli.test_refusals import CODE, MAPPING
from tests.fixtures.command import ChainServer, Yunxi, row_count

pytestmark = pytest.mark.xdist_group("cli")


def _feed(directory: Path, rows: int) -> str:
    lines = ["no,day,shop,result,code", *(f"{n},2026-03-01,店{n},ok,{CODE}" for n in range(rows))]
    directory.mkdir(exist_ok=True)
    (directory / "rows.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (directory / "rows.toml").write_text(MAPPING.replace('"rows"', f'"many-{rows}"'))
    return str(directory / "rows.toml")


def test_a_chain_that_is_down_delays_anchors_and_nothing_else(remote: tuple[Yunxi, ChainServer]) -> None:
    yunxi, server = remote
    yunxi.good("seal", record_file(yunxi.directory, "before.json", 80))
    server.stop()
    try:
        sealed = yunxi.good("seal", record_file(yunxi.directory, "during.json", 81))
        assert "fire: not anchored yet: The chain at " in sealed.err
        as_json = yunxi.good("seal", record_file(yunxi.directory, "also.json", 82), "--json").json()
        assert as_json["new"]
        assert as_json["anchor"]["problem"]["code"] == "chain-unreachable"
        ran = yunxi.good("adapter", "run", _feed(yunxi.directory / "down", 20), "--json").json()
        assert (ran["sealed"], ran["stopped"]) == (20, None)

        status = yunxi("status", "--json")
        assert status.code == 2
        log = status.json()["logs"][0]
        assert log["backlog"] == 23  # two records, twenty rows and the report of their run
        assert log["backlog_age"] > 0
        words = yunxi("status")
        assert "records are still acknowledged" in words.err
        assert "waiting" in words.out

        receipt = yunxi.good("receipt", as_json["record_id"], "-o", "early.tlog-proof")
        assert "not anchored yet" in receipt.out
        assert yunxi("audit").code == 2
        assert yunxi("anchor").code == 2
        assert "is its node running?" in yunxi("trust", "export", "-o", "t.json").sentence()
    finally:
        server.start()
    # no command of its own is needed: the next one that seals, even nothing new, brings everything to the chain
    assert "fire: 24 records anchored" in yunxi.good("seal", "during.json").out
    assert yunxi.good("status", "--json").json()["logs"][0]["backlog"] == 0
    assert yunxi.good("audit", "--json").json()["good"]


def test_a_reader_that_leaves_early_is_no_error(yunxi: Yunxi) -> None:
    mapping = _feed(yunxi.directory / "pipe", 900)
    for words in (("adapter", "preview", mapping, "--rows", "900"), ("adapter", "preview", mapping, "--json")):
        process = yunxi.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) in (0, 2)


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_ctrl_c_ends_a_run_between_pages_and_it_goes_on_later(yunxi: Yunxi, extra: tuple[str, ...]) -> None:
    rows = 9_000 + len(extra)
    mapping = _feed(yunxi.directory / f"many{len(extra)}", rows)
    node = yunxi.directory / "node"
    before = row_count(node, "fire")
    process = yunxi.start("adapter", "run", mapping, *extra, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait(lambda: row_count(node, "fire") > before + 1_000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, (out, err)
    if extra:
        assert b'"interrupted"' in out
        assert err == b""
    else:
        assert err.count(b"\n") == 1
        assert err.startswith(b"yunxi: interrupted; ")
    rest = yunxi.good("adapter", "run", mapping, "--json").json()
    assert rest["quarantined"] == 0
    assert row_count(node, "fire") == before + rows


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)
