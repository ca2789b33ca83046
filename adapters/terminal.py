"""A terminal: a phone, a laptop or a gateway of a department that seals records where they arise.

    record ─► check, confirm, capture facts ─► seal to the department's recipient ─► queue ─► submit ─► acknowledged

What is sealed here is signed with the terminal's own key and encrypted for the department's recipient key, whose
private half neither the terminal nor any node has. The key-encryption key lives in memory only and is replaced daily,
so a terminal cannot open what it sealed before it was started, and neither can whoever finds it.

    keystore.json   the terminal's keys, its enrolment, the officers' PINs (stretched); sealed with the passphrase
    queue.sqlite    what waits (`adapters.terminal_queue`)
    files/          sealed attachments that wait
"""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from adapters.terminal_queue import ACKNOWLEDGED, REFUSED, WAITING, Item, Queue, QueuedFile
from adapters.terminal_transport import SealedFile, Transport
from ledger.attachments import attachment_context, describe, unchanged
from ledger.crypto.blind import content_mark
from ledger.crypto.envelope import KEY_BYTES, terminal_kek_info, wrap_kek
from ledger.crypto.stream import seal_stream
from ledger.enrolment import Enrolment, Request, check_name, draw_code
from ledger.errors import Conflict, CouldNotRun, KeyRefused, Malformed, RecordRefused, Refusal, StorageFailed
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.jwk import kid_of
from ledger.keys import KEYSTORE, Signer, new_passphrase, open_secrets, passphrase_of, seal_secrets
from ledger.matters import HeldMatters
from ledger.record_types import ATTACHMENTS, BUILT_IN, RecordType, RecordTypes
from ledger.seal import Kek, Sealed, Sealer
from ledger.sealed_format import MAX_BATCH_BYTES, NAME_BYTES, SealedBatch, SealedKek, SealedSubmission
from ledger.store.blobs import sync_directory
from ledger.submission import Acknowledged, AttachmentSource, Submission, draw_record_id

BATCH = 100
BATCH_BYTES = MAX_BATCH_BYTES // 2
KEK_LIFETIME_S = 86_400
KEEP_S = 7 * 86_400
"""How long what was acknowledged is kept, to be submitted again should the node be restored from an older backup."""

PIN_TRIES = 5
PIN_PAUSE_S = 300
BACK_OFF_S = (1.0, 300.0)

_QUEUE, _FILES = "queue.sqlite", "files"
_PIN_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
_NOT_CONTENT = ("id", "source")
_UPLOAD_GONE = ("unknown-upload", "upload-digest")
_AGAIN_LATER = ("sealed-ahead", "upload-limit", "upload-offset", *_UPLOAD_GONE)


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record that is sealed and durable in the queue. `new` is False where its key was sealed before."""

    record_id: str
    key: str
    sealed_at: int
    new: bool


@dataclass(frozen=True, slots=True)
class Submitted:
    """What one pass over the queue did. `problem` is why it stopped early, or None."""

    acknowledged: int
    refused: int
    waiting: int
    problem: CouldNotRun | Refusal | None


@dataclass(frozen=True, slots=True)
class Clock:
    """How the terminal's clock compares with its node's: ahead by `offset_ms`, give or take `error_ms`, as measured
    `age_s` seconds ago; all None where it is not known."""

    offset_ms: int | None = None
    error_ms: int | None = None
    age_s: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A terminal and its queue; times in seconds since 1970 by the terminal's clock."""

    department: str
    name: str
    kid: str
    enrolled: bool
    node_url: str | None
    waiting: int
    acknowledged: int
    refused: tuple[Item, ...]
    oldest_waiting: int | None
    clock: Clock


