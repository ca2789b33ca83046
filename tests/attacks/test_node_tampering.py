"""What someone who holds the node's disk can do to it, one thing at a time, and what the audit says first.

Every test works on a copy of one real node, anchored on a real embedded chain that the copies share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger.anchor import Anchorer
from ledger.audit import NodeAudit, audit_node
from ledger.crypto.blind import content_key, content_mark
from ledger.crypto.envelope import open_payload, seal_payload, unwrap_data_key
from ledger.formats.checkpoint import sign_checkpoint
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import parse_presentation
from ledger.formats.tiles import Edge
from ledger.node import Node
from ledger.store.models import position_of
from tests.fixtures.node_databases import ON_POSTGRES
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR, SIZE, WITH_ATTACHMENT, Built, Rows, check_round
from tests.fixtures.records import acknowledged, submissions

FIRE = 1


def at(index: int) -> str:
    return f"position = {position_of(FIRE, index)}"


class Hands:
    """A copied node in the wrong hands."""

    def __init__(self, built: Built, directory: Path) -> None:
        self.built = built
        self.directory = directory
        self.rows = Rows(directory)

    def audit(self, **options: Any) -> NodeAudit:
        node = self.built.open(self.directory)
        try:
            return audit_node(node, **options)
        finally:
            node.close()

    def blob(self, ordinal: int = 1) -> Path:
        where = f"{at(WITH_ATTACHMENT)} AND ordinal = {ordinal}"
        name = self.rows.get(f"SELECT blob FROM attachments WHERE {where}")
        return self.directory / "blobs" / name[:2] / name

    def statements(self) -> list[bytes]:
        query = "SELECT statement FROM entries WHERE log = 1 ORDER BY position"
        return [row[0] for row in self.rows.all(query)]

    def rebuild(self, statements: list[bytes], *, sign: bool) -> None:
        """Tiles and head that fit `statements`; with `sign`, checkpoints too, signed with the log's real key."""
        edge, roots = Edge(), {}
        tiles: dict[tuple[int, int], bytes] = {}
        for size, statement in enumerate(statements, 1):
            tiles |= {(write.level, write.index): write.data for write in edge.append([leaf_hash(statement)])}
            roots[size] = edge.root()
        self.rows.do("DELETE FROM tiles WHERE log = 1")
        for (level, index), data in tiles.items():
            self.rows.do("INSERT INTO tiles VALUES (1, ?, ?, ?)", level, index, data)
        self.rows.do("UPDATE logs SET size = ?, root = ? WHERE log = 1", len(statements), roots[len(statements)])
        if sign:
            self.rows.do("DELETE FROM checkpoints WHERE log = 1 AND size > ?", len(statements))
            self.rows.do("DELETE FROM cosignatures WHERE log = 1")  # nobody outside would cosign this
            signer = self.built.agent.log_signer("fire")
            for (size,) in self.rows.all("SELECT size FROM checkpoints WHERE log = 1"):
                note = sign_checkpoint("test.example/fire", size, roots[size], signer.public, signer.sign)
                self.rows.do("UPDATE checkpoints SET note = ? WHERE log = 1 AND size = ?", note, size)

    def forge(self, index: int, *, sign: bool) -> None:
        """The record at `index` says "fail" instead, signed by the department's own key, and everything fits."""
        statement, payload, wrapped, epoch = self.rows.all(
            f"SELECT statement, payload, wrapped_key, epoch FROM entries JOIN vault USING (position) WHERE {at(index)}"
        )[0]
        node = self.built.open(self.directory)
        with node.database.reading() as connection:
            data_key = unwrap_data_key(node.keks.key(connection, FIRE, "fire", epoch), wrapped)
        node.close()
        texts = open_payload(data_key, payload, statement).decode().split("~")[:-1]
        forged = [self._failed(text) for text in texts]
        assert forged != texts
        header, body, _ = statement.decode().split(".")
        claims = json.loads(b64url_decode(body, "payload"))
        claims["_sd"] = sorted(b64url_encode(hashlib.sha256(text.encode()).digest()) for text in forged)
        signing_input = f"{header}.{b64url_encode(json.dumps(claims).encode())}".encode()
        signature = self.built.agent.statement_signer("fire").sign(signing_input)
        new = signing_input + b"." + b64url_encode(signature).encode()
        sealed = seal_payload(data_key, b"a fresh nonc", "~".join([*forged, ""]).encode(), new)
        opened = parse_presentation(b"~".join([new, *(text.encode() for text in forged), b""])).record()
        content = {name: value for name, value in opened.items() if name not in ("id", "source")}
        canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        mark = content_mark(content_key(self.built.agent.index_key(), "fire"), canonical)
        self.rows.do(f"UPDATE entries SET statement = ?, content_mark = ? WHERE {at(index)}", new, mark)
        self.rows.do(f"UPDATE vault SET payload = ? WHERE {at(index)}", sealed)
        self.rebuild(self.statements(), sign=sign)

    @staticmethod
    def _failed(text: str) -> str:
        salt, unit, _ = json.loads(b64url_decode(text, "disclosure"))
        if unit != "result":
            return text
        return b64url_encode(json.dumps([salt, unit, {"result": "fail"}]).encode())


