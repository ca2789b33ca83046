"""Encrypted attachments in an S3-compatible bucket: the same blobs as `store.blobs`, one object each.

Written by multipart upload in parts of 16 MiB, so memory is constant and a blob has at most 10,000 parts (160 GB). A
part that fails is sent again by the client library; what was cut off is aborted, and a rule of the bucket should end
multipart uploads that a crash has left. Objects are never overwritten with other bytes and never read by anyone else.

    YUNXI_BLOBS_ACCESS_KEY, YUNXI_BLOBS_SECRET_KEY    required; neither profiles nor the machine's own role are asked
    YUNXI_BLOBS_ENDPOINT                              the service's URL; Amazon's where it is not set
    YUNXI_BLOBS_REGION                                us-east-1 where it is not set
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ledger.errors import CouldNotRun, PayloadInvalid, StorageFailed
from ledger.store.blobs import CHUNK_BYTES

PART_BYTES = 16 * 1024 * 1024
RESUMES = 5
"""How often one reading goes on where the connection broke off."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
T = TypeVar("T")


class S3BlobStore:
    """A bucket of blobs, each under `<prefix><two digits>/<name>`. Safe to share between threads."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        """`client`: boto3's for S3."""
        from botocore.exceptions import BotoCoreError, ClientError

        self._bucket = bucket
        self._prefix = prefix
        self._client = client
        self._errors = (BotoCoreError, ClientError)

    def put(self, chunks: Iterable[bytes]) -> str:
        """See store.blobs.Blobs. Holds two parts."""
        name = secrets.token_hex(16)
        self._write(name, chunks)
        return name

    def adopt(self, path: Path, name: str) -> None:
        """Sends the file and deletes it: one pass over its bytes. See store.blobs.Blobs."""
        try:
            with path.open("rb") as file:
                self._write(name, iter(lambda: file.read(CHUNK_BYTES), b""))
            path.unlink()
        except FileNotFoundError:
            self._call("be found", lambda: self._client.head_object(**self._here(name)))
        except OSError as error:
            raise StorageFailed(f"an upload cannot be read back: {error.strerror}; run again") from error

    def get(self, name: str) -> Iterator[bytes]:
        """See store.blobs.Blobs. Where the connection breaks off, goes on behind the last byte that came."""
        given, length, broken = 0, 1, 0
        while given < length:
            answer = self._begin(name, given)
            length = given + answer["ContentLength"]
            try:
                with closing(answer["Body"]) as body:
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        given += len(chunk)
                        yield chunk
            except (*self._errors, OSError) as error:
                broken += 1
                if broken > RESUMES:
                    raise PayloadInvalid(f"attachment blob {name} cannot be read: {why(error)}") from None

    def remove(self, name: str) -> None:
        """See store.blobs.Blobs."""
        self._call("be deleted", lambda: self._client.delete_object(**self._here(name)))

    def names(self) -> Iterator[tuple[str, float]]:
        """See store.blobs.Blobs. One request for each thousand."""
        more: dict[str, str] = {}
        while True:
            asked = {"Bucket": self._bucket, "Prefix": self._prefix, **more}
            page = self._call("be listed", lambda asked=asked: self._client.list_objects_v2(**asked))  # type: ignore[misc]
            for found in page.get("Contents", ()):
                yield found["Key"].rpartition("/")[2], found["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def key_of(self, name: str) -> str:
        """The key of a blob's object."""
        return f"{self._prefix}{name[:2]}/{name}"

    def _begin(self, name: str, offset: int) -> Any:
        """The answer to a reading from `offset`."""
        try:
            return self._client.get_object(**self._here(name), **({"Range": f"bytes={offset}-"} if offset else {}))
        except self._errors as error:
            if why(error) == "NoSuchKey":
                raise PayloadInvalid(f"attachment blob {name} is missing from the blob store") from None
            raise PayloadInvalid(f"attachment blob {name} cannot be read: {why(error)}") from None

    def _write(self, name: str, chunks: Iterable[bytes]) -> None:
        parts = _parts(chunks)
        first = next(parts)
        if len(first) < PART_BYTES:
            self._call("be stored", lambda: self._client.put_object(**self._here(name), Body=first))
            return
        begun = self._call("be stored", lambda: self._client.create_multipart_upload(**self._here(name)))
        upload = {**self._here(name), "UploadId": begun["UploadId"]}
        done = False
        try:
            sent = [self._send(upload, 1, first)]
            sent += [self._send(upload, number, part) for number, part in enumerate(parts, 2)]
            whole = {"MultipartUpload": {"Parts": sent}}
            self._call("be stored", lambda: self._client.complete_multipart_upload(**upload, **whole))
            done = True
        finally:
            if not done:  # also when the chunks themselves ended in an error
                with suppress(*self._errors):
                    self._client.abort_multipart_upload(**upload)

    def _send(self, upload: Mapping[str, str], number: int, part: bytes) -> dict[str, Any]:
        answer = self._call("be stored", lambda: self._client.upload_part(**upload, PartNumber=number, Body=part))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _here(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self.key_of(name)}

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._errors as error:
            raise StorageFailed(
                f"an attachment could not {what} in bucket {self._bucket} ({why(error)}); check the service, run again"
            ) from None


def open_s3_blobs(url: str, environ: Mapping[str, str]) -> S3BlobStore:
    """The store that `s3://bucket/prefix` names; nothing is asked for yet. Raises CouldNotRun."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise CouldNotRun(f"[blobs] url in node.toml must be like s3://bucket/prefix, not {url!r}")
    prefix = parts.path.strip("/")
    return S3BlobStore(parts.netloc, f"{prefix}/" if prefix else "", _client(environ))


def why(error: Exception) -> str:
    """The service's own code; its text could hold keys and names."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return str(response["Error"]["Code"])
    return type(error).__name__


def _client(environ: Mapping[str, str]) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise CouldNotRun('blobs in a bucket need boto3; install it with: pip install "yunxi[s3]"') from None
    for name in ("YUNXI_BLOBS_ACCESS_KEY", "YUNXI_BLOBS_SECRET_KEY"):
        if not environ.get(name):
            raise CouldNotRun(f"set the environment variable {name}: [blobs] in node.toml names a bucket")
    endpoint = environ.get("YUNXI_BLOBS_ENDPOINT") or None
    session = boto3.session.Session(
        aws_access_key_id=environ["YUNXI_BLOBS_ACCESS_KEY"],
        aws_secret_access_key=environ["YUNXI_BLOBS_SECRET_KEY"],
        region_name=environ.get("YUNXI_BLOBS_REGION") or "us-east-1",
    )
    # stores that are not Amazon's have no host name for each bucket
    style = {"addressing_style": "path"} if endpoint is not None else {}
    config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}, s3=style)
    try:
        return session.client("s3", endpoint_url=endpoint, config=config)
    except ValueError:
        raise CouldNotRun("YUNXI_BLOBS_ENDPOINT is no URL of an S3 service") from None


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks in parts of PART_BYTES, the last one shorter; one empty part where there are no bytes."""
    buffer = bytearray()
    empty = True
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(buffer[:PART_BYTES])
            del buffer[:PART_BYTES]
            empty = False
    if buffer or empty:
        yield bytes(buffer)