class Terminal:
    """An open terminal. One object serves one thread; several processes may share its directory."""

    def __init__(
        self,
        directory: Path,
        passphrase: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], tuple[str, float]] | None = None,
    ) -> None:
        """`steady`: a clock that nobody sets, as (what it counts from, seconds)."""
        self._directory = directory
        self._passphrase = passphrase
        self._clock = clock
        self._steady = steady or _steady
        self._keys = open_secrets(directory / KEYSTORE, passphrase)
        if "terminal" not in self._keys:
            raise CouldNotRun(f"the keystore in {directory} is not a terminal's: name another directory")
        self._signer = _signer(self._secret("statement"))
        self.request_signer = _signer(self._secret("request"))
        # a queue is made before the enrolment; later, one that is not there was lost
        self._queue = Queue(directory / _QUEUE, self._secret("queue"), make=self._keys["enrolled"] is None)
        self._types: RecordTypes | None = None
        self._matters: HeldMatters | None = None
        self._sealing: _Sealing | None = None
        self._sweep_files()

    @classmethod
    def create(cls, directory: Path, department: str, name: str) -> tuple[bytes, str]:
        """Makes a terminal's keys in a new directory; returns its request file and the code that goes with it.

        The passphrase comes from the environment, or a random one is written beside the keystore. Raises CouldNotRun
        where the directory is there, Malformed for a name that no terminal can have.
        """
        check_name(name)
        if directory.exists():
            raise CouldNotRun(f"{directory} is there already: name a new directory")
        secrets = {
            "statement": Ed25519PrivateKey.generate().private_bytes_raw(),
            "request": Ed25519PrivateKey.generate().private_bytes_raw(),
            "enrolment": X25519PrivateKey.generate().private_bytes_raw(),
            "queue": os.urandom(32),
            "mark": os.urandom(32),
        }
        code = draw_code()
        keys: dict[str, Any] = {use: b64encode(secret) for use, secret in secrets.items()}
        keys |= {"terminal": name, "department": department, "code": code, "officers": {}, "enrolled": None}
        request = _request(keys)
        file = request.serialize(code)
        Request.parse(file, code)  # says what is wrong with the department's id before anything is written
        seal_secrets(directory / KEYSTORE, new_passphrase(directory), keys)
        (directory / _FILES).mkdir()
        return file, code

    @classmethod
    def open(cls, directory: Path, clock: Callable[[], float] = time.time) -> Terminal:
        """Opens the terminal in `directory`. Raises CouldNotRun where there is none or its passphrase is another."""
        return cls(directory, passphrase_of(directory), clock)

    def close(self) -> None:
        """Closes the queue; the key-encryption key is gone."""
        self._queue.close()
        self._sealing = None

    # -- enrolment and officers --

    def accept(self, enrolment: bytes) -> Enrolment:
        """Takes the node's enrolment file; a newer one brings newer record types and a newer list of matters. Raises
        Malformed, KeyRefused for one that was made for another terminal."""
        key = X25519PrivateKey.from_private_bytes(self._secret("enrolment"))
        found = Enrolment.open(enrolment, _request(self._keys), self._keys["code"], key)
        _load_types(found.types)
        HeldMatters.of_json(found.matters)
        content = {name: getattr(found, name) for name in Enrolment.__slots__}
        content |= {"index_key": b64encode(found.index_key), "recipient": b64encode(found.recipient)}
        self._save(enrolled=content)
        self._types = self._matters = self._sealing = None
        return found

    def add_officer(self, officer: str, name: str, pin: str) -> None:
        """Lets an officer confirm at this terminal, or gives a new PIN to one. Raises Refusal for a poor PIN."""
        if not (6 <= len(pin) <= 64) or len(set(pin)) < 3:
            raise Refusal("a PIN has 6 to 64 characters, at least three of them different")
        if not 0 < len(officer) <= 64 or not 0 < len(name) <= 100:
            raise Refusal("an officer has a certificate number of 1 to 64 characters, and a name")
        salt = os.urandom(16)
        kept = {"name": name, "salt": b64encode(salt), "pin": b64encode(_stretch_pin(pin, salt))}
        self._save(officers={**self._keys["officers"], officer: kept})

    def officers(self) -> dict[str, str]:
        """Who may confirm here: certificate numbers and names."""
        return {officer: kept["name"] for officer, kept in self._keys["officers"].items()}

    # -- sealing --

    def seal(
        self,
        record: Mapping[str, Any],
        attachments: Sequence[AttachmentSource] = (),
        *,
        key: str | None = None,
        captured_at: str | None = None,
        operator: str | None = None,
        confirm: Mapping[str, str] | None = None,
    ) -> SealedRecord:
        """Checks, seals and queues a record; durable on return.

        `key`: the idempotency key, which the node reads (None: the record's id). `captured_at`: RFC 3339. `confirm`:
        PINs by certificate number, two of them where the record's type asks for two officers. What is sealed twice
        under one key is the same record, where its content is the same. Raises RecordRefused (see `RecordType`;
        `confirmation`, `attachments`, `clock`), Conflict, KeyRefused for a wrong PIN, CouldNotRun where the terminal
        is not enrolled, StorageFailed. Nothing of a refused record is kept.
        """
        now = self._clock()
        enrolled = self._enrolled()
        content, mark = self._content(record, attachments)
        if key is not None and (earlier := self._queue.find(_full_key(self._keys["terminal"], key))) is not None:
            if not hmac.compare_digest(earlier.mark, mark):
                raise Conflict("conflict", f"key {key!r} is taken by record {earlier.record_id} with other content")
            return SealedRecord(earlier.record_id, key, earlier.sealed_at, new=False)
        kind = self.types.get(content.get("type"), content.get("v"))  # type: ignore[arg-type]
        kind.check_handed_in()
        confirmed = self._confirmed(kind, content, confirm or {}, now)
        self._add_capture(kind, content, captured_at, operator, confirmed, now)
        content.setdefault("id", draw_record_id(now))
        kind.validate(content, now)
        if now < enrolled["valid_from"]:
            raise RecordRefused("clock", "the terminal's clock is before its enrolment: set it right, then seal again")
        self._held_matters().check(content["department"], content.get("matter"), content["occurred_at"])
        return self._seal(kind, content, attachments, key, mark, now)

    def _seal(
        self,
        kind: RecordType,
        content: dict[str, Any],
        attachments: Sequence[AttachmentSource],
        key: str | None,
        mark: bytes,
        now: float,
    ) -> SealedRecord:
        sealing = self._current(now)
        data_key = sealing.sealer.draw_data_key()
        sealed = sealing.sealer.seal(kind, content, int(now), data_key)
        # Die here, or while files are written: files that no item names, which the next start deletes.
        files = [
            self._seal_file(sealed, number, source, described, data_key)
            for number, (source, described) in enumerate(zip(attachments, content.get(ATTACHMENTS, ()), strict=True), 1)
        ]
        full_key = _full_key(self._keys["terminal"], key or sealed.record_id)
        submission = SealedSubmission(full_key, mark, sealed.statement, sealed.payload, sealed.wrapped_key, sealing.kek)
        self._queue.add(submission, sealed.record_id, files, int(now))
        return SealedRecord(sealed.record_id, key or sealed.record_id, int(now), new=True)

    def _content(
        self, record: Mapping[str, Any], attachments: Sequence[AttachmentSource]
    ) -> tuple[dict[str, Any], bytes]:
        content = dict(record)
        if content.setdefault("department", self._keys["department"]) != self._keys["department"]:
            raise RecordRefused("department", f"this terminal seals for {self._keys['department']!r} only")
        if ATTACHMENTS in content:
            raise RecordRefused("attachments", "attachments are described from the files themselves; leave them out")
        if attachments:
            content[ATTACHMENTS] = describe(Submission("", content, tuple(attachments)))
        compared = {name: value for name, value in content.items() if name not in _NOT_CONTENT}
        try:
            canonical = orjson.dumps(compared, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise RecordRefused("not-json", f"the record is not JSON: {error}") from error
        # a key of the terminal's own: with the consortium's, a node could try out what a record says
        return content, content_mark(self._secret("mark"), canonical)

    def _seal_file(
        self, sealed: Sealed, number: int, source: AttachmentSource, described: dict[str, Any], data_key: bytes
    ) -> QueuedFile:
        name = f"{sealed.record_id}-{number}"
        path, digest, size = self._directory / _FILES / name, hashlib.sha256(), 0
        try:
            with path.open("xb") as file:
                context = attachment_context(sealed.record_id, number)
                for chunk in seal_stream(data_key, unchanged(source, described), context):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(path.parent)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageFailed(f"an attachment could not be sealed: {error.strerror}; free space") from error
        return QueuedFile(name, digest.hexdigest(), size)

    def _current(self, now: float) -> _Sealing:
        if self._sealing is None or not 0 <= now - self._sealing.born < KEK_LIFETIME_S:
            enrolled = self._enrolled()
            recipient = X25519PublicKey.from_public_bytes(b64decode(enrolled["recipient"], "enrolment"))
            key, name = os.urandom(KEY_BYTES), os.urandom(NAME_BYTES)
            info = terminal_kek_info(self._keys["department"], self._signer.kid, name)
            kek = SealedKek(name, kid_of(recipient), wrap_kek(key, recipient, info))
            index_key = b64decode(enrolled["index_key"], "enrolment")
            sealer = Sealer(self._keys["department"], self._signer, Kek(0, key), index_key)
            self._sealing = _Sealing(sealer, kek, now)
        return self._sealing

    # -- who confirms, and what is known of the capture --

    def _confirmed(
        self, kind: RecordType, content: dict[str, Any], confirm: Mapping[str, str], now: float
    ) -> list[str]:
        """Who has confirmed, once every PIN was right. Raises RecordRefused (`confirmation`), KeyRefused."""
        named = content.get("officers")
        acting = {o.get("id") for o in named if isinstance(o, dict)} if isinstance(named, list) else set()
        for officer in confirm:
            if officer not in acting:
                raise RecordRefused(
                    "confirmation", f"officer {officer[:64]} confirms, but the record does not name them"
                )
        needed = officers_needed(kind)
        if len(confirm) < needed:
            raise RecordRefused(
                "confirmation", f"a {kind.name} needs {needed} officers who each confirm with a PIN of their own"
            )
        for officer, pin in confirm.items():
            self._check_pin(officer, pin, now)
        return list(confirm)

    def _check_pin(self, officer: str, pin: str, now: float) -> None:
        kept = self._keys["officers"].get(officer)
        if kept is None:
            raise KeyRefused(
                f"officer {officer[:64]} is not known at this terminal: `yunxi terminal officer` adds them"
            )
        fact = "pin/" + hashlib.sha256(officer.encode()).hexdigest()
        tries, until = self._queue.fact(fact) or (0, 0)
        if tries >= PIN_TRIES and now < until:
            raise KeyRefused(f"too many wrong PINs of officer {officer}: wait {int(until - now) + 1} seconds")
        # counted before it is compared: pulling the plug gives no further try
        pause = PIN_PAUSE_S * 2 ** min(10, max(0, tries + 1 - PIN_TRIES))
        self._queue.set_fact(fact, (tries + 1, now + pause))
        given = _stretch_pin(pin, b64decode(kept["salt"], "keystore"))
        if not hmac.compare_digest(given, b64decode(kept["pin"], "keystore")):
            raise KeyRefused(f"the PIN of officer {officer} is wrong")
        self._queue.set_fact(fact, (0, 0))

    def _add_capture(
        self,
        kind: RecordType,
        content: dict[str, Any],
        captured_at: str | None,
        operator: str | None,
        confirmed: list[str],
        now: float,
    ) -> None:
        """Puts in what the terminal knows; a type without the members does not carry it."""
        if captured_at is not None:
            content["captured_at"] = captured_at
        if "capture" not in kind.member_unit:
            return
        clock = self.clock()
        capture: dict[str, Any] = {"device": self._keys["terminal"], "clock": "unknown"}
        if operator is not None or confirmed:
            capture["operator"] = operator or confirmed[0]
        if confirmed:
            capture["confirmed_by"] = confirmed
        if clock.offset_ms is not None:
            capture |= {"clock": "measured", "clock_offset_ms": clock.offset_ms}
            capture |= {"clock_error_ms": clock.error_ms, "clock_age_s": clock.age_s}
        content["capture"] = capture
        content["sealed_at"] = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")

    # -- the clock --

    def measure_clock(self, transport: Transport, rounds: int = 4) -> Clock:
        """Compares the terminal's clock with the node's; the exchange with the shortest way counts."""
        best: tuple[float, float] | None = None
        for _ in range(rounds):
            begin, start = self._clock(), self._steady()[1]
            theirs = transport.time_ms()
            way = (self._steady()[1] - start) * 1000
            ahead = begin * 1000 + way / 2 - theirs
            if best is None or way < best[0]:
                best = (way, ahead)
        assert best is not None
        boot, seconds = self._steady()
        fact = {"ahead_ms": round(best[1]), "error_ms": int(best[0] / 2) + 1, "at": self._clock()}
        self._queue.set_fact("clock", fact | {"boot": boot, "seconds": seconds})
        return self.clock()

    def clock(self) -> Clock:
        """What is known now. Where the clock was set since it was compared, the difference is added; after a restart
        of the device nothing is known until it is compared again."""
        fact = self._queue.fact("clock")
        boot, seconds = self._steady()
        if fact is None or fact["boot"] != boot:
            return Clock()
        passed = seconds - fact["seconds"]
        moved = (self._clock() - fact["at"]) - passed
        return Clock(round(fact["ahead_ms"] + moved * 1000), fact["error_ms"], int(passed))

    # -- submitting --

    def submit(self, transport: Transport) -> Submitted:
        """One pass over what waits, oldest first. What the node cannot decide now stays and comes again; one record
        that is refused holds up no other. Trouble on the way is in the answer, never raised; StorageFailed is."""
        done, refused, problem = 0, 0, None
        try:
            self.measure_clock(transport)
            after = 0
            while batch := self._queue.waiting(after, BATCH, BATCH_BYTES):
                after = batch[-1]
                acknowledged, failed = self._submit(transport, batch)
                done, refused = done + acknowledged, refused + failed
        except StorageFailed:
            raise
        except (CouldNotRun, Refusal) as error:
            problem = error
        self._drop()
        return Submitted(done, refused, self._queue.counts()[WAITING], problem)

    def follow(self, transport: Transport, stop: Event, told: Callable[[Submitted], None], interval: float = 5) -> None:
        """Submits until `stop` is set: every `interval` seconds, or after trouble with growing pauses."""
        pause = BACK_OFF_S[0]
        while not stop.is_set():
            result = self.submit(transport)
            told(result)
            if result.problem is None:
                pause = BACK_OFF_S[0]
                stop.wait(interval)
            else:
                stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311  terminals should not come all at once
                pause = min(pause * 2, BACK_OFF_S[1])

    def again(self, state: str = REFUSED) -> int:
        """Puts what was refused (or what was acknowledged of late, after a restore of the node) back to waiting."""
        return self._queue.revive(state)

    def _submit(self, transport: Transport, batch: Sequence[int]) -> tuple[int, int]:
        ready, failed = self._ready(transport, batch)
        if not ready:
            return 0, failed
        try:
            submissions = tuple(submission for _, submission in ready)
            outcomes = transport.submit(SealedBatch(self._keys["department"], submissions))
        except Malformed as error:
            if len(ready) == 1:
                return 0, failed + self._take_refusal(ready[0][0], RecordRefused("malformed", str(error)))
            parts = [self._submit(transport, [seq]) for seq, _ in ready]  # to find the one that it is about
            return sum(done for done, _ in parts), failed + sum(more for _, more in parts)
        done = 0
        # Die here, or anywhere below: the node has them; they are submitted again and found by their keys.
        for (seq, _), outcome in zip(ready, outcomes, strict=True):
            if isinstance(outcome, Acknowledged):
                self._queue.acknowledge(seq, outcome.index, int(self._clock()))
                done += 1
            else:
                failed += self._take_refusal(seq, outcome.error)
        return done, failed

    def _ready(self, transport: Transport, batch: Sequence[int]) -> tuple[list[tuple[int, SealedSubmission]], int]:
        """The items whose attachments are sent, and how many can never be."""
        ready, failed = [], 0
        for seq in batch:
            try:
                for file in self._queue.files(seq):
                    self._send(transport, seq, file)
                ready.append((seq, self._queue.submission(seq)))
            except RecordRefused as error:
                failed += self._take_refusal(seq, error)
        return ready, failed

    def _send(self, transport: Transport, seq: int, file: QueuedFile) -> None:
        path = self._directory / _FILES / file.name
        if not path.is_file():
            raise RecordRefused("attachments", f"the sealed attachment {file.name} is gone from the terminal's disk")
        sealed = SealedFile(path, file.sha256, file.size, file.upload)
        try:
            transport.send_file(sealed, lambda upload: self._queue.set_upload(seq, file.sha256, upload))
        except RecordRefused as error:
            # an upload that is gone was taken by its record, whose acknowledgement was lost, or has expired: submitting
            # the record tells which
            if error.reason not in _UPLOAD_GONE or file.upload is None:
                raise

    def _take_refusal(self, seq: int, error: RecordRefused) -> int:
        """Keeps the item with the reason; 1 where that is final."""
        if error.reason in _UPLOAD_GONE:
            for file in self._queue.files(seq):
                self._queue.set_upload(seq, file.sha256, None)
        final = error.reason not in _AGAIN_LATER
        self._queue.refuse(seq, error.reason, str(error), final=final)
        return int(final)

    # -- looking --

    def status(self) -> Status:
        """How things stand."""
        counts, waiting = self._queue.counts(), self._queue.items(WAITING)
        enrolled = self._keys["enrolled"]
        return Status(
            department=self._keys["department"],
            name=self._keys["terminal"],
            kid=self._signer.kid,
            enrolled=enrolled is not None,
            node_url=enrolled["node_url"] if enrolled else None,
            waiting=counts[WAITING],
            acknowledged=counts[ACKNOWLEDGED],
            refused=tuple(self._queue.items(REFUSED)),
            oldest_waiting=waiting[0].sealed_at if waiting else None,
            clock=self.clock(),
        )

    @property
    def types(self) -> RecordTypes:
        """The record types of its node."""
        if self._types is None:
            self._types = _load_types(self._enrolled()["types"])
        return self._types

    # -- inside --

    def _held_matters(self) -> HeldMatters:
        if self._matters is None:
            self._matters = HeldMatters.of_json(self._enrolled()["matters"])
        return self._matters

    def _enrolled(self) -> dict[str, Any]:
        found: dict[str, Any] | None = self._keys["enrolled"]
        if found is None:
            raise CouldNotRun("this terminal is not enrolled yet: run `yunxi terminal accept` with its node's file")
        return found

    def _secret(self, use: str) -> bytes:
        return b64decode(self._keys[use], "keystore")

    def _save(self, **changes: Any) -> None:
        path = self._directory / KEYSTORE
        self._keys = open_secrets(path, self._passphrase) | changes
        seal_secrets(path, self._passphrase, self._keys)

    def _drop(self) -> None:
        for name in self._queue.drop(int(self._clock()) - KEEP_S):
            (self._directory / _FILES / name).unlink(missing_ok=True)

    def _sweep_files(self) -> None:
        known = self._queue.all_files()
        old = time.time() - 3600  # another process may be sealing a file now
        for path in (self._directory / _FILES).iterdir():
            with suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < old:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class _Sealing:
    """A key-encryption key in use: in a sealer, and wrapped; `born` in seconds since 1970."""

    sealer: Sealer
    kek: SealedKek
    born: float


class _TypeFile:
    """A record type that came with the enrolment, read as a file."""

    def __init__(self, name: str, content: Any) -> None:
        self.name = name
        self._data = orjson.dumps(content)

    def open(self, _mode: str = "rb") -> Any:
        import io

        return io.BytesIO(self._data)


class _TypeFiles:
    """A directory of them."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types

    def iterdir(self) -> Iterator[_TypeFile]:
        return (_TypeFile(name, content) for name, content in self._types.items())


def officers_needed(kind: RecordType) -> int:
    """How many officers must confirm a record of a type: as many as it must name, where it must name any."""
    if "officers" not in kind.schema["required"]:
        return 0
    return int(kind.schema["properties"]["officers"].get("minItems", 0))


def _load_types(types: Mapping[str, Any]) -> RecordTypes:
    return RecordTypes.load(BUILT_IN, _TypeFiles(types))  # type: ignore[arg-type]  # what `load` uses of a directory


def _request(keys: Mapping[str, Any]) -> Request:
    secrets = {use: b64decode(keys[use], "keystore") for use in ("statement", "request", "enrolment")}
    return Request(
        department=keys["department"],
        name=keys["terminal"],
        statement=Ed25519PrivateKey.from_private_bytes(secrets["statement"]).public_key().public_bytes_raw(),
        request=Ed25519PrivateKey.from_private_bytes(secrets["request"]).public_key().public_bytes_raw(),
        enrolment=X25519PrivateKey.from_private_bytes(secrets["enrolment"]).public_key().public_bytes_raw(),
    )


def _signer(secret: bytes) -> Signer:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return Signer(kid_of(key.public_key()), key.public_key().public_bytes_raw(), key.sign)


def _full_key(terminal: str, key: str) -> str:
    return f"terminal/{terminal}/{key}"


def _stretch_pin(pin: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_PIN_SCRYPT).derive(pin.encode())


_PROCESS = f"process-{os.urandom(8).hex()}"


def _steady() -> tuple[str, float]:
    """Seconds that no setting of the clock moves, and the boot that they count from; elsewhere than on Linux they count
    from the start of the process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return _PROCESS, time.monotonic()
