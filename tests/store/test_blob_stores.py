"""What every blob store does, run on each: the local disk, and S3 over real HTTP (the server is moto's, in memory)."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ledger.audit import LogAudit
from ledger.errors import CouldNotRun, PayloadInvalid, RecordRefused, StorageFailed
from ledger.intake import Intake
from ledger.node import open_blobs
from ledger.records import RecordReader
from ledger.settings import ChainSettings, Settings
from ledger.store.blobs import CHUNK_BYTES, Blobs, BlobStore
from ledger.store.reading import read_logs
from ledger.store.s3_blobs import PART_BYTES, S3BlobStore, open_s3_blobs
from ledger.submission import Acknowledged, Submission, UploadedSource
from ledger.uploads import Uploads
from tests.fixtures.parts import TYPES, Parts
from tests.fixtures.records import attachment, report

BUCKET = "evidence"


class Kept:
    """A store, and how many blobs really lie in it."""

    def __init__(self, blobs: Blobs, count: Callable[[], int]) -> None:
        self.blobs = blobs
        self.count = count


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("boto3", reason="boto3 is not installed (extra s3)")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def environ(url: str) -> dict[str, str]:
    return {"YUNXI_BLOBS_ENDPOINT": url, "YUNXI_BLOBS_ACCESS_KEY": "k", "YUNXI_BLOBS_SECRET_KEY": "hunter2"}


@pytest.fixture
def bucket(url: str) -> Iterator[tuple[S3BlobStore, Any]]:
    store = open_s3_blobs(f"s3://{BUCKET}/node-1", environ(url))
    client = store._client
    client.create_bucket(Bucket=BUCKET)
    yield store, client
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture(params=["disk", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "disk":
        directory = tmp_path / "blobs"
        return Kept(BlobStore(directory), lambda: sum(path.is_file() for path in directory.rglob("*")))
    store, client = request.getfixturevalue("bucket")
    return Kept(store, lambda: client.list_objects_v2(Bucket=BUCKET)["KeyCount"])


SIZES = {
    "nothing": 0,
    "one byte": 1,
    "a chunk and one": CHUNK_BYTES + 1,
    "a part less one": PART_BYTES - 1,
    "a part": PART_BYTES,
    "two parts and one": 2 * PART_BYTES + 1,
}


@pytest.mark.parametrize("name", SIZES)
def test_there_and_back(kept: Kept, name: str) -> None:
    data = os.urandom(SIZES[name])
    stored = kept.blobs.put(data[start : start + 700_001] for start in range(0, len(data), 700_001))
    assert len(stored) == 32
    found = list(kept.blobs.get(stored))
    assert b"".join(found) == data
    assert all(len(chunk) <= CHUNK_BYTES for chunk in found)


def test_every_blob_is_listed_with_its_time(kept: Kept) -> None:
    before = {name for name, _ in kept.blobs.names()}
    stored = {kept.blobs.put([b"x"]), kept.blobs.put([b""])}
    listed = dict(kept.blobs.names())
    assert listed.keys() == before | stored
    assert all(abs(listed[name] - time.time()) < 60 for name in stored)


def failing(size: int) -> Iterator[bytes]:
    yield bytes(size)
    raise RecordRefused("attachments", "changed")


@pytest.mark.parametrize("size", [1, 2 * PART_BYTES])
def test_what_was_not_finished_is_not_there(kept: Kept, size: int) -> None:
    with pytest.raises(RecordRefused):
        kept.blobs.put(failing(size))
    assert kept.count() == 0


def test_a_finished_file_is_taken_in_whole_and_once(kept: Kept, tmp_path: Path) -> None:
    path, data = tmp_path / "arrived", os.urandom(PART_BYTES + 7)
    path.write_bytes(data)
    name = "ab" * 16
    kept.blobs.adopt(path, name)
    assert not path.exists()
    kept.blobs.adopt(path, name)  # as after a crash that came before the row was written
    assert b"".join(kept.blobs.get(name)) == data
    assert kept.count() == 1


def test_a_file_that_is_nowhere_cannot_be_taken_in(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        kept.blobs.adopt(tmp_path / "nowhere", "cd" * 16)


def test_removed_is_gone_and_again_is_no_error(kept: Kept) -> None:
    name = kept.blobs.put([b"x"])
    kept.blobs.remove(name)
    kept.blobs.remove(name)
    assert kept.count() == 0
    with pytest.raises(PayloadInvalid, match=f"attachment blob {name} is missing"):
        list(kept.blobs.get(name))


# ---- S3 alone ----------------------------------------------------------------------------------------------------


def test_an_upload_that_failed_leaves_no_parts_behind(bucket: tuple[S3BlobStore, Any]) -> None:
    store, client = bucket
    with pytest.raises(RecordRefused):
        store.put(failing(2 * PART_BYTES))
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET)


def test_what_the_service_says_is_said_without_secrets(url: str) -> None:
    store = open_s3_blobs("s3://nowhere", environ(url))
    with pytest.raises(StorageFailed, match="NoSuchBucket") as caught:
        store.put([b"x"])
    assert "hunter2" not in str(caught.value)


WRONG = {
    "no bucket": ("s3:///prefix", {}),
    "another scheme": ("https://evidence/prefix", {}),
    "an upper-case bucket": ("s3://Evidence", {}),
    "no access key": ("s3://evidence", {"YUNXI_BLOBS_ACCESS_KEY": ""}),
    "no secret key": ("s3://evidence", {"YUNXI_BLOBS_SECRET_KEY": ""}),
    "an endpoint that is no URL": ("s3://evidence", {"YUNXI_BLOBS_ENDPOINT": "not a url"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings(name: str) -> None:
    text, changes = WRONG[name]
    with pytest.raises(CouldNotRun) as caught:
        open_s3_blobs(text, {**environ("http://127.0.0.1:1"), **changes})
    assert "hunter2" not in str(caught.value)


class _Cutting(BaseHTTPRequestHandler):
    """Gives an object of 3 MiB, and hangs up after each mebibyte."""

    data = os.urandom(3 << 20)
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.data) - start))
        self.end_headers()
        self.wfile.write(self.data[start : start + (1 << 20)])

    def log_message(self, *_: Any) -> None:
        pass


def test_a_reading_that_is_cut_goes_on_where_it_was() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cutting)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        store = open_s3_blobs("s3://evidence", environ(f"http://127.0.0.1:{server.server_address[1]}"))
        assert b"".join(store.get("ab" * 16)) == _Cutting.data
        assert _Cutting.asked == [None, "bytes=1048576-", "bytes=2097152-"]
        store._client.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---- which one a node has ----------------------------------------------------------------------------------------


def test_a_node_opens_the_store_that_its_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name, value in environ(url).items():
        monkeypatch.setenv(name, value)
    assert isinstance(open_blobs(tmp_path, ""), BlobStore)
    opened = open_blobs(tmp_path, "s3://evidence/node-1")
    assert isinstance(opened, S3BlobStore)
    assert opened.key_of("ab" * 16) == f"node-1/ab/{'ab' * 16}"
    opened._client.close()


def test_the_settings_keep_it(tmp_path: Path) -> None:
    chain = ChainSettings("embedded", "", 1, "0x" + "00" * 32, "0x" + "11" * 20, "0x" + "22" * 20)
    for blobs in ("", "s3://evidence/node-1"):
        Settings(tmp_path, "test.example", "sqlite:///l.sqlite", chain, blobs=blobs).save()
        assert Settings.load(tmp_path).blobs == blobs


@pytest.mark.parametrize("text", ["url = 5", 'url = "https://evidence"', 'bucket = "evidence"'])
def test_settings_that_are_none(tmp_path: Path, text: str) -> None:
    chain = ChainSettings("embedded", "", 1, "0x" + "00" * 32, "0x" + "11" * 20, "0x" + "22" * 20)
    Settings(tmp_path, "test.example", "sqlite:///l.sqlite", chain).save()
    with (tmp_path / "node.toml").open("a") as file:
        file.write(f"\n[blobs]\n{text}\n")
    with pytest.raises(CouldNotRun, match="like s3://bucket/prefix"):
        Settings.load(tmp_path)


def test_uploads_and_files_of_records_in_a_bucket(
    bucket: tuple[S3BlobStore, Any], sqlite_parts: Parts, tmp_path: Path
) -> None:
    """The whole way: nothing stays on the node's disk, and the audit names a blob that is gone."""
    store, client = bucket
    parts, data = sqlite_parts, os.urandom(PART_BYTES + 5)
    intake = Intake(parts.database, store, parts.agent, parts.keks, TYPES)
    uploads = Uploads(parts.database, store, parts.keks, tmp_path / "uploads")
    found = uploads.append("fire", uploads.begin("fire", len(data)).id, 0, [data])
    assert list((tmp_path / "uploads").iterdir()) == []
    source = UploadedSource(found.id, "v.mp4", "video/mp4", len(data), hashlib.sha256(data).hexdigest())
    file = attachment(tmp_path / "a.png", b"png")
    [outcome] = intake.submit("fire", [Submission("k", report(1), (file,), (source,))])
    assert isinstance(outcome, Acknowledged)
    reader = RecordReader(parts.keks, store)
    with parts.database.reading() as connection:
        assert b"".join(reader.attachment(connection, outcome.record_id, 1)) == b"png"
        assert b"".join(reader.attachment(connection, outcome.record_id, 2)) == data
        log = read_logs(connection, "fire")[0]
        assert LogAudit(connection, log, parts.agent, parts.keks, store, None).run().good
    client.delete_object(Bucket=BUCKET, Key=store.key_of(found.id))
    with parts.database.reading() as connection:
        audit = LogAudit(connection, log, parts.agent, parts.keks, store, None).run()
    assert audit.counts == {"attachment-changed": 1}
    assert f"blob {found.id} is missing" in audit.findings[0].sentence
