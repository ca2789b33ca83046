"""Forgers who own a node: its database, files, keys and operator; not the chain, nor what others were given.

One audit names each forgery with its first cause and nothing else. What rests on single bytes stands in
`test_node_tampering`, what rests on clocks and witnesses in `test_audit_forgeries`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from ledger.attachments import attachment_context
from ledger.audit import CRITICAL, WARNING, audit_nodes
from ledger.audit.chain import ChainRoots
from ledger.chain.contracts import EvidenceLogContract, department_bytes, deploy
from ledger.crypto.envelope import NONCE_BYTES, open_payload, seal_payload, unwrap_data_key
from ledger.crypto.stream import seal_stream
from ledger.errors import Refusal
from ledger.feeds import report_key
from ledger.formats.cosignature import cosign
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.note import COSIGNATURE_ED25519, VerifierKey
from ledger.formats.trust import Trust
from ledger.matter_lists import MatterList, Merged
from ledger.matters import Draft, Origin, _record, held_matters, list_key, newest_list, rebuild
from ledger.node import Node
from ledger.store.models import destructions, position_of
from ledger.store.reading import read_positions
from ledger.submission import draw_record_id, service_key
from ledger.trust import export_trust
from tests.attacks.world import (
    CASE,
    FEED,
    HELD_CASE,
    LOST_TERMINAL,
    OWN_RECORDS,
    OWN_TYPE,
    TERMINAL,
    Forger,
    World,
    make_world,
    write_own_type,
)
from tests.fixtures.cases import MATTER, OFFICERS, PHOTO, step
from tests.fixtures.exchange import KIND, LEAD, OTHER, OWNER, PURPOSE, TYPE, UNITS
from tests.fixtures.nodes import Rows, end_chain
from tests.fixtures.records import COMPANY, report


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("world")
    made = make_world(base)
    yield made
    end_chain(base / "node")


@pytest.fixture
def forger(world: World, tmp_path: Path) -> Forger:
    directory = world.built.copy(tmp_path / "forged")
    return Forger(world, directory, Rows(directory))


Forge = Callable[[Forger], object]


def at(forger: Forger, name: str | int) -> str:
    return f"position = {forger.position(name)}"


# ---- the vault, under the real keys ------------------------------------------------------------------------------


def data_key_of(forger: Forger, name: str | int) -> tuple[bytes, bytes, bytes]:
    """Statement, opened payload and data key of a record of `fire`."""
    row = forger.rows.all(
        "SELECT statement, payload, wrapped_key, epoch FROM entries JOIN vault USING (position) "
        f"WHERE {at(forger, name)}"
    )[0]
    node = forger.open()
    with node.database.reading() as connection:
        key = unwrap_data_key(node.keks.key(connection, forger.number(OWNER), OWNER, row[3]), row[2])
    node.close()
    return bytes(row[0]), open_payload(key, bytes(row[1]), bytes(row[0])), key


def payload(change: Callable[[list[bytes]], list[bytes]], name: str = "filed") -> Forge:
    """The disclosures of a record changed, and encrypted again under its own data key."""

    def forge(forger: Forger) -> None:
        statement, opened, key = data_key_of(forger, name)
        texts = change(opened.split(b"~")[:-1])
        sealed = seal_payload(key, os.urandom(NONCE_BYTES), b"~".join([*texts, b""]), statement)
        forger.rows.do(f"UPDATE vault SET payload = ? WHERE {at(forger, name)}", sealed)

    return forge


def edited(text: bytes, place: int, value: Any) -> bytes:
    members = json.loads(b64url_decode(text.decode(), "disclosure"))
    members[place] = value
    return b64url_encode(json.dumps(members, ensure_ascii=False).encode()).encode()


def swap_blobs(forger: Forger) -> None:
    one, two = (
        forger.rows.get(f"SELECT blob FROM attachments WHERE {at(forger, n)}") for n in ("photo", "other photo")
    )
    forger.rows.do(f"UPDATE attachments SET blob = ? WHERE {at(forger, 'photo')}", two)
    forger.rows.do(f"UPDATE attachments SET blob = ? WHERE {at(forger, 'other photo')}", one)


def seal_blob(name: str, data: bytes, number: int = 1) -> Forge:
    """Another file in an attachment's place, sealed under the record's own data key."""

    def forge(forger: Forger) -> None:
        _, _, key = data_key_of(forger, name)
        record_id = bytes(forger.rows.get(f"SELECT record_id FROM entries WHERE {at(forger, name)}")).hex()
        text = "-".join((record_id[:8], record_id[8:12], record_id[12:16], record_id[16:20], record_id[20:]))
        node = forger.open()
        blob = node.blobs.put(seal_stream(key, [data], attachment_context(text, number)))
        node.close()
        forger.rows.do(f"UPDATE attachments SET blob = ? WHERE {at(forger, name)} AND ordinal = {number}", blob)

    return forge


def run(statement: Callable[[Forger], str]) -> Forge:
    def forge(forger: Forger) -> None:
        assert forger.rows.do(statement(forger)) >= 1

    return forge


def seal(record: dict[str, Any], department: str = OWNER, **options: Any) -> Forge:
    return lambda forger: forger.seal(dict(record), department, **options)


# ---- disclosures -------------------------------------------------------------------------------------------------


def made(forger: Forger, **changes: Any) -> dict[str, Any]:
    """What `fire` says when it gives a page, as it said it before, with changes."""
    return told(forger, OWNER, "disclosure.made") | changes


def told(forger: Forger, department: str, kind: str) -> dict[str, Any]:
    node = forger.open()
    record = told_at(node, forger.find(department, kind))
    node.close()
    return record


def told_at(node: Node, position: int) -> dict[str, Any]:
    with node.database.reading() as connection:
        (row,) = read_positions(connection, [position])
        record = node.reader.open(connection, row.record_id).record()
    return {name: value for name, value in record.items() if name not in ("id", "attachments")}


def give(forger: Forger, both: bool = True, received: dict[str, Any] | None = None, **changes: Any) -> None:
    """Gives a page around the gateway, with both sides on record."""
    extraction = secrets.token_hex(16)
    said = made(forger, extraction=extraction, page=1, **changes)
    forger.seal(said, OWNER)
    if both:
        got = told(forger, LEAD, "disclosure.received") | {"extraction": extraction, "page": 1}
        got |= {name: said[name] for name in ("records", "sha256", "purpose")} | (received or {})
        forger.seal(got, LEAD)


def grant_too_late(forger: Forger) -> None:
    """A grant that the chain has now, dated back, for a page that was given before."""
    from ledger.chain.sharing_grants import SharingGrantsContract, Terms

    node = forger.open()
    contract = SharingGrantsContract.of(node.connect().consortium)
    now = int(time.time())
    terms = Terms(LEAD, now - 3600, now + 86_400, 10, (TYPE,), UNITS, (PURPOSE,), (KIND,))
    with pytest.raises(Refusal, match="the chain allows nothing before"):
        contract.grant(node.agent.governor_key(OWNER), OWNER, terms)
    number = contract.grant(node.agent.governor_key(OWNER), OWNER, replace(terms, valid_from=now))
    node.close()
    said = made(forger)
    types = said["grants"][0]["types"]
    extraction = secrets.token_hex(16)
    said |= {
        "extraction": extraction,
        "page": 1,
        "grants": [{"id": number, "types": types}],
    }
    forger.seal(said, OWNER, clock=lambda: time.time() - 40)
    got = told(forger, LEAD, "disclosure.received") | {"extraction": extraction, "page": 1}
    forger.seal(got | {"records": said["records"], "sha256": said["sha256"]}, LEAD)


def destroy(kind: str, department: str = OWNER, officers: Any = OFFICERS, empty: bool = True, **changes: Any) -> Forge:
    """A record gone, with a certificate that the department's own key signed; `kind`: its type, or its name."""

    def forge(forger: Forger) -> None:
        import hashlib

        position = forger.position(kind) if kind in forger.world.at else forger.find(department, kind)
        raw, statement = forger.rows.all(f"SELECT record_id, statement FROM entries WHERE position = {position}")[0]
        record_id = bytes(raw).hex()
        name = "-".join((record_id[:8], record_id[8:12], record_id[12:16], record_id[16:20], record_id[20:]))
        claims = json.loads(b64url_decode(bytes(statement).split(b".")[1].decode(), "payload"))
        certificate = {
            "type": "record.destroyed", "occurred_at": now_text(), "record": name,
            "leaf": hashlib.sha256(b"\0" + bytes(statement)).hexdigest(), "record_type": claims["type"],
            "reason_kind": "court-order", "basis": "某法院", "files": [],
            "remains": ["statement", "log-entry", "idempotency-key", "content-mark"],
        }  # fmt: skip
        certificate |= {m: claims[m] for m in ("case", "inspection") if m in claims}
        certificate |= {"officers": officers} if officers else {}

        def beside(connection: Any, by: int) -> None:
            connection.execute(insert(destructions).values(position=position, by_position=by))

        forger.seal(certificate | changes, department, key=service_key(f"destroyed/{name}"), beside=beside)
        if empty:
            forger.rows.do(f"UPDATE vault SET wrapped_key = NULL, payload = x'' WHERE position = {position}")
            forger.rows.do(f"DELETE FROM attachments WHERE position = {position}")

    return forge