@pytest.fixture
def hands(built: Built, tampered: Path) -> Hands:
    return Hands(built, tampered)


# ---- the table ---------------------------------------------------------------------------------------------------


def roll_back(hands: Hands, size: int) -> None:
    """The newest entries are gone as if they had never been: rows, tiles, head, checkpoints, anchors."""
    kept = hands.statements()[:size]
    for table in ("entries", "vault", "attachments"):
        hands.rows.do(
            f"DELETE FROM {table} WHERE position >= {position_of(1, size)} AND position < {position_of(2, 0)}"
        )
    hands.rows.do("DELETE FROM anchors WHERE log = 1 AND size > ?", size)
    hands.rebuild(kept, sign=True)


def swap(hands: Hands, table: str, one: int, two: int) -> None:
    for old, new in ((one, 999), (two, one), (999, two)):
        hands.rows.do(f"UPDATE {table} SET position = {position_of(FIRE, new)} WHERE {at(old)}")


def swap_with_vault(hands: Hands) -> None:
    swap(hands, "entries", 7, 9)
    swap(hands, "vault", 7, 9)


def duplicate(hands: Hands) -> None:
    hands.rows.do("DROP INDEX entries_record")
    hands.rows.do("DROP INDEX entries_key")
    for table, columns in (
        ("entries", "record_id, key, content_mark, acknowledged_at, statement, log"),
        ("vault", "epoch, wrapped_key, payload"),
    ):
        hands.rows.do(f"DELETE FROM {table} WHERE {at(8)}")
        hands.rows.do(
            f"INSERT INTO {table} (position, {columns}) "
            f"SELECT {position_of(FIRE, 8)}, {columns} FROM {table} WHERE {at(7)}"
        )


def insert_beyond(hands: Hands) -> None:
    columns = "content_mark, acknowledged_at, statement, log"
    hands.rows.do(
        f"INSERT INTO entries (position, record_id, key, {columns}) "
        f"SELECT {position_of(FIRE, SIZE)}, randomblob(16), 'new', {columns} FROM entries WHERE {at(7)}"
    )


def insert_in_the_middle(hands: Hands) -> None:
    """A record that nobody submitted, between two: everything behind it moves one place."""
    rows = hands.rows
    for table in ("vault", "attachments", "entries"):
        behind = f"position BETWEEN {position_of(FIRE, 10)} AND {position_of(FIRE, SIZE)}"
        rows.do(f"UPDATE {table} SET position = -position - 1 WHERE {behind}")
        rows.do(f"UPDATE {table} SET position = -position WHERE position < 0")
    rows.do(
        "INSERT INTO entries (position, record_id, key, content_mark, acknowledged_at, statement, log) "
        f"SELECT {position_of(FIRE, 10)}, randomblob(16), 'new', content_mark, acknowledged_at, statement, log "
        f"FROM entries WHERE {at(9)}"
    )
    hands.rebuild(hands.statements(), sign=True)


