"""Buckets over real HTTP. The server is moto's: an in-memory implementation of S3, so no proof for any product."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping import open_source, parse_mapping
from adapters.run import RunReport, run
from adapters.s3_buckets import S3Bucket, S3Options
from adapters.sections import Section
from adapters.source import Limits, Opening
from ledger.errors import CouldNotRun, Malformed

pytest.importorskip("boto3", reason="boto3 is not installed (extra s3)")
server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")

MAPPING = """
mapping = "day"
version = 1
department = "market"
type = "x"
v = 1
system = "s"
key = ["id"]
[source]
kind = "s3"
bucket = "inbox"
prefix = "fire/"
endpoint_env = "S3_URL"
access_key_env = "S3_KEY"
secret_key_env = "S3_SECRET"
format = "csv"
[fields]
name = "name"
"""


class Bucket:
    """A bucket, and a mapping over it."""

    def __init__(self, url: str, state: Any, ledger: Any, tmp_path: Path) -> None:
        import boto3

        self.environ = {"S3_URL": url, "S3_KEY": "k", "S3_SECRET": "hunter2"}
        self.client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        self.client.create_bucket(Bucket="inbox")
        self._state, self._ledger, self._base = state, ledger, tmp_path

    def put(self, key: str, text: str | bytes) -> None:
        self.client.put_object(Bucket="inbox", Key=key, Body=text)

    def run(self, text: str = MAPPING) -> RunReport:
        mapping = parse_mapping(text.encode(), "m.toml", self._base)
        return run(mapping, open_source(mapping, environ=self.environ), self._state, self._ledger, batch=2)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(url, state, ledger, tmp_path) -> Iterator[Bucket]:
    made = Bucket(url, state, ledger, tmp_path)
    yield made
    for item in made.client.list_objects_v2(Bucket="inbox").get("Contents", ()):
        made.client.delete_object(Bucket="inbox", Key=item["Key"])
    made.client.delete_bucket(Bucket="inbox")
    made.client.close()


def test_every_object_once(bucket, ledger, tmp_path):
    bucket.put("fire/1.csv", "id,name\na,1\nb,2\nc,3\n")
    bucket.put("fire/deep/2.csv", "id,name\nd,4\n")
    bucket.put("other/3.csv", "id,name\nx,9\n")
    bucket.put("fire/readme.txt", "no rows")
    assert bucket.run().sealed == 4
    assert bucket.run().read == 0
    bucket.put("fire/1.csv", "id,name\na,1\nb,2\nc,3\ne,5\n")
    report = bucket.run()
    assert (report.read, report.sealed) == (1, 1)
    assert ledger.keys() == ["a", "b", "c", "d", "e"]


def test_an_object_that_cannot_be_read_holds_nobody_up(bucket, ledger):
    bucket.put("fire/1.csv", "number\na\n")
    bucket.put("fire/2.csv", "id,name\nd,4\n")
    assert dict(bucket.run().by_reason) == {"missing-column": 1}
    assert bucket.run().read == 0
    bucket.put("fire/1.csv", "id,name\na,1\n")
    assert bucket.run().sealed == 1
    assert ledger.keys() == ["d", "a"]


def test_objects_as_rows_with_themselves_attached(bucket, ledger, state):
    text = MAPPING.replace('format = "csv"', 'format = "file"\npattern = "*.jpg"').replace('"id"', '"sha256"')
    bucket.put("fire/up/b.jpg", b"photo")
    bucket.put("fire/a.jpg", b"photo 2")
    seen: list[bytes] = []

    def submit(batch: Any) -> Any:
        seen.extend(item.attachments[0].path.read_bytes() for item in batch)
        return ledger(batch)

    mapping = parse_mapping(f'{text}[[attachments]]\ncolumn = "name"\n'.encode(), "m.toml", Path())
    report = run(mapping, open_source(mapping, environ=bucket.environ), state, submit)
    assert report.sealed == 2
    assert sorted(seen) == [b"photo", b"photo 2"]
    assert hashlib.sha256(b"photo").hexdigest() in set(ledger.keys())


def test_names_and_sizes_out_of_bounds(bucket):
    bucket.put(f"fire/{'x' * 600}.csv", "id,name\n")
    bucket.put("fire/big.csv", "id,name\na,1\n")
    mapping = parse_mapping(MAPPING.encode(), "m.toml", Path())
    opening = Opening(Path(), mapping.columns, environ=bucket.environ, limits=Limits(file_bytes=5))
    found = [row for page in mapping.options.open(opening).pages({}, 10) for row in page.rows]
    assert [row.reason for row in found] == ["unreadable", "bad-name"]


def test_names_that_no_file_system_takes_hold_nobody_up(bucket, ledger):
    bucket.put(f"fire/1/{'店' * 90}.csv", "id,name\na,1\n")
    bucket.put("fire/1/..csv", "id,name\nb,1\n")
    bucket.put("fire/../../up.csv", "id,name\nc,1\n")
    bucket.put("fire/9.csv", "id,name\nd,1\n")
    report = bucket.run()
    assert (report.stopped, dict(report.by_reason), ledger.keys()) == (None, {"bad-name": 1}, ["c", "b", "d"])


class Changing:
    """A client whose bucket changes between the listing and the reading of an object."""

    def __init__(self, client: Any, change: Any) -> None:
        self._client, self._change = client, change

    def get_object(self, **asked: Any) -> Any:
        self._change(asked["Key"])
        return self._client.get_object(**asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_bucket_that_changes_while_it_is_read(bucket, ledger, monkeypatch):
    """Deleted or replaced since it was listed: the others are read, and it is the next run's."""
    for name in ("1", "2", "3"):
        bucket.put(f"fire/{name}.csv", f"id,name\n{name},1\n")
    changes = {
        "fire/1.csv": lambda: bucket.client.delete_object(Bucket="inbox", Key="fire/1.csv"),
        "fire/2.csv": lambda: bucket.put("fire/2.csv", "id,name\n2,new\n"),
    }
    plain = S3Bucket._client
    monkeypatch.setattr(S3Bucket, "_client", lambda self: Changing(plain(self), lambda key: changes.pop(key, int)()))
    report = bucket.run()
    assert (report.stopped, report.read, report.sealed, ledger.keys()) == (None, 1, 1, ["3"])
    assert (bucket.run().sealed, ledger.keys()) == (1, ["3", "2"])