def now_text() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


NOTE = {"type": "note.added", "occurred_at": "2026-03-04T09:15:00+08:00", "text": "伪造。"}
DECISION = step(
    "decision.made",
    5,
    CASE,
    matter=MATTER,
    subjects=[COMPANY],
    officers=OFFICERS,
    decision_number="望消罚〔2026〕8号",
    outcomes=["fine"],
    fine_fen=100,
)


def decide_without_the_photo(forger: Forger) -> None:
    """A decision frozen by hand, whose manifest leaves out one record of the case."""
    import hashlib

    from ledger.formats.manifest import NAME
    from ledger.formats.tiles import tree_root
    from ledger.freeze import case_lines
    from ledger.store.reading import StoredTiles, read_logs

    node = forger.open()
    with node.database.reading() as connection:
        log = read_logs(connection, OWNER)[0]
        lines = [
            line
            for line in case_lines(connection, log.number, CASE, log.size)
            if line.index != forger.world.at["photo"]
        ]
        root = tree_root(log.size, StoredTiles(connection, log.number))
    node.close()
    text = b"".join(line.encode() for line in lines)
    digest = hashlib.sha256(text).hexdigest()
    member = {"size": log.size, "root": root.hex(), "count": len(lines), "sha256": digest}
    forger.seal(DECISION | {"manifest": member}, files={NAME: text})


def rename_key(name: str, key: str) -> Forge:
    return run(lambda f: f"UPDATE entries SET key = '{key}' WHERE {at(f, name)}")


def second_log(forger: Forger) -> None:
    """Another log of `fire` in the same database."""
    rows = forger.rows
    rows.do("CREATE TABLE logs2 AS SELECT * FROM logs")
    rows.do("DROP TABLE logs")
    rows.do("ALTER TABLE logs2 RENAME TO logs")
    rows.do(
        "INSERT INTO logs SELECT 77, department, origin, 0, x'"
        + __import__("hashlib").sha256(b"").hexdigest()
        + "', NULL FROM logs WHERE department = 'fire'"
    )


