"""`yunxi media` from end to end: a photo with its facts, shown without them; copies, and whether they fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.command import Yunxi
from tests.fixtures.nodes import Rows
from tests.fixtures.pictures import PLATE, draw, photo, video

pytestmark = pytest.mark.xdist_group("cli")

BY = ("--by", "XF0001:甲一", "--reason", "公开前遮挡号牌")
PLATE_REGION = ",".join(map(str, PLATE))


@pytest.fixture(scope="module")
def captured(yunxi: Yunxi) -> str:
    """The record of a sealed photo."""
    photo(yunxi.directory / "scene.jpg")
    members = {"department": "fire", "occurred_at": "2026-03-02T09:15:00+08:00", "caption": "消防通道"}
    (yunxi.directory / "scene.json").write_text(json.dumps(members), "utf-8")
    return yunxi.good("media", "seal", "scene.jpg", "scene.json", "--json").json()["record_id"]


def record_of(yunxi: Yunxi, record_id: str) -> dict[str, Any]:
    return yunxi.good("show", record_id, "--json").json()["record"]


def test_facts_of_a_file(yunxi: Yunxi, captured: str) -> None:
    found = yunxi.good("media", "facts", "scene.jpg", "--json").json()
    assert found["facts"]["taken_at"] == "2026-03-02T09:15:00.120+08:00"
    assert found["place"]["datum"] == "undeclared"
    shown = yunxi.good("media", "facts", "scene.jpg").out
    assert "latitude        29.912345" in shown
    draw().save(yunxi.directory / "bare.png")
    assert "The file names no place." in yunxi.good("media", "facts", "bare.png").out


def test_a_sealed_photo_has_facts_places_and_a_thumbnail(yunxi: Yunxi, captured: str) -> None:
    record = record_of(yunxi, captured)
    assert [item["role"] for item in record["attachments"]] == ["original", "thumbnail"]
    assert record["media_facts"][0]["serial"] == "SN-0001"
    assert record["media_places"][0]["latitude"] == "29.912345"
    again = yunxi.good("media", "seal", "scene.jpg", "scene.json", "--json").json()
    assert (again["record_id"], again["new"]) == (captured, False)


def test_it_is_shown_without_its_camera_and_its_place(yunxi: Yunxi, captured: str) -> None:
    yunxi.good("present", captured, "--disclose", "caption", "--disclose", "attachment-2", "-o", "masked.jwt")
    shown = (yunxi.directory / "masked.jwt").read_bytes()
    from ledger.formats.sdjwt import parse_presentation

    record = parse_presentation(shown).record()
    assert record["caption"] == "消防通道"
    assert not {"media_facts", "media_places"} & record.keys()


def test_a_blurred_copy_fits_its_original(yunxi: Yunxi, captured: str) -> None:
    made = yunxi.good("media", "blur", captured, "--region", PLATE_REGION, *BY, "-o", "blurred.jpg", "--json").json()
    record = record_of(yunxi, made["record_id"])
    assert record["type"] == "media.derived"
    assert record["original"]["record"] == captured
    assert record["operations"][2] == {"operation": "blur", "regions": 1, "parameters": [f"region={PLATE_REGION}"]}
    assert record["made_by"] == {"id": "XF0001", "name": "甲一"}
    with Image.open(yunxi.directory / "blurred.jpg") as image:
        assert image.size == (240, 160)
    checked = yunxi.good("media", "check", made["record_id"], "--json").json()
    assert checked["original_record"] == captured
    assert checked["largest_difference"] <= 8
    shown = yunxi.good("media", "check", made["record_id"], "--derivative", "blurred.jpg").out
    assert "Outside the regions both pictures show the same" in shown


def test_files_that_are_not_the_ones(yunxi: Yunxi, captured: str) -> None:
    made = yunxi.good("media", "derive", captured, "--clean", *BY, "--json").json()["record_id"]
    yunxi.good("media", "check", made)
    photo(yunxi.directory / "other.jpg", make="x")
    for option, words in (("--original", "the original is not the file"), ("--derivative", "the copy is not the file")):
        result = yunxi("media", "check", made, option, "other.jpg")
        assert result.code == 1
        assert words in result.sentence()
    result = yunxi("media", "check", captured)
    assert result.code == 1
    assert "is no media.derived record" in result.sentence()


def test_of_another_tools_copy_there_is_only_its_word(yunxi: Yunxi, captured: str) -> None:
    image = draw()
    image.paste((0, 0, 0), (0, 100, 60, 160))
    image.save(yunxi.directory / "mine.jpg")
    done = ("--tool", "Redactor/2.1", "--done", "one face blurred")
    made = yunxi.good("media", "derive", captured, "--copy", "mine.jpg", *done, *BY, "--json").json()["record_id"]
    shown = yunxi.good("media", "check", made)  # another tool's word is all there is
    assert "is the record's word" in shown.out


def test_a_clip_of_a_video(yunxi: Yunxi) -> None:
    video(yunxi.directory / "v.mp4", seconds=3)
    (yunxi.directory / "v.json").write_text('{"department": "fire", "occurred_at": "2026-03-02T09:15:00+08:00"}')
    sealed = yunxi.good("media", "seal", "v.mp4", "v.json", "--json").json()["record_id"]
    made = yunxi.good("media", "derive", sealed, "--clip", "0.5-1.5", *BY, "-o", "clip.mp4", "--json").json()[
        "record_id"
    ]
    assert record_of(yunxi, made)["tool"]["name"] == "ffmpeg"
    assert "clip" in yunxi.good("media", "check", made).out
    assert (yunxi.directory / "clip.mp4").stat().st_size > 0


def test_a_changed_byte_of_the_original_is_named(yunxi: Yunxi, captured: str) -> None:
    made = yunxi.good("media", "blur", captured, "--region", "1,1,20,20", "--fill", *BY, "--json").json()["record_id"]
    query = "SELECT blob FROM attachments JOIN entries USING (position) WHERE record_id = ? AND ordinal = 1"
    blob = Rows(yunxi.directory / "node").get(query, bytes.fromhex(captured.replace("-", "")))
    path = yunxi.directory / "node" / "blobs" / blob[:2] / blob
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        result = yunxi("media", "check", made)
        assert result.code == 1
        sentence = result.sentence()
        assert f"attachment 1 of record {captured} (blob {blob})" in sentence
        assert "segment 1" in sentence
    finally:
        path.write_bytes(good)


WRONG = {
    "no such file": (("facts", "nowhere.jpg"), 2, "is no file"),
    "no picture": (("facts", "scene.json"), 1, "no whole JPEG"),
    "a region that is none": (("blur", "ID", "--region", "1,2,3", *BY), 1, "left,top,width,height"),
    "a region outside": (("blur", "ID", "--region", "230,1,20,20", *BY), 1, "240 × 160 pixels"),
    "nobody": (("blur", "ID", "--region", "1,1,5,5", "--by", "XF0001", "--reason", "x"), 2, "--by must be ID:NAME"),
    "nothing to do": (("derive", "ID", *BY), 2, "say one of --clean"),
    "two things at once": (("derive", "ID", "--clean", "--clip", "1-2", *BY), 2, "say one of --clean"),
    "a copy of no tool": (("derive", "ID", "--copy", "scene.jpg", *BY), 2, "--copy needs --tool"),
    "a clip that is none": (("derive", "ID", "--clip", "1-x", *BY), 1, "not START-END"),
    "a clip of a photo": (("derive", "ID", "--clip", "0-1", *BY), 1, "ffmpeg cannot cut"),
    "no such attachment": (("derive", "ID", "--clean", "--attachment", "9", *BY), 1, "has no attachment 9"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_answered_in_one_sentence(yunxi: Yunxi, captured: str, name: str) -> None:
    words, code, sentence = WRONG[name]
    result = yunxi("media", *[captured if word == "ID" else word for word in words])
    assert (result.code, sentence in result.sentence()) == (code, True), result.err


def test_nothing_decrypted_is_left_behind(yunxi: Yunxi, captured: str, tmp_path: Path) -> None:
    yunxi.good("media", "derive", captured, "--clean", "--attachment", "2", *BY, TMPDIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
