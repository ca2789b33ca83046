"""What a photo or a video says of itself: EXIF (JPEG, PNG, TIFF, WebP), and the movie header of MP4 and MOV.

The facts are claims of the file, unproven; they go into units of the record of their own, so that a photo can be shown
without its camera or its place. Nothing is guessed: a time without offset stays without, coordinates without a datum
are `undeclared`.

Files may be hostile. Of images only headers are read, never a pixel, by Pillow, and only formats that it reads itself.
Of movies a few boxes (ISO/IEC 14496-12 section 4.2) are read by the code below: bounded in depth, number and bytes.
It is short because so little is wanted; the libraries for it are either parsers in C, or not kept, or under the GPL.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from adapters.media_images import open_image
from ledger.errors import Malformed

MAX_BOXES = 10_000
MAX_BOX_BYTES = 1 << 20
"""Of what is read into memory; a movie's index may be larger, and is passed over."""

_EXIF, _GPS, _BASE = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.Base
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)", re.ASCII)
_OFFSET = re.compile(r"[+-]\d\d:\d\d", re.ASCII)
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d)", re.ASCII)
_ISO_6709 = re.compile(
    r"([+-]\d{1,2}(?:\.\d{1,9})?)([+-]\d{1,3}(?:\.\d{1,9})?)([+-]\d{1,5}(?:\.\d{1,3})?)?.{0,20}/?", re.ASCII
)
_DATUMS = {"WGS-84": "WGS-84", "WGS84": "WGS-84", "WGS 84": "WGS-84", "GCJ-02": "GCJ-02", "CGCS2000": "CGCS2000"}
_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)  # of movie times
_APPLE = "com.apple.quicktime."

Members = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Members of `media_facts` and `media_places` of `media.captured`, without `attachment`. `place` None: the file has
    no coordinates."""

    facts: Mapping[str, Any]
    place: Mapping[str, Any] | None


def read_facts(path: Path) -> MediaFacts:
    """The facts of a file, told by its content and not by its name.

    Raises Malformed for what is neither an image nor a movie of these kinds, or is damaged where the facts stand.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
            return _read_movie(file, path.name)
    return _read_image(path)


# ---- images ------------------------------------------------------------------------------------------------------


def _read_image(path: Path) -> MediaFacts:
    with open_image(path) as image:
        facts: Members = {"format": "JPEG" if image.format == "MPO" else image.format}
        try:
            exif = _exif_of(image)
            facts |= _exif_facts(exif)
            # of a TIFF alone Pillow gives the size that it has when upright
            turned = image.format == "TIFF" and facts.get("orientation", 1) >= 5
            facts["width"], facts["height"] = (image.height, image.width) if turned else image.size
            place = _exif_place(exif.get_ifd(_GPS))
        # what Pillow's reader of tags raises for tags that lie; the file's picture may be good all the same
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
            raise Malformed(path.name, "its EXIF is damaged: seal it without facts") from error
    return MediaFacts(facts, place)


def _exif_of(image: Image.Image) -> Image.Exif:
    if image.format == "PNG" and "exif" not in image.info:
        return Image.Exif()  # Pillow would decode the picture to look for it behind the pixels
    return image.getexif()


def _exif_facts(exif: Image.Exif) -> Members:
    inside = exif.get_ifd(_EXIF)
    found: Members = {
        "make": _line(exif.get(_BASE.Make)),
        "model": _line(exif.get(_BASE.Model)),
        "software": _line(exif.get(_BASE.Software)),
        "serial": _line(inside.get(_BASE.BodySerialNumber)),
    }
    orientation = exif.get(_BASE.Orientation)
    if isinstance(orientation, int) and 1 <= orientation <= 8:
        found["orientation"] = orientation
    found |= _taken(inside)
    return {name: value for name, value in found.items() if value is not None}