def replay(forger: Forger) -> None:
    """A record appended once more, as it stands."""
    from ledger.formats.merkle import leaf_hash
    from ledger.seal import Sealed
    from ledger.sequencer import Arrival, Sequencer, lock_head

    forger.rows.do("DROP INDEX entries_record")
    p = forger.position("held")
    raw, statement, mark = forger.rows.all(
        f"SELECT record_id, statement, content_mark FROM entries WHERE position = {p}"
    )[0]
    epoch, wrapped, sealed_payload = forger.rows.all(
        f"SELECT epoch, wrapped_key, payload FROM vault WHERE position = {p}"
    )[0]
    node = forger.open()
    with node.database.writing() as connection:
        head = lock_head(connection, OWNER)
        sealed = Sealed(
            bytes(raw).hex(),
            bytes(statement),
            leaf_hash(bytes(statement)),
            bytes(sealed_payload),
            bytes(wrapped),
            epoch,
            HELD_CASE,
        )
        Sequencer().append(connection, head, [Arrival(sealed, "again", bytes(mark), ())], int(time.time() * 1000))
    node.close()


def checkpoint_gone(forger: Forger) -> None:
    sizes = [
        s
        for (s,) in forger.rows.all(
            "SELECT anchors.size FROM anchors JOIN logs USING (log) WHERE department = 'fire' ORDER BY 1"
        )
    ]
    for table in ("checkpoints", "anchors", "cosignatures"):
        forger.rows.do(f"DELETE FROM {table} WHERE log = {forger.number(OWNER)} AND size = {sizes[-2]}")


def newest_cosignatures_gone(forger: Forger) -> None:
    number = forger.number(OWNER)
    newest = forger.rows.get(f"SELECT max(size) FROM cosignatures WHERE log = {number}")
    witness = forger.rows.all(
        f"SELECT witness FROM cosignatures WHERE log = {number} AND size = {newest} ORDER BY witness"
    )[0][0]
    assert (
        forger.rows.do(f"DELETE FROM cosignatures WHERE log = {number} AND size = {newest} AND witness = ?", witness)
        == 1
    )


def another_department_signs(forger: Forger) -> None:
    """A record of `fire` under the statement key of `health`."""
    agent = forger.world.built.agent
    forger.seal(NOTE, signer=agent.statement_signer(OTHER))


def move_to(forger: Forger) -> None:
    """The newest record of `health` moved to the end of the log of `fire`, tree and head with it."""
    from ledger.formats.merkle import leaf_hash
    from ledger.seal import Sealed
    from ledger.sequencer import Arrival, Sequencer, lock_head

    p = position_of(forger.number(OTHER), 0)
    raw, statement, mark, key = forger.rows.all(
        f"SELECT record_id, statement, content_mark, key FROM entries WHERE position = {p}"
    )[0]
    epoch, wrapped, text = forger.rows.all(f"SELECT epoch, wrapped_key, payload FROM vault WHERE position = {p}")[0]
    for table in ("entries", "vault"):
        forger.rows.do(f"DELETE FROM {table} WHERE position = {p}")
    node = forger.open()
    with node.database.writing() as connection:
        head = lock_head(connection, OWNER)
        sealed = Sealed(
            bytes(raw).hex(), bytes(statement), leaf_hash(bytes(statement)), bytes(text), bytes(wrapped), epoch, None
        )
        Sequencer().append(connection, head, [Arrival(sealed, key, bytes(mark), ())], int(time.time() * 1000))
    node.close()


def disclosures_of(index: int, value: Any) -> Forge:
    """A record one of whose disclosures has another form."""
    return lambda forger: forger.seal(NOTE, raw=lambda texts: [edited(texts[0], index, value), *texts[1:]])


def company_hidden(forger: Forger) -> None:
    """A report on a company whose blind index is left out, so that nobody who asks for the company finds it."""
    hidden = report(1, summary="hidden")
    forger.seal(hidden, change=lambda record: {**record, "subjects": []})


def shown_in_another_unit(forger: Forger) -> None:
    """The result of a report in the unit of its time, so that whoever may see the one sees the other."""

    def move(texts: list[bytes]) -> list[bytes]:
        read = [json.loads(b64url_decode(text.decode(), "disclosure")) for text in texts]
        result = next(each for each in read if each[1] == "result")
        when = next(each for each in read if each[1] == "when")
        when[2] |= result[2]
        return [b64url_encode(json.dumps(each).encode()).encode() for each in read if each is not result]

    forger.seal(report(2), raw=move)


def matter_added(forger: Forger) -> None:
    number = forger.number(OWNER)
    forger.rows.do(
        "INSERT INTO matters SELECT log, '330299-XF-999', effective_from, effective_to, name, kind, legal_basis, level "
        f"FROM matters WHERE log = {number}"
    )


def early_cosignature(forger: Forger) -> None:
    """A witness of the node says that it saw a checkpoint ten days ago."""
    number = forger.number(OWNER)
    size, witness = forger.rows.all(
        f"SELECT size, witness FROM cosignatures WHERE log = {number} ORDER BY size, witness"
    )[0]
    note = bytes(forger.rows.get(f"SELECT note FROM checkpoints WHERE log = {number} AND size = {size}"))
    at = int(time.time()) - 864_000
    vkey = VerifierKey.parse(witness)
    department = vkey.name.split("/")[1]
    signer = forger.world.built.agent.witness_signer(department)
    line = cosign(note.partition(b"\n\n")[0] + b"\n", at, vkey.name, signer.public, signer.sign)
    forger.rows.do(
        f'UPDATE cosignatures SET line = ?, "time" = ? WHERE log = {number} AND size = {size} AND witness = ?',
        line,
        at,
        witness,
    )


def in_toml(old: str, new: str) -> Forge:
    """One line of node.toml, which begins so."""

    def forge(forger: Forger) -> None:
        path = forger.directory / "node.toml"
        lines = path.read_text().splitlines()
        assert any(line.startswith(old) for line in lines)
        path.write_text("\n".join(new if line.startswith(old) else line for line in lines) + "\n")

    return forge


