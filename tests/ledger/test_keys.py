"""The key agent's file, the KEK ring, checkpoints signed by several at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ledger.checkpoints import sign_at
from ledger.errors import CouldNotRun, KeyRefused, PayloadInvalid
from ledger.formats.jwk import kid_of
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.keystore import KEYSTORE, PASSPHRASE_FILE, PASSPHRASE_VARIABLE, seal_secrets
from ledger.store.models import checkpoints, keks
from ledger.store.reading import read_logs
from tests.fixtures.nursery import ROOT
from tests.fixtures.parts import Parts, Template
from tests.fixtures.records import submissions


@pytest.fixture
def keys(template: Template, tmp_path: Path) -> Path:
    """A copy of the template's keystore, with `fire` and `health`."""
    return shutil.copytree(template.directory / "keys", tmp_path / "keys")


def test_a_keystore_opens_to_the_same_keys(keys: Path, template: Template) -> None:
    opened = FileKeyAgent.open(keys)
    for department in ("fire", "health"):
        assert opened.statement_signer(department).kid == template.agent.statement_signer(department).kid
        assert opened.log_signer(department).public == template.agent.log_signer(department).public
        assert opened.anchor_key(department) == template.agent.anchor_key(department)
        assert kid_of(opened.encryption_key(department)) == kid_of(template.agent.encryption_key(department))
    assert (opened.index_key(), opened.operator_key()) == (template.agent.index_key(), template.agent.operator_key())


def test_nobody_else_may_read_it(keys: Path) -> None:
    assert oct((keys / KEYSTORE).stat().st_mode & 0o777) == "0o600"
    assert oct((keys / PASSPHRASE_FILE).stat().st_mode & 0o777) == "0o600"


def test_no_key_stands_in_the_file(keys: Path, template: Template) -> None:
    stored = (keys / KEYSTORE).read_bytes()
    assert template.agent.index_key() not in stored
    assert set(json.loads(stored)) == {"kdf", "n", "r", "p", "suite", "salt", "nonce", "ciphertext"}