def _taken(inside: Mapping[int, Any]) -> Members:
    """`taken_at` where the file says its offset, else `taken_local`."""
    matched = _TIME.fullmatch(str(inside.get(_BASE.DateTimeOriginal, "")).strip("\0 "))
    if not matched:
        return {}
    year, month, day, clock = matched.groups()
    local = f"{year}-{month}-{day}T{clock}"
    fraction = str(inside.get(_BASE.SubsecTimeOriginal, "")).strip("\0 ")
    if re.fullmatch(r"\d{1,9}", fraction, re.ASCII):
        local += f".{fraction}"
    offset = str(inside.get(_BASE.OffsetTimeOriginal, "")).strip("\0 ")
    if not _exists(local):
        return {}
    if _OFFSET.fullmatch(offset) and _exists(local + offset):
        return {"taken_at": local + offset}
    return {"taken_local": local}


def _exif_place(gps: Mapping[int, Any]) -> Members | None:
    latitude = _degrees(gps.get(2), gps.get(1), "NS", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "EW", 180)
    if latitude is None or longitude is None:
        return None
    stated = str(gps.get(18, "")).strip("\0 ").upper()
    place: Members = {"latitude": latitude, "longitude": longitude, "datum": _DATUMS.get(stated, "undeclared")}
    altitude = _fraction(gps.get(6))
    if altitude is not None and altitude < 100_000:
        below = gps.get(5) in (1, b"\x01")
        place["altitude_m"] = _decimal(-altitude if below else altitude, 3)
    fixed = _fixed_at(gps)
    return place | ({"fixed_at": fixed} if fixed else {})


def _degrees(values: Any, side: Any, sides: str, limit: int) -> str | None:
    """Degrees, minutes and seconds as one decimal, to a millionth of a degree: a tenth of a metre."""
    side = str(side or "").strip("\0 ").upper()
    parts = [_fraction(value) for value in values] if isinstance(values, tuple) and len(values) == 3 else []
    if side not in tuple(sides) or not parts or any(part is None for part in parts):
        return None
    degrees, minutes, seconds = (part or Fraction(0) for part in parts)
    total = degrees + minutes / 60 + seconds / 3600
    if total > limit or minutes >= 61 or seconds >= 61:
        return None
    return _decimal(-total if side == sides[1] else total, 6)


def _fixed_at(gps: Mapping[int, Any]) -> str | None:
    """The receiver's own time, which is UTC (EXIF 2.32, GPSDateStamp and GPSTimeStamp)."""
    matched = _DATE.fullmatch(str(gps.get(29, "")).strip("\0 "))
    clock = gps.get(7)
    parts = [_fraction(value) for value in clock] if isinstance(clock, tuple) and len(clock) == 3 else []
    if not matched or not parts or any(part is None or part >= 100 for part in parts):
        return None
    hours, minutes, seconds = (int(part or 0) for part in parts)
    text = f"{'-'.join(matched.groups())}T{hours:02}:{minutes:02}:{seconds:02}Z"
    return text if _exists(text) else None


def _fraction(value: Any) -> Fraction | None:
    """A rational tag; None for one that is not there, negative, or divided by nothing."""
    try:
        numerator, denominator = getattr(value, "numerator", None), getattr(value, "denominator", None)
        if numerator is None or denominator is None:
            return None
        found = Fraction(int(numerator), int(denominator))
    except (ArithmeticError, ValueError, TypeError):
        return None
    return found if found >= 0 else None


# ---- movies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    """A box (ISO/IEC 14496-12 section 4.2): its type, and where its content lies."""

    kind: bytes
    start: int
    end: int


