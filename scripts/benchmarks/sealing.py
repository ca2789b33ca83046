"""Seal and append: the whole path, its steps one by one, and the bare library calls for the same work beside it."""

from __future__ import annotations

import hmac
import os
import sqlite3
import time
from binascii import b2a_base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema_rs
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from benchmarks.base import (
    DEPARTMENT,
    Ledger,
    Options,
    Prepare,
    Row,
    Run,
    Times,
    always,
    interleave_prepared,
    new_ledger,
)
from ledger import seal as seals
from ledger import sequencer as sequencers
from ledger.admission import find_known
from ledger.crypto.envelope import seal_payload, wrap_data_key
from ledger.formats import identifiers
from ledger.formats.merkle import leaf_hash
from ledger.formats.tiles import Edge
from ledger.record_types import RecordType, parse_instant
from ledger.seal import Kek, Sealer, subject_indexes
from ledger.sequencer import Arrival, Head, Sequencer, lock_head
from ledger.store.database import _configure_sqlite
from ledger.submission import Submission, draw_record_id

NAME = "seal"
BATCHES = (1, 10, 100, 1_000)


def measure(options: Options) -> Iterator[Row]:
    """Batches of `options.batch` on SQLite FULL, one core."""
    with new_ledger() as ledger, new_ledger() as stepped, _bare_database() as bare:
        inputs = _Inputs(stepped, options.batch)
        libraries = _BareLibraries(inputs, bare)
        steps = {name: always(step) for name, step in inputs.steps().items()}
        contenders: dict[str, Prepare] = {
            "submit": partial(_submission, ledger, options.batch),
            "bare sealing": always(libraries.seal),
            "bare insert": libraries.prepare_insert,
            **steps,
            "insert, compare-and-swap, commit": inputs.prepare_insert,
        }
        times = interleave_prepared(options.rounds, contenders)
    yield from _rows(times, options.batch)


def measure_batches(options: Options) -> Iterator[Row]:
    """What batching is worth."""
    sizes = [size for size in BATCHES if size <= options.batch]
    with new_ledger() as ledger:
        contenders: dict[str, Prepare] = {str(size): partial(_submission, ledger, size) for size in sizes}
        times = interleave_prepared(2 * options.rounds, contenders)
    for size in sizes:
        yield times[str(size)].rate("batches", f"batch of {size:,}", size, "records/s")


def _submission(ledger: Ledger, size: int) -> Run:
    batch = ledger.batch(size)
    return lambda: ledger.submit(batch)


def _rows(times: dict[str, Times], batch: int) -> Iterator[Row]:
    whole, sealing, inserting = times.pop("submit"), times.pop("bare sealing"), times.pop("bare insert")
    bare = _sum([sealing, inserting])
    yield whole.rate(NAME, f"seal and append, batches of {batch:,}", batch, "records/s", target="≥ 6,000")
    yield whole.cost(NAME, "the same", batch)
    yield bare.cost(NAME, "bare library calls for the same work", batch)
    yield whole.ratio(NAME, "real path / bare calls", bare, target="≤ 1.3")
    yield sealing.cost(NAME, "bare: schema, JSON, hashes, signature, ciphers", batch)
    yield inserting.cost(NAME, "bare: executemany and commit", batch)
    for name, taken in times.items():
        yield taken.cost(NAME, f"step: {name}", batch)
    sums = _sum([taken for name, taken in times.items() if not name.startswith("of these")])
    yield sums.cost(NAME, "sum of the steps", batch, note="the rest of the whole path is looking after the batch")


def _sum(parts: list[Times]) -> Times:
    return Times(tuple(map(sum, zip(*[part.seconds for part in parts], strict=True))))


