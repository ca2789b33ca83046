"""Uploads over HTTP: the protocol's own words, and a client that goes on by itself over a line that is cut."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest

from adapters.upload_client import UploadClient
from gateway.access import RECENT_SECONDS
from gateway.caller import AUDITOR, OFFICER, TERMINAL
from ledger.crypto.stream import seal_stream
from ledger.errors import CouldNotRun, RecordRefused
from tests.fixtures.gateway import Gateway
from tests.fixtures.records import report

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
DATA = os.urandom((1 << 20) + 4321)


def begin(client: httpx.Client, size: int, metadata: str | None = None) -> httpx.Response:
    extra = {} if metadata is None else {"Upload-Metadata": metadata}
    return client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size), **extra})


def place(client: httpx.Client, size: int, metadata: str | None = None) -> str:
    answer = begin(client, size, metadata)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def append(client: httpx.Client, at: str, offset: object, data: bytes, **changes: str) -> httpx.Response:
    return client.patch(at, headers={**PIECE, "Upload-Offset": str(offset), **changes}, content=data)


def submit(client: httpx.Client, *uploads: dict[str, Any], key: str = "k") -> dict[str, Any]:
    items = [{"key": key, "record": report(1), "uploads": list(uploads)}]
    answer = client.post("/v1/records", json={"records": items})
    assert answer.status_code == 200, answer.text
    outcome: dict[str, Any] = answer.json()["outcomes"][0]
    return outcome


def named(at: str, data: bytes = DATA, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    name = at.rpartition("/")[2]
    members = {"upload": name, "name": "v.mp4", "media_type": "video/mp4", "size": len(data), "sha256": digest}
    return {**members, **changes}


# ---- the protocol ------------------------------------------------------------------------------------------------


def test_a_file_in_two_pieces_and_the_record_that_takes_it(gateway: Gateway) -> None:
    client = gateway.client("fire")
    at = place(client, len(DATA))
    first = append(client, at, 0, DATA[:1000])
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "1000")
    asked = client.head(at, headers=TUS)
    assert asked.status_code == 200
    assert (asked.headers["Upload-Offset"], asked.headers["Upload-Length"]) == ("1000", str(len(DATA)))
    assert asked.headers["Upload-Expires"].endswith(" GMT")
    assert asked.headers["Cache-Control"] == "no-store"
    assert append(client, at, 1000, DATA[1000:]).headers["Upload-Offset"] == str(len(DATA))
    outcome = submit(client, named(at, role="original"))
    assert outcome["outcome"] == "acknowledged"
    assert client.get(f"/v1/records/{outcome['id']}/attachments/1").content == DATA
    assert submit(client, named(at, role="original"))["new"] is False
    assert client.head(at, headers=TUS).status_code == 404


def test_what_the_service_offers(gateway: Gateway) -> None:
    answer = gateway.client("fire").options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,expiration,termination"
    assert int(answer.headers["Tus-Max-Size"]) > 4 << 30


def test_another_offset_is_told_the_right_one(gateway: Gateway) -> None:
    client = gateway.client("fire")
    at = place(client, 10)
    append(client, at, 0, b"0123")
    for offset in (0, 3, 5, 10):
        answer = append(client, at, offset, b"x")
        assert (answer.status_code, answer.json()["code"], answer.json()["offset"]) == (409, "conflict", 4)


def test_cancelled_is_gone(gateway: Gateway) -> None:
    client = gateway.client("fire")
    at = place(client, 10)
    assert client.delete(at, headers=TUS).status_code == 204
    assert client.head(at, headers=TUS).status_code == 404
    assert client.delete(at, headers=TUS).status_code == 404


def test_a_terminals_bytes_are_stored_as_they_come(gateway: Gateway) -> None:
    client = gateway.client("fire", roles={TERMINAL})
    sealed = b"".join(seal_stream(bytes(32), [b"abc"], b""))
    at = place(client, len(sealed))
    assert append(client, at, 0, sealed).status_code == 204
    assert b"".join(gateway.site.node.blobs.get(at.rpartition("/")[2])) == sealed
    plain = place(client, 3)
    refused = append(client, plain, 0, b"abc")
    assert (refused.status_code, refused.json()["reason"]) == (422, "upload-not-sealed")


def test_another_file_than_declared(gateway: Gateway) -> None:
    client = gateway.client("fire")
    stated = base64.b64encode(hashlib.sha256(b"abc").hexdigest().encode()).decode()
    at = place(client, 3, f"filename {base64.b64encode(b'a.txt').decode()},sha256 {stated}")
    answer = append(client, at, 0, b"abd")
    assert (answer.status_code, answer.json()["reason"]) == (422, "upload-digest")
    assert client.head(at, headers=TUS).status_code == 404


BAD_BEGINNINGS: dict[str, tuple[dict[str, str], int]] = {
    "no version": ({"Upload-Length": "5"}, 400),
    "another version": ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 400),
    "no length": (TUS, 400),
    "a negative length": ({**TUS, "Upload-Length": "-5"}, 400),
    "a length in other digits": ({**TUS, "Upload-Length": "5e3"}, 400),
    "nothing": ({**TUS, "Upload-Length": "0"}, 413),
    "more than a file may have": ({**TUS, "Upload-Length": "9" * 15}, 413),
    "metadata that is no base64": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "sha256 !"}, 400),
    "metadata nobody knows": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "path Li4="}, 400),
    "metadata twice": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename YQ==,filename YQ=="}, 400),
    "a digest that is none": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "sha256 YWJj"}, 422),
    "metadata in other letters": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename \xe9"}, 400),
    "metadata that is no text": ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename /w=="}, 400),
    "a length in wide digits": ({**TUS, "Upload-Length": "\xb2"}, 400),
    "two lengths": ({**TUS, "Upload-Length": "5, 6"}, 400),
    "a length in hexadecimal": ({**TUS, "Upload-Length": "0x5"}, 400),
    "a length of many digits": ({**TUS, "Upload-Length": "0" * 99 + "5"}, 400),
}


@pytest.mark.parametrize("name", BAD_BEGINNINGS)
def test_what_cannot_begin(gateway: Gateway, name: str) -> None:
    headers, status = BAD_BEGINNINGS[name]
    fields = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = gateway.client("fire").post("/v1/uploads", headers=fields)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")


BAD_PIECES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no version": ({"Tus-Resumable": "0"}, b"x", 400),
    "another media type": ({"Content-Type": "application/octet-stream"}, b"x", 415),
    "an offset that is no number": ({"Upload-Offset": "x"}, b"x", 400),
    "an offset with a sign": ({"Upload-Offset": "+0"}, b"x", 400),
    "more than was declared": ({}, b"x" * 11, 413),
    "an offset behind the end": ({"Upload-Offset": "11"}, b"x", 409),
    "an offset of many digits": ({"Upload-Offset": "9" * 15}, b"x", 409),
    "a negative offset": ({"Upload-Offset": "-1"}, b"x", 400),
    "nothing, from elsewhere": ({"Upload-Offset": "5"}, b"", 409),
    "a media type with more": ({"Content-Type": "application/offset+octet-stream; x=y"}, b"x", 415),
}


@pytest.mark.parametrize("name", BAD_PIECES)
def test_what_cannot_be_appended(gateway: Gateway, name: str) -> None:
    changes, data, status = BAD_PIECES[name]
    client = gateway.client("fire")
    at = place(client, 10)
    assert append(client, at, 0, data, **changes).status_code == status
    assert client.head(at, headers=TUS).headers["Upload-Offset"] == "0"


def all_at_once(*works: Callable[[], httpx.Response]) -> list[int]:
    """The statuses, sorted."""
    together, found = Barrier(len(works)), []

    def run(work: Callable[[], httpx.Response]) -> None:
        together.wait(20)
        found.append(work().status_code)

    threads = [Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def test_of_many_at_one_offset_one_is_taken_also_at_the_end(gateway: Gateway) -> None:
    client = gateway.client("fire")
    at = place(client, 100)
    pieces = [bytes([number]) * 60 for number in range(5)]
    assert all_at_once(*(partial(append, client, at, 0, each) for each in pieces)) == [204] + [409] * 4
    ends = [partial(append, client, at, 60, bytes([number]) * 40) for number in range(4)]
    looks = [partial(client.head, at, headers=TUS)] * 3
    assert all_at_once(*ends, *looks) == [200] * 3 + [204] + [409] * 3
    assert append(client, at, 100, b"").headers["Upload-Offset"] == "100"  # completing it twice
    assert append(client, at, 100, b"x").status_code == 413
    name = at.rpartition("/")[2]
    stored = gateway.site.node.uploads.find("fire", name)
    outcomes = [submit(client, named(at, bytes([n]) * 60 + bytes([m]) * 40), key=f"{n}{m}")
                for n in range(5) for m in range(4)]  # fmt: skip
    taken = [each for each in outcomes if each["outcome"] == "acknowledged"]
    assert (len(taken), stored.size) == (1, 100), "one of the files that were sent, and no mixture"


def test_cancelled_while_its_end_comes_nothing_stays(gateway: Gateway) -> None:
    client, node = gateway.client("fire"), gateway.site.node
    for _ in range(5):
        at = place(client, 10)
        statuses = all_at_once(partial(append, client, at, 0, bytes(10)), partial(client.delete, at, headers=TUS))
        assert statuses[0] == 204 and statuses[1] in (204, 404, 503)
        assert client.head(at, headers=TUS).status_code == 404
    assert not list(node.blobs.names())
    assert not list(node.uploads._directory.iterdir())


def test_a_key_that_ends_in_mid_upload_sends_no_more(gateway: Gateway) -> None:
    client = gateway.client("fire", roles={TERMINAL})
    at = place(client, 10)
    assert append(client, at, 0, b"YXS\x01").status_code == 204
    kid = gateway.signer("fire", {TERMINAL}).kid
    gateway.keys.held[kid] = replace(gateway.keys.held[kid], valid_to=gateway.site.clock() - 1)
    time.sleep(RECENT_SECONDS)
    assert append(client, at, 4, b"x").status_code == 401
    assert gateway.site.node.uploads.find("fire", at.rpartition("/")[2]).received == 4


def test_who_may(gateway: Gateway) -> None:
    at = place(gateway.client("fire"), 10)
    for client, status in (
        (gateway.client("health"), 404),
        (gateway.client("fire", roles={AUDITOR}), 403),
        (gateway.client(None), 401),
        (gateway.client("fire", roles={OFFICER}), 200),
    ):
        assert client.head(at, headers=TUS).status_code == status


BAD_NAMES: dict[str, Any] = {
    "no list": {"uploads": {}},
    "not an object": {"uploads": ["x"]},
    "a member too many": {"uploads": [{**named("/a/" + "ab" * 16), "path": "/etc/passwd"}]},
    "no digest": {"uploads": [{"upload": "ab" * 16, "name": "a", "media_type": "a/b", "size": 1}]},
    "a number for a name": {"uploads": [named("/x", name=5)]},
    "true for a size": {"uploads": [named("/x", size=True)]},
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_records_that_name_uploads_wrongly(gateway: Gateway, name: str) -> None:
    item = {"key": "k", "record": report(1), **BAD_NAMES[name]}
    answer = gateway.client("fire").post("/v1/records", json={"records": [item]})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


def test_a_record_that_names_an_upload_that_is_none(gateway: Gateway) -> None:
    outcome = submit(gateway.client("fire"), named("/x/" + "ab" * 16))
    assert (outcome["outcome"], outcome["reason"]) == ("refused", "unknown-upload")


# ---- the client --------------------------------------------------------------------------------------------------


class Cutting(httpx.BaseTransport):
    """A line that fails by a script: `before` loses the request, `after` the answer, a status comes from a proxy."""

    def __init__(self, inside: httpx.BaseTransport, script: list[str | int]) -> None:
        self._inside = inside
        self.script = script
        self.methods: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.methods.append(request.method)
        step = self.script.pop(0) if self.script else "well"
        if step == "before":
            raise httpx.ConnectError("cut")
        if isinstance(step, int):
            return httpx.Response(step)
        answer = self._inside.handle_request(request)
        if step == "after":
            raise httpx.ReadError("cut")
        return answer


def over(gateway: Gateway, *script: str | int) -> tuple[UploadClient, Cutting, list[float]]:
    client = gateway.client("fire")
    line = Cutting(client._transport, list(script))
    client._transport = line
    slept: list[float] = []
    return UploadClient(client, piece_bytes=100_000, pauses=(1, 2, 3), sleep=slept.append), line, slept


SCRIPTS: dict[str, tuple[list[str | int], list[float]]] = {
    "a good line": ([], []),
    "the beginning is lost": (["before", "before"], [1, 2]),
    "the answer to the beginning is lost": (["after"], [1]),
    "a piece is lost": (["well", "well", "before"], [1]),
    "the answer to a piece is lost": (["well", "well", "after"], [1]),
    "a proxy without a node": (["well", "well", 502, "well", 503, "well", 429], [1, 2, 3]),
    "the question is lost too": (["well", "well", "before", "before", "before"], [1, 1, 2]),
    "pieces fail in turn": (["well", "well", "before", "well", "well", "before", "well", "well", "before"], [1, 1, 1]),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_client_goes_on_by_itself(gateway: Gateway, tmp_path: Path, name: str) -> None:
    script, pauses = SCRIPTS[name]
    path = tmp_path / "v.mp4"
    path.write_bytes(DATA)
    client, line, slept = over(gateway, *script)
    seen: list[int] = []
    sent = client.send(path, progress=lambda done, size: seen.append(done))
    assert not line.script
    assert slept == pauses
    assert (sent.size, sent.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)
    outcome = submit(gateway.client("fire"), named(f"/{sent.upload}"))
    assert outcome["outcome"] == "acknowledged"
    answer = gateway.client("fire").get(f"/v1/records/{outcome['id']}/attachments/1")
    assert answer.content == DATA


def test_the_client_gives_up_and_another_goes_on(gateway: Gateway, tmp_path: Path) -> None:
    path, names = tmp_path / "v.mp4", []
    path.write_bytes(DATA)
    client, line, _ = over(gateway, "well", "well", "well", *["before"] * 20)
    with pytest.raises(CouldNotRun, match="run again later"):
        client.send(path, begun=names.append)
    again, line, _ = over(gateway)
    assert again.send(path, upload=names[0]).upload == names[0]
    assert line.methods[0] == "HEAD"
    assert line.methods.count("PATCH") == -(-(len(DATA) - 100_000) // 100_000)


def test_the_client_says_what_the_node_says(gateway: Gateway, tmp_path: Path) -> None:
    path, other = tmp_path / "v.mp4", tmp_path / "w.mp4"
    path.write_bytes(b"0123456789")
    other.write_bytes(b"01234")
    client, _, slept = over(gateway)
    at = place(gateway.client("fire"), 10)
    with pytest.raises(RecordRefused) as caught:
        client.send(other, upload=at.rpartition("/")[2])
    assert caught.value.reason == "upload-changed"
    with pytest.raises(RecordRefused) as caught:
        client.send(path, upload="ab" * 16)
    assert caught.value.reason == "unknown-upload"
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(RecordRefused) as caught:
        client.send(empty)
    assert caught.value.reason == "upload-size"
    assert slept == []


def test_a_file_that_changes_while_it_is_sent_is_not_taken(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(DATA)
    client, _, _ = over(gateway)
    with pytest.raises(RecordRefused) as caught:
        client.send(path, begun=lambda _: path.write_bytes(DATA[::-1]))
    assert caught.value.reason == "upload-digest"
