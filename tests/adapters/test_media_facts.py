"""Facts of photos and videos: what is there and nothing else; and files that lie, which are refused in words."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from adapters.media_facts import MAX_BOXES, read_facts
from ledger.errors import Malformed
from tests.fixtures.pictures import draw, photo, video


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_telephones_photo(tmp_path: Path, suffix: str) -> None:
    found = read_facts(photo(tmp_path / f"a.{suffix}", orientation=6))
    assert found.facts == {
        "format": {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}[suffix],
        "width": 240,
        "height": 160,
        "make": found.facts["make"],
        "model": "X1",
        "software": "X1 1.0",
        "orientation": 6,
        # Pillow, which wrote these files, leaves the inner tags out of a TIFF
        **({} if suffix == "tif" else {"serial": "SN-0001", "taken_at": "2026-03-02T09:15:00.120+08:00"}),
    }
    assert suffix == "tif" or found.place == {
        "latitude": "29.912345",
        "longitude": "121.512345",
        "datum": "undeclared",
        "altitude_m": "12.5",
        "fixed_at": "2026-03-02T01:14:59Z",
    }


def test_nothing_is_guessed(tmp_path: Path) -> None:
    found = read_facts(photo(tmp_path / "a.jpg", offset=None, gps=False))
    assert found.place is None
    assert found.facts["taken_local"] == "2026-03-02T09:15:00.120"
    assert "taken_at" not in found.facts


@pytest.mark.parametrize(("stated", "datum"), [("WGS-84", "WGS-84"), ("wgs84 ", "WGS-84"), ("TOKYO", "undeclared")])
def test_a_datum_only_where_the_file_declares_it(tmp_path: Path, stated: str, datum: str) -> None:
    place = read_facts(photo(tmp_path / "a.jpg", datum=stated)).place
    assert place is not None
    assert place["datum"] == datum


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "2026:02:30 09:15:00", "2026:03:02", "    ", "x" * 500])
def test_times_that_do_not_exist_are_left_out(tmp_path: Path, taken: str) -> None:
    assert not {"taken_at", "taken_local"} & read_facts(photo(tmp_path / "a.jpg", taken=taken)).facts.keys()


def test_an_image_without_anything(tmp_path: Path) -> None:
    draw().save(tmp_path / "a.png")
    found = read_facts(tmp_path / "a.png")
    assert (found.facts, found.place) == ({"format": "PNG", "width": 240, "height": 160}, None)


def test_the_content_tells_and_not_the_name(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg").rename(tmp_path / "a.mp4")
    assert read_facts(tmp_path / "a.mp4").facts["format"] == "JPEG"


# ---- movies ------------------------------------------------------------------------------------------------------


def test_a_video(tmp_path: Path) -> None:
    path = video(
        tmp_path / "a.mp4", "-metadata", "creation_time=2026-03-02T01:15:00Z", "-metadata", "location=+29.5+121.25/"
    )
    found = read_facts(path)
    assert found.facts == {
        "format": "MP4",
        "duration_ms": 2000,
        "container_time": "2026-03-02T01:15:00Z",
        "width": 160,
        "height": 120,
        "codecs": ["avc1", "mp4a"],
    }
    assert found.place == {"latitude": "29.5", "longitude": "121.25", "datum": "undeclared", "altitude_m": "0"}


def test_what_an_iphone_writes(tmp_path: Path) -> None:
    pairs = {"make": "Apple", "model": "iPhone", "creationdate": "2026-03-02T09:15:00+0800",
             "location.ISO6709": "+29.9123+121.5123+012.345/"}  # fmt: skip
    tags = [item for name, value in pairs.items() for item in ("-metadata", f"com.apple.quicktime.{name}={value}")]
    found = read_facts(video(tmp_path / "a.mov", "-movflags", "use_metadata_tags", *tags))
    assert found.facts["format"] == "MOV"
    assert (found.facts["make"], found.facts["model"]) == ("Apple", "iPhone")
    assert found.facts["taken_at"] == "2026-03-02T09:15:00+08:00"
    assert found.place == {
        "latitude": "29.9123", "longitude": "121.5123", "datum": "undeclared", "altitude_m": "12.345",
    }  # fmt: skip


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I4s", len(content) + 8 if size is None else size, kind) + content


FTYP = box(b"ftyp", b"isom\0\0\0\0")
MVHD = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 5000))


def test_a_box_that_reaches_to_the_end_and_one_of_64_bits(tmp_path: Path) -> None:
    long = struct.pack(">I4sQ", 1, b"moov", 16 + len(MVHD)) + MVHD
    (tmp_path / "a.mp4").write_bytes(FTYP + long + box(b"mdat", b"x" * 100, size=0))
    assert read_facts(tmp_path / "a.mp4").facts["duration_ms"] == 5000


def test_a_large_video_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.write(FTYP + struct.pack(">I4sQ", 1, b"mdat", 16 + (5 << 30)))
        file.seek(5 << 30, 1)  # a hole: no disk is used
        file.write(box(b"moov", MVHD))
    tracemalloc.start()
    assert read_facts(path).facts["duration_ms"] == 5000
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


# ---- files that lie ----------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IEND", b"")


def jpeg(*changes: tuple[bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    draw().save(buffer, "JPEG")
    data = buffer.getvalue()
    for old, new in changes:
        data = data.replace(old, new, 1)
    return data


NESTED = b""
for _ in range(2_000):
    NESTED = box(b"udta", NESTED)

LIES = {
    "nothing": b"",
    "text": b"hello, this is no picture",
    "a PDF": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a header alone": b"\xff\xd8\xff",
    "a picture of a million by a million": png(1_000_000, 1_000_000),
    "a picture of no size": png(0, 0),
    "a text chunk that unpacks to 100 MB": png(
        10, 10, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))), png_chunk(b"IDAT", b"")
    ),
    "a movie without a header": FTYP + box(b"mdat", b"x" * 50),
    "a box that is larger than the file": FTYP + box(b"moov", MVHD, size=9_999),
    "a box smaller than its own head": FTYP + box(b"moov", MVHD, size=4),
    "a box that is larger than its parent": FTYP + box(b"moov", box(b"mvhd", b"", size=500)),
    "more boxes than any camera writes": FTYP + box(b"moov", box(b"free") * (MAX_BOXES + 1)),
    "a 64-bit size that is cut off": FTYP + struct.pack(">I4s", 1, b"moov"),
    "boxes inside boxes, two thousand deep": FTYP + box(b"moov", NESTED),
}


@pytest.mark.parametrize("name", LIES)
def test_files_that_lie_are_refused_in_words(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(LIES[name])
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=r"^a\.bin: "):
            read_facts(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_whose_size_is_possible_is_described_and_not_unpacked(tmp_path: Path) -> None:
    rows = zlib.compress(bytes(30_001 * 3), 9)
    (tmp_path / "a.png").write_bytes(png(30_000, 30_000, png_chunk(b"IDAT", rows)))
    tracemalloc.start()
    assert read_facts(tmp_path / "a.png").facts == {"format": "PNG", "width": 30_000, "height": 30_000}
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


def zero_denominators() -> Image.Exif:
    made = Image.Exif()
    gps = made.get_ifd(0x8825)
    gps |= {1: "N", 2: (float("nan"), 0.0, 0.0), 3: "E", 4: (1.0, 2.0, 3.0)}
    made._ifds[0x8825] = gps
    return made


def places(**changes: object) -> Image.Exif:
    made = Image.Exif()
    values = {1: "N", 2: (29.0, 0.0, 0.0), 3: "E", 4: (121.0, 0.0, 0.0)} | {int(k[1:]): v for k, v in changes.items()}
    made._ifds[0x8825] = made.get_ifd(0x8825) | values
    return made


WRONG_PLACES = {
    "beyond the pole": places(t2=(91.0, 0.0, 0.0)),
    "sixty-five minutes": places(t2=(29.0, 65.0, 0.0)),
    "a side that is none": places(t1="Q"),
    "two numbers only": places(t2=(29.0, 1.0)),
    "no longitude": places(t4=()),
}


@pytest.mark.parametrize("name", WRONG_PLACES)
def test_places_that_cannot_be_are_left_out(tmp_path: Path, name: str) -> None:
    draw().save(tmp_path / "a.jpg", exif=WRONG_PLACES[name])
    assert read_facts(tmp_path / "a.jpg").place is None


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    directory = tmp_path_factory.mktemp("seeds")
    found = [photo(directory / f"a.{suffix}").read_bytes() for suffix in ("jpg", "png", "tif", "webp")]
    moov = box(b"moov", MVHD + box(b"udta", box(b"\xa9xyz", b"\0\x10\0\0+29.5+121.25/") + box(b"loci", bytes(40))))
    return [*found, FTYP + moov]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_facts_or_a_refusal_and_nothing_else(
    seeds: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, min(len(changed), 900) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(changed[: data.draw(st.integers(1, len(changed)))]))
    try:
        read_facts(path)
    except Malformed as error:
        assert str(error).startswith("damaged: ")
