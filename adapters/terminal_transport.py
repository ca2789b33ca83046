"""How a terminal reaches its node: over HTTP with signed requests, or, where both are one machine, in process.

GET   {node}/v1/time                {"now_ms": n}          milliseconds since 1970; for anybody
POST  {node}/v1/uploads             a sealed attachment begins (tus 1.0.0)
HEAD  {node}/v1/uploads/{id}        how much of it is there
PATCH {node}/v1/uploads/{id}        a piece of at most 8 MiB
POST  {node}/v1/sealed-records      a batch (`ledger.sealed_format`); its outcomes
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ledger.errors import CouldNotRun, KeyRefused, Malformed, RecordRefused, Refusal
from ledger.formats.strictjson import loads_object
from ledger.http_signatures import Target, sign_request
from ledger.keys import Signer
from ledger.sealed_format import SealedBatch, decode_outcomes, encode_batch
from ledger.submission import Outcome

if TYPE_CHECKING:
    import httpx

    from ledger.sealed_intake import SealedIntake
    from ledger.uploads import Uploads

PIECE_BYTES = 8 << 20
TIMEOUT_S = 60.0

_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE = "application/offset+octet-stream"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed attachment on the terminal's disk. `upload` is the id under which sending it began, if it did."""

    path: Path
    sha256: str
    size: int
    upload: str | None


class Transport(Protocol):
    """The way to a node. Every call raises CouldNotRun where the node does not answer or cannot decide now; Refusal
    where it says no to all that was asked."""

    def time_ms(self) -> int:
        """The node's clock, in milliseconds since 1970."""

    def send_file(self, file: SealedFile, begun: Callable[[str], None]) -> str:
        """Sends what the node does not have of a file yet; returns the upload's id. `begun` is told the id as soon as
        there is one, so that the next call goes on where this one was cut."""

    def submit(self, batch: SealedBatch) -> list[Outcome]:
        """Submits a batch; one outcome for each record, in order."""


class Direct:
    """A node in the same process."""

    def __init__(self, intake: SealedIntake, uploads: Uploads, department: str, clock: Callable[[], float]) -> None:
        self._intake = intake
        self._uploads = uploads
        self._department = department
        self._clock = clock

    def time_ms(self) -> int:
        """See Transport."""
        return int(self._clock() * 1000)

    def send_file(self, file: SealedFile, begun: Callable[[str], None]) -> str:
        """See Transport."""
        found = self._uploads.find(self._department, file.upload) if file.upload else None
        if found is None:
            found = self._uploads.begin(self._department, file.size, sealed=True, sha256=file.sha256)
            begun(found.id)
        with file.path.open("rb") as source:
            source.seek(found.received)
            self._uploads.append(
                self._department, found.id, found.received, iter(lambda: source.read(PIECE_BYTES), b"")
            )
        return found.id

    def submit(self, batch: SealedBatch) -> list[Outcome]:
        """See Transport."""
        return self._intake.submit(batch.department, batch.records)


class Http:
    """A node behind HTTP; every request is signed with the terminal's request key (RFC 9421)."""

    def __init__(
        self,
        node_url: str,
        signer: Signer,
        clock: Callable[[], float] = time.time,
        client: httpx.Client | None = None,
    ) -> None:
        """`node_url`: the node's address without `/v1`. Raises CouldNotRun for another than an http(s) URL, or where
        the HTTP client is not installed."""
        self._url = node_url.rstrip("/")
        if not _is_address(self._url):
            raise CouldNotRun(f"the node's address must be an http(s) URL, not {node_url[:100]!r}")
        self._signer = signer
        self._clock = clock
        self._ahead_ms = 0
        self._client = client or _client()

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def time_ms(self) -> int:
        """See Transport. From then on requests are dated by the node's clock: a wrong one here does not matter."""
        answer = self._send("GET", "/v1/time", None, {})
        try:
            theirs = loads_object(answer.content, what="node's answer", max_bytes=1_000)["now_ms"]
        except (Malformed, KeyError) as error:
            raise CouldNotRun(f"{self._url} does not answer as a node does: check the address") from error
        self._ahead_ms = int(self._clock() * 1000) - int(theirs)
        return int(theirs)

    def send_file(self, file: SealedFile, begun: Callable[[str], None]) -> str:
        """See Transport."""
        name, received = file.upload, 0
        if name is None:
            declared = base64.b64encode(file.sha256.encode()).decode()
            fields = {"Upload-Length": str(file.size), "Upload-Metadata": f"sha256 {declared}"}
            answer = self._request("POST", "/v1/uploads", None, _TUS | fields)
            name = answer.headers.get("Location", "").rpartition("/")[2]
            begun(name)
        else:
            received = _offset(self._request("HEAD", f"/v1/uploads/{name}", None, _TUS))
        with file.path.open("rb") as source:
            while received < file.size:
                source.seek(received)
                fields = {"Upload-Offset": str(received), "Content-Type": _PIECE}
                path = f"/v1/uploads/{name}"
                now = _offset(self._request("PATCH", path, source.read(PIECE_BYTES), _TUS | fields))
                if now <= received:
                    raise CouldNotRun("the node does not get on with an upload: try again later")
                received = now
        return name

    def submit(self, batch: SealedBatch) -> list[Outcome]:
        """See Transport."""
        headers = {"Content-Type": "application/json"}
        answer = self._request("POST", "/v1/sealed-records", encode_batch(batch), headers)
        try:
            return decode_outcomes(answer.content, len(batch.records))
        except Malformed as error:
            raise CouldNotRun(f"the node's answer cannot be read: {error}") from error

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> httpx.Response:
        now, nonce = int(self._clock() - self._ahead_ms / 1000), secrets.token_urlsafe(16)
        signed = sign_request(Target.of_url(method, self._url + path), body, self._signer, now, nonce)
        return self._send(method, path, body, headers | signed)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> httpx.Response:
        import httpx

        try:
            answer = self._client.request(method, self._url + path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise CouldNotRun(f"the node at {self._url} does not answer: {type(error).__name__}") from error
        if answer.status_code >= 300:
            raise _problem(answer)
        return answer


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _client() -> httpx.Client:
    try:
        import httpx
    except ImportError as error:
        raise CouldNotRun("submitting over HTTP needs its client: run `pip install 'yunxi[rest]'`") from error
    return httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)


def _problem(answer: httpx.Response) -> Refusal | CouldNotRun:
    """What a problem document (RFC 9457) says; an answer without one is not the node's, or one to HEAD."""
    try:
        members = loads_object(answer.content, what="problem", max_bytes=1 << 16)
    except Malformed:
        members = {}
    detail = str(members.get("detail") or f"the node answers {answer.status_code}")
    upload = "/v1/uploads/" in str(answer.request.url)
    if upload and answer.status_code in (404, 409):
        return RecordRefused("unknown-upload" if answer.status_code == 404 else "upload-offset", detail)
    if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
        return CouldNotRun(detail)
    if answer.status_code in (401, 403):
        return KeyRefused(f"the node does not take this terminal's requests: {detail}")
    if answer.status_code in (400, 413) and members:
        return Malformed("request", detail)
    if not members:
        return CouldNotRun(f"{detail}, which is not how a node answers: check its address")
    return RecordRefused(str(members.get("reason") or members.get("code") or "refused"), detail)


def _offset(answer: httpx.Response) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not text.isascii() or not text.isdigit():
        raise CouldNotRun("the node does not say how an upload stands: check its address")
    return int(text)
