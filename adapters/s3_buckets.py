"""S3-compatible buckets: every object under a prefix is a delivery, like a file in a drop folder.

An object appears whole or not at all, so nothing has to settle. It is read again only when its ETag changes. Each one
is fetched to a private temporary file first, bounded in size, and removed once its rows are settled. Nothing is written
to the bucket, nothing in it is deleted. Credentials come from the environment variables that the mapping names, and
from nowhere else: not from profiles, not from the machine's own role.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapters.files import FileRefused
from adapters.folder import FORMATS, MAX_PART_CHARS, Delivery, DeliveryMark, EachFile, delivery_pages
from adapters.sections import Section
from adapters.source import BadRow, Beside, Opening, Page, SourceOptions
from ledger.errors import CouldNotRun, Malformed

_CHUNK = 1 << 20
_NAME_BYTES = 255  # of a file system


@dataclass(frozen=True, slots=True)
class S3Options:
    """`[source]` with kind = "s3". `each` opens one fetched object."""

    bucket: str
    prefix: str
    pattern: str
    endpoint: str | None
    endpoint_env: str | None
    region: str
    access_key_env: str
    secret_key_env: str
    each: SourceOptions

    @property
    def beside(self) -> bool:
        """Whether rows have files of their own: only where the object is the row."""
        return isinstance(self.each, EachFile)

    @classmethod
    def parse(cls, section: Section) -> S3Options:
        """Takes the options of this kind and of its format from a `[source]` table."""
        if "endpoint" in section and "endpoint_env" in section:
            section.refuse('"source" takes "endpoint" or "endpoint_env", not both')
        endpoint = section.optional("endpoint", str)
        if endpoint is not None and (urlsplit(endpoint).scheme != "https" or "@" in endpoint):
            section.refuse('"source.endpoint" must be an https URL without user or password')
        word = section.choice("format", tuple(FORMATS))
        # the formats want a path, and are given that of the fetched object when they are opened
        each = FORMATS[word](section.standing_in("path", "object"))
        return cls(
            bucket=section.require("bucket", str),
            prefix=section.get("prefix", str, ""),
            pattern=section.get("pattern", str, "*" if word == "file" else f"*.{word}"),
            endpoint=endpoint,
            endpoint_env=section.optional("endpoint_env", str),
            region=section.get("region", str, "us-east-1"),
            access_key_env=section.require("access_key_env", str),
            secret_key_env=section.require("secret_key_env", str),
            each=each,
        )

    def open(self, opening: Opening) -> S3Bucket:
        """The bucket. Raises CouldNotRun where the environment lacks something; nothing is asked for yet."""
        if opening.override is not None:
            raise Malformed("source", "a path was given, but this mapping reads a bucket")
        names = [name for name in (self.endpoint_env, self.access_key_env, self.secret_key_env) if name is not None]
        for name in names:
            if not opening.environ.get(name):
                raise CouldNotRun(f"set the environment variable {name}: the mapping's [source] needs it")
        return S3Bucket(self, opening)


class S3Bucket:
    """A bucket as a source; its parts are the objects' keys, in their order."""

    def __init__(self, options: S3Options, opening: Opening) -> None:
        self._options = options
        self._opening = opening

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. Objects that appear while this goes on may be found the next time."""
        odd: list[BadRow] = []
        client = self._client()
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            for key, version, length in self._objects(client, odd):
                saved = DeliveryMark.read(marks.get(key))
                if saved is None or not saved.done or saved.version != version:
                    yield from self._read(client, key, version, length, saved, size)
        except (BotoCoreError, ClientError) as error:
            raise CouldNotRun(f"the bucket {self._options.bucket} cannot be read ({_why(error)}); check it") from None
        finally:
            client.close()
        if odd:
            yield Page("#names", tuple(odd), None, restarted=True)

    def _objects(self, client: Any, odd: list[BadRow]) -> Iterator[tuple[str, str, int]]:
        """Key, version and size of each object that the pattern takes."""
        options = self._options
        for listed in client.get_paginator("list_objects_v2").paginate(Bucket=options.bucket, Prefix=options.prefix):
            for item in listed.get("Contents", ()):
                key: str = item["Key"]
                name = key.rpartition("/")[2]
                if not name or not fnmatchcase(name, options.pattern):
                    continue
                is_name = name not in (".", "..") and len(name.encode()) <= _NAME_BYTES
                if not key.isprintable() or len(key) > MAX_PART_CHARS or not is_name:
                    shown = key.encode("unicode_escape").decode("ascii")[:MAX_PART_CHARS]
                    odd.append(BadRow(shown, shown, "bad-name", "the object's key is too long or not printable"))
                    continue
                yield key, f"{item['ETag']}:{item['Size']}", item["Size"]

    def _read(
        self, client: Any, key: str, version: str, length: int, saved: DeliveryMark | None, size: int
    ) -> Iterator[Page]:
        if length > self._opening.limits.file_bytes:
            detail = f"the object has more than the {self._opening.limits.file_bytes:,} bytes allowed"
            mark = DeliveryMark(version, "", done=True, failed=True).write()
            yield Page(key, (BadRow(f"{key}:0", "", "unreadable", detail),), mark)
            return
        with tempfile.TemporaryDirectory(prefix="yunxi-s3-") as directory:
            path = Path(directory) / key.rpartition("/")[2]
            try:
                is_there = self._fetch(client, key, version.rpartition(":")[0], length, path)
            except FileRefused as refused:
                yield Page(key, (refused.bad,), None, restarted=True)
                return
            if not is_there:
                return
            beside = Beside(path.parent, lambda _: True)
            yield from delivery_pages(
                self._options.each, self._opening, Delivery(key, path, version), saved, beside, size
            )

    def _fetch(self, client: Any, key: str, etag: str, length: int, path: Path) -> bool:
        """Whether the object is what was listed; if not, it is the next run's. Raises FileRefused, CouldNotRun."""
        from botocore.exceptions import ClientError

        try:
            answer = client.get_object(Bucket=self._options.bucket, Key=key, IfMatch=etag)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (404, 412):
                return False
            if status == 403:  # one that we may not read, or that was put into an archive, holds up no other
                detail = f"the bucket does not hand the object out ({_why(error)}); give access to it"
                raise FileRefused(BadRow(f"{key}:0", "", "unreadable", detail)) from None
            raise
        try:
            with closing(answer["Body"]) as body, path.open("xb") as file:
                for chunk in body.iter_chunks(_CHUNK):
                    if file.write(chunk) and file.tell() > length:
                        detail = "the object is longer than the bucket says; tell who runs it"
                        raise FileRefused(BadRow(f"{key}:0", "", "unreadable", detail))
            return True
        except OSError as error:
            raise CouldNotRun(f"{key} cannot be kept while it is read ({error.strerror}); make room") from error

    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise CouldNotRun('S3 sources need boto3; install it with: pip install "yunxi[s3]"') from None
        options, environ = self._options, self._opening.environ
        endpoint = environ[options.endpoint_env] if options.endpoint_env is not None else options.endpoint
        session = boto3.session.Session(
            aws_access_key_id=environ[options.access_key_env],
            aws_secret_access_key=environ[options.secret_key_env],
            region_name=options.region,
        )
        # stores that are not Amazon's have no host name for each bucket
        style = {"addressing_style": "path"} if endpoint is not None else {}
        config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}, s3=style)
        try:
            return session.client("s3", endpoint_url=endpoint, config=config)
        except ValueError:
            raise CouldNotRun(f"{options.endpoint_env or 'endpoint'} is no URL of an S3 service") from None


def _why(error: Any) -> str:
    """The service's own code; its text could hold keys and names."""
    response = getattr(error, "response", None)
    return (
        str(response["Error"]["Code"]) if isinstance(response, dict) and "Error" in response else type(error).__name__
    )
