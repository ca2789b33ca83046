"""What a connection may do before anything is known of whoever is at its other end; over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from gateway import wire
from gateway.serving import bind

BIG = 1 << 20


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the header fields and the size of the body; at `/early` without reading it."""
    assert scope["type"] == "http"
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    body = json.dumps({"headers": fields, "size": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    opened = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        echo, http=wire.Plain, ws="none", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    number: int = opened.getsockname()[1]
    yield number
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def line(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
        yield opened


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def answer(line: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer; status 0 where the connection ended without one."""
    came = b""
    while b"\r\n\r\n" not in came:
        if not (piece := line.recv(65_536)):
            return 0, came
        came += piece
    fields, _, body = came.partition(b"\r\n\r\n")
    wanted = int(fields.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < wanted:
        body += line.recv(65_536)
    return int(came.split(b" ")[1]), body


def ends(line: socket.socket) -> bool:
    """Waits until the other end has closed the connection."""
    try:
        while line.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_trailers_do_not_become_header_fields(line: socket.socket) -> None:
    """A proxy takes away what nobody may say, from the head: what stands behind the body it may pass on."""
    body = b"5;x=y\r\nhello\r\n0\r\nClient-Cert: :AAAA:\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
    line.sendall(head("POST", "/", "Transfer-Encoding: chunked", "X-One: 1") + body)
    status, content = answer(line)
    told = json.loads(content)
    assert (status, told["size"]) == (200, 5)
    assert [name for name, _ in told["headers"]] == ["host", "transfer-encoding", "x-one"]
    line.sendall(head("GET", "/", "X-Two: 2"))
    assert [name for name, _ in json.loads(answer(line)[1])["headers"]] == ["host", "x-two"]


CHUNKED = "Transfer-Encoding: chunked"
TWO_READINGS = {
    "two ways to say how long": head("POST", "/", "Content-Length: 5", CHUNKED) + b"0\r\n\r\n",
    "two lengths": head("POST", "/", "Content-Length: 5", "Content-Length: 6") + b"hello",
    "a list of lengths": head("POST", "/", "Content-Length: 5, 5") + b"hello",
    "a length with a sign": head("POST", "/", "Content-Length: +5") + b"hello",
    "a negative length": head("POST", "/", "Content-Length: -1"),
    "a length that no number holds": head("POST", "/", "Content-Length: " + "9" * 23),
    "a length in hexadecimal": head("POST", "/", "Content-Length: 0x5") + b"hello",
    "chunks by another name": head("POST", "/", "Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunks and then something else": head("POST", "/", f"{CHUNKED}, identity") + b"0\r\n\r\n",
    "a space before the colon": head("POST", "/", "Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "a chunk of negative length": head("POST", "/", CHUNKED) + b"-1\r\n\r\n",
    "a chunk longer than it says": head("POST", "/", CHUNKED) + b"5\r\nhelloworld\r\n0\r\n\r\n",
    "a chunk that no number holds": head("POST", "/", CHUNKED) + b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n",
    "lines that end otherwise": b"POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello",
    "a folded line": head("POST", "/", "X: a", " Content-Length: 5"),
    "a NUL": head("GET", "/", "X: a\0b"),
}


@pytest.mark.parametrize("case", TWO_READINGS)
def test_what_can_be_read_in_two_ways_is_not_read(line: socket.socket, case: str) -> None:
    """Else what a proxy takes for a body is a request to us, past whatever the proxy asks of requests."""
    line.sendall(TWO_READINGS[case] + head("GET", "/smuggled"))
    assert answer(line)[0] == 400
    assert ends(line)


def test_a_large_body_is_no_long_head(line: socket.socket) -> None:
    for _ in range(2):
        line.sendall(head("POST", "/", f"Content-Length: {BIG}") + bytes(BIG))
        assert json.loads(answer(line)[1])["size"] == BIG
    pieces = (b"%x\r\n" % 10_000 + bytes(10_000) + b"\r\n") * 100 + b"0\r\n\r\n"
    line.sendall(head("POST", "/", "Transfer-Encoding: chunked") + pieces)
    assert json.loads(answer(line)[1])["size"] == BIG - BIG % 10_000 - 40_000


LONG: dict[str, bytes] = {
    "a field of megabytes": b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
    "a name of megabytes": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "an address of megabytes": b"GET /",
    "a method of megabytes": b"",
    "a chunk's extension of megabytes": head("POST", "/", "Transfer-Encoding: chunked") + b"5;",
    "trailers of megabytes": head("POST", "/", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\nX: ",
}


@pytest.mark.parametrize("case", LONG)
def test_what_never_ends_is_cut_off(line: socket.socket, case: str) -> None:
    line.sendall(LONG[case])
    with pytest.raises(OSError):
        for _ in range(1_000):
            line.sendall(b"a" * 100_000)
    assert ends(line)


def test_whoever_keeps_us_waiting_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.3)
    slow = {
        "nothing at all": b"",
        "half a head": b"GET / HTTP/1.1\r\nHost:",
        "half a body": head("POST", "/", "Content-Length: 10") + b"12345",
        "half of the next head": head("GET", "/") + b"GET / HT",
    }
    for said in slow.values():
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(said)
            assert ends(line)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line, pytest.raises(OSError):
        for byte in b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000:  # byte by byte it is no other
            line.sendall(bytes([byte]))
            time.sleep(0.02)


def test_a_body_that_comes_slowly_but_comes_is_taken(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_SECONDS", 5.0)
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(head("POST", "/", "Content-Length: 5"))
        for _ in range(5):
            time.sleep(0.1)
            line.sendall(b"x")
        assert json.loads(answer(line)[1])["size"] == 5


def test_an_answer_does_not_wait_for_the_body(line: socket.socket) -> None:
    line.sendall(head("POST", "/early", f"Content-Length: {BIG}"))
    assert answer(line)[0] == 200