def own_type(change: Callable[[dict[str, Any]], None]) -> Forge:
    """The file of the node's own type written anew."""
    return lambda forger: write_own_type(forger.directory, change)


def strike(schema: dict[str, Any], member: str) -> None:
    for part in ("properties", "x-units", "x-unit-titles"):
        del schema[part][member]


def strike_unit(schema: dict[str, Any], unit: str, into: str) -> None:
    schema["x-units"][into] += schema["x-units"].pop(unit)
    del schema["x-unit-titles"][unit]


def past_list(forger: Forger) -> None:
    """The next list of matters, which holds one since 2019; its record says nothing of that, and the tables follow."""
    node = forger.open()
    number = forger.number(OWNER)
    with node.database.reading() as connection:
        held = held_matters(connection, number)
        before = newest_list(connection, number)
    node.close()
    assert before is not None
    moved = tuple(replace(matter, effective_from=date(2019, 1, 1)) for matter in held)
    made = MatterList(OWNER, before.version + 1, before.as_of, moved)
    merged = Merged(made.matters, (), (), ())
    record = _record(Draft(number, before, made, merged), hashlib.sha256(made.serialize()).digest(),
                     Origin("list.xlsx", bytes(32)), time.time())  # fmt: skip
    forger.seal(record, key=service_key(list_key(made.version)), files={"matters.json": made.serialize()})
    node = forger.open()
    rebuild(node.database, node.reader, OWNER)
    node.close()


def feed_forged(forger: Forger, seq: int, totals: int | None = None, key: str | None = None) -> None:
    """A report of the feed on nothing, which follows the last one in all but `seq` and what is said."""
    node = forger.open()
    last = told_at(node, forger.position("report 2"))
    node.close()
    nothing = dict.fromkeys(last["counts"], 0)
    record = {name: value for name, value in last.items() if name != "id"}
    record |= {"seq": seq, "since": last["occurred_at"], "counts": nothing, "log_rows": 0, "log_from": last["log_to"]}
    if totals is not None:
        record["totals"] = nothing
    forger.seal(record, key=service_key(key or report_key(FEED, seq)))