class _Movie:
    """A file of boxes, read forward; refuses more boxes than any camera writes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._left = MAX_BOXES
        self.size = file.seek(0, 2)

    def boxes(self, start: int, end: int) -> Iterator[_Box]:
        """box = size (4) ‖ type (4) ‖ [size (8) where the first is 1] ‖ content; size 0 reaches to the end."""
        while end - start >= 8:
            self._left -= 1
            if self._left < 0:
                raise Malformed(self._name, f"has more than {MAX_BOXES:,} boxes: seal it without facts")
            size, kind = struct.unpack(">I4s", self.read(start, 8))
            header = 8
            if size == 1 and end - start >= 16:
                header, size = 16, int.from_bytes(self.read(start + 8, 8), "big")
            stop = end if size == 0 else start + size
            if stop < start + header or stop > end:
                raise Malformed(self._name, f"has a box of an impossible size at byte {start:,}: seal it without facts")
            yield _Box(kind, start + header, stop)
            start = stop

    def inside(self, box: _Box, skip: int = 0) -> Iterator[_Box]:
        """The boxes in a box, behind `skip` bytes."""
        return self.boxes(box.start + skip, box.end)

    def content(self, box: _Box, most: int = MAX_BOX_BYTES) -> bytes:
        """The content of a box, at most `most` bytes of it."""
        return self.read(box.start, min(box.end - box.start, most))

    def read(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) < count:
            raise Malformed(self._name, f"ends in the middle of a box at byte {start:,}: seal it without facts")
        return data


def _read_movie(file: BinaryIO, name: str) -> MediaFacts:
    movie = _Movie(file, name)
    facts: Members = {"format": "MP4"}
    tags: dict[str, str] = {}
    for box in movie.boxes(0, movie.size):
        if box.kind == b"ftyp" and movie.content(box, 4) == b"qt  ":
            facts["format"] = "MOV"
        elif box.kind == b"moov":
            for part in movie.inside(box):
                _read_part(movie, part, facts, tags)
    if len(facts) == 1:
        raise Malformed(name, "has no movie header: it is cut off, or of another kind")
    return MediaFacts(facts | _tag_facts(tags), _tag_place(tags))


def _read_part(movie: _Movie, part: _Box, facts: Members, tags: dict[str, str]) -> None:
    match part.kind:
        case b"mvhd":
            facts |= _movie_header(movie.content(part, 40))
        case b"trak":
            _read_track(movie, part, facts)
        case b"udta":
            for box in movie.inside(part):
                if box.kind in (b"\xa9xyz", b"\xa9mak", b"\xa9mod", b"\xa9swr"):
                    tags.setdefault(box.kind[1:].decode(), _short_text(movie.content(box, 300)))
                elif box.kind == b"loci":
                    tags.setdefault("xyz", _loci(movie.content(box, 300)))
                elif box.kind == b"meta":
                    tags |= _apple_tags(movie, box)
        case b"meta":
            tags |= _apple_tags(movie, part)


def _movie_header(data: bytes) -> Members:
    """mvhd = version (1) ‖ flags (3) ‖ created ‖ modified ‖ timescale (4) ‖ duration; times have 8 bytes in version 1,
    else 4."""
    long = data[:1] == b"\x01"
    layout = ">QQIQ" if long else ">IIII"
    if len(data) < 4 + struct.calcsize(layout):
        return {}
    created, _, scale, duration = struct.unpack_from(layout, data, 4)
    found: Members = {}
    if scale and duration < (1 << 64 if long else 1 << 32) - 1:
        found["duration_ms"] = min(duration * 1000 // scale, (1 << 53) - 1)
    if 0 < created < 1 << 33:
        found["container_time"] = (_EPOCH + timedelta(seconds=created)).isoformat().replace("+00:00", "Z")
    return found


def _read_track(movie: _Movie, track: _Box, facts: Members) -> None:
    for box in movie.inside(track):
        if box.kind == b"tkhd":
            # width and height are its last eight bytes, 16.16 each; sound has none
            data = movie.content(box, 200)
            width, height = struct.unpack(">II", data[-8:]) if len(data) >= 8 else (0, 0)
            if width >> 16 and height >> 16:
                facts.setdefault("width", width >> 16)
                facts.setdefault("height", height >> 16)
        elif box.kind == b"mdia":
            for kind in _codecs(movie, box):
                text = kind.decode("ascii", "replace")
                known = facts.setdefault("codecs", [])
                if re.fullmatch(r"[!-~][ -~]{3}", text) and text.strip() not in known and len(known) < 16:
                    known.append(text.strip())


def _codecs(movie: _Movie, media: _Box) -> Iterator[bytes]:
    for minf in (box for box in movie.inside(media) if box.kind == b"minf"):
        for stbl in (box for box in movie.inside(minf) if box.kind == b"stbl"):
            for stsd in (box for box in movie.inside(stbl) if box.kind == b"stsd"):
                if stsd.end - stsd.start > 8:
                    yield from (entry.kind for entry in movie.inside(stsd, 8))


def _apple_tags(movie: _Movie, meta: _Box) -> dict[str, str]:
    """QuickTime's metadata: `keys` lists the names, `ilst` the values by their number."""
    # MP4's meta is a full box, MOV's is not
    skip = 0 if movie.read(meta.start + 4, 4) == b"hdlr" else 4
    names: list[str] = []
    values: dict[int, str] = {}
    for box in movie.inside(meta, skip):
        if box.kind == b"keys" and box.end - box.start > 8:
            names = [movie.content(key, 100).decode("utf-8", "replace") for key in movie.inside(box, 8)]
        elif box.kind == b"ilst":
            for item in movie.inside(box):
                data = movie.content(item, 316)
                if data[4:8] == b"data" and data[8:12] == b"\0\0\0\1":
                    values[int.from_bytes(item.kind, "big")] = data[16:].decode("utf-8", "replace")
    return {
        name.removeprefix(_APPLE): values[number]
        for number, name in enumerate(names, 1)
        if name.startswith(_APPLE) and number in values
    }


