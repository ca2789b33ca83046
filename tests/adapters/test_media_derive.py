"""Derived copies: what they no longer show, what they still show, and the record that ties them to their original."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from adapters import media_images
from adapters.media_check import compare_outside, is_comparable, regions_of
from adapters.media_derive import (
    THUMBNAIL_PIXELS,
    Derived,
    Region,
    derive_blurred,
    derive_clean,
    derive_clip,
    derived_elsewhere,
    make_thumbnail,
    upright_pixels,
)
from adapters.media_facts import read_facts
from adapters.media_records import capture_submission, derivation_submission
from ledger.errors import CouldNotRun, Malformed, NotProven, RecordRefused
from ledger.media import check_link
from ledger.record_types import BUILT_IN, RecordTypes
from tests.fixtures.pictures import PLATE, draw, photo, video

TYPES = RecordTypes.load(BUILT_IN)
REGION = Region(*PLATE)
NOW = 1_790_000_000.0


def picture(path: Path) -> Image.Image:
    """What a file shows, decoded."""
    with Image.open(path) as image:
        return image.convert("RGB")


def thumbnail_file(original: Path, output: Path) -> Derived:
    data, there = make_thumbnail(original), output.with_suffix(".jpg")
    with there.open("xb") as file:
        file.write(data)
    return Derived(there, "image/jpeg", hashlib.sha256(data).hexdigest(), len(data), (), {})


MAKERS: dict[str, Callable[[Path, Path], Derived]] = {
    "thumbnail": thumbnail_file,
    "clean": derive_clean,
    "blurred": lambda original, output: derive_blurred(original, [REGION], output),
    "filled": lambda original, output: derive_blurred(original, [REGION], output, fill=True),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_but_the_picture_travels_along(tmp_path: Path, name: str, suffix: str) -> None:
    original = photo(tmp_path / f"a.{suffix}")
    before = original.read_bytes()
    derived = MAKERS[name](original, tmp_path / "copy")
    data = derived.path.read_bytes()
    found = read_facts(derived.path)
    assert set(found.facts) == {"format", "width", "height"}
    assert found.place is None
    for trace in (b"Exif", b"SN-0001", b"X1 1.0", b"eXIf", b"ICC"):
        assert trace not in data
    assert original.read_bytes() == before
    assert (derived.size, derived.media_type) == (len(data), f"image/{derived.path.suffix[1:].replace('jpg', 'jpeg')}")


def test_a_profile_a_comment_a_second_picture_and_what_hangs_behind(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    draw().save(buffer, "JPEG", icc_profile=b"PROFILE" * 20, comment=b"SECRET COMMENT")
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue() + b"HANGS BEHIND" + buffer.getvalue())
    data = derive_clean(path, tmp_path / "copy").path.read_bytes()
    assert not [trace for trace in (b"PROFILE", b"SECRET", b"HANGS") if trace in data]


def test_colours_under_transparent_pixels_stay_unseen(tmp_path: Path) -> None:
    image = Image.new("RGBA", (60, 60), (255, 0, 0, 0))
    image.save(tmp_path / "a.png")
    copy = derive_clean(tmp_path / "a.png", tmp_path / "copy")
    assert picture(copy.path).getcolors() == [(3600, (255, 255, 255))]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_copies_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    original = photo(tmp_path / f"a.{suffix}", orientation=orientation)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert upright_pixels(original).tobytes() == expected.tobytes()
    copy = derive_clean(original, tmp_path / "copy")
    assert picture(copy.path).size == expected.size


@pytest.mark.parametrize("fill", [False, True])
def test_a_plate_is_gone_and_the_rest_is_not(tmp_path: Path, fill: bool) -> None:
    draw().save(tmp_path / "a.png")
    copy = derive_blurred(tmp_path / "a.png", [REGION], tmp_path / "copy", fill=fill)
    before, after = picture(tmp_path / "a.png"), picture(copy.path)
    plate = after.crop(REGION.box)
    edges = plate.convert("L").filter(ImageFilter.FIND_EDGES).crop((2, 2, PLATE[2] - 2, PLATE[3] - 2))
    assert edges.getextrema()[1] < 16  # no stroke of a letter is left
    if fill:
        assert plate.getcolors() == [(PLATE[2] * PLATE[3], (0, 0, 0))]
    for image in (before, after):
        image.paste((0, 0, 0), REGION.box)
    assert before.tobytes() == after.tobytes()


def test_two_plates_of_the_same_four_means_look_the_same(tmp_path: Path) -> None:
    copies = []
    for shift in (0, 3):  # strokes elsewhere, as dark in each quarter
        image = Image.new("RGB", (100, 60), "white")
        pen = ImageDraw.Draw(image)
        for x in (14, 34, 54, 74):
            pen.rectangle((x + shift, 10, x + shift + 1, 49), fill="black")
        image.save(tmp_path / f"{shift}.png")
        region = Region(10, 10, 80, 40)
        copies.append(derive_blurred(tmp_path / f"{shift}.png", [region], tmp_path / f"copy-{shift}").path.read_bytes())
    assert copies[0] == copies[1]


def test_a_thumbnail_is_small(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", draw(3000, 1000), orientation=6)
    derived = thumbnail_file(tmp_path / "a.jpg", tmp_path / "t")
    assert picture(derived.path).size == (THUMBNAIL_PIXELS // 3 + 1, THUMBNAIL_PIXELS)
    assert derived.size < 30_000


REGIONS = {
    "none": [],
    "too many": [REGION] * 201,
    "beyond the right border": [Region(200, 10, 41, 10)],
    "beyond the lower border": [Region(10, 150, 10, 11)],
    "of no width": [Region(10, 10, 0, 10)],
    "a good and a bad one": [REGION, Region(239, 159, 2, 2)],
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions_must_lie_in_the_picture(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed, match=r"^region"):
        derive_blurred(photo(tmp_path / "a.jpg"), REGIONS[name], tmp_path / "copy")
    assert not (tmp_path / "copy.jpg").exists()


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "-1,2,3,4", "1.5,2,3,4", "1,2,3,1234567", "１,2,3,4"])
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(Malformed, match="left,top,width,height"):
        Region.parse(text)


def test_pixels_above_the_bound_are_never_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_images, "MAX_PIXELS", 240 * 160 - 1)
    original = photo(tmp_path / "a.png")
    for maker in MAKERS.values():
        with pytest.raises(Malformed, match="38,400 pixels, more than 38,399"):
            maker(original, tmp_path / "copy")
    # a JPEG's thumbnail is decoded at a fraction of its size, so a large photo has one all the same
    monkeypatch.setattr(media_images, "MAX_PIXELS", 1600 * 1200)
    assert make_thumbnail(photo(tmp_path / "b.jpg", draw(4800, 3600)))


def test_a_damaged_picture_leaves_no_copy_behind(tmp_path: Path) -> None:
    original = photo(tmp_path / "a.jpg")
    original.write_bytes(original.read_bytes()[:3000])
    for maker in MAKERS.values():
        with pytest.raises(Malformed, match="no whole"):
            maker(original, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_no_file_is_written_over(tmp_path: Path) -> None:
    original, there = photo(tmp_path / "a.jpg"), tmp_path / "copy.jpg"
    there.write_bytes(b"mine")
    for maker in MAKERS.values():
        with pytest.raises(FileExistsError):
            maker(original, tmp_path / "copy")
    with pytest.raises(FileExistsError):
        derive_clip(original, 0, 1, there)
    assert there.read_bytes() == b"mine"


# ---- clips -------------------------------------------------------------------------------------------------------


def test_a_clip_has_its_length_and_no_metadata(tmp_path: Path) -> None:
    original = video(tmp_path / "a.mp4", "-metadata", "location=+29.5+121.25/", "-metadata", "title=SECRET", seconds=3)
    clip = derive_clip(original, 500, 1500, tmp_path / "clip.mp4")
    found = read_facts(clip.path)
    assert found.facts["duration_ms"] == pytest.approx(1000, abs=150)
    assert found.place is None
    assert b"SECRET" not in clip.path.read_bytes()
    assert [done["operation"] for done in clip.operations] == ["clip", "re-encode", "drop-metadata"]
    assert clip.operations[0]["parameters"] == ["start_ms=500", "end_ms=1500"]
    assert clip.tool["name"] == "ffmpeg"


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 5)])
def test_a_clip_must_end_after_it_begins(tmp_path: Path, start: int, end: int) -> None:
    with pytest.raises(Malformed, match="end after it begins"):
        derive_clip(tmp_path / "a.mp4", start, end, tmp_path / "clip.mp4")


def test_what_ffmpeg_cannot_read(tmp_path: Path) -> None:
    video(tmp_path / "real.mp4")  # or a skip
    playlist = tmp_path / "a.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile://{tmp_path}/real.mp4\n#EXT-X-ENDLIST\n")
    for path in (playlist, tmp_path / "nowhere.mp4"):
        with pytest.raises(Malformed, match="ffmpeg cannot cut"):
            derive_clip(path, 0, 1000, tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


def test_without_ffmpeg_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun, match="not installed: install it, or cut with another tool"):
        derive_clip(tmp_path / "a.mp4", 0, 1000, tmp_path / "clip.mp4")


# ---- whether a copy fits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("name", ["clean", "blurred", "filled"])
def test_a_true_copy_fits(tmp_path: Path, name: str, suffix: str) -> None:
    original = photo(tmp_path / f"a.{suffix}", draw(1200, 800), orientation=6)
    derived = MAKERS[name](original, tmp_path / "copy")
    assert is_comparable(derived.operations)
    assert compare_outside(original, derived.path, regions_of(derived.operations)) <= (8 if suffix == "jpg" else 0)


def retouched(path: Path, change: Callable[[Image.Image], object]) -> None:
    image = picture(path)
    changed = change(image)
    (changed if isinstance(changed, Image.Image) else image).save(path)


RETOUCHES: dict[str, Callable[[Image.Image], object]] = {
    "a dot that was not there": lambda image: image.paste((255, 255, 255), (200, 20, 210, 30)),
    "something painted over": lambda image: image.paste((90, 90, 90), (30, 105, 60, 130)),
    "brightened": lambda image: image.point(lambda value: min(255, value + 40)),
    "mirrored": ImageOps.mirror,
    "cut smaller": lambda image: image.crop((0, 0, 200, 160)),
}


@pytest.mark.parametrize("name", RETOUCHES)
def test_a_copy_that_shows_something_else_is_found(tmp_path: Path, name: str) -> None:
    original = photo(tmp_path / "a.jpg")
    derived = derive_blurred(original, [REGION], tmp_path / "copy")
    retouched(derived.path, RETOUCHES[name])
    with pytest.raises(NotProven):
        compare_outside(original, derived.path, [REGION])


def test_a_region_that_the_record_does_not_name_is_found(tmp_path: Path) -> None:
    original = photo(tmp_path / "a.jpg")
    derived = derive_blurred(original, [REGION, Region(120, 80, 60, 40)], tmp_path / "copy", fill=True)
    with pytest.raises(NotProven, match="outside the regions"):
        compare_outside(original, derived.path, [REGION])


# ---- records -----------------------------------------------------------------------------------------------------

CAPTURE = {"department": "fire", "occurred_at": "2026-03-02T09:15:00+08:00", "caption": "消防通道"}


def test_a_capture_has_its_facts_apart_from_the_file(tmp_path: Path) -> None:
    submission = capture_submission("k", CAPTURE, photo(tmp_path / "a.jpg"))
    assert [(source.name, source.role) for source in submission.attachments] == [
        ("a.jpg", "original"),
        ("thumbnail.jpg", "thumbnail"),
    ]
    assert submission.record["media_facts"][0]["serial"] == "SN-0001"
    assert submission.record["media_places"][0]["datum"] == "undeclared"
    described = [{"name": s.name, "media_type": s.media_type, "size": 3, "sha256": "00" * 32, "role": s.role}
                 for s in submission.attachments]  # fmt: skip
    kind = TYPES.validate({**submission.record, "attachments": described}, NOW)
    assert kind.member_unit["media_facts"] == "media-facts"
    assert kind.member_unit["media_places"] == "media-places"


def test_a_capture_is_of_no_other_type(tmp_path: Path) -> None:
    with pytest.raises(RecordRefused, match=r"not 'photo\.taken'"):
        capture_submission("k", CAPTURE | {"type": "photo.taken"}, photo(tmp_path / "a.jpg"))


def test_a_video_has_facts_and_no_thumbnail(tmp_path: Path) -> None:
    submission = capture_submission("k", CAPTURE, video(tmp_path / "a.mp4"))
    assert [source.role for source in submission.attachments] == ["original"]
    assert submission.record["media_facts"][0]["duration_ms"] == 2000
    assert "media_places" not in submission.record


ORIGINAL = {
    "id": "0193510b-8c00-7abc-8def-0123456789ab",
    "type": "media.captured",
    "department": "fire",
    "case": "C-1",
    "attachments": [{"sha256": "11" * 32}],
}


def derivation(tmp_path: Path) -> dict[str, object]:
    derived = derive_blurred(photo(tmp_path / "a.jpg"), [REGION], tmp_path / "copy")
    officer = {"id": "XF0001", "name": "甲一"}
    submission = derivation_submission(
        derived, ORIGINAL, 1, made_by=officer, reason="公开前遮挡", at="2026-03-02T09:15:00+08:00"
    )
    described = {"name": "copy.jpg", "media_type": "image/jpeg", "size": derived.size, "sha256": derived.sha256}
    record = {**submission.record, "id": "0193510b-8c00-7abc-8def-0123456789ac"}
    return {**record, "attachments": [{**described, "role": "derivative"}]}


def test_a_derivation_says_what_was_done(tmp_path: Path) -> None:
    record = derivation(tmp_path)
    TYPES.validate(record, NOW)
    assert record["case"] == "C-1"
    assert record["operations"] == [
        {"operation": "turn-upright"},
        {"operation": "drop-metadata"},
        {"operation": "blur", "regions": 1, "parameters": ["region=60,70,80,24"]},
        {"operation": "re-encode", "parameters": ["format=JPEG", "quality=92", "subsampling=0"]},
    ]
    assert record["tool"]["name"] == "yunxi+pillow"  # type: ignore[index]
    link = check_link(record, ORIGINAL)
    assert (link.original_sha256, link.original_attachment) == ("11" * 32, 1)


LINKS: dict[str, Callable[[dict], tuple[dict, dict]]] = {  # type: ignore[type-arg]
    "another record": lambda made: (made, {**ORIGINAL, "id": "0193510b-8c00-7abc-8def-0123456789ff"}),
    "another file": lambda made: (made, {**ORIGINAL, "attachments": [{"sha256": "22" * 32}]}),
    "a number too high": lambda made: ({**made, "original": {**made["original"], "attachment": 2}}, ORIGINAL),
    "no attachments": lambda made: (made, {key: value for key, value in ORIGINAL.items() if key != "attachments"}),
    "the unit withheld": lambda made: ({key: value for key, value in made.items() if key != "original"}, ORIGINAL),
}


@pytest.mark.parametrize("name", LINKS)
def test_records_that_do_not_fit(tmp_path: Path, name: str) -> None:
    made, original = LINKS[name](derivation(tmp_path))
    with pytest.raises(NotProven):
        check_link(made, original)


def test_a_copy_of_another_tool_says_so(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    derived = derived_elsewhere(tmp_path / "a.jpg", "Redactor/2.1", ["three faces blurred"])
    assert derived.operations == ({"operation": "other", "parameters": ["three faces blurred"]},)
    assert derived.tool == {"name": "Redactor", "version": "2.1"}
    assert not is_comparable(derived.operations)
    for tool in ("Redactor", "/2", "Redactor/"):
        with pytest.raises(Malformed, match="NAME/VERSION"):
            derived_elsewhere(tmp_path / "a.jpg", tool, ["x"])