# a sentence -> (what is done, kind of the first cause, its severity, part of its sentence, every finding of each log)
FORGERIES: dict[str, tuple[Forge, str, str, str, dict[str, dict[str, int]]]] = {
    "a disclosure left out of a payload": (
        payload(lambda t: t[1:]),
        "payload-changed",
        CRITICAL,
        "not those of the statement",
        {"fire": {"payload-changed": 1}},
    ),
    "a disclosure that says otherwise": (
        payload(lambda t: [edited(t[0], 2, {"occurred_at": "2026-03-05T00:00:00Z"}), *t[1:]]),
        "payload-changed",
        CRITICAL,
        "not those",
        {"fire": {"payload-changed": 1}},
    ),
    "another salt": (
        payload(lambda t: [edited(t[0], 0, "AAAAAAAAAAAAAAAAAAAAAA"), *t[1:]]),
        "payload-changed",
        CRITICAL,
        "not those",
        {"fire": {"payload-changed": 1}},
    ),
    "a disclosure too many": (
        payload(lambda t: [*t, edited(t[0], 1, "more")]),
        "payload-changed",
        CRITICAL,
        "not those",
        {"fire": {"payload-changed": 1}},
    ),
    "a disclosure twice": (
        payload(lambda t: [*t, t[0]]),
        "payload-changed",
        CRITICAL,
        "not those",
        {"fire": {"payload-changed": 1}},
    ),
    "the files of two records exchanged": (
        swap_blobs,
        "attachment-changed",
        CRITICAL,
        "attachment 1",
        {"fire": {"attachment-changed": 2}},
    ),
    "another file under the record's own key": (
        seal_blob("photo", PHOTO + b"x"),
        "attachment-changed",
        CRITICAL,
        "not the file",
        {"fire": {"attachment-changed": 1}},
    ),
    "an attachment that its record does not name": (
        run(
            lambda f: (
                f"INSERT INTO attachments SELECT {f.position('filed')}, 1, blob, NULL FROM attachments "
                f"WHERE {at(f, 'photo')} AND ordinal = 1"
            )
        ),
        "attachment-unknown",
        CRITICAL,
        "names 0",
        {"fire": {"attachment-unknown": 1}},
    ),
    "a row of the vault behind the head": (
        run(
            lambda f: (
                f"INSERT INTO vault SELECT {f.position(5000)}, epoch, wrapped_key, payload FROM vault "
                f"WHERE {at(f, 'filed')}"
            )
        ),
        "rows-beyond-head",
        CRITICAL,
        "vault",
        {"fire": {"rows-beyond-head": 1}},
    ),
    "an entry of a case behind the head": (
        run(lambda f: f"INSERT INTO case_entries VALUES ({f.number(OWNER)}, '{CASE}', {f.position(5000)})"),
        "rows-beyond-head",
        CRITICAL,
        "case_entries",
        {"fire": {"rows-beyond-head": 1}},
    ),
    "a manifest swapped in its file": (
        seal_blob("decision", b""),
        "attachment-changed",
        CRITICAL,
        "not the file",
        {"fire": {"attachment-changed": 1, "manifest-wrong": 1}},
    ),
    "a record that its type does not allow": (
        seal(NOTE | {"text": 7}),
        "record-invalid",
        CRITICAL,
        "$.text",
        {"fire": {"record-invalid": 1}},
    ),
    "a record dated tomorrow": (
        seal(NOTE | {"occurred_at": "2099-01-01T00:00:00Z"}),
        "record-invalid",
        CRITICAL,
        "occurred_at",
        {"fire": {"record-invalid": 1}},
    ),
    "a record of a type that there is not": (
        seal({"type": "note.secret", "occurred_at": "2026-03-04T09:15:00+08:00"}),
        "type-unknown",
        CRITICAL,
        "does not know",
        {"fire": {"type-unknown": 1}},
    ),
    "a company hidden from whoever asks": (
        company_hidden,
        "subjects-differ",
        CRITICAL,
        "misses it",
        {"fire": {"subjects-differ": 1}},
    ),
    "a company accused in an index only": (
        seal(NOTE, change=lambda r: {**r, "subjects": [COMPANY]}),
        "subjects-differ",
        CRITICAL,
        "blind indexes",
        {"fire": {"subjects-differ": 1}},
    ),
    "a member shown in another unit": (
        shown_in_another_unit,
        "record-invalid",
        CRITICAL,
        "puts elsewhere",
        {"fire": {"record-invalid": 1}},
    ),
    "a disclosure that is a number": (
        disclosures_of(2, 7),
        "payload-changed",
        CRITICAL,
        "is not a unit",
        {"fire": {"payload-changed": 1}},
    ),
    "a disclosure of a unit that is a list": (
        disclosures_of(1, ["when"]),
        "payload-changed",
        CRITICAL,
        "is not a unit",
        {"fire": {"payload-changed": 1}},
    ),
    "a decision that froze nothing": (
        seal(DECISION),
        "manifest-missing",
        CRITICAL,
        "froze nothing",
        {"fire": {"manifest-missing": 1}},
    ),
    "a decision frozen without one of its records": (
        decide_without_the_photo,
        "manifest-wrong",
        CRITICAL,
        "omits record",
        {"fire": {"manifest-wrong": 1}},
    ),
    "evidence moved in front of the decision": (
        run(lambda f: f"INSERT INTO case_entries VALUES ({f.number(OWNER)}, '{CASE}', {f.position(3)})"),
        "case-entry-differs",
        CRITICAL,
        "has entry 3",
        {"fire": {"case-entry-differs": 1, "manifest-wrong": 1}},
    ),
    "evidence taken out of the case": (
        run(lambda f: f"DELETE FROM case_entries WHERE {at(f, 'photo')}"),
        "case-entry-differs",
        CRITICAL,
        "lacks entry",
        {"fire": {"manifest-wrong": 1, "case-entry-differs": 1}},
    ),
    "a record sealed under another department's key": (
        another_department_signs,
        "statement-changed",
        CRITICAL,
        "not the department's",
        {"fire": {"statement-changed": 1}},
    ),
    "a record of another department in the log": (
        move_to,
        "statement-changed",
        CRITICAL,
        "not the department's",
        {"fire": {"statement-changed": 1}, "health": {"entry-missing": 1, "projection-differs": 1}},
    ),
    "a record appended twice": (replay, "record-twice", CRITICAL, "more than once", {"fire": {"record-twice": 1}}),
    "a refusal destroyed, with a certificate": (
        destroy("disclosure.refused", OTHER),
        "kept-destroyed",
        CRITICAL,
        "such records are kept",
        {"health": {"kept-destroyed": 1}},
    ),
    "a disclosure destroyed, with a certificate": (
        destroy("disclosure.made"),
        "kept-destroyed",
        CRITICAL,
        "such records are kept",
        {"licensing": {"not-made": 1}, "fire": {"kept-destroyed": 1}},
    ),
    "a receipt of the requester destroyed": (
        destroy("disclosure.received", LEAD),
        "kept-destroyed",
        CRITICAL,
        "such records are kept",
        {"licensing": {"kept-destroyed": 1}},
    ),
    "a hold destroyed, with a certificate": (
        destroy("hold"),
        "kept-destroyed",
        CRITICAL,
        "hold.placed",
        {"fire": {"kept-destroyed": 1, "holds-differ": 1}},
    ),
    "a record under a hold destroyed, the hold's row gone": (
        lambda f: (f.rows.do("DELETE FROM holds"), destroy("held")(f)),
        "holds-differ",
        CRITICAL,
        "legal holds",
        {"fire": {"destroyed-on-hold": 1, "holds-differ": 1}},
    ),
    "a certificate of one officer": (
        destroy("after", officers=OFFICERS[:1]),
        "certificate-wrong",
        CRITICAL,
        "two officers",
        {"fire": {"certificate-wrong": 1}},
    ),
    "a certificate of a record that is still there": (
        destroy("after", empty=False),
        "not-destroyed",
        CRITICAL,
        "is stored",
        {"fire": {"not-destroyed": 1}},
    ),
    "a certificate of another leaf": (
        destroy("after", leaf="00" * 32),
        "payload-missing",
        CRITICAL,
        "no certificate",
        {"fire": {"payload-missing": 1, "certificate-wrong": 1, "destruction-differs": 1}},
    ),
    "a row that says a record was forgotten": (
        run(lambda f: f"INSERT INTO destructions VALUES ({f.position('filed')}, {f.position('certificate')})"),
        "destruction-differs",
        CRITICAL,
        "no certificate says so",
        {"fire": {"destruction-differs": 1}},
    ),
    "a certificate's row gone": (
        run(lambda f: "DELETE FROM destructions"),
        "payload-missing",
        CRITICAL,
        "no certificate",
        {"fire": {"payload-missing": 1}},
    ),
    "a hold removed": (
        run(lambda f: "DELETE FROM holds"),
        "holds-differ",
        CRITICAL,
        "legal holds",
        {"fire": {"holds-differ": 1}},
    ),
    "a hold lifted in the table": (
        run(lambda f: f"UPDATE holds SET lifted_by = {f.position('certificate')}"),
        "holds-differ",
        CRITICAL,
        "legal holds",
        {"fire": {"holds-differ": 1}},
    ),
    "a hold on another case": (
        run(lambda f: "UPDATE holds SET value = 'X-1'"),
        "holds-differ",
        CRITICAL,
        "legal holds",
        {"fire": {"holds-differ": 1}},
    ),
    "a page given without a grant": (
        lambda f: give(f, grants=[]),
        "not-granted",
        CRITICAL,
        "without a grant",
        {"fire": {"not-granted": 30}},
    ),
    "a page under a grant that there is not": (
        lambda f: give(f, grants=[{"id": 999, "types": [TYPE]}]),
        "grant-unknown",
        CRITICAL,
        "no grant 999",
        {"fire": {"grant-unknown": 1, "not-granted": 30}},
    ),
    "a page for another purpose": (
        lambda f: give(f, purpose="case-handling"),
        "not-granted",
        CRITICAL,
        "without a grant",
        {"fire": {"not-granted": 30}},
    ),
    "more units than were granted": (
        lambda f: give(f, records=[{**made(f)["records"][0], "units": ["summary"]}]),
        "not-granted",
        CRITICAL,
        "without a grant",
        {"fire": {"not-granted": 1}},
    ),
    "a grant dated back for a page given before": (
        grant_too_late,
        "grant-not-in-force",
        CRITICAL,
        "not in force",
        {"fire": {"grant-not-in-force": 1, "not-granted": 30, "rate-exceeded": 1}},
    ),
    "an emergency that nobody recorded": (
        lambda f: give(f, grants=[], emergency={"id": draw_record_id(time.time()), "types": [TYPE]}),
        "emergency-unknown",
        CRITICAL,
        "knows no such emergency",
        {"fire": {"emergency-unknown": 1}},
    ),
    "a page that its owner does not know of": (
        lambda f: f.seal(told(f, LEAD, "disclosure.received") | {"extraction": "ab" * 16}, LEAD),
        "not-made",
        CRITICAL,
        "does not say so",
        {"licensing": {"not-made": 1}},
    ),
    "a page on record twice": (lambda f: f.seal(made(f)), "twice", CRITICAL, "twice", {"fire": {"twice": 1}}),
    "the requester names another digest": (
        lambda f: give(f, received={"sha256": "00" * 32}),
        "digest-differs",
        CRITICAL,
        "different digests",
        {"fire": {"digest-differs": 1}},
    ),
    "the requester lists other records": (
        lambda f: give(
            f, received={"records": [{**told(f, LEAD, "disclosure.received")["records"][0], "units": ["when"]}]}
        ),
        "records-differ",
        CRITICAL,
        "different records",
        {"fire": {"records-differ": 1}},
    ),
    "a disclosure that is no such record": (
        seal({"type": "disclosure.made", "occurred_at": "2026-03-04T09:15:00+08:00"}),
        "record-invalid",
        CRITICAL,
        "$",
        {"fire": {"record-invalid": 1}},
    ),
    "a feed's newest report under another key": (
        rename_key("report 2", "yunxi:x"),
        "key-changed",
        CRITICAL,
        "is found under",
        {"fire": {"key-changed": 1}},
    ),
    "a feed's report that says nothing": (
        seal(
            {"type": "feed.report", "occurred_at": "2026-03-04T09:15:00+08:00", "feed": FEED},
            key=service_key(f"feed-report/{FEED}/3"),
        ),
        "record-invalid",
        CRITICAL,
        "feed.report",
        {"fire": {"record-invalid": 1, "feed-report-unreadable": 1}},
    ),
    "a matter that no list has": (
        matter_added,
        "matters-differ",
        CRITICAL,
        "330299-XF-999",
        {"fire": {"matters-differ": 1}},
    ),
    "a matter held for longer": (
        run(lambda f: "UPDATE matters SET effective_from = '2019-01-01'"),
        "matters-differ",
        CRITICAL,
        "330299-XF-001",
        {"fire": {"matters-differ": 1}},
    ),
    "a list that nobody published": (
        run(lambda f: "INSERT INTO matter_lists SELECT log, 2, sha256, as_of, published_at FROM matter_lists"),
        "matters-differ",
        CRITICAL,
        "has 2",
        {"fire": {"matters-differ": 1}},
    ),
    "a list under another key": (
        lambda f: f.rows.do("UPDATE entries SET key = 'x' WHERE key LIKE '%matters.published%'"),
        "key-changed",
        CRITICAL,
        "is found under",
        {"fire": {"key-changed": 1, "matters-differ": 1}},
    ),
    "a terminal's key dated back": (
        run(lambda f: f"UPDATE terminals SET valid_from = valid_from - 86400 WHERE name = '{TERMINAL}'"),
        "terminal-changed",
        CRITICAL,
        TERMINAL,
        {"fire": {"terminal-changed": 1}},
    ),
    "a checkpoint gone, with everything that names it": (
        checkpoint_gone,
        "checkpoint-missing",
        WARNING,
        "is gone",
        {"fire": {"checkpoint-missing": 1}},
    ),
    "the newest cosignature gone": (
        newest_cosignatures_gone,
        "cosignature-missing",
        CRITICAL,
        "is the newest",
        {"fire": {"cosignature-missing": 1}},
    ),
    "a company taken out of the index": (
        run(lambda f: f"DELETE FROM subject_entries WHERE {at(f, 'filed')}"),
        "projection-differs",
        CRITICAL,
        "lacks a row",
        {"fire": {"projection-differs": 1}},
    ),
    "a company put into the index": (
        run(lambda f: f"UPDATE subject_entries SET subject = zeroblob(16) WHERE {at(f, 'filed')}"),
        "projection-differs",
        CRITICAL,
        "a row of entry",
        {"fire": {"projection-differs": 2}},
    ),
    "a checkpoint dated before its key": (
        run(
            lambda f: (
                f"UPDATE checkpoints SET signed_at = signed_at - 864000 WHERE log = {f.number(OWNER)} "
                f"AND size = (SELECT max(size) FROM anchors WHERE log = {f.number(OWNER)})"
            )
        ),
        "key-not-valid",
        CRITICAL,
        "not the log's",
        {"fire": {"key-not-valid": 1}},
    ),
    "a cosignature from before its key": (
        early_cosignature,
        "key-not-valid",
        CRITICAL,
        "while its key was not registered",
        {"fire": {"key-not-valid": 1, "clock-apart": 1}},
    ),
    "another chain in its place": (
        in_toml("genesis = ", 'genesis = "0x' + "ab" * 32 + '"'),
        "chain-replaced",
        CRITICAL,
        "it was reset or replaced",
        {"licensing": {"chain-replaced": 1}},
    ),
    "a terminal revoked earlier than it was": (
        run(lambda f: "UPDATE terminals SET revoked_at = revoked_at - 86400 WHERE revoked_at IS NOT NULL"),
        "terminal-ended",
        WARNING,
        LOST_TERMINAL,
        {"fire": {"terminal-ended": 1}},
    ),
    "a terminal revoked later than it was": (
        run(lambda f: "UPDATE terminals SET revoked_at = revoked_at + 86400 WHERE revoked_at IS NOT NULL"),
        "terminal-changed",
        CRITICAL,
        LOST_TERMINAL,
        {"fire": {"terminal-changed": 1}},
    ),
    "a terminal revoked in the table alone": (
        run(lambda f: f"UPDATE terminals SET revoked_at = 1780000000 WHERE name = '{TERMINAL}'"),
        "terminal-ended",
        WARNING,
        "still in force in the registry",
        {"fire": {"terminal-ended": 1}},
    ),
    "a revoked terminal that may hand in again": (
        run(lambda f: "UPDATE terminals SET revoked_at = NULL"),
        "terminal-ended",
        WARNING,
        "still takes from it",
        {"fire": {"terminal-ended": 1}},
    ),
    "a member struck out of a type's file": (
        own_type(lambda schema: strike(schema, "visitors")),
        "record-invalid",
        CRITICAL,
        "or the type's file was changed",
        {"fire": {"record-invalid": OWN_RECORDS}},
    ),
    "the units of a type's file moved": (
        own_type(lambda schema: strike_unit(schema, "visitors", "text")),
        "record-invalid",
        CRITICAL,
        "puts elsewhere",
        {"fire": {"record-invalid": OWN_RECORDS}},
    ),
    "a type's file gone": (
        lambda f: (f.directory / "types" / f"{OWN_TYPE}.v1.json").unlink(),
        "type-unknown",
        CRITICAL,
        "does not know",
        {"fire": {"type-unknown": OWN_RECORDS}},
    ),
    "a list of matters dated back": (
        run(lambda f: "UPDATE matter_lists SET published_at = published_at - 86400000"),
        "matters-differ",
        CRITICAL,
        "at another time",
        {"fire": {"matters-differ": 1}},
    ),
    "a list that moves days in the past without a word": (
        past_list,
        "matters-differ",
        CRITICAL,
        "says nothing",
        {"fire": {"matters-differ": 1}},
    ),
    "a record in a dossier that no extraction brought": (
        run(
            lambda f: (
                "INSERT INTO dossier_entries SELECT log, kind, lead, number, owner, "
                "'01900000-0000-7000-8000-000000000000', type, units, received_position, received_id, received_at "
                "FROM dossier_entries LIMIT 1"
            )
        ),
        "projection-differs",
        CRITICAL,
        "dossier_entries has a row",
        {"licensing": {"projection-differs": 1}},
    ),
    "a unit more in a dossier than was given": (
        run(lambda f: "UPDATE dossier_entries SET units = '[\"summary\"]' WHERE rowid = 1"),
        "projection-differs",
        CRITICAL,
        "dossier_entries",
        {"licensing": {"projection-differs": 2}},
    ),
    "a feed's report with a number left out": (
        lambda f: feed_forged(f, 4),
        "feed-report-missing",
        CRITICAL,
        "report 3 is missing",
        {"fire": {"feed-report-missing": 1}},
    ),
    "a feed that counts anew": (
        lambda f: feed_forged(f, 3, totals=1),
        "feed-totals-differ",
        WARNING,
        "totals",
        {"fire": {"feed-totals-differ": 1}},
    ),
    "a feed begun again under its own name": (
        lambda f: feed_forged(f, 1, key=report_key(FEED, 3)),
        "key-changed",
        CRITICAL,
        "is found under",
        {"fire": {"key-changed": 1, "feed-report-renamed": 1}},
    ),
    "a second log of the department": (second_log, "log-twice", CRITICAL, "second log", {"fire": {"log-twice": 1}}),
}


