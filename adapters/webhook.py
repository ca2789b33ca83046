"""Signed webhooks (Standard Webhooks 1.0): a department's system pushes, a durable inbox keeps, a source reads it.

    webhook-id: msg_1    webhook-timestamp: 1709596800    webhook-signature: v1,<base64> v1,<base64>
    signature = HMAC-SHA-256(secret, id "." timestamp "." body)

Taken in means: signed with the feed's secret, sent within the tolerance, its id new, and committed to the inbox's disk;
only then is the sender told so. The same id again with the same body is told so again and kept once.

| inbox | trusted                      | may lose data                     | grows with                          |
|-------|------------------------------|-----------------------------------|-------------------------------------|
|       | as far as its sender's key   | no: the sender was told "taken"   | messages of `keep_days`, then purged |

The inbox holds messages in plaintext, so personal data: it stays on the department's own node.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.jsonl_files import json_row
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row
from ledger.errors import CouldNotRun, Malformed, Refusal, StorageFailed

MAX_PENDING = 100_000
MIN_SECRET_BYTES = 24

_ID = re.compile(r"[\x21-\x7e]{1,256}")
_SECONDS = re.compile(r"[0-9]{1,12}")


class NotTaken(Refusal):
    """A message that the inbox does not take. `status` is that of the HTTP answer."""

    code = "not-taken"

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """`[source]` with kind = "webhook"."""

    inbox: str
    secret_env: str
    tolerance_seconds: int
    keep_days: int
    only_new = True

    @classmethod
    def parse(cls, section: Section) -> WebhookOptions:
        """Takes the options of this kind from a `[source]` table."""
        tolerance = section.get("tolerance_seconds", int, 300)
        keep_days = section.get("keep_days", int, 30)
        # an id must be remembered for longer than its signature is good
        if not (1 <= tolerance <= 3600 and 1 <= keep_days <= 3650):
            section.refuse('"source.tolerance_seconds" must be from 1 to 3600, "keep_days" from 1 to 3650')
        return cls(section.require("inbox", str), section.require("secret_env", str), tolerance, keep_days)

    def open(self, opening: Opening) -> WebhookInbox:
        """The inbox as a source. Raises CouldNotRun where no receiver has made one yet."""
        path = opening.override or opening.base / self.inbox
        if not path.is_file():
            raise CouldNotRun(f"there is no inbox {path}; `yunxi adapter receive` makes it when it starts")
        return WebhookInbox(Inbox(path, opening.clock), self.keep_days, opening.limits)

    def receive(self, base: Path, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> Hook:
        """The receiving side; makes the inbox. Raises CouldNotRun where the secret is missing or too weak."""
        keys = [_secret(word, self.secret_env) for word in environ.get(self.secret_env, "").split()]
        if not keys:
            raise CouldNotRun(f"set the environment variable {self.secret_env} to the webhook's secret (whsec_…)")
        return Hook(Inbox(base / self.inbox, clock, make=True), tuple(keys), self.tolerance_seconds, clock)


def _secret(word: str, name: str) -> bytes:
    try:
        key = b64decode(word.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < MIN_SECRET_BYTES:
        raise CouldNotRun(f"{name} must hold whsec_ and base64 of at least {MIN_SECRET_BYTES} random bytes")
    return key


def make_secret() -> str:
    """A new secret, 32 random bytes, in the form that both sides take."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode("ascii")