BROKEN = {
    "empty": (b"", "is damaged: restore it"),
    "not JSON": (b"{", "is damaged: restore it"),
    "a list": (b"[]", "is damaged: restore it"),
    "a member missing": (b'{"salt": "", "nonce": ""}', "is damaged: restore it"),
    "not base64": (b'{"salt": "!", "nonce": "", "ciphertext": ""}', "is damaged: restore it"),
    "not UTF-8": (b"\xff\xfe", "is damaged: restore it"),
    "a nonce too short": (b'{"salt": "", "nonce": "", "ciphertext": ""}', "is damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_keystore(keys: Path, name: str) -> None:
    data, words = BROKEN[name]
    (keys / KEYSTORE).write_bytes(data)
    with pytest.raises(CouldNotRun, match=words):
        FileKeyAgent.open(keys)


def test_a_changed_byte_of_the_keystore(keys: Path) -> None:
    stored = json.loads((keys / KEYSTORE).read_bytes())
    stored["ciphertext"] = "AAAA" + stored["ciphertext"][4:]
    (keys / KEYSTORE).write_text(json.dumps(stored))
    with pytest.raises(CouldNotRun, match=r"the passphrase does not open .*, or the file is damaged"):
        FileKeyAgent.open(keys)


def test_a_keystore_that_is_not_there(keys: Path) -> None:
    (keys / KEYSTORE).unlink()
    with pytest.raises(CouldNotRun, match=r"there is no keystore at .*: restore it from its backup"):
        FileKeyAgent.open(keys)


def test_a_keystore_that_cannot_be_read(keys: Path) -> None:
    (keys / KEYSTORE).unlink()
    (keys / KEYSTORE).mkdir()
    with pytest.raises(CouldNotRun, match="cannot be read: Is a directory"):
        FileKeyAgent.open(keys)


def test_passphrases(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "another one")
    with pytest.raises(CouldNotRun, match="the passphrase does not open"):
        FileKeyAgent.open(keys)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, (keys / PASSPHRASE_FILE).read_text())
    (keys / PASSPHRASE_FILE).unlink()
    FileKeyAgent.open(keys)
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    with pytest.raises(CouldNotRun, match=f"the keystore is locked: set {PASSPHRASE_VARIABLE} to its passphrase"):
        FileKeyAgent.open(keys)


def test_a_department_without_keys(keys: Path) -> None:
    with pytest.raises(KeyRefused, match="holds no keys of department 'police': run `yunxi department add`"):
        FileKeyAgent.open(keys).statement_signer("police")


def test_a_department_from_before_request_keys_gets_one(keys: Path) -> None:
    opened = FileKeyAgent.open(keys)
    before = opened.statement_signer("fire").kid
    del opened._keys["departments"]["fire"]["request"]
    seal_secrets(keys / KEYSTORE, (keys / PASSPHRASE_FILE).read_text(), opened._keys)
    with pytest.raises(KeyRefused, match="has no request key yet: run `yunxi department add` again"):
        opened.request_signer("fire")
    drawn = opened.create_department("fire")
    assert opened.request_signer("fire").kid == kid_of(drawn.request)
    assert opened.statement_signer("fire").kid == before


def test_a_department_that_another_process_added_is_seen(keys: Path) -> None:
    running, other = FileKeyAgent.open(keys), FileKeyAgent.open(keys)
    other.create_department("police")
    assert running.statement_signer("police").kid == other.statement_signer("police").kid


def test_adding_a_department_again_keeps_its_keys(keys: Path) -> None:
    opened = FileKeyAgent.open(keys)
    before = opened.statement_signer("fire").kid
    assert kid_of(opened.create_department("fire").statement) == before


ADD = """
import sys
from pathlib import Path
from ledger.keys import FileKeyAgent
agent = FileKeyAgent.open(Path(sys.argv[1]))
print(agent.create_department(sys.argv[2]) and agent.statement_signer(sys.argv[2]).kid)
"""


def test_processes_that_add_departments_at_once_lose_none(keys: Path) -> None:
    names = [f"dept-{n}" for n in range(4)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(keys), name], env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    kids = [process.communicate()[0].strip() for process in running]
    opened = FileKeyAgent.open(keys)
    assert [opened.statement_signer(name).kid for name in names] == kids


# ---- KEKs --------------------------------------------------------------------------------------------------------


def test_a_new_epoch_serves_new_records_and_old_ones_still_open(parts: Parts) -> None:
    old = parts.take(submissions(0, 2))
    with parts.database.writing() as connection:
        parts.keks.begin_epoch(connection, 1, "fire", 0)
    new = parts.take(submissions(2, 2))
    other = parts.again()
    with other.database.reading() as connection:
        for outcome in [*old, *new]:
            other.reader.open(connection, outcome.record_id)
    other.close()
    assert parts.audit().good


def test_an_epoch_that_was_not_committed_seals_nothing(parts: Parts) -> None:
    with pytest.raises(ZeroDivisionError), parts.database.writing() as connection:
        parts.keks.begin_epoch(connection, 1, "fire", 0)
        raise ZeroDivisionError
    other = parts.again()
    with other.database.writing() as connection:
        other.keks.begin_epoch(connection, 1, "fire", 0)
    taken = parts.take(submissions(0, 1))[0]
    with other.database.reading() as connection:
        assert other.reader.open(connection, taken.record_id).record()["id"] == taken.record_id
    other.close()
    assert parts.audit().good


def test_an_epoch_that_does_not_open_stops_sealing(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(update(keks).where(keks.c.log == 1).values(wrapped=bytes(80)))
    with pytest.raises(PayloadInvalid, match="does not open under the department's encryption key"):
        parts.submit(submissions(0, 1))
    parts.take(submissions(0, 1), "health")


def test_no_epoch_at_all(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(keks.delete())
    with (
        parts.database.reading() as connection,
        pytest.raises(PayloadInvalid, match="no key-encryption key: run `yunxi department add` again"),
    ):
        KekRing(parts.agent).current(connection, 1, "fire")


# ---- checkpoints -------------------------------------------------------------------------------------------------


def test_two_that_sign_at_once_sign_one_checkpoint(parts: Parts) -> None:
    parts.take(submissions(0, 5))
    notes: list[bytes] = []
    ready, errors = threading.Barrier(4), []

    def sign() -> None:
        other = parts.again()
        try:
            with other.database.reading() as connection:
                log = read_logs(connection, "fire")[0]
            ready.wait(10)
            with other.database.writing() as connection:
                notes.append(sign_at(connection, log, 5, parts.agent.log_signer("fire"), 0).note)
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)
        other.close()

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(notes) == 4
    assert len(set(notes)) == 1
    with parts.database.reading() as connection:
        assert len(connection.execute(select(checkpoints)).all()) == 1