@pytest.mark.slow  # a hundred seconds; the next test does most of them on one copy
@pytest.mark.parametrize("name", FORGERIES)
def test_one_command_names(forger: Forger, name: str) -> None:
    forge, kind, severity, words, every = FORGERIES[name]
    forge(forger)
    found = forger.audit()
    causes = found.causes()
    assert causes, "nothing was found"
    first = causes[0].first
    assert ((first.kind, first.severity), words in first.sentence) == ((kind, severity), True), causes
    counts = {log.department: dict(log.counts) for log in found.logs if log.counts}
    assert counts == every


TOGETHER = (
    "a disclosure left out of a payload", "the files of two records exchanged",
    "a row of the vault behind the head", "a record that its type does not allow",
    "a record of a type that there is not", "a company hidden from whoever asks", "a decision that froze nothing",
    "a record sealed under another department's key", "a certificate of one officer",
    "a row that says a record was forgotten", "a hold removed", "a page given without a grant",
    "a feed's newest report under another key", "a matter that no list has", "a terminal's key dated back",
    "a checkpoint gone, with everything that names it", "the newest cosignature gone",
    "a company taken out of the index",
)  # fmt: skip
"""Forgeries that leave each other alone."""


def test_many_at_once_are_each_named(forger: Forger) -> None:
    wanted: dict[str, Counter[str]] = {}
    for name in TOGETHER:
        FORGERIES[name][0](forger)
        for department, counts in FORGERIES[name][4].items():
            wanted[department] = wanted.get(department, Counter()) + Counter(counts)
    found = forger.audit()
    assert {log.department: log.counts for log in found.logs if log.counts} == wanted
    kinds = {cause.first.kind for cause in found.causes()}
    assert kinds <= {FORGERIES[name][1] for name in TOGETHER}