class Hook:
    """The receiving side of one feed. May be used by several threads."""

    def __init__(self, inbox: Inbox, keys: tuple[bytes, ...], tolerance: int, clock: Callable[[], float]) -> None:
        self._inbox = inbox
        self._keys = keys
        self._tolerance = tolerance
        self._clock = clock

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Takes a message in, durably; False where the same message was taken before. Names of headers are lower case.

        Raises NotTaken: 400 headers missing, 401 signature or time, 409 its id taken by another body, 503 inbox full.
        Raises StorageFailed.
        """
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        identity, sent, signatures = (headers.get(name, "") for name in names)
        if not _ID.fullmatch(identity) or not _SECONDS.fullmatch(sent) or not signatures:
            raise NotTaken(400, "the headers webhook-id, webhook-timestamp and webhook-signature are needed")
        self._check_signature(f"{identity}.{sent}.".encode() + body, signatures)
        if abs(self._clock() - int(sent)) > self._tolerance:
            raise NotTaken(401, f"webhook-timestamp is more than {self._tolerance} seconds from now; check both clocks")
        return self._inbox.put(identity, body)

    def close(self) -> None:
        """Closes the inbox."""
        self._inbox.close()

    def _check_signature(self, content: bytes, signatures: str) -> None:
        wanted = [hmac.digest(key, content, "sha256") for key in self._keys]
        for word in signatures.split()[:20]:
            version, _, text = word.partition(",")
            try:
                given = b64decode(text, validate=True)
            except ValueError:
                continue
            if version == "v1" and any(hmac.compare_digest(given, digest) for digest in wanted):
                return
        raise NotTaken(401, "no signature in webhook-signature fits; check the secret on both sides")


class Inbox:
    """Messages in the order in which they came, in an SQLite file. Made only on purpose."""

    def __init__(self, path: Path, clock: Callable[[], float], *, make: bool = False) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        with self._failing():
            mode = "rwc" if make else "rw"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
                timeout=30,
            )  # fmt: skip
            if make:
                path.chmod(0o600)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("CREATE TABLE IF NOT EXISTS inbox (name TEXT NOT NULL, settled INTEGER NOT NULL)")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS message (seq INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "id TEXT NOT NULL UNIQUE, received_at REAL NOT NULL, body BLOB NOT NULL)"
                )
                self._db.execute(
                    "INSERT INTO inbox SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM inbox)", (secrets.token_hex(8),)
                )
            self._db.execute("PRAGMA synchronous=FULL")
            self.name: str = self._db.execute("SELECT name FROM inbox").fetchone()[0]

    def put(self, identity: str, body: bytes) -> bool:
        """Keeps a message, durably; False where it is kept already. Raises NotTaken, StorageFailed."""
        with self._lock, self._failing():
            known = self._db.execute("SELECT body FROM message WHERE id = ?", (identity,)).fetchone()
            if known is not None:
                if known[0] != body:
                    raise NotTaken(409, "this webhook-id was taken with another body; ids are used once")
                return False
            waiting = self._db.execute("SELECT max(seq) - (SELECT settled FROM inbox) FROM message").fetchone()[0]
            if waiting is not None and waiting >= MAX_PENDING:
                raise NotTaken(503, "the inbox is full; run the feed, then send again")
            insert = "INSERT OR IGNORE INTO message (id, received_at, body) VALUES (?, ?, ?)"
            return self._db.execute(insert, (identity, self._clock(), body)).rowcount == 1

    def read(self, behind: int, count: int) -> list[tuple[int, str, float, bytes]]:
        """At most `count` messages behind a place: place, id, time of arrival, body."""
        query = "SELECT seq, id, received_at, body FROM message WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._lock, self._failing():
            return self._db.execute(query, (behind, count)).fetchall()

    def settle(self, up_to: int, keep_days: int) -> None:
        """Messages up to a place are sealed or set aside: makes room, and forgets those older than `keep_days`."""
        before = self._clock() - keep_days * 86_400
        with self._lock, self._failing():
            self._db.execute("UPDATE inbox SET settled = max(settled, ?)", (up_to,))
            self._db.execute("DELETE FROM message WHERE seq <= ? AND received_at < ?", (up_to, before))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, TypeError, OSError) as error:
            name = type(error).__name__
            raise StorageFailed(f"the inbox {self._path.name} cannot be used ({name}); check file and disk") from error


class WebhookInbox:
    """The inbox as a source. Its only part is `inbox`."""

    def __init__(self, inbox: Inbox, keep_days: int, limits: Limits) -> None:
        self._inbox = inbox
        self._keep_days = keep_days
        self._limits = limits
        self._last = 0

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source."""
        saved = json.loads(marks["inbox"]) if "inbox" in marks else {}
        behind = saved["behind"] if saved.get("inbox") == self._inbox.name else 0
        restarted = behind == 0
        try:
            while found := self._inbox.read(behind, size):
                behind = self._last = found[-1][0]
                rows = tuple([self._row(*message[1:]) for message in found])
                own = {name for row in rows if isinstance(row, Row) for name in row.values if not name.startswith("@")}
                mark = json.dumps({"inbox": self._inbox.name, "behind": behind})
                yield Page("inbox", rows, mark, restarted, columns=tuple(own))
                restarted = False
        finally:
            self._inbox.close()

    def settled(self) -> None:
        """Forgets what is old enough. See Acknowledging: the sender was told when the message was taken in."""
        self._inbox.settle(self._last, self._keep_days)

    def _row(self, identity: str, received_at: float, body: bytes) -> Row | BadRow:
        """The body's members and `@id`, `@received`, `@sha256` of the body."""
        digest = hashlib.sha256(body).hexdigest()
        # by content: a message that is sent again under a new id means the same row
        row = json_row(f"inbox:{digest[:16]}", body, self._limits.columns)
        if isinstance(row, BadRow):
            return row
        received = datetime.fromtimestamp(int(received_at), UTC)
        return Row(row.position, {**row.values, "@id": identity, "@received": received, "@sha256": digest})


def hook_of(options: object, base: Path, environ: Mapping[str, str]) -> Hook:
    """The receiving side of a mapping's source. Raises Malformed where it is none."""
    if not isinstance(options, WebhookOptions):
        raise Malformed("source", 'only kind = "webhook" receives; the other kinds fetch, with `yunxi adapter run`')
    return options.receive(base, environ)