def flip_file(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(bytes(data))


def flip(table: str, column: str, where: str, byte: int = -1) -> Callable[[Hands], None]:
    return lambda hands: hands.rows.flip(table, column, where, byte)


def run(statement: str, count: int = 1) -> Callable[[Hands], None]:
    def change(hands: Hands) -> None:
        assert hands.rows.do(statement) == count

    return change


def another_letter(hands: Hands) -> None:
    statement = bytearray(hands.rows.get(f"SELECT statement FROM entries WHERE {at(7)}"))
    statement[-3] = ord("B") if statement[-3] == ord("A") else ord("A")  # one bit less or more may be no letter at all
    hands.rows.do(f"UPDATE entries SET statement = ? WHERE {at(7)}", bytes(statement))


def note_at(size: int) -> str:
    return f"log = 1 AND size = {size}"


# a sentence -> (what is done, kind of the first finding, its index, how many findings there are, part of the sentence)
ATTACKS: dict[str, tuple[Callable[[Hands], object], str, int | None, int, str]] = {
    "one byte of a ciphertext": (
        flip("vault", "payload", at(7)),
        "payload-changed",
        7,
        1,
        "not the one that was sealed",
    ),
    "the suite of a ciphertext": (flip("vault", "payload", at(7), 3), "payload-changed", 7, 1, "not an AES-256-GCM"),
    "a ciphertext emptied": (
        run(f"UPDATE vault SET payload = x'' WHERE {at(7)}"),
        "payload-missing",
        7,
        1,
        "the ciphertext (but not the data key) of record",
    ),
    "a data key gone": (
        run(f"UPDATE vault SET wrapped_key = NULL WHERE {at(7)}"),
        "payload-missing",
        7,
        1,
        "the data key of record",
    ),
    "a record forgotten without a certificate": (
        run(f"UPDATE vault SET wrapped_key = NULL, payload = x'' WHERE {at(7)}"),
        "payload-missing",
        7,
        1,
        "no certificate says that it was destroyed",
    ),
    "one byte of a wrapped key": (
        flip("vault", "wrapped_key", at(7)),
        "payload-changed",
        7,
        1,
        "data key does not unwrap",
    ),
    "a wrapped key of another record": (
        run(f"UPDATE vault SET wrapped_key = (SELECT wrapped_key FROM vault WHERE {at(8)}) WHERE {at(7)}"),
        "payload-changed",
        7,
        1,
        "not the one that was sealed",
    ),
    "another epoch": (run(f"UPDATE vault SET epoch = 9 WHERE {at(7)}"), "payload-changed", 7, 1, "epoch 9 is missing"),
    "one byte of the KEK": (
        flip("keks", "wrapped", "log = 1"),
        "payload-changed",
        0,
        SIZE,
        "does not open under the department's",
    ),
    "the KEK gone": (run("DELETE FROM keks WHERE log = 1"), "payload-changed", 0, SIZE, "is missing"),
    "the KEK of another department": (
        run("UPDATE keks SET wrapped = (SELECT wrapped FROM keks WHERE log = 2) WHERE log = 1"),
        "payload-changed",
        0,
        SIZE,
        "does not open under the department's",
    ),
    "a vault row gone": (run(f"DELETE FROM vault WHERE {at(7)}"), "payload-missing", 7, 1, "the vault row of record"),
    "two payloads exchanged": (lambda hands: swap(hands, "vault", 7, 9), "payload-changed", 7, 2, "not the one"),
    "one byte of a header": (flip("entries", "statement", at(7), 0), "statement-changed", 7, 1, "was changed"),
    "one byte of a claim": (flip("entries", "statement", at(7), 300), "statement-changed", 7, 1, "was changed"),
    "one letter of a signature": (
        another_letter,
        "statement-changed",
        7,
        1,
        "signature is wrong",
    ),
    "the last entry's statement": (
        flip("entries", "statement", at(SIZE - 1)),
        "statement-changed",
        SIZE - 1,
        1,
        "changed",
    ),
    "a statement emptied": (
        run(f"UPDATE entries SET statement = x'' WHERE {at(7)}"),
        "statement-changed",
        7,
        1,
        "three parts",
    ),
    "a record's id cut short": (
        run(f"UPDATE entries SET record_id = x'00' WHERE {at(7)}"),
        "statement-changed",
        7,
        1,
        "is another record's",
    ),
    "a statement turned into a number": (
        run(f"UPDATE entries SET statement = 7 WHERE {at(7)}"),
        "statement-changed",
        7,
        1,
        "three parts",
    ),
    "a ciphertext turned into text": (
        run(f"UPDATE vault SET payload = 'abc' WHERE {at(7)}"),
        "payload-changed",
        7,
        1,
        "not an AES-256-GCM",
    ),
    "a wrapped key turned into text that is none": (
        run(f"UPDATE vault SET wrapped_key = CAST(x'ff00' AS TEXT) WHERE {at(7)}"),
        "payload-changed",
        7,
        1,
        "unwrap",
    ),
    "an id turned into text": (
        run(f"UPDATE entries SET record_id = 'abc' WHERE {at(7)}"),
        "statement-changed",
        7,
        1,
        "is another record's",
    ),
    "a record's id": (flip("entries", "record_id", at(7)), "statement-changed", 7, 1, "is another record's"),
    "one byte of a tile of level 0": (
        flip("tiles", "hashes", "log = 1 AND level = 0 AND tile = 0", 32 * 7 + 5),
        "tile-changed",
        7,
        1,
        "at byte 229",
    ),
    "one byte of a tile of level 1": (
        flip("tiles", "hashes", "log = 1 AND level = 1 AND tile = 0", 3),
        "tile-changed",
        0,
        1,
        "tile/1/000 differs at byte 3",
    ),
    "a tile gone": (
        run("DELETE FROM tiles WHERE log = 1 AND level = 0 AND tile = 0"),
        "tile-changed",
        0,
        1,
        "tile/0/000",
    ),
    "a tile cut short": (
        run("UPDATE tiles SET hashes = substr(hashes, 1, 320) WHERE log = 1 AND level = 0 AND tile = 0"),
        "tile-changed",
        10,
        1,
        "tile/0/000 differs at byte 320",
    ),
    "a hash more at the edge": (
        run("UPDATE tiles SET hashes = CAST(hashes || zeroblob(32) AS BLOB) WHERE log = 1 AND level = 0 AND tile = 1"),
        "tile-changed",
        SIZE,
        1,
        "tile/0/001 holds",
    ),
    "a tile that no tree has": (
        run("INSERT INTO tiles VALUES (1, 0, 7, zeroblob(32))"),
        "tile-changed",
        7 * 256,
        1,
        "tile/0/007 holds 32 bytes",
    ),
    "one byte of the head's root": (flip("logs", "root", "log = 1"), "head-differs", SIZE, 1, "the head's root"),
    "a head too small": (run("UPDATE logs SET size = 344 WHERE log = 1"), "head-differs", 344, 3, "head's root"),
    "a head too large": (
        run("UPDATE logs SET size = 346 WHERE log = 1"),
        "entry-missing",
        345,
        1,
        "entry 345 of the log",
    ),
    "one byte of a checkpoint's note": (
        flip("checkpoints", "note", note_at(FIRST_ANCHOR), 25),
        "checkpoint-changed",
        FIRST_ANCHOR,
        1,
        "size 300",
    ),
    "a checkpoint's signature": (
        flip("checkpoints", "note", note_at(FIRST_ANCHOR), -5),
        "checkpoint-changed",
        FIRST_ANCHOR,
        1,
        "size 300",
    ),
    "a checkpoint under another size": (
        run(f"UPDATE checkpoints SET size = 301 WHERE {note_at(FIRST_ANCHOR)}"),
        "cosignature-changed",
        FIRST_ANCHOR,
        3,
        "no checkpoint that they would be of",
    ),
    "an anchor's size": (
        run(f"UPDATE anchors SET size = 339 WHERE {note_at(SECOND_ANCHOR)}"),
        "anchor-not-on-chain",
        339,
        1,
        "the node says size 339 is anchored, the chain does not know it",
    ),
    "an anchor that never was": (
        run(
            'INSERT INTO anchors SELECT log, 345, chain_id, contract, block_number, block_hash, "transaction", '
            "block_time, anchored_at FROM anchors WHERE log = 1 AND size = 340"
        ),
        "anchor-not-on-chain",
        345,
        1,
        "size 345",
    ),
    "an anchor beyond the head": (
        run(
            'INSERT INTO anchors SELECT log, 400, chain_id, contract, block_number, block_hash, "transaction", '
            "block_time, anchored_at FROM anchors WHERE log = 1 AND size = 340"
        ),
        "rolled-back",
        SIZE,
        1,
        "345 entries, but 400",
    ),
    "one byte of an attachment": (
        lambda hands: flip_file(hands.blob(), 700),
        "attachment-changed",
        WITH_ATTACHMENT,
        1,
        "damaged in segment 1, between bytes 44",
    ),
    "an attachment cut": (
        lambda hands: hands.blob().write_bytes(hands.blob().read_bytes()[:-1]),
        "attachment-changed",
        WITH_ATTACHMENT,
        1,
        "damaged",
    ),
    "an attachment emptied": (
        lambda hands: hands.blob().write_bytes(b""),
        "attachment-changed",
        WITH_ATTACHMENT,
        1,
        "not an AES-256-GCM stream",
    ),
    "an attachment's file gone": (
        lambda hands: hands.blob().unlink(),
        "attachment-changed",
        WITH_ATTACHMENT,
        1,
        "is missing from the blob store",
    ),
    "an empty attachment's file gone": (
        lambda hands: hands.blob(2).unlink(),
        "attachment-changed",
        WITH_ATTACHMENT,
        1,
        "is missing from the blob store",
    ),
    "two attachments exchanged": (
        lambda hands: [
            hands.rows.do(f"UPDATE attachments SET ordinal = {new} WHERE ordinal = {old}")
            for old, new in ((1, 9), (2, 1), (9, 2))
        ],
        "attachment-changed",
        WITH_ATTACHMENT,
        2,
        "damaged",
    ),
    "an attachment's row gone": (
        run(f"DELETE FROM attachments WHERE {at(WITH_ATTACHMENT)} AND ordinal = 1"),
        "attachment-missing",
        WITH_ATTACHMENT,
        1,
        "attachment 1 of record",
    ),
    "an entry gone": (run(f"DELETE FROM entries WHERE {at(7)}"), "entry-missing", 7, 1, "entry 7 of the log is gone"),
    "all entries gone": (run("DELETE FROM entries WHERE log = 1", SIZE), "entry-missing", 0, SIZE, "entry 0"),
    "the newest entries gone": (
        run(f"DELETE FROM entries WHERE log = 1 AND position >= {position_of(1, 340)}", 5),
        "entry-missing",
        340,
        5,
        "340",
    ),
    "the newest gone and the head rolled back": (
        lambda hands: roll_back(hands, 320),
        "rolled-back",
        320,
        1,
        "it has 320 entries, but 340 were signed or anchored",
    ),
    "everything gone and the head rolled back to one": (
        lambda hands: roll_back(hands, 1),
        "rolled-back",
        1,
        1,
        "it has 1 entries, but 340",
    ),
    "two entries exchanged": (
        lambda hands: swap(hands, "entries", 7, 9),
        "payload-changed",
        7,
        10,
        "not the one that was sealed",
    ),
    "two entries exchanged with their payloads": (
        swap_with_vault,
        "tile-changed",
        7,
        8,
        "tile/0/000 differs at byte 224",
    ),
    "an entry twice, in place of another": (duplicate, "tile-changed", 8, 9, "tile/0/000 differs at byte 256"),
    "an entry beyond the head": (insert_beyond, "entry-beyond-head", SIZE, 1, "1 entries lie beyond"),
    "an entry in the middle, and everything rebuilt": (
        insert_in_the_middle,
        "statement-changed",
        10,
        4,
        "another record's",
    ),
    "a statement forged under the real key, checkpoints left": (
        lambda hands: hands.forge(7, sign=False),
        "checkpoint-differs",
        FIRST_ANCHOR,
        5,
        "size 300",
    ),
    "everything forged under the real keys: only chain and witness know": (
        lambda hands: hands.forge(7, sign=True),
        "root-differs-from-chain",
        FIRST_ANCHOR,
        3,
        "the chain holds another root for size 300",
    ),
    "another log under the same name": (
        run("UPDATE logs SET origin = 'test.example/other' WHERE log = 1"),
        "checkpoint-changed",
        FIRST_ANCHOR,
        3,
        "size 300",
    ),
}


UNTYPED = (
    "a statement turned into a number",
    "a wrapped key turned into text that is none",
)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_audit_finds(hands: Hands, name: str) -> None:
    if ON_POSTGRES and name in UNTYPED:
        pytest.skip("a column of PostgreSQL takes its own type only")
    attack, kind, index, count, words = ATTACKS[name]
    attack(hands)
    audit = hands.audit()
    first = audit.first()
    assert not audit.good
    assert audit.chain_problem is None
    assert first is not None
    assert (first.department, first.kind, first.index) == ("fire", kind, index), first
    assert words in first.sentence
    assert "\n" not in first.sentence
    fire, health = audit.logs
    assert fire.counts.total() == count, fire.counts
    assert health.good
    assert (health.records, health.payloads, health.anchors) == (3, 3, 1)


# ---- what is no finding ------------------------------------------------------------------------------------------


def test_an_untouched_copy_is_good(hands: Hands) -> None:
    audit = hands.audit()
    assert (audit.good, audit.chain_problem, audit.first()) == (True, None, None)
    fire, health = audit.logs
    assert (fire.records, fire.payloads, fire.signatures, fire.attachments) == (SIZE, SIZE, SIZE, 2)
    assert (fire.anchors, fire.anchored_size, fire.chain_asked) == (2, SECOND_ANCHOR, True)
    assert (health.records, health.anchored_size) == (3, 3)


def test_a_key_that_is_gone_is_found_unless_a_certificate_says_so(hands: Hands) -> None:
    hands.rows.do(f"UPDATE vault SET wrapped_key = NULL WHERE {at(7)} OR {at(WITH_ATTACHMENT)}")
    fire = hands.audit(department="fire").logs[0]
    assert (dict(fire.counts), fire.forgotten, fire.payloads) == ({"payload-missing": 2}, 0, SIZE - 2)
    assert fire.findings[0].index == 7


def test_one_department_alone(hands: Hands) -> None:
    hands.rows.flip("vault", "payload", at(7))
    assert [log.department for log in hands.audit(department="health").logs] == ["health"]
    assert hands.audit(department="health").good


def test_without_signatures_everything_but_authorship_is_checked(hands: Hands) -> None:
    hands.rows.flip("entries", "statement", at(7))
    hands.rows.flip("vault", "payload", at(9))
    fire = hands.audit(check_signatures=False).logs[0]
    assert fire.counts == {"statement-changed": 1, "payload-changed": 1}
    assert fire.signatures == 1  # only where the leaf did not fit


def test_several_attacks_are_all_counted(hands: Hands) -> None:
    for index in (3, 5, 344):
        hands.rows.flip("vault", "payload", at(index))
    hands.rows.flip("entries", "statement", at(200))
    hands.rows.do(f"DELETE FROM entries WHERE {at(100)}")
    hands.rows.flip("logs", "root", "log = 2")
    audit = hands.audit()
    assert audit.logs[0].counts == {"payload-changed": 3, "statement-changed": 1, "entry-missing": 1}
    assert audit.logs[1].counts == {"head-differs": 1}
    assert [finding.index for finding in audit.logs[0].findings] == [3, 5, 100, 200, 344]


def test_findings_kept_are_bounded_but_all_are_counted(hands: Hands) -> None:
    hands.rows.do("UPDATE vault SET payload = x'00'")
    fire = hands.audit().logs[0]
    assert (len(fire.findings), fire.counts.total()) == (100, SIZE)


def test_records_after_the_last_anchor_are_only_as_safe_as_their_receipts(hands: Hands) -> None:
    # what the audit cannot know: a clean cut back to an anchor, before a checkpoint or a receipt of the rest went out
    roll_back(hands, SECOND_ANCHOR)
    assert hands.audit().good


# ---- the chain away ----------------------------------------------------------------------------------------------


def test_a_chain_that_is_gone_is_said_and_never_good(built: Built, tmp_path: Path) -> None:
    directory = built.copy(tmp_path / "alone")
    (directory / "chain").unlink()
    audit = Hands(built, directory).audit()
    assert audit.chain_problem is not None
    assert "There is no embedded chain in" in audit.chain_problem
    assert not any(log.chain_asked for log in audit.logs)
    assert [log.anchors for log in audit.logs] == [0, 0]
    assert not (audit.good and audit.chain_problem is None)  # what the command line makes of it


def test_without_the_chain_the_rest_is_still_audited(built: Built, tmp_path: Path) -> None:
    directory = built.copy(tmp_path / "alone")
    (directory / "chain").unlink()
    hands = Hands(built, directory)
    hands.rows.flip("vault", "payload", at(7))
    roll_back(Hands(built, directory), 320)
    first = hands.audit().first()
    assert first is not None
    assert first.kind == "payload-changed"  # and not "rolled-back": checkpoints and anchors were cut with it


def test_growing_and_anchoring_during_an_audit_is_no_finding(own_node: Node) -> None:
    # the chain may be ahead of what the audit reads: it was asked before, and only then was the log read
    def begin(log: Any) -> Callable[[int], None]:
        if log.department == "fire":
            acknowledged(own_node.intake.submit("health", submissions(3, 10)))
            acknowledged(own_node.intake.submit("fire", submissions(SIZE, 10)))
            check_round(Anchorer(own_node), 2)
        return lambda done: None

    audit = audit_node(own_node, begin=begin)
    assert audit.good, audit.first()
    assert [log.records for log in audit.logs] == [SIZE, 3]


# ---- against the chain -----------------------------------------------------------------------------------------------


def test_a_whole_log_gone(hands: Hands) -> None:
    for table in ("logs", "keks", "tiles", "checkpoints", "anchors", "entries"):
        hands.rows.do(f"DELETE FROM {table} WHERE log = 1")
    hands.rows.do(f"DELETE FROM vault WHERE position < {position_of(2, 0)}")
    assert not hands.audit().good


@pytest.mark.parametrize("column", ["block_number", "block_hash", "transaction", "block_time"])
def test_what_an_anchors_row_says_of_its_block(hands: Hands, column: str) -> None:
    other = f'"{column}" + 1' if column in ("block_number", "block_time") else "zeroblob(32)"
    hands.rows.do(f'UPDATE anchors SET "{column}" = {other} WHERE log = 1')
    assert not hands.audit().good
