"""Logs that exist in memory only, honest and forked, with real keys; and a witness's store likewise."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import pairwise
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import StorageFailed
from ledger.formats.checkpoint import sign_checkpoint
from ledger.formats.jwk import kid_of
from ledger.formats.merkle import leaf_hash, root_of, split
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.keys import Signer
from ledger.witness.core import Conflict, Head, Witness
from ledger.witness.protocol import AddCheckpoint
from ledger.witness.server import WitnessServer

ORIGIN = "yunxi.example/fire"
WITNESS = "court.example/witness"
NOW = 1_772_352_000


@cache
def signer(name: str) -> Signer:
    """The Ed25519 key that belongs to `name`, the same in every run."""
    key = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
    public: Ed25519PublicKey = key.public_key()
    return Signer(kid_of(public), public.public_bytes_raw(), key.sign)


def log_key(origin: str = ORIGIN) -> VerifierKey:
    return VerifierKey.of(origin, ED25519, signer(f"log {origin}").public)


def witness_key(name: str = WITNESS) -> VerifierKey:
    return VerifierKey.of(name, COSIGNATURE_ED25519, signer(f"witness {name}").public)


@dataclass(frozen=True)
class SimulatedLog:
    """A log of `size` entries. From entry `fork` on they are those of another `branch`."""

    size: int
    fork: int = 0
    branch: str = ""
    origin: str = ORIGIN

    @property
    def leaves(self) -> list[bytes]:
        return [leaf_hash(f"{n}{self.branch if n >= self.fork else ''}".encode()) for n in range(self.size)]

    def at(self, size: int) -> SimulatedLog:
        return replace(self, size=size)

    @property
    def root(self) -> bytes:
        return root_of(self.leaves)

    @property
    def note(self) -> bytes:
        return self.signed(f"log {self.origin}")

    def signed(self, by: str) -> bytes:
        """The checkpoint, signed with the key of `by` under the log's name."""
        key = signer(by)
        return sign_checkpoint(self.origin, self.size, self.root, key.public, key.sign)

    def path(self, old: int, new: int) -> list[bytes]:
        """The consistency path, by the definition in RFC 9162 section 2.1.4.1."""
        return subproof(old, self.at(new).leaves, True) if 0 < old < new else []

    def request(self, old: int) -> AddCheckpoint:
        """What an honest log sends to a witness that is at `old`."""
        return AddCheckpoint(old, tuple(self.path(old, self.size)), self.note)


def subproof(old: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF(old, D, whole) of RFC 9162 section 2.1.4.1."""
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*subproof(old, leaves[:middle], whole), root_of(leaves[middle:])]
    return [*subproof(old - middle, leaves[middle:], False), root_of(leaves[:middle])]


@dataclass
class MemoryStore:
    """The store's interface in memory, with its locking and its roll-back; lost with the process."""

    heads: dict[str, Head] = field(default_factory=dict)
    kept: dict[tuple[str, int, bytes], Conflict] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self, origin: str) -> Iterator[MemorySlot]:
        with self.lock:
            before = (dict(self.heads), dict(self.kept))
            try:
                yield MemorySlot(self, origin)
            except BaseException:
                self.heads, self.kept = before
                raise

    def head(self, origin: str) -> Head | None:
        return self.heads.get(origin)

    def conflicts(self) -> list[Conflict]:
        return sorted(self.kept.values(), key=lambda c: (c.time, c.size))


@dataclass
class MemorySlot:
    store: MemoryStore
    origin: str

    def head(self) -> Head | None:
        return self.store.heads.get(self.origin)

    def advance(self, old: Head | None, new: Head) -> None:
        if self.head() != old:
            raise StorageFailed("moved meanwhile")
        self.store.heads[self.origin] = new
        for place, c in list(self.store.kept.items()):
            if c.origin != self.origin or c.size != new.size or c.proven:
                continue
            if c.root == new.root:
                del self.store.kept[place]
            else:
                self.store.kept[place] = replace(c, proven=True, head=new.note)

    def keep(self, conflict: Conflict) -> None:
        self.store.kept.setdefault((conflict.origin, conflict.size, conflict.root), conflict)


def new_witness(store: object = None, clock: Callable[[], float] = lambda: NOW, name: str = WITNESS) -> Witness:
    """A witness of the simulated log."""
    logs = {ORIGIN: (log_key(),)}
    return Witness(name, signer(f"witness {name}"), logs, store or MemoryStore(), clock)  # type: ignore[arg-type]


@contextmanager
def serving(witness: Witness, port: int = 0) -> Iterator[WitnessServer]:
    """The witness over HTTP, on a free port of the loopback address."""
    server = WitnessServer(witness, "127.0.0.1", port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def call(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body of one request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def raw(url: str, data: bytes, *, then: bytes = b"", pause: float = 0.0) -> bytes:
    """What the server answers to these very bytes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(data)
        if then:
            threading.Event().wait(pause)
        with suppress(OSError):  # the server may have closed already
            connection.sendall(then)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def check_one_history(cosigned: list[SimulatedLog]) -> None:
    """Every two of the trees are one the beginning of the other."""
    ordered = [log.leaves for log in sorted(cosigned, key=lambda log: log.size)]
    for smaller, larger in pairwise(ordered):
        assert larger[: len(smaller)] == smaller, f"two histories at sizes {len(smaller)} and {len(larger)}"
