"""One witness, asked: over HTTP, or in this process; and what the log makes of the answer."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from ledger.errors import (
    CheckpointInvalid,
    ConsistencyInvalid,
    CouldNotRun,
    HistoryRefused,
    Malformed,
    SignatureInvalid,
    YunxiError,
)
from ledger.formats.checkpoint import add_signatures
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.note import MAX_NOTE_BYTES, VerifierKey, parse_signatures
from ledger.witness.protocol import (
    SIZE_TYPE,
    AddCheckpoint,
    LogUnknown,
    SizeConflict,
    WitnessUnreachable,
    parse_size,
)

MAX_ANSWER_BYTES = MAX_NOTE_BYTES
TIMEOUT_S = 5.0
MAX_RETRIES = 3
"""Of a witness that names another size: it may be moved by a second process of ours meanwhile."""

ConsistencyPath = Callable[[int, int], Sequence[bytes]]
"""The RFC 9162 consistency path between two sizes of the log."""


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's verified signature line for a checkpoint; `time` in seconds since 1970, by the witness's clock."""

    witness: VerifierKey
    line: bytes
    time: int


class AnyWitness(Protocol):
    """A witness, wherever it runs: `core.Witness` in this process, or `HttpWitness`."""

    def add_checkpoint(self, request: AddCheckpoint) -> bytes:
        """One or more signature lines, not verified. Raises the refusals of `protocol`, or WitnessUnreachable."""


def ask(witness: AnyWitness, vkey: VerifierKey, note: bytes, size: int, old: int, path: ConsistencyPath) -> Cosignature:
    """The cosignature of the witness `vkey` over the checkpoint `note` of `size`, verified.

    `old` is what the witness is thought to have cosigned last; it is corrected by what the witness says. Unknown
    signature lines in the answer are dropped. Raises HistoryRefused when the witness is ahead of us or keeps changing
    its mind, SignatureInvalid when it did not cosign this very checkpoint, what it refused, or WitnessUnreachable.
    """
    for _ in range(MAX_RETRIES):
        try:
            lines = witness.add_checkpoint(AddCheckpoint(old, tuple(path(old, size)) if old else (), note))
            return accept(lines, vkey, note)
        except SizeConflict as conflict:
            if conflict.size > size:
                raise HistoryRefused(
                    f"Witness {vkey.name} has cosigned {conflict.size:,} entries of this log already, we hold {size:,}."
                ) from conflict
            old = conflict.size
    raise HistoryRefused(f"Witness {vkey.name} named another size {MAX_RETRIES} times in a row; ask its operator.")


def accept(lines: bytes, vkey: VerifierKey, note: bytes) -> Cosignature:
    """The lines by `vkey` out of a witness's answer. Raises Malformed, or SignatureInvalid unless one is there and all
    are good."""
    own = [signature.line for signature in parse_signatures(lines) if signature.is_by(vkey)]
    seen = verify_cosignature(add_signatures(note, own), vkey) if own else None
    if not seen:
        raise SignatureInvalid(f"Witness {vkey.name} answered without a cosignature of its own; check its key.")
    return Cosignature(vkey, own[0], seen)


class HttpWitness:
    """A witness at `url`, its submission prefix. One call has `timeout` seconds for everything; redirects and
    environment proxies are not followed. Raises CouldNotRun for a URL that is not http or https."""

    def __init__(self, url: str, timeout: float = TIMEOUT_S) -> None:
        self._parts = _split(url)
        self._timeout = timeout

    def add_checkpoint(self, request: AddCheckpoint) -> bytes:
        status, kind, body = self._call("POST", "/add-checkpoint", request.serialize())
        if status == 200:
            return self._lines(body)
        if status == 409 and kind == SIZE_TYPE:
            raise SizeConflict(self._size(body))
        refusal = _REFUSALS.get(status)
        if refusal is None:
            raise self._nothing(status)
        raise refusal(f"The witness at {self._host} refuses ({status}): {_words(body)}")

    def checkpoint(self, origin: str) -> bytes | None:
        """The newest checkpoint of a log that the witness cosigned, not verified; None if it has none."""
        status, _, body = self._call("GET", f"/{sha256(origin.encode()).hexdigest()}/checkpoint", None)
        if status == 404:
            return None
        if status != 200:
            raise self._nothing(status)
        return body

    @property
    def _host(self) -> str:
        return self._parts.netloc

    def _nothing(self, status: int) -> WitnessUnreachable:
        return WitnessUnreachable(f"The witness at {self._host} answered {status}, which decides nothing; ask later.")

    def _lines(self, body: bytes) -> bytes:
        try:
            parse_signatures(body)
        except Malformed as error:
            raise WitnessUnreachable(f"What answers at {self._host} is no witness: {error}") from error
        return body

    def _size(self, body: bytes) -> int:
        try:
            return parse_size(body)
        except Malformed as error:
            raise WitnessUnreachable(f"The witness at {self._host} answered 409 without its size: {error}") from error

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        deadline = time.monotonic() + self._timeout
        connection = _connection(self._parts, self._timeout)
        headers = {"Content-Type": "text/plain"} if body else {}
        try:
            connection.connect()
            with _cut_at(connection.sock, deadline):
                connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
                with connection.getresponse() as response:
                    answer = response.status, response.getheader("Content-Type", ""), _read(response)
            if time.monotonic() >= deadline:  # a connection that we cut can look like one that ended
                raise TimeoutError
            return answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = time.monotonic() >= deadline
            reason = "not in time" if late else str(error) or type(error).__name__
            raise WitnessUnreachable(f"The witness at {self._host} does not answer: {reason[:200]}") from error
        finally:
            connection.close()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise CouldNotRun(f"a witness's url must be like https://witness.example/prefix, not {url[:100]!r}")
    return parts


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


@contextmanager
def _cut_at(connection: socket.socket, deadline: float) -> Iterator[None]:
    # time-outs of a socket start anew with every byte, so a server that trickles would hold us for ever
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body. Raises ValueError when it is longer than `MAX_ANSWER_BYTES` or shorter than announced."""
    body = response.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise ValueError(f"its answer is longer than {MAX_ANSWER_BYTES:,} bytes")
    if response.length:
        raise ValueError("its answer was cut short")
    return body


def _words(body: bytes) -> str:
    text = body[:300].decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else " " for c in text) or "without a reason"


def _malformed(sentence: str) -> YunxiError:
    return Malformed("add-checkpoint request", sentence)


_REFUSALS: dict[int, Callable[[str], YunxiError]] = {
    400: _malformed,
    403: CheckpointInvalid,
    404: LogUnknown,
    422: ConsistencyInvalid,
}