def _tag_facts(tags: Mapping[str, str]) -> Members:
    found: Members = {
        "make": _line(tags.get("make") or tags.get("mak")),
        "model": _line(tags.get("model") or tags.get("mod")),
        "software": _line(tags.get("software") or tags.get("swr")),
    }
    matched = _ISO_TIME.fullmatch(tags.get("creationdate", ""))
    if matched:
        offset = matched[2] if matched[2] == "Z" or ":" in matched[2] else f"{matched[2][:3]}:{matched[2][3:]}"
        if _exists(matched[1] + offset):
            found["taken_at"] = matched[1] + offset
    return {name: value for name, value in found.items() if value is not None}


def _tag_place(tags: Mapping[str, str]) -> Members | None:
    """ISO 6709 point: ±latitude±longitude[±altitude]/ in degrees; it is WGS-84 only where `CRSWGS_84` says so."""
    text = tags.get("location.ISO6709") or tags.get("xyz") or ""
    matched = _ISO_6709.fullmatch(text)
    if not matched or abs(Fraction(matched[1])) > 90 or abs(Fraction(matched[2])) > 180:
        return None
    datum = "WGS-84" if "CRSWGS_84" in text else "undeclared"
    latitude, longitude = (_decimal(Fraction(matched[number]), 6) for number in (1, 2))
    altitude = {"altitude_m": _decimal(Fraction(matched[3]), 3)} if matched[3] else {}
    return {"latitude": latitude, "longitude": longitude, "datum": datum, **altitude}


def _loci(data: bytes) -> str:
    """As ISO 6709. loci = version and flags (4) ‖ language (2) ‖ name, 0 ‖ role (1) ‖ longitude ‖ latitude ‖ altitude,
    16.16 each (3GPP TS 26.244 section 8.4)."""
    end = data.find(b"\0", 6)
    if end < 0 or len(data) < end + 14:
        return ""
    longitude, latitude, altitude = struct.unpack_from(">iii", data, end + 2)
    signed = [_decimal(Fraction(value, 65_536), 6) for value in (latitude, longitude, altitude)]
    return "".join(text if text.startswith("-") else f"+{text}" for text in signed) + "/"


def _short_text(data: bytes) -> str:
    """A QuickTime text: length (2) ‖ language (2) ‖ text."""
    length = int.from_bytes(data[:2], "big")
    return data[4 : 4 + length].decode("utf-8", "replace")


# ---- both --------------------------------------------------------------------------------------------------------


def _line(value: Any) -> str | None:
    """One printable line of at most 100 characters, or None."""
    if not isinstance(value, str):
        return None
    text = "".join(character for character in value if character.isprintable() and character != "\ufffd").strip()
    return text[:100].strip() or None


def _decimal(value: Fraction, places: int) -> str:
    scaled = round(value * 10**places)
    whole, rest = divmod(abs(scaled), 10**places)
    text = f"{whole}.{rest:0{places}}".rstrip("0").rstrip(".")
    return f"-{text}" if scaled < 0 else text


def _exists(text: str) -> bool:
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return False
    return True