class _Inputs:
    """What each step of sealing gets, as the steps before it left it, for one batch."""

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger = ledger
        self.now = time.time()
        self.submissions: list[Submission] = ledger.batch(size)
        self.records = [ledger.intake._content(DEPARTMENT, submission)[0] for submission in self.submissions]
        for record in self.records:
            record["id"] = draw_record_id(self.now)
        self.kind: RecordType = ledger.types.get("inspection.report", 1)
        with ledger.database.reading() as connection:
            self.kek: Kek = ledger.keks.current(connection, 1, DEPARTMENT)
        self.sealer = Sealer(DEPARTMENT, ledger.agent.statement_signer(DEPARTMENT), self.kek, ledger.agent.index_key())
        self.disclosures = [self._disclosures(record).split(b"~")[:-1] for record in self.records]
        self.claims = [
            self.sealer._claims(record, int(self.now), disclosures)
            for record, disclosures in zip(self.records, self.disclosures, strict=True)
        ]
        self.sealed = [self.sealer.seal(self.kind, record, int(self.now), os.urandom(32)) for record in self.records]
        self.sequencer = Sequencer()
        self.appended = 0

    def steps(self) -> dict[str, Run]:
        """The real functions, each in isolation."""
        return {
            "look up known keys": self._look_up,
            "content mark": lambda: [self.ledger.intake._content(DEPARTMENT, s) for s in self.submissions],
            "validate": lambda: [self.ledger.types.validate(record, self.now) for record in self.records],
            "of these identifiers and times": self._identifiers,
            "draw ids": lambda: [draw_record_id(self.now) for _ in self.records],
            "blind indexes": lambda: [subject_indexes(self.sealer._index_key, record) for record in self.records],
            "disclosures, salts, digests": self._disclose,
            "payload JSON, signature": self._sign,
            "AES-256-GCM, key wrap": self._encrypt,
            "leaf hash, Merkle append": lambda: Edge().append([leaf_hash(s.statement) for s in self.sealed]),
        }

    def prepare_insert(self) -> Run:
        """The transaction of the sequencer, on fresh rows; its Merkle append is timed apart and costs little."""
        arrivals = self.fresh_arrivals()

        def insert() -> None:
            with self.ledger.database.writing() as connection:
                self.sequencer.append(connection, lock_head(connection, DEPARTMENT), arrivals, int(self.now * 1000))

        return insert

    def fresh_arrivals(self) -> list[Arrival]:
        """The sealed batch again, under keys and ids that were not there yet."""
        start, self.appended = self.appended, self.appended + len(self.sealed)
        return [
            Arrival(_renamed(sealed, draw_record_id(self.now)), f"fresh-{number:012d}", bytes(16), ())
            for number, sealed in enumerate(self.sealed, start)
        ]

    def _look_up(self) -> object:
        with self.ledger.database.reading() as connection:
            return find_known(connection, 1, [submission.key for submission in self.submissions])

    def _identifiers(self) -> None:
        for record in self.records:
            for subject in record["subjects"]:
                identifiers.check(subject["kind"], subject["value"])
            parse_instant(record["occurred_at"])

    def _disclosures(self, record: dict[str, Any]) -> bytes:
        return self.sealer._disclose(seals._units(self.kind, record))

    def _disclose(self) -> None:
        for record in self.records:
            seals._digests(self._disclosures(record).split(b"~")[:-1])

    def _sign(self) -> None:
        header, sign = self.sealer._header, self.sealer._sign
        for claims in self.claims:
            signing_input = header + seals._b64url(orjson.dumps(claims))
            signing_input + b"." + seals._b64url(sign(signing_input))

    def _encrypt(self) -> None:
        take = self.sealer._take
        for sealed, disclosures in zip(self.sealed, self.disclosures, strict=True):
            data_key = self.sealer.draw_data_key()
            seal_payload(data_key, take(12), b"~".join([*disclosures, b""]), sealed.statement)
            wrap_data_key(self.kek.key, data_key)


