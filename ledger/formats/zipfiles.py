"""The zip of a case file (APPNOTE 6.3.10), read so strictly that no two tools can see two different contents.

    zip      = 1*(local header || bytes) || 1*(central header) || [zip64 end || locator] || end
    local    = "PK\\x03\\x04" version needed, flags 0, method 0 (stored), time 0, date 1980-01-01, CRC-32, sizes, path,
               extra: only the ZIP64 field, and only where a size does not fit in 32 bits
    central  = "PK\\x01\\x02" made by Unix, as in the local header, mode 0100644, offset, no comment
    path     = part *("/" part), part = [A-Za-z0-9][A-Za-z0-9._-]*, at most 120 characters; no directories
    order    = payload (data/…) by path, then the rest by path; headers and bytes lie in the same order

Payload first, because the rest lists its digests and the file is written in one go. Everything follows from path, size,
CRC-32 and order, so the reader makes each header again and compares it byte for byte: nothing before, between or after,
no overlap, no second entry of a path, no comment, no descriptor. What does not fit gives CaseFileInvalid with a reason
of `zip-…` and the path where there is one.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ledger.errors import CaseFileInvalid

MAX_ENTRIES = 500_000
MAX_PATH_CHARS = 120
MAX_ZIP_BYTES = 2**46
CHUNK_BYTES = 1024 * 1024

HEAD = b"PK\x03\x04"
PAYLOAD = "data/"

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL_HEAD, _END_HEAD, _END64_HEAD, _LOCATOR_HEAD = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_DATE = 0x0021
_MADE_BY = 0x032D
_FILE_MODE = 0o100644 << 16
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the zip. `offset`, of its local header, and `size` in bytes."""

    path: str
    size: int
    crc: int
    offset: int

    @property
    def data_offset(self) -> int:
        """Where its bytes begin."""
        return self.offset + _LOCAL.size + len(self.path) + (20 if self.size >= _MAX32 else 0)

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.data_offset + self.size


def order_of(path: str) -> tuple[bool, str]:
    """The key that entries are sorted by."""
    return not path.startswith(PAYLOAD), path


def check_path(path: str) -> None:
    """Raises CaseFileInvalid, `zip-name`, unless `path` is one that this format has."""
    if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path):
        raise CaseFileInvalid("zip-name", "a file in the zip has a name that case files do not have", path)


def local_header(entry: Entry) -> bytes:
    """What stands before the bytes of `entry`."""
    large = entry.size >= _MAX32
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if large else b""
    size, needed, path = min(entry.size, _MAX32), 45 if large else 20, entry.path.encode("ascii")
    head = _LOCAL.pack(HEAD, needed, 0, 0, 0, _DATE, entry.crc, size, size, len(path), len(extra))
    return head + path + extra


def central_header(entry: Entry) -> bytes:
    """What stands in the directory for `entry`."""
    wide = [entry.size, entry.size] if entry.size >= _MAX32 else []
    wide += [entry.offset] if entry.offset >= _MAX32 else []
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, path = min(entry.size, _MAX32), entry.path.encode("ascii")
    # one place after another as APPNOTE 4.3.12 has them; no disk number, no internal attributes
    fields = (_CENTRAL_HEAD, _MADE_BY, 45 if wide else 20, 0, 0, 0, _DATE, entry.crc, size, size, len(path))
    return _CENTRAL.pack(*fields, len(extra), 0, 0, 0, _FILE_MODE, min(entry.offset, _MAX32)) + path + extra


def ending(count: int, offset: int, size: int) -> bytes:
    """What stands after a directory of `count` entries, `size` bytes long, at `offset`."""
    small = (min(count, _MAX16), min(count, _MAX16), min(size, _MAX32), min(offset, _MAX32))
    end = _END.pack(_END_HEAD, 0, 0, *small, 0)
    if count < _MAX16 and size < _MAX32 and offset < _MAX32:
        return end
    end64 = _END64.pack(_END64_HEAD, _END64.size - 12, _MADE_BY, 45, 0, 0, count, count, size, offset)
    return end64 + _LOCATOR.pack(_LOCATOR_HEAD, 0, offset + size, 1) + end


