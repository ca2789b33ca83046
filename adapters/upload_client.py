"""Sends a file of any size to a node and goes on by itself after every cut (tus 1.0.0, `gateway/uploads`).

The node's offset is the only truth: after anything that went wrong it is asked for, and sending goes on there. The
file is hashed first, so that the node checks the whole at the end. One piece is in memory at a time.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from ledger.errors import CouldNotRun, RecordRefused

PIECE_BYTES = 8 << 20
PAUSES_S = (0.5, 1, 2, 5, 10, 20, 30, 30, 30, 60)
"""How long to wait before the first, second … attempt without a byte of progress; behind the last one it gives up."""

CHANGED = "upload-changed"

_TUS = {"Tus-Resumable": "1.0.0"}
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that is whole on the node: what a submission says of it in `uploads`."""

    upload: str
    size: int
    sha256: str


class UploadClient:
    """Sends files through `client`: httpx with the node's base URL, signing its requests. For one thread."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        piece_bytes: int = PIECE_BYTES,
        pauses: tuple[float, ...] = PAUSES_S,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._piece = piece_bytes
        self._pauses = pauses
        self._sleep = sleep

    def send(
        self,
        path: Path,
        *,
        upload: str | None = None,
        begun: Callable[[str], None] = lambda _: None,
        progress: Callable[[int, int], None] = lambda _sent, _size: None,
    ) -> Sent:
        """Sends the file; returns when every byte is durable and the node's digest is the file's.

        `upload` goes on with one that began earlier; `begun` is told the id before the first byte is sent, so that it
        can be kept; `progress` is told how much of how much is durable. Raises RecordRefused where the node says no
        (`upload-changed`: the file is another than the one that it began with), CouldNotRun when the node did not
        answer through all pauses, OSError when the file cannot be read.
        """
        sha256, size = _digest(path)
        with path.open("rb") as file:
            name = upload or self._begin(size, sha256)
            if upload is None:
                begun(name)
            self._send(file, name, size, progress)
        return Sent(name, size, sha256)

    def _begin(self, size: int, sha256: str) -> str:
        stated = base64.b64encode(sha256.encode()).decode()
        headers = {"Upload-Length": str(size), "Upload-Metadata": f"sha256 {stated}"}
        # asked twice it begins two; the one nobody knows of expires
        answer = self._patient(lambda: self._ask("POST", "/v1/uploads", headers))
        return answer.headers["Location"].rpartition("/")[2]

    def _send(self, file: BinaryIO, name: str, size: int, progress: Callable[[int, int], None]) -> None:
        offset = self._offset(name, size)
        failures = 0
        while offset < size:
            try:
                reached = self._piece_from(file, name, offset)
            except _CutOff as error:
                self._wait(failures, error)
                failures += 1
                reached = self._offset(name, size)
            failures = 0 if reached > offset else failures
            offset = reached
            progress(offset, size)

    def _piece_from(self, file: BinaryIO, name: str, offset: int) -> int:
        file.seek(offset)
        piece = file.read(self._piece)
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = self._ask("PATCH", f"/v1/uploads/{name}", headers, piece)
        return int(answer.headers["Upload-Offset"])

    def _offset(self, name: str, size: int) -> int:
        answer = self._patient(lambda: self._ask("HEAD", f"/v1/uploads/{name}", {}))
        if int(answer.headers["Upload-Length"]) != size:
            raise RecordRefused(CHANGED, "the file is not the one that this upload began with: begin it anew")
        return int(answer.headers["Upload-Offset"])

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> httpx.Response:
        """One request. Raises _CutOff where asking again may help, RecordRefused where it will not."""
        try:
            answer = self._client.request(method, path, headers={**_TUS, **headers}, content=body)
        except httpx.TransportError as error:
            raise _CutOff(type(error).__name__) from error
        if answer.is_success:
            return answer
        # 409: the node stands elsewhere, and says where when it is asked
        if answer.status_code in _LATER or answer.status_code == 409:
            raise _CutOff(f"status {answer.status_code}")
        raise _refusal(answer)

    def _patient(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        for failures in range(len(self._pauses) + 1):
            try:
                return ask()
            except _CutOff as error:
                self._wait(failures, error)
        raise AssertionError("waiting ends by itself")

    def _wait(self, failures: int, error: _CutOff) -> None:
        if failures >= len(self._pauses):
            raise CouldNotRun(f"the node does not take the upload ({error}): run again later, it goes on") from error
        self._sleep(self._pauses[failures])


class _CutOff(Exception):
    """The line or the node failed for now."""


def _refusal(answer: httpx.Response) -> RecordRefused:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    reason = problem.get("reason") or {404: "unknown-upload", 413: "upload-size"}.get(answer.status_code, "refused")
    return RecordRefused(str(reason), str(problem.get("detail") or f"the node answered {answer.status_code}"))


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
