"""Terminals: what is sealed is durable, unreadable to the node, and comes in once, whatever happens on the way."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from adapters.terminal import Terminal
from adapters.terminal_officers import PIN_PAUSE_S, PIN_TRIES, officers_needed
from adapters.terminal_outbox import KEEP_S
from adapters.terminal_queue import Queue
from ledger.enrolment import Enrolment
from ledger.errors import (
    Conflict,
    CouldNotRun,
    KeyRefused,
    Malformed,
    RecordRefused,
    Refusal,
    SealedElsewhere,
    StorageFailed,
)
from ledger.formats.encoding import b64decode
from ledger.formats.sdjwt import parse_presentation
from ledger.keks import KekRing
from ledger.records import RecordReader
from ledger.submission import AttachmentSource
from tests.fixtures.parts import TYPES, Parts, Template
from tests.fixtures.records import attachment, report
from tests.fixtures.terminals import (
    DAY,
    NOW,
    PASSPHRASE,
    PINS,
    PLACE,
    Broken,
    Field,
    TerminalTemplate,
    finding,
    make_field,
    open_terminal,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out(sqlite_parts: Parts, tmp_path: Path, terminal_template: TerminalTemplate) -> Iterator[Field]:
    made = make_field(sqlite_parts, tmp_path / "terminal", terminal_template)
    yield made
    made.terminal.close()


def opened(out: Field, record_id: str) -> dict[str, Any]:
    """The record, as its department opens it."""
    with out.parts.database.reading() as connection:
        return out.reader.open(connection, record_id).record()


def photos(tmp_path: Path) -> tuple[AttachmentSource, ...]:
    return (
        attachment(tmp_path / "a.png", os.urandom(3_000_000)),
        attachment(tmp_path / "b.pdf", b"%PDF", "application/pdf"),
    )


# ---- the way of a record -----------------------------------------------------------------------------------------


def test_a_sealed_record_comes_in_and_its_department_opens_it(out: Field, tmp_path: Path) -> None:
    files = photos(tmp_path)
    sealed = out.seal(1, attachments=files, captured_at="2026-03-02T09:15:02+08:00")
    assert sealed.new
    assert out.terminal.status().waiting == 1
    result = out.terminal.outbox.submit(out.transport)
    assert (result.acknowledged, result.refused, result.waiting, result.problem) == (1, 0, 0, None)
    record = opened(out, sealed.record_id)
    assert record["observation"] == "占用第1通道"
    assert record["capture"]["confirmed_by"] == ["XF0001", "XF0002"]
    assert record["capture"]["device"] == "pda-07"
    assert record["captured_at"] == "2026-03-02T09:15:02+08:00"
    assert record["sealed_at"].startswith("2026-05-28T20:26:40.000")
    with out.parts.database.reading() as connection:
        for number, file in enumerate(files, 1):
            assert b"".join(out.reader.attachment(connection, sealed.record_id, number)) == file.path.read_bytes()
    out.parts.check_log(1)


def test_the_audit_is_good_and_says_what_it_did_not_open(out: Field, tmp_path: Path) -> None:
    out.seal(1, attachments=photos(tmp_path))
    out.terminal.outbox.submit(out.transport)
    out.parts.take([])
    found = out.parts.audit()
    assert found.good, found.findings
    assert (found.records, found.payloads, found.sealed_elsewhere, found.signatures) == (1, 0, 1, 1)


def test_the_department_presents_it_masked(out: Field) -> None:
    sealed = out.seal(1)
    out.terminal.outbox.submit(out.transport)
    with out.parts.database.reading() as connection:
        shown = parse_presentation(out.reader.present(connection, sealed.record_id, ["result"]))
    assert shown.record()["result"] == "fail"
    assert "observation" not in shown.record()
    shown.statement.verify_signature(Ed25519PublicKey.from_public_bytes(out.terminal._signer.public))


# ---- what the node cannot do -------------------------------------------------------------------------------------


def readable(path: Path) -> bytes:
    """What a file holds, and what its base64url says: the parts of a statement are written so."""
    data = path.read_bytes()
    words = re.findall(rb"[A-Za-z0-9_-]{16,}", data)
    return data + b"".join(base64.urlsafe_b64decode(word[: len(word) // 4 * 4]) for word in words)


def test_nothing_at_the_node_or_in_the_queue_is_readable(out: Field, tmp_path: Path) -> None:
    secret = "只有本部门可以读".encode()
    file = attachment(tmp_path / "secret.bin", secret * 1_000, "application/octet-stream")
    out.terminal.seal(finding(1, observation=secret.decode()), (file,), key="k", confirm=PINS)
    queued = [readable(p) for p in out.directory.rglob("*") if p.is_file()]
    out.terminal.outbox.submit(out.transport)
    node = [readable(p) for p in out.parts.directory.parent.rglob("*") if p.is_file() and p != file.path]
    assert any(b"330299-XF-001" in content for content in node)  # clear members are
    for needle in (secret, PLACE.encode(), "甲一".encode(), b"XF0001"):
        assert not any(needle in content for content in [*queued, *node])
        assert not any(json.dumps(needle.decode()).strip('"').encode() in content for content in [*queued, *node])
    assert not any(b"330299-XF-001" in content for content in queued)  # the node's log has it in clear, the queue not


def test_the_node_cannot_open_it_and_says_so(out: Field) -> None:
    sealed = out.seal(1)
    out.terminal.outbox.submit(out.transport)
    reader = RecordReader(KekRing(out.parts.agent), out.parts.blobs)
    with out.parts.database.reading() as connection:
        with pytest.raises(SealedElsewhere, match="yunxi terminal open"):
            reader.present(connection, sealed.record_id, None)
        row = KekRing(out.parts.agent).stored(connection, 1, 2)
        with pytest.raises(KeyRefused):
            out.parts.agent.unwrap_kek("fire", row.wrapped, b"any", row.recipient)


def test_the_nodes_own_records_go_on_beside_it(out: Field) -> None:
    from tests.fixtures.records import submissions

    out.seal(1)
    out.terminal.outbox.submit(out.transport)
    own = out.parts.take(submissions(0, 3))
    with out.parts.database.reading() as connection:
        assert out.parts.reader.open(connection, own[0].record_id).record()["result"] == "基本符合"
    # a rotation of the department's encryption key moves the node's own epochs and leaves the terminal's alone
    with out.parts.database.writing() as connection:
        key = out.parts.agent.encryption_key("fire")
        assert not out.parts.keks.move(connection, 1, "fire", int(NOW), key)
    assert out.parts.audit().good


def test_a_terminal_that_was_started_anew_cannot_open_what_it_sealed(out: Field) -> None:
    out.seal(1)
    first = out.terminal._queue.submission(1)
    out.seal(2)
    assert out.terminal._queue.submission(2).kek == first.kek
    out.again()
    out.seal(3)
    assert out.terminal._queue.submission(3).kek != first.kek
    keystore = json.dumps(out.terminal.keys._content)
    assert "kek" not in keystore


def test_a_key_encryption_key_lives_a_day(out: Field) -> None:
    out.seal(1)
    out.clock.wait(DAY)
    out.seal(2)
    one, two = out.terminal._queue.submission(1), out.terminal._queue.submission(2)
    assert one.kek.name != two.kek.name
    assert out.terminal.outbox.submit(out.transport).problem is None


# ---- once, and not lost ------------------------------------------------------------------------------------------


def test_the_same_key_sealed_again_is_the_same_record(out: Field) -> None:
    first = out.seal(1)
    again = out.again().seal(finding(1), key="n1", confirm=PINS)
    assert (again.record_id, again.new) == (first.record_id, False)
    with pytest.raises(Conflict, match="other content"):
        out.terminal.seal(finding(2), key="n1", confirm=PINS)
    assert out.terminal.status().waiting == 1


def test_a_lost_acknowledgement_doubles_nothing(out: Field, tmp_path: Path) -> None:
    out.seal(1, attachments=photos(tmp_path))
    out.seal(2)
    broken = Broken(out.transport, after={"submit"})
    assert isinstance(out.terminal.outbox.submit(broken).problem, CouldNotRun)
    assert out.terminal.status().waiting == 2
    broken.after.clear()
    assert out.again().outbox.submit(broken).acknowledged == 2
    out.parts.check_log(2)


def test_an_upload_that_was_cut_goes_on_and_one_that_expired_begins_anew(out: Field, tmp_path: Path) -> None:
    sealed = out.seal(1, attachments=photos(tmp_path))
    broken = Broken(out.transport, after={"send_file"})
    assert out.terminal.outbox.submit(broken).problem is not None
    assert out.terminal._queue.files(1)[0].upload is not None
    out.clock.wait(8 * DAY)
    out.node_clock.wait(8 * DAY)  # uploads are kept for seven days
    first = out.terminal.outbox.submit(out.transport)
    assert (first.acknowledged, first.waiting) == (0, 1)
    assert out.terminal.outbox.submit(out.transport).acknowledged == 1
    assert opened(out, sealed.record_id)["attachments"][1]["name"] == "b.pdf"


def test_one_refused_record_holds_up_no_other_and_stays(out: Field) -> None:
    out.seal(1)
    out.seal(2)
    out.terminal._queue.set_upload(1, "x", None)
    with sqlite3.connect(out.directory / "queue.sqlite") as connection:
        sealed = bytearray(connection.execute("SELECT sealed FROM items WHERE seq = 1").fetchone()[0])
        sealed[40] ^= 1
        connection.execute("UPDATE items SET sealed = ? WHERE seq = 1", (bytes(sealed),))
    connection.close()
    result = out.terminal.outbox.submit(out.transport)
    assert (result.acknowledged, result.refused, result.waiting) == (1, 1, 0)
    (kept,) = out.terminal.status().refused
    assert kept.reason == "queue-damaged"


def test_after_a_restore_of_the_node_the_acknowledged_can_come_again(out: Field, tmp_path: Path) -> None:
    out.seal(1)
    before = tmp_path / "before.sqlite"
    with sqlite3.connect(out.parts.url.removeprefix("sqlite:///")) as source, sqlite3.connect(before) as target:
        source.backup(target)
    assert out.terminal.outbox.submit(out.transport).acknowledged == 1
    with sqlite3.connect(before) as source, sqlite3.connect(out.parts.url.removeprefix("sqlite:///")) as target:
        source.backup(target)
    source.close(), target.close()
    out.parts.check_log(0)
    assert out.terminal.outbox.again("acknowledged") == 1
    assert out.terminal.outbox.submit(out.transport).acknowledged == 1
    out.parts.check_log(1)


def test_what_was_acknowledged_long_ago_is_dropped_with_its_files(out: Field, tmp_path: Path) -> None:
    out.seal(1, attachments=photos(tmp_path))
    out.terminal.outbox.submit(out.transport)
    assert len(list((out.directory / "files").iterdir())) == 2
    out.clock.wait(KEEP_S + 60)
    out.node_clock.wait(KEEP_S + 60)
    out.terminal.outbox.submit(out.transport)
    assert list((out.directory / "files").iterdir()) == []
    assert out.terminal.outbox.again("acknowledged") == 0
    assert out.terminal.seal(finding(1), photos_again(tmp_path), key="n1", confirm=PINS).new is False


def photos_again(tmp_path: Path) -> tuple[AttachmentSource, ...]:
    paths = [(tmp_path / "a.png", "image/png"), (tmp_path / "b.pdf", "application/pdf")]
    return tuple(AttachmentSource(path, path.name, kind) for path, kind in paths)


# ---- days offline, and clocks that are wrong ---------------------------------------------------------------------


def test_days_offline_come_in_together(out: Field) -> None:
    dead = Broken(out.transport, before={"time", "submit"})
    for day in range(5):
        for number in range(30):
            out.terminal.seal(report(100 * day + number))
        assert out.terminal.outbox.submit(dead).problem is not None
        out.again()
        out.clock.wait(DAY)
        out.node_clock.wait(DAY)
    result = out.terminal.outbox.submit(Broken(out.transport))
    assert (result.acknowledged, result.waiting) == (150, 0)
    out.parts.check_log(150)
    assert out.parts.audit().good


def test_a_clock_ahead_waits_and_comes_in_later(out: Field) -> None:
    out.clock.set(2 * 3600)
    out.seal(1)
    out.seal(2)
    result = out.terminal.outbox.submit(out.transport)
    assert (result.acknowledged, result.refused, result.waiting, result.problem) == (0, 0, 2, None)
    out.clock.wait(2 * 3600)
    out.node_clock.wait(2 * 3600)
    assert out.terminal.outbox.submit(out.transport).acknowledged == 2


def test_a_clock_from_before_the_enrolment_seals_nothing(out: Field) -> None:
    out.clock.set(-NOW + 1_000)
    with pytest.raises(RecordRefused, match="set it right"):
        out.terminal.seal(report(1, occurred_at="1970-01-01T00:00:00Z"))
    assert out.terminal.status().waiting == 0


def test_older_than_the_terminal_may_be_offline_is_kept_and_said(out: Field) -> None:
    out.seal(1)
    out.node_clock.wait(31 * DAY)
    result = out.terminal.outbox.submit(out.transport)
    assert result.refused == 1
    (kept,) = out.terminal.status().refused
    assert kept.reason == "sealed-too-long-ago"
    assert kept.detail is not None


def test_the_clocks_difference_is_measured_and_recorded(out: Field) -> None:
    unknown = out.seal(1)
    out.clock.set(90)
    clock = out.terminal.clock_keeper.measure(out.transport)
    assert clock.offset_ms == 90_000
    out.clock.wait(3_600)
    out.node_clock.wait(3_600)
    known = out.seal(2)
    out.clock.set(-60)  # somebody corrects it a little, offline
    corrected = out.seal(3)
    out.clock.boot = "boot-2"
    restarted = out.seal(4)
    assert out.terminal.outbox.submit(out.transport).acknowledged == 4
    captures = [opened(out, s.record_id)["capture"] for s in (unknown, known, corrected, restarted)]
    assert [capture["clock"] for capture in captures] == ["unknown", "measured", "measured", "unknown"]
    assert [capture.get("clock_offset_ms") for capture in captures] == [None, 90_000, 30_000, None]
    assert captures[1]["clock_age_s"] == 3_600


# ---- two officers ------------------------------------------------------------------------------------------------


CONFIRMATIONS: dict[str, tuple[dict[str, str], type[Refusal], str]] = {
    "nobody": ({}, RecordRefused, "needs 2 officers"),
    "one": ({"XF0001": PINS["XF0001"]}, RecordRefused, "needs 2 officers"),
    "one with a wrong PIN": ({**PINS, "XF0002": "000000"}, KeyRefused, "PIN of officer XF0002 is wrong"),
    "somebody whom the record does not name": ({**PINS, "XF0003": "1"}, RecordRefused, "does not name them"),
    "the other's PIN": (dict(zip(PINS, reversed(PINS.values()), strict=True)), KeyRefused, "is wrong"),
}


@pytest.mark.parametrize("case", CONFIRMATIONS)
def test_a_finding_is_not_sealed_when_confirmed_by(out: Field, case: str) -> None:
    confirm, kind, words = CONFIRMATIONS[case]
    with pytest.raises(kind, match=words):
        out.terminal.seal(finding(1), key="n1", confirm=confirm)
    assert out.terminal.status().waiting == 0


def test_an_officer_unknown_to_the_terminal_cannot_confirm(out: Field) -> None:
    officers = [{"id": "XF0001", "name": "甲"}, {"id": "XF0009", "name": "丙"}]
    with pytest.raises(KeyRefused, match="not known at this terminal"):
        out.terminal.seal(finding(1, officers=officers), confirm={"XF0001": PINS["XF0001"], "XF0009": "123456"})


def test_pins_cannot_be_tried_out(out: Field) -> None:
    wrong = {**PINS, "XF0001": "999998"}
    for _ in range(PIN_TRIES):
        with pytest.raises(KeyRefused, match="is wrong"):
            out.terminal.seal(finding(1), confirm=wrong)
    with pytest.raises(KeyRefused, match="too many wrong PINs"):
        out.again().seal(finding(1), confirm=PINS)
    out.clock.wait(PIN_PAUSE_S + 1)
    assert out.terminal.seal(finding(1), confirm=PINS).new


def test_pins_are_not_kept_in_any_file(out: Field) -> None:
    assert not any(PINS["XF0001"] in json.dumps(kept) for kept in out.terminal.keys.officers.values())
    for pin in ("1", "111111", "121212", "x" * 65):
        with pytest.raises(Refusal, match="PIN"):
            out.terminal.officers.add("XF0003", "丙", pin)


def test_what_two_processes_add_is_all_kept(out: Field) -> None:
    one, other = out.terminal, open_terminal(out.directory, out.clock)
    one.officers.add("XF0003", "丙", "305284")
    other.officers.add("XF0004", "丁", "918273")
    again = open_terminal(out.directory, out.clock)
    assert set(again.officers.names()) == {"XF0001", "XF0002", "XF0003", "XF0004"}
    assert again.keys.enrolled
    other.close()
    again.close()


def test_other_types_need_nobody(out: Field) -> None:
    assert officers_needed(TYPES.get("inspection.report", 1)) == 0
    sealed = out.terminal.seal(report(1), operator="camera-7")
    assert out.terminal.outbox.submit(out.transport).acknowledged == 1
    assert opened(out, sealed.record_id)["capture"] == {
        "device": "pda-07",
        "clock": "unknown",
        "operator": "camera-7",
    }


# ---- what is not sealed ------------------------------------------------------------------------------------------


def test_the_terminal_checks_as_intake_does(out: Field) -> None:
    for record, reason in (
        (finding(1, result="perhaps"), "schema"),
        (finding(1, subjects=[{"kind": "uscc", "value": "91350100M000100Y44"}]), "bad-identifier"),
        (finding(1, occurred_at="2031-01-01T00:00:00Z"), "bad-time"),
        (finding(1, department="health"), "department"),
        (finding(1, attachments=[]), "attachments"),
        (finding(1, type="weather.report"), "unknown-type"),
    ):
        with pytest.raises(RecordRefused) as caught:
            out.terminal.seal(record, confirm=PINS)
        assert caught.value.reason == reason
    assert out.terminal.status().waiting == 0


def test_it_decides_by_the_list_of_matters_that_it_was_enrolled_with(out: Field) -> None:
    def listed(*periods: tuple[str, str]) -> None:
        held = {"version": 3, "periods": {"330299-XF-001": periods}}
        with out.terminal.keys._changing() as content:
            content["enrolled"]["matters"] = held
        out.again().officers._check_pin = lambda *_: None  # type: ignore[method-assign]

    listed(("2020-01-01", "2026-03-01"), ("2026-03-03", "9999-12-31"))
    with pytest.raises(RecordRefused, match="did not hold matter 330299-XF-001 on 2026-03-02") as caught:
        out.seal(1)
    assert caught.value.reason == "matter-not-held"
    listed(("2026-03-02", "2026-03-02"))
    out.seal(1)
    with pytest.raises(RecordRefused, match="does not have it"):
        out.terminal.seal(finding(2, matter="M-2"), confirm=PINS)


def test_a_newer_enrolment_brings_a_newer_list(out: Field, terminal_template: TerminalTemplate) -> None:
    asked, told = terminal_template.request, out.terminal.keys.enrolment()
    held = {"version": 4, "periods": {"M-2": [["2020-01-01", "9999-12-31"]]}}
    keys = {"index_key": out.parts.agent.index_key(), "recipient": b64decode(told["recipient"], "enrolment")}
    newer = Enrolment(**{**told, **keys, "matters": held})
    out.terminal.accept(newer.seal(asked, out.terminal.keys._content["code"]))
    with pytest.raises(RecordRefused, match="version 4"):
        out.seal(1)
    broken = Enrolment(**{**told, **keys, "matters": {"version": 5}})
    with pytest.raises(Malformed, match="list of matters"):
        out.terminal.accept(broken.seal(asked, out.terminal.keys._content["code"]))


def test_a_record_of_the_services_own_is_refused(out: Field) -> None:
    with pytest.raises(RecordRefused, match="only the service seals one"):
        out.terminal.seal(finding(1, type="disclosure.made"), confirm=PINS)


def test_a_terminal_that_is_not_enrolled_seals_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNXI_PASSPHRASE", PASSPHRASE)
    Terminal.create(tmp_path / "t", "fire", "pda-08")
    terminal = Terminal.open(tmp_path / "t")
    with pytest.raises(CouldNotRun, match="not enrolled"):
        terminal.seal(finding(1), confirm=PINS)
    assert not terminal.status().enrolled
    terminal.close()


# ---- killed anywhere ---------------------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from ledger.keys import FileKeyAgent
from tests.fixtures.parts import Parts
from tests.fixtures.terminals import PINS, Field, Hand, finding, open_terminal
from tests.fixtures.records import AttachmentSource
directory, photo, parts, url, keys, start, stop = sys.argv[1:]
terminal = open_terminal(Path(directory), Hand())
terminal.officers._check_pin = lambda *_: None  # a stretched PIN takes longer than all the rest
parts = Parts.open(Path(parts), url, FileKeyAgent.open(Path(keys)))
transport = Field(parts, Path(directory), terminal, None, Hand(), Hand()).transport
print("ready", flush=True)
for number in range(int(start), int(stop)):
    files = (AttachmentSource(Path(photo), "a.png", "image/png"),) if number % 5 == 0 else ()
    sealed = terminal.seal(finding(number), files, key=f"n{number}", confirm=PINS)
    print(sealed.record_id, flush=True)
    if number % 4 == 0:
        assert terminal.outbox.submit(transport).problem is None
"""


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_kill_9_while_sealing_and_submitting_loses_and_doubles_nothing(
    out: Field, template: Template, tmp_path: Path, kills: int
) -> None:
    photo, wanted, told, chance = tmp_path / "a.png", 60 * kills, dict[str, None](), random.Random(kills)
    photo.write_bytes(os.urandom(200_000))
    where = (out.directory, photo, out.parts.directory, out.parts.url, template.directory / "keys")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = 0
    while len(told) < wanted:
        command = [sys.executable, "-c", WORKER, *map(str, where), str(len(told)), str(wanted)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        if killed < kills:
            for _ in range(chance.randrange(1, 40)):  # sealing, submitting, uploading: anywhere
                told[worker.stdout.readline().strip()] = None
            time.sleep(chance.uniform(0, 0.05))
            worker.send_signal(signal.SIGKILL)
            killed += 1
        told |= dict.fromkeys(line.strip() for line in worker.stdout)
        told.pop("", None)
        assert worker.wait(60) in (0, -signal.SIGKILL)
        worker.stdout.close()
    assert killed == kills
    for _ in range(3):
        result = out.terminal.outbox.submit(out.transport)
    assert (result.waiting, result.refused, result.problem) == (0, 0, None)
    out.parts.check_log(wanted)
    assert set(told) == {item.record_id for item in out.terminal._queue.items("acknowledged")}
    found = out.parts.audit()
    assert (found.good, found.sealed_elsewhere) == (True, wanted)
    with out.parts.database.reading() as connection:
        for record_id in list(told)[::20]:
            record = out.reader.open(connection, record_id).record()
            for number, _ in enumerate(record.get("attachments", ()), 1):
                assert b"".join(out.reader.attachment(connection, record_id, number)) == photo.read_bytes()


def test_the_queue_is_synchronous(out: Field) -> None:
    mode = out.terminal._queue._connection.execute("PRAGMA synchronous").fetchone()[0]
    assert (mode, out.terminal._queue._connection.execute("PRAGMA journal_mode").fetchone()[0]) == (2, "wal")


def test_a_queue_that_is_torn_or_changed_anywhere_is_said_or_whole(out: Field, tmp_path: Path) -> None:
    """Cut at any place, or with any bytes changed: what is still given out is what was sealed, the rest is named."""
    path, key, chance = tmp_path / "q.sqlite", out.terminal.keys.secret("queue"), random.Random(1)
    whole = [out.terminal.seal(finding(n), confirm=PINS).record_id for n in range(3)]
    out.terminal.close()
    data = (out.directory / "queue.sqlite").read_bytes()
    torn = [data[:cut] for cut in (*range(0, len(data), 1024), *chance.sample(range(len(data)), 40))]
    for _ in range(300):
        place, size = chance.randrange(len(data)), chance.choice([1, 1, 16, 4096])
        size = min(size, len(data) - place)
        torn.append(data[:place] + chance.randbytes(size) + data[place + size :])
    said = 0
    for changed in torn:
        path.write_bytes(changed)
        queue = None
        try:
            queue = Queue(path, key, make=False)
            assert sum(queue.counts().values()) <= len(whole)
            for seq in queue.waiting(0, 100, 10**9):
                assert queue.submission(seq).key.startswith("terminal/")
        except (StorageFailed, RecordRefused) as error:
            said += 1
            assert str(error).endswith(("file", "copy", "new one")), error
        finally:
            if queue is not None:
                queue.close()
    assert said > 100
    out.again()


def test_two_at_once_on_one_queue_seal_each_key_once(out: Field) -> None:
    """Two processes of one terminal, here threads with objects of their own, seal the same and submit at once."""

    def work(_: int) -> dict[str, str]:
        terminal, kept = open_terminal(out.directory, out.clock), dict[str, str]()
        for number in range(15):
            content = without_id(report(number))
            while (key := f"n{number}") not in kept:
                with suppress(Conflict):  # the other was faster: sealed again, it is the same record
                    kept[key] = terminal.seal(content, key=key).record_id
        terminal.close()
        return kept

    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(work, range(2)))
    assert kept[0] == kept[1] and len(set(kept[0].values())) == 15
    other = open_terminal(out.directory, out.clock)
    first, second = out.terminal.outbox.submit(out.transport), other.outbox.submit(out.transport)
    other.close()
    assert (first.acknowledged, second.acknowledged, second.waiting) == (15, 0, 0)
    out.parts.check_log(15)