class ZipReader:
    """A case file's zip. `stream` is seekable, stays open, and is not changed by others meanwhile.

    Making one reads the directory and every local header, not the bytes between them. Raises CaseFileInvalid.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        if self.size > MAX_ZIP_BYTES:
            raise _bad("zip-large", f"the file is larger than {MAX_ZIP_BYTES:,} bytes")
        count, offset, length = self._ending()
        self.entries = tuple(self._directory(count, offset, length))
        self._by_path = {entry.path: entry for entry in self.entries}
        self._check_headers(offset)

    def __contains__(self, path: str) -> bool:
        return path in self._by_path

    def entry(self, path: str) -> Entry:
        """The entry of this path. Raises CaseFileInvalid, `file-missing`."""
        try:
            return self._by_path[path]
        except KeyError:
            raise CaseFileInvalid("file-missing", "the case file lacks a file that it must have", path) from None

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of `entry` in pieces of at most 1 MiB. Raises CaseFileInvalid, `zip-crc`, after the last piece
        unless they have the CRC-32 that the directory says."""
        offset, left, crc = entry.data_offset, entry.size, 0
        while left:
            self._stream.seek(offset)
            chunk = self._stream.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise CaseFileInvalid("zip-end", "the file ends too early", entry.path)
            crc, offset, left = zlib.crc32(chunk, crc), offset + len(chunk), left - len(chunk)
            yield chunk
        if crc != entry.crc:
            raise CaseFileInvalid("zip-crc", "a file in the zip does not have its CRC-32: it was damaged", entry.path)

    def read(self, path: str, limit: int) -> bytes:
        """All bytes of the file at `path`. Raises CaseFileInvalid: `file-missing`, `zip-crc`, or `file-large` for more
        than `limit`."""
        entry = self.entry(path)
        if entry.size > limit:
            raise CaseFileInvalid("file-large", f"has {entry.size:,} bytes, more than the {limit:,} allowed", path)
        return b"".join(self.chunks(entry))

    def _ending(self) -> tuple[int, int, int]:
        """Number of entries, offset and size of the directory."""
        tail_at = max(0, self.size - _END64.size - _LOCATOR.size - _END.size)
        tail = self._at(tail_at, self.size - tail_at)
        if len(tail) < _END.size or tail[-_END.size :][:4] != _END_HEAD:
            raise _bad("zip-end", "the zip does not end as it should: it was cut short, or something was added")
        _, _, _, _, count, length, offset, _ = _END.unpack(tail[-_END.size :])
        wide = len(tail) == _END64.size + _LOCATOR.size + _END.size and tail[:4] == _END64_HEAD
        if wide and (count == _MAX16 or _MAX32 in (length, offset)):
            *_, count, length, offset = _END64.unpack(tail[: _END64.size])
        if count > MAX_ENTRIES:
            raise _bad("zip-many", f"the zip has more than {MAX_ENTRIES:,} entries")
        end = ending(count, offset, length)
        if offset + length + len(end) != self.size:
            raise _bad("zip-gap", "bytes stand before, between or after the zip's parts that belong to none of them")
        if not tail.endswith(end):
            raise _bad("zip-end", "the end of the zip says something that a case file does not say")
        return count, offset, length

    def _directory(self, count: int, offset: int, length: int) -> Iterator[Entry]:
        end, last = offset + length, None
        for _ in range(count):
            entry, header = self._central(offset, end)
            _check_central(entry, header)
            if last is not None and last.path == entry.path:
                raise CaseFileInvalid("zip-duplicate", "a file stands in the zip twice", entry.path)
            if last is not None and order_of(last.path) > order_of(entry.path):
                raise CaseFileInvalid("zip-order", "the zip's files are not in the order of case files", entry.path)
            yield entry
            offset, last = offset + len(header), entry
        if offset != end:
            raise _bad("zip-gap", "the zip's directory has another size than it says")

    def _central(self, offset: int, end: int) -> tuple[Entry, bytes]:
        fixed = self._at(offset, _CENTRAL.size)
        if len(fixed) < _CENTRAL.size or fixed[:4] != _CENTRAL_HEAD:
            raise _bad("zip-directory", "the zip's directory cannot be read")
        fields = _CENTRAL.unpack(fixed)
        crc, size, path_length, extra_length, comment_length, at = fields[7], fields[9], *fields[10:13], fields[16]
        header = fixed + self._at(offset + _CENTRAL.size, path_length + extra_length + comment_length)
        if offset + len(header) > end:
            raise _bad("zip-directory", "the zip's directory is longer than it says")
        path = header[_CENTRAL.size :][:path_length].decode("utf-8", "replace")
        check_path(path)
        wide = _wide(header[_CENTRAL.size + path_length :][:extra_length])
        if size == _MAX32 and len(wide) >= 2:
            size, *wide = wide[1:]
        if at == _MAX32 and wide:
            at = wide[0]
        return Entry(path, size, crc, at), header

    def _check_headers(self, directory: int) -> None:
        expected = 0
        for entry in self.entries:
            if entry.offset != expected:
                reason = "zip-overlap" if entry.offset < expected else "zip-gap"
                raise CaseFileInvalid(reason, "the zip's files do not follow each other without gap", entry.path)
            if entry.end > directory:
                raise CaseFileInvalid("zip-overlap", "a file in the zip reaches into its directory", entry.path)
            header = local_header(entry)
            if self._at(entry.offset, len(header)) != header:
                text = "the zip's directory and the file's own header say different things"
                raise CaseFileInvalid("zip-header", text, entry.path)
            expected = entry.end
        if expected != directory:
            raise _bad("zip-gap", "bytes stand before the zip's directory that belong to no file")

    def _at(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(size)


def total_size(entries: Iterable[Entry]) -> int:
    """The bytes of all `entries` together, without headers."""
    return sum(entry.size for entry in entries)


def _wide(extra: bytes) -> list[int]:
    """The numbers of a ZIP64 field that stands alone; what is anything else shows when the header is made again."""
    if len(extra) < 4 or (len(extra) - 4) % 8:
        return []
    return list(struct.unpack(f"<{(len(extra) - 4) // 8}Q", extra[4:]))


def _check_central(entry: Entry, header: bytes) -> None:
    if header == central_header(entry):
        return
    fields = _CENTRAL.unpack(header[: _CENTRAL.size])
    flags, method, mode = fields[3], fields[4], fields[15]
    if flags & 1:
        raise CaseFileInvalid("zip-encrypted", "a file in the zip is encrypted", entry.path)
    if method != 0:
        raise CaseFileInvalid(
            "zip-method", "a file in the zip is compressed: case files store them as they are", entry.path
        )
    if mode != _FILE_MODE:
        raise CaseFileInvalid("zip-kind", "an entry of the zip is no plain file, but a link or a folder", entry.path)
    raise CaseFileInvalid("zip-header", "the zip's directory says something that a case file does not say", entry.path)


def _bad(reason: str, text: str) -> CaseFileInvalid:
    return CaseFileInvalid(reason, text, None)
