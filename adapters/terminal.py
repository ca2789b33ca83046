"""A terminal: a phone, a laptop or a gateway of a department that seals records where they arise.

    record ─► check, confirm, capture facts ─► seal to the department's recipient ─► queue ─► submit ─► acknowledged

What is sealed here is signed with the terminal's own key and encrypted for the department's recipient key, whose
private half neither the terminal nor any node has. The key-encryption key lives in memory only and is replaced daily,
so a terminal cannot open what it sealed before it was started, and neither can whoever finds it.

    keystore.json   keys, enrolment, officers (`terminal_keys`, `terminal_officers`); sealed with the passphrase
    queue.sqlite    what waits (`terminal_queue`), until the node has it (`terminal_outbox`)
    files/          sealed attachments that wait
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from adapters.terminal_clock import Clock, ClockKeeper, Steady, steady
from adapters.terminal_keys import TerminalKeys
from adapters.terminal_officers import Officers
from adapters.terminal_outbox import Outbox
from adapters.terminal_queue import ACKNOWLEDGED, REFUSED, WAITING, Item, Queue, QueuedFile
from ledger.attachments import attachment_context, describe, unchanged
from ledger.crypto.blind import content_mark
from ledger.crypto.envelope import KEY_BYTES, terminal_kek_info, wrap_kek
from ledger.crypto.stream import seal_stream
from ledger.enrolment import Enrolment
from ledger.errors import Conflict, RecordRefused, StorageFailed
from ledger.formats.encoding import b64decode
from ledger.formats.jwk import kid_of
from ledger.keystore import passphrase_of
from ledger.record_types import ATTACHMENTS, RecordType
from ledger.seal import Kek, Sealed, Sealer
from ledger.sealed_format import NAME_BYTES, SealedKek, SealedSubmission
from ledger.store.blobs import sync_directory
from ledger.submission import AttachmentSource, Submission, content_of, draw_record_id

KEK_LIFETIME_S = 86_400

_QUEUE, _FILES = "queue.sqlite", "files"


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record that is sealed and durable in the queue. `new` is False where its key was sealed before."""

    record_id: str
    key: str
    sealed_at: int
    new: bool


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
    """An open terminal: `keys`, `officers`, `clock_keeper`, and `outbox`, which submits. One object serves one thread;
    several processes may share its directory."""

    def __init__(
        self,
        directory: Path,
        passphrase: str,
        clock: Callable[[], float] = time.time,
        steady: Steady = steady,
    ) -> None:
        """Raises CouldNotRun where there is no terminal, or its passphrase is another."""
        self._files = directory / _FILES
        self._clock = clock
        self.keys = TerminalKeys(directory, passphrase)
        self._signer = self.keys.signer("statement")
        self.request_signer = self.keys.signer("request")
        # a queue is made before the enrolment; later, one that is not there was lost
        self._queue = Queue(directory / _QUEUE, self.keys.secret("queue"), make=not self.keys.enrolled)
        self.officers = Officers(self.keys, self._queue)
        self.clock_keeper = ClockKeeper(self._queue, clock, steady)
        self.outbox = Outbox(self.keys.department, self._queue, self._files, self.clock_keeper, clock)
        self._sealing: _Sealing | None = None
        self._sweep_files()

    @classmethod
    def create(cls, directory: Path, department: str, name: str) -> tuple[bytes, str]:
        """Makes a terminal in a new directory; returns its request file and the code that goes with it. Raises as
        `TerminalKeys.create`."""
        made = TerminalKeys.create(directory, department, name)
        (directory / _FILES).mkdir()
        return made

    @classmethod
    def open(cls, directory: Path, clock: Callable[[], float] = time.time) -> Terminal:
        """Opens the terminal in `directory`. Raises CouldNotRun where there is none or its passphrase is another."""
        return cls(directory, passphrase_of(directory), clock)

    def close(self) -> None:
        """Closes the queue; the key-encryption key is gone."""
        self._queue.close()
        self._sealing = None

    def accept(self, enrolment: bytes) -> Enrolment:
        """Takes the node's enrolment file. Raises as `TerminalKeys.accept`."""
        found = self.keys.accept(enrolment)
        self._sealing = None
        return found

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
        enrolled = self.keys.enrolment()
        content, mark = self._content(record, attachments)
        if key is not None and (earlier := self._queue.find(_full_key(self.keys.name, key))) is not None:
            if not hmac.compare_digest(earlier.mark, mark):
                raise Conflict("conflict", f"key {key!r} is taken by record {earlier.record_id} with other content")
            return SealedRecord(earlier.record_id, key, earlier.sealed_at, new=False)
        kind = self.keys.types.get(content.get("type"), content.get("v"))  # type: ignore[arg-type]
        kind.check_handed_in()
        confirmed = self.officers.confirm(kind, content, confirm or {}, now)
        self._add_capture(kind, content, captured_at, operator, confirmed, now)
        content.setdefault("id", draw_record_id(now))
        kind.validate(content, now)
        if now < enrolled["valid_from"]:
            raise RecordRefused("clock", "the terminal's clock is before its enrolment: set it right, then seal again")
        self.keys.matters.check(content["department"], content.get("matter"), content["occurred_at"])
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
        full_key = _full_key(self.keys.name, key or sealed.record_id)
        submission = SealedSubmission(full_key, mark, sealed.statement, sealed.payload, sealed.wrapped_key, sealing.kek)
        self._queue.add(submission, sealed.record_id, files, int(now))
        return SealedRecord(sealed.record_id, key or sealed.record_id, int(now), new=True)

    def _content(
        self, record: Mapping[str, Any], attachments: Sequence[AttachmentSource]
    ) -> tuple[dict[str, Any], bytes]:
        content = dict(record)
        if content.setdefault("department", self.keys.department) != self.keys.department:
            raise RecordRefused("department", f"this terminal seals for {self.keys.department!r} only")
        if ATTACHMENTS in content:
            raise RecordRefused("attachments", "attachments are described from the files themselves; leave them out")
        if attachments:
            content[ATTACHMENTS] = describe(Submission("", content, tuple(attachments)))
        # a key of the terminal's own: with the consortium's, a node could try out what a record says
        return content, content_mark(self.keys.secret("mark"), content_of(content))

    def _seal_file(
        self, sealed: Sealed, number: int, source: AttachmentSource, described: dict[str, Any], data_key: bytes
    ) -> QueuedFile:
        name = f"{sealed.record_id}-{number}"
        path, digest, size = self._files / name, hashlib.sha256(), 0
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
            enrolled = self.keys.enrolment()
            recipient = X25519PublicKey.from_public_bytes(b64decode(enrolled["recipient"], "enrolment"))
            key, name = os.urandom(KEY_BYTES), os.urandom(NAME_BYTES)
            info = terminal_kek_info(self.keys.department, self._signer.kid, name)
            kek = SealedKek(name, kid_of(recipient), wrap_kek(key, recipient, info))
            index_key = b64decode(enrolled["index_key"], "enrolment")
            sealer = Sealer(self.keys.department, self._signer, Kek(0, key), index_key)
            self._sealing = _Sealing(sealer, kek, now)
        return self._sealing

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
        clock = self.clock_keeper.now()
        capture: dict[str, Any] = {"device": self.keys.name, "clock": "unknown"}
        if operator is not None or confirmed:
            capture["operator"] = operator or confirmed[0]
        if confirmed:
            capture["confirmed_by"] = confirmed
        if clock.offset_ms is not None:
            capture |= {"clock": "measured", "clock_offset_ms": clock.offset_ms}
            capture |= {"clock_error_ms": clock.error_ms, "clock_age_s": clock.age_s}
        content["capture"] = capture
        content["sealed_at"] = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")

    def status(self) -> Status:
        """How things stand."""
        counts, waiting = self._queue.counts(), self._queue.items(WAITING)
        return Status(
            department=self.keys.department,
            name=self.keys.name,
            kid=self._signer.kid,
            enrolled=self.keys.enrolled,
            node_url=self.keys.enrolment()["node_url"] if self.keys.enrolled else None,
            waiting=counts[WAITING],
            acknowledged=counts[ACKNOWLEDGED],
            refused=tuple(self._queue.items(REFUSED)),
            oldest_waiting=waiting[0].sealed_at if waiting else None,
            clock=self.clock_keeper.now(),
        )

    def _sweep_files(self) -> None:
        known = self._queue.all_files()
        old = time.time() - 3600  # another process may be sealing a file now
        for path in self._files.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < old:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class _Sealing:
    """A key-encryption key in use: in a sealer, and wrapped; `born` in seconds since 1970."""

    sealer: Sealer
    kek: SealedKek
    born: float


def _full_key(terminal: str, key: str) -> str:
    return f"terminal/{terminal}/{key}"