def without_id(record: dict[str, Any]) -> dict[str, Any]:
    """Each sealing draws an id of its own."""
    return {name: value for name, value in record.items() if name != "id"}


def test_a_queue_that_is_gone_is_not_taken_for_a_new_one(out: Field) -> None:
    out.terminal.close()
    for change in (lambda path: path.write_bytes(b""), lambda path: path.unlink()):
        kept = (out.directory / "queue.sqlite").read_bytes()
        change(out.directory / "queue.sqlite")
        with pytest.raises(StorageFailed, match="is gone, and with it what waited there"):
            open_terminal(out.directory, out.clock)
        (out.directory / "queue.sqlite").write_bytes(kept)
    out.again()


def test_a_record_in_no_known_state_is_not_overlooked(out: Field) -> None:
    out.terminal.seal(finding(1), confirm=PINS)
    out.terminal._queue._connection.execute("UPDATE items SET state = 'waitinf'")
    with pytest.raises(StorageFailed, match="no known state"):
        out.terminal.status()


def test_a_full_disk_loses_nothing_that_was_sealed(out: Field, tmp_path: Path) -> None:
    """Limited by the queue's own page count, as a disk that is full limits it."""
    sealed = [out.terminal.seal(finding(n), key=f"n{n}", confirm=PINS).record_id for n in range(2)]
    connection = out.terminal._queue._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed, match=r"full.*free space"):
        for number in range(2, 40):
            out.terminal._queue.set_fact("padding", "x" * 3000 * number)
    with pytest.raises(StorageFailed, match="free space"):
        sealed.extend(out.terminal.seal(finding(n), key=f"n{n}", confirm=PINS).record_id for n in range(2, 40))
    connection.execute("PRAGMA max_page_count = 1000000")
    out.terminal.seal(finding(99), confirm=PINS)
    assert out.terminal.outbox.submit(out.transport).acknowledged == len(sealed) + 1
    out.parts.check_log(len(sealed) + 1)


def test_a_stolen_directory_is_worth_nothing_without_the_passphrase(out: Field, tmp_path: Path) -> None:
    out.terminal.seal(finding(1), confirm=PINS)
    out.terminal.close()
    shutil.copytree(out.directory, tmp_path / "stolen")
    with pytest.raises(CouldNotRun, match="passphrase"):
        Terminal(tmp_path / "stolen", "another passphrase")
    queue = Queue(tmp_path / "stolen" / "queue.sqlite", bytes(32))
    with pytest.raises(RecordRefused, match="was changed in the terminal's queue"):
        queue.submission(queue.waiting(0, 1, 1)[0])
    queue.close()
    out.again()


def test_files_of_a_sealing_that_was_cut_off_are_swept(out: Field) -> None:
    left = out.directory / "files" / "left-1"
    left.write_bytes(b"x")
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    fresh = out.directory / "files" / "fresh-1"
    fresh.write_bytes(b"x")
    out.again()
    assert (left.exists(), fresh.exists()) == (False, True)
    assert open_terminal(out.directory, out.clock).status().waiting == 0