class _BareLibraries:
    """The calls that no implementation of these formats could leave out, in plain loops, on inputs made beforehand.

    Left out on purpose: looking up idempotency keys, checking identifiers and times, every decision.
    """

    def __init__(self, inputs: _Inputs, database: _Bare) -> None:
        self.inputs = inputs
        self.database = database
        self.validator: jsonschema_rs.Draft202012Validator = inputs.kind._validator
        self.key = Ed25519PrivateKey.generate()
        self.units = [seals._units(inputs.kind, record) for record in inputs.records]
        self.contents = [{n: v for n, v in record.items() if n not in ("id", "source")} for record in inputs.records]

    def prepare_insert(self) -> Run:
        """The rows of a batch, in one transaction."""
        arrivals = self.inputs.fresh_arrivals()
        head = Head(1, DEPARTMENT, "", self.database.size, b"")
        positions = range(head.size, head.size + len(arrivals))
        entries = [sequencers._entry(head, p, a, 0) for p, a in zip(positions, arrivals, strict=True)]
        vault = [sequencers._vault(p, a.sealed) for p, a in zip(positions, arrivals, strict=True)]
        tiles = [(1, 0, n, os.urandom(8192)) for n in range(-(-len(arrivals) // 256))]

        return lambda: self.database.insert(entries, vault, tiles)

    def seal(self) -> None:
        """Everything before the database."""
        random, mac_key, node = os.urandom, bytes(32), bytes(32)
        header, kek = self.inputs.sealer._header, self.inputs.kek.key
        rows = zip(self.inputs.records, self.contents, self.units, self.inputs.claims, strict=True)
        for record, content, units, claims in rows:
            self.validator.is_valid(record)
            hmac.digest(mac_key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS), "sha256")
            hmac.digest(mac_key, b"kind\x1fJY13301060000001", "sha256")
            drawn = random(16 * len(units) + 32 + 12)
            texts = []
            for number, (unit, members) in enumerate(units):
                salt = b2a_base64(drawn[16 * number : 16 * number + 16], newline=False).decode()
                text = b2a_base64(orjson.dumps([salt, unit, members]), newline=False)
                b2a_base64(sha256(text).digest(), newline=False)
                texts.append(text)
            signing_input = header + b2a_base64(orjson.dumps(claims), newline=False)
            statement = signing_input + b"." + b2a_base64(self.key.sign(signing_input), newline=False)
            sha256(b"\x00" + statement).digest()
            AESGCM(drawn[-44:-12]).encrypt(drawn[-12:], b"~".join(texts), sha256(statement).digest())
            aes_key_wrap(kek, drawn[-44:-12])
            sha256(b"\x01" + node + node).digest()


@dataclass(slots=True)
class _Bare:
    """The same tables and settings as the ledger's database, without anything between."""

    connection: sqlite3.Connection
    size: int = 0

    def insert(self, entries: list[Any], vault: list[Any], tiles: list[Any]) -> None:
        database = self.connection
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO entries VALUES (?,?,?,?,?,?,?)", entries)
        database.executemany("INSERT INTO vault VALUES (?,?,?,?)", vault)
        database.executemany("INSERT OR REPLACE INTO tiles VALUES (?,?,?,?)", tiles)
        database.execute("UPDATE logs SET size = size + ? WHERE log = 1", (len(entries),))
        database.execute("COMMIT")
        self.size += len(entries)


@contextmanager
def _bare_database() -> Iterator[_Bare]:
    with TemporaryDirectory(prefix="yunxi-bench-") as directory:
        ledger = Ledger(Path(directory))
        ledger.database.close()
        connection = sqlite3.connect(Path(directory) / "ledger.sqlite")
        _configure_sqlite(connection, None)
        try:
            yield _Bare(connection)
        finally:
            connection.close()


def _renamed(sealed: seals.Sealed, record_id: str) -> seals.Sealed:
    return seals.Sealed(record_id, sealed.statement, sealed.leaf, sealed.payload, sealed.wrapped_key, sealed.epoch)
