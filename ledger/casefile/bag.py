"""Writes a case file: the payload as it comes, then the bag's own files with its digests, then the signature.

Constant memory but for the manifest and the zip's directory, about 300 bytes a file. Only signature.jws holds a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ledger.casefile.zipped import ZipWriter
from ledger.formats.casefile import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    CASE,
    MANIFEST,
    PAGE,
    README,
    SIGNATURE,
    TAG_MANIFEST,
    TAGGED,
    BagInfo,
    CaseFile,
    CaseSignature,
    is_path,
    manifest_line,
)
from ledger.formats.note import Sign
from ledger.formats.zipfiles import PAYLOAD, order_of


class BagWriter:
    """Makes one case file in `target`, which is empty, seekable, and stays the caller's to close.

    Files of the payload are added in the order of their paths: data/anchors, data/attachments, data/custody.jsonld,
    data/index.html, data/index.pdf, data/manifests, data/receipts, data/records, data/times, data/trust.json.
    """

    def __init__(self, target: BinaryIO) -> None:
        self._zip = ZipWriter(target)
        self._manifest = bytearray()
        self._octets = 0
        self._files = 0

    def add(self, path: str, chunks: Iterable[bytes], size: int) -> str:
        """Adds a file of the payload, `size` bytes in pieces of any size; hands back its SHA-256 in hex.

        Raises ValueError for a path that case files do not have, or that comes out of order, StorageFailed when there
        are more or fewer bytes than `size`.
        """
        if not path.startswith(PAYLOAD) or not is_path(path):
            raise ValueError(f"a case file has no payload {path}")
        digest = hashlib.sha256()
        self._zip.add(path, _hashed(chunks, digest), size)
        self._manifest += manifest_line(digest.hexdigest(), path)
        self._octets, self._files = self._octets + size, self._files + 1
        return digest.hexdigest()

    def add_bytes(self, path: str, data: bytes) -> str:
        """Like `add`, for a file that is in memory."""
        return self.add(path, (data,), len(data))

    def finish(
        self, case: CaseFile, organisation: str, *, readme: bytes, page: bytes, kid: str, iat: int, sign: Sign
    ) -> str:
        """Writes all that is not payload and signs it; hands back the SHA-256 of the tag manifest in hex.

        `organisation`: the department's name, a line; `readme`, `page`: README.txt and verify.html; `sign`: the
        department's statement key `kid`; `iat`: now, in seconds since 1970. Nothing can be added afterwards.
        """
        info = BagInfo(organisation, case.case, self._octets, self._files)
        tags = {
            BAGIT: BAGIT_TEXT,
            BAG_INFO: info.serialize(),
            CASE: case.serialize(),
            MANIFEST: bytes(self._manifest),
            README: readme,
            PAGE: page,
        }
        lines = [manifest_line(hashlib.sha256(tags[path]).hexdigest(), path) for path in TAGGED]
        tags[TAG_MANIFEST] = b"".join(lines)
        tags[SIGNATURE] = CaseSignature.make(tags[TAG_MANIFEST], kid, iat, sign)
        for path in sorted(tags, key=order_of):
            self._zip.add(path, (tags[path],), len(tags[path]))
        self._zip.close()
        return hashlib.sha256(tags[TAG_MANIFEST]).hexdigest()


def _hashed(chunks: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