def test_an_object_that_is_not_handed_out_holds_nobody_up(bucket, ledger, monkeypatch):
    from botocore.exceptions import ClientError

    bucket.put("fire/1.csv", "id,name\n1,1\n")
    bucket.put("fire/2.csv", "id,name\n2,1\n")

    def refuse(key: str) -> None:
        if key == "fire/1.csv":
            answer: Any = {"Error": {"Code": "InvalidObjectState"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(answer, "GetObject")

    plain = S3Bucket._client
    monkeypatch.setattr(S3Bucket, "_client", lambda self: Changing(plain(self), refuse))
    for sealed in (1, 0):
        report = bucket.run()
        assert (report.stopped, report.sealed, dict(report.by_reason)) == (None, sealed, {"unreadable": 1})
    monkeypatch.undo()
    assert (bucket.run().sealed, ledger.keys()) == (1, ["2", "1"])


def test_what_stops_a_run_is_said_without_secrets(bucket):
    bucket.environ["S3_URL"] = bucket.environ["S3_URL"].rpartition(":")[0] + ":1"
    report = bucket.run()
    assert isinstance(report.stopped, CouldNotRun)
    assert "hunter2" not in str(report.stopped)
    bucket.environ = {}
    with pytest.raises(CouldNotRun, match="S3_URL"):
        bucket.run()


def test_a_bucket_that_is_not_there(bucket):
    report = bucket.run(MAPPING.replace('"inbox"', '"nowhere"'))
    assert "NoSuchBucket" in str(report.stopped)


WRONG = {
    "a secret in the file": ({"secret_key": "x"}, "source.secret_key"),
    "plain http": ({"endpoint": "http://s3.example"}, "must be an https URL"),
    "no format": ({"format": "zip"}, "source.format"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    data, sentence = WRONG[name]
    with pytest.raises(Malformed, match=sentence):
        section = Section("m.toml", "source", {"bucket": "b", "format": "csv", "access_key_env": "A",
                                               "secret_key_env": "B", **data})  # fmt: skip
        S3Options.parse(section)
        section.done()