def test_a_good_node_gives_nothing(forger: Forger) -> None:
    node = forger.open()
    trust = export_trust(node)
    node.close()
    found = forger.audit(trust=trust)
    assert (found.good, found.chain_problem, found.causes()) == (True, None, [])
    assert [log.notices for log in found.logs] == [[], [], []]
    fire = next(log for log in found.logs if log.department == OWNER)
    assert (fire.manifests, fire.forgotten, fire.disclosures) == (1, 1, fire.disclosures) and fire.disclosures > 0


def test_what_is_anchored_while_the_audit_runs_is_asked_for(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain's size is asked first: here, just before the newest anchor was made."""
    ask = ChainRoots.ask

    def asked_before(contract: EvidenceLogContract, department: str) -> ChainRoots:
        found = ask(contract, department)
        return replace(found, newest=contract.root_at(department_bytes(department), found.newest).previous_size)  # type: ignore[union-attr]

    monkeypatch.setattr(ChainRoots, "ask", asked_before)
    found = forger.audit()
    assert (found.good, found.causes()) == (True, [])


def test_a_feed_that_fell_silent_is_worth_a_look(forger: Forger) -> None:
    found = forger.audit(lambda: time.time() + 3 * 86_400)
    assert [(notice.kind, notice.department) for log in found.logs for notice in log.notices] == [
        ("feed-report-overdue", OWNER)
    ]
    assert found.good


def test_what_never_arrived_is_named_once_it_should_have(forger: Forger) -> None:
    """The requester's whole log cut to before the page came; its own chain says so, the owner's log follows."""
    give(forger, both=False)
    young = forger.audit()
    assert [notice.kind for log in young.logs for notice in log.notices] == ["in-flight"] and young.good
    late = forger.audit(lambda: time.time() + 7_200)
    first = late.causes()[0].first
    assert (first.kind, first.severity, first.others) == ("not-received", WARNING, (LEAD,))


# ---- what only somebody from outside can know ----------------------------------------------------------------------


def exported(forger: Forger) -> Trust:
    node = forger.open()
    try:
        return export_trust(node)
    finally:
        node.close()


def test_a_consortium_of_the_forgers_own(forger: Forger) -> None:
    """Fresh contracts on the same chain, and node.toml names them: only a trust file from before tells that apart."""
    trust = exported(forger)
    node = forger.open()
    link = node.connect()
    made = deploy(link.client, node.agent.operator_key())
    node.close()
    in_toml('consortium = "0x', f'consortium = "{made.consortium}"')(forger)
    in_toml("evidence_log = ", f'evidence_log = "{made.evidence_log}"')(forger)
    first = forger.audit(trust=trust).causes()[0]
    assert (first.first.kind, first.first.severity) == ("trust-differs", CRITICAL)
    assert "node.toml names Consortium" in first.first.sentence
    assert len(forger.audit(trust=trust).causes()) == 1


def test_a_key_that_the_registry_has_otherwise(forger: Forger) -> None:
    trust = exported(forger)
    fire = next(department for department in trust.departments if department.id == OWNER)
    older = replace(fire, keys=tuple(replace(key, valid_from=key.valid_from - 60) for key in fire.keys))
    others = tuple(department for department in trust.departments if department.id != OWNER)
    found = forger.audit(trust=replace(trust, departments=(*others, older)))
    assert sum((log.counts for log in found.logs), Counter()) == {"trust-differs": len(fire.keys)}


def test_a_quorum_made_smaller(forger: Forger) -> None:
    trust = replace(exported(forger), quorum=2)
    found = forger.audit(trust=trust)
    (cause,) = found.causes()
    assert (cause.first.kind, cause.first.severity) == ("policy-differs", WARNING)
    assert "asks for 0 witnesses, the trust file for 2" in cause.first.sentence


def test_witnesses_that_somebody_made_up_are_no_quorum(forger: Forger) -> None:
    path = forger.directory / "node.toml"
    path.write_text("quorum = 3\n" + path.read_text())
    number = forger.number(OWNER)
    size, note = forger.rows.all(f"SELECT size, note FROM checkpoints WHERE log = {number} ORDER BY size DESC")[0]
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    vkey = VerifierKey.of("court.example/w", COSIGNATURE_ED25519, public)
    at = int(time.time())
    line = cosign(bytes(note).partition(b"\n\n")[0] + b"\n", at, vkey.name, public, key.sign)
    forger.rows.do(
        'INSERT INTO cosignatures (log, size, witness, line, "time") VALUES (?, ?, ?, ?, ?)',
        number,
        size,
        str(vkey),
        line,
        at,
    )
    found = forger.audit(lambda: time.time() + 7_200)
    fire = next(log for log in found.logs if log.department == OWNER)
    assert fire.counts == {"unwitnessed": 1}
    assert "cosigned by 0 in hands other than this node's" in fire.findings[0].sentence


def test_two_nodes_with_one_department(forger: Forger, world: World, tmp_path: Path) -> None:
    """A backup that went on beside the node that it was taken from."""
    other = Forger(world, world.built.copy(tmp_path / "other"), Rows(tmp_path / "other"))
    forger.seal(NOTE)
    nodes = [forger.open(), other.open()]
    try:
        found = audit_nodes(nodes)
    finally:
        for node in nodes:
            node.close()
    assert sum((log.counts for log in found.logs), Counter()) == {"log-twice": 3}
    assert {cause.first.severity for cause in found.causes()} == {CRITICAL}
