"""Case files in the HTML verifier: it says what the command line says of every one, and nothing in them is ever run."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.formats.casefile import attachment_path, receipt_path, record_path, role_of
from ledger.formats.merkle import leaf_hash
from ledger.verify.__main__ import run
from tests.browser.test_verifier_page import PICTURE, VERIFY, _base64, choose, drop, plain, trust_file, verdict
from tests.fixtures.casefiles import Draft, good, world
from tests.verify.casefile_vectors import CaseVector, vectors
from tests.verify.factory import START, log, record_id, seal, trust

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

FLIPS = 60
HOSTILE = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
TURNED = "\u202egnp.exe"
"""Turns the reading direction around."""
VIDEO = b"\x00\x00\x00\x18ftypmp42not really a video"


# --- the same answer as the command line ---


def by_page(page: Page, files: dict[str, bytes], trusted: bytes, lang: str) -> dict[str, Any]:
    given = [[name, _base64(data)] for name, data in files.items()]
    return plain(page.evaluate(VERIFY, [given, ["trust.json", _base64(trusted)], {"lang": lang}]))


def by_command(place: Path, files: dict[str, bytes], trusted: bytes, lang: str) -> dict[str, Any]:
    for name, data in (files | {"trust.json": trusted}).items():
        (place / name).write_bytes(data)
    out = io.StringIO()
    run([*files, "--trust", "trust.json", "--json", "--lang", lang], out)
    return plain(out.getvalue())


def flipped() -> Iterator[CaseVector]:
    """The good case file with single bits changed, the same ones in every run."""
    chance, trusted = random.Random(6), world().trust().serialize()
    for n in range(FLIPS):
        data = bytearray(good())
        bit = chance.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        yield CaseVector(f"flip {n}: bit {bit}", bytes(data), trusted, None, "", None, None, None)


def test_both_verifiers_agree_on_every_case_file(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names, differ = set[str](), dict[str, tuple[Any, Any]]()
    for number, vector in enumerate((*vectors(), *flipped())):
        assert vector.name not in names
        names.add(vector.name)
        lang = ("en", "zh")[number % 2]
        files = {"case.zip": vector.data}
        ours = by_command(tmp_path, files, vector.trust, lang)
        theirs = by_page(page, files, vector.trust, lang)
        if ours != theirs:
            differ[vector.name] = (ours, theirs)
    assert len(names) > 200
    assert differ == {}


def test_a_case_file_beside_single_files(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    w = world()
    files = {
        "a.sd-jwt": w.fire[1].present(),
        "a.tlog-proof": w.fire_log.receipt(1),
        "a.tst": w.stamps.fire,
        "b.tst": w.stamps.stranger,
        "case.zip": good(),
        "none.zip": b"PK\x03\x04 not really",
    }
    trusted = w.trust().serialize()
    for lang in ("en", "zh"):
        answer = by_page(page, files, trusted, lang)
        assert answer == by_command(tmp_path, files, trusted, lang)
    assert [file["verdict"] for file in answer["files"]] == ["good", "good", "good", "bad", "good", "bad"]


# --- as a clerk uses it ---


def case_of(*records: tuple[str, dict[str, Any], dict[str, tuple[str, bytes]]], name: str = "证据") -> bytes:
    """A case file of these records: type, units, and files by name with media type and bytes; no decision."""
    sealed, payload = [], dict[str, bytes]()
    for n, (type_, units, files) in enumerate(records):
        named = {f"attachment-{k}": _named(*file) for k, file in enumerate(files.items(), 1)}
        sealed.append(seal(number=n, units=units | named, payload={"type": type_, "case": name}))
    state = log([record.ascii for record in sealed])
    items = []
    for n, (record, (type_, _, files)) in enumerate(zip(sealed, records, strict=True), 1):
        payload |= {record_path(n): record.present(), receipt_path(n): state.receipt(n - 1)}
        attachments = []
        for k, file in enumerate(files.items(), 1):
            path = attachment_path(n, k, file[1][0])
            payload[path] = file[1][1]
            attachments.append({"ordinal": k, "path": path} | _named(*file))
        items.append(_item(n, type_, leaf_hash(record.ascii).hex(), name, attachments))
    payload |= {"data/trust.json": trust().serialize(), "data/index.pdf": b"%PDF"}
    payload["data/custody.jsonld"] = b"{}"
    members = {"case": name, "consortium": "yunxi.example", "department": "fire", "exported_for": None}
    lists: dict[str, Any] = {"items": items, "decisions": [], "gaps": []}
    gap = {"kind": "withheld", "department": None, "record_id": None, "zh": name, "en": name}
    lists["gaps"] = [gap]
    return Draft(
        {"format": "yunxi-case-file", "v": 1, "log_size": len(items), "volumes": 1} | members | lists, payload
    ).pack()


def _named(name: str, file: tuple[str, bytes]) -> dict[str, Any]:
    media_type, data = file
    return {"name": name, "media_type": media_type, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _item(n: int, type_: str, leaf: str, name: str, attachments: list[dict[str, Any]]) -> dict[str, Any]:
    words = {"name": name, "source": name, "purpose": name, "date": "2026-03-01", "page": None}
    paths: dict[str, Any] = {"record": record_path(n), "receipt": receipt_path(n), "anchor": None, "times": []}
    log_facts = {"department": "fire", "index": n - 1, "leaf": leaf, "sealed_at": START + n - 1}
    record = {"record_id": record_id(n - 1), "type": type_, "v": 1, "role": role_of(type_)}
    more = {"n": n, "before_decision": None, "amends": None, "attachments": attachments, "forgotten": False}
    return record | log_facts | words | paths | more


FINDING = {"finding": {"result": "fail", "description": "安全出口被堵塞"}, "officers": {"officers": [{"name": "赵敏"}]}}


def shown(page: Page, data: bytes, trusted: dict[str, bytes] | None = None) -> None:
    """Puts trust file and case file in and waits for the answer."""
    choose(page, "trust", trusted or trust_file())
    choose(page, "files", {"卷宗.zip": data})
    verdict(page)


def test_the_walk(page: Page) -> None:
    shown(page, good(), {"trust.json": world().trust().serialize()})
    assert verdict(page) == "核验通过"
    assert page.evaluate("document.activeElement.id") == "verdict"
    said = page.inner_text("main")
    answer = by_page(page, {"case.zip": good()}, world().trust().serialize(), "zh")["files"][0]
    for level in answer["facts"]["levels"]:
        assert all(sentence in said for sentence in level["sentences"])
    for sentence in answer["not_proven"]:
        assert sentence in said
    for part in (
        "证据清单（一）",
        "证据清单（二）",
        "决定作出以前",
        "缺口",
        "各项内容",
        "第10项",
        "检查发现",
        "未提供",
    ):
        assert part in said, part
    assert page.locator(".levels tbody tr").count() == 8
    assert page.locator("details.item").count() == 10
    page.get_by_role("button", name="English").click()
    assert verdict(page) == "VERIFIED"
    assert "List of evidence 1" in page.inner_text("main")


def test_an_item_is_opened_with_the_keyboard(page: Page) -> None:
    shown(page, case_of(*[("inspection.finding", FINDING, {})] * 20))
    assert page.locator("details.item[open]").count() == 0
    page.locator(".evidence a").nth(16).focus()
    page.keyboard.press("Enter")
    item = page.locator("#item-17")
    item.get_by_text("安全出口被堵塞").wait_for()
    assert page.evaluate("document.activeElement.closest('details').id") == "item-17"
    page.keyboard.press("Enter")
    assert page.locator("details.item[open]").count() == 0


def test_pictures_and_films_are_shown_once_their_digest_held(page: Page) -> None:
    files = {
        "出口.png": ("image/png", PICTURE),
        "走道.mp4": ("video/mp4", VIDEO),
        "笔录.pdf": ("application/pdf", b"%PDF-1.7"),
    }
    shown(page, case_of(("photo.taken", FINDING, files)))
    picture = "document.querySelector('img')"
    assert page.evaluate(f"{picture}.decode().then(() => {picture}.naturalWidth)") == 1
    assert page.locator("video[controls]").count() == 1
    assert page.locator("a.save").count() == 3
    with page.expect_download() as download:
        page.locator("a.save").nth(2).click()
    assert download.value.suggested_filename == "000001-03.pdf"
    assert Path(download.value.path()).read_bytes() == b"%PDF-1.7"


def test_a_picture_that_was_swapped_is_not_shown(page: Page) -> None:
    files = {"出口.png": ("image/png", PICTURE)}
    data = case_of(("photo.taken", FINDING, files))
    shown(page, data.replace(PICTURE, PICTURE[:-1] + b"\x83"))
    assert verdict(page) == "核验不通过"
    assert "再请部门重新提交" in page.inner_text("#verdict")  # what it means, and whom to ask
    page.locator("#item-1 .why").wait_for()
    assert page.locator("img").count() == 0
    assert page.locator("a.save").count() == 0
    assert "000001-01.png" in page.inner_text("main")


def test_nothing_from_the_file_is_run(page: Page) -> None:
    files = {
        f"{HOSTILE}.html": ("text/html", HOSTILE.encode()),
        "a.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.pwned=1'/>"),
        TURNED: ("image/gif", b"GIF89a"),
        "page.png": ("image/png", HOSTILE.encode()),
    }
    units = {HOSTILE: {HOSTILE: [HOSTILE, {HOSTILE: TURNED}]}, "note": {"text": HOSTILE + "\x1b[31m"}}
    shown(page, case_of(("note.added", units, files), name=HOSTILE + "\u202e"))
    assert verdict(page) == "核验通过"
    page.locator(".units").wait_for()
    assert HOSTILE in page.inner_text(".units")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main svg, iframe, object, embed, video, audio").count() == 0
    # the one that says it is a PNG is only ever taken for a picture
    assert page.locator("main img").evaluate_all("(found) => found.map((e) => e.src.startsWith('blob:'))") == [True]
    assert page.locator("a.save").evaluate_all("(found) => found.map((e) => e.download)") == [
        "000001-01.bin",
        "000001-02.bin",
        "000001-03.gif",
        "000001-04.png",
    ]
    for character in "\u202e\x1b":
        assert character not in page.inner_text("body")
    with page.expect_download() as download:
        page.locator("a.save").first.click()
    assert download.value.suggested_filename == "000001-01.bin"
    assert page.evaluate("window.pwned") is None


def test_a_copy_inside_the_file_proves_nothing_by_itself(page: Page) -> None:
    drop(page, {"case.zip": case_of(("photo.taken", FINDING, {}))}, "body")
    page.locator("#self-check").click()
    assert verdict(page) == "自身相符，尚未核验"
    assert "不能单独作为依据" in page.inner_text("#verdict")
    assert page.locator(".banner.good").count() == 0
    choose(page, "trust", trust_file())
    assert verdict(page) == "核验通过"
    assert "不能单独作为依据" not in page.inner_text("main")


def test_a_sealed_file_says_what_to_do(page: Page) -> None:
    choose(page, "trust", trust_file())
    choose(page, "files", {"a.yunxi-sealed": b"YXF\x01" + bytes(200)})
    assert verdict(page) == "未能核验"
    assert "yunxi casefile open" in page.inner_text("#verdict")
    assert "请由本院信息部门" in page.inner_text("#verdict")
    page.reload()
    choose(page, "trust", trust_file())
    choose(page, "files", {"empty.zip": b""})
    assert verdict(page) == "核验不通过"
    assert "没有复制完整" in page.inner_text("main")


PROGRESS = """() => {
    window.told = [];
    const look = () => window.told.push(document.getElementById("progress-text")?.textContent ?? "");
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}"""


def test_many_items_are_shown_in_parts(page: Page) -> None:
    page.evaluate(PROGRESS)
    shown(page, case_of(*[("inspection.finding", FINDING, {})] * 450))
    told = " ".join(page.evaluate("window.told"))
    assert re.search(r"正在读取卷宗并核对校验值：[0-9.]+ / 1\.[0-9] MB", told)
    assert re.search(r"正在逐项核验卷宗所列记录：[0-9]+ / 450", told)
    rows = page.locator(".evidence tbody tr")
    assert rows.count() == 200
    more = page.get_by_role("button", name=re.compile("显示更多"))
    more.first.click()
    more.first.click()
    assert rows.count() == 450
    assert page.locator("details.item").count() == 200
    page.locator(".evidence a").nth(429).click()
    page.locator("#item-430 .units").wait_for()
    assert page.locator("details.item").count() == 450


def test_on_paper_stands_what_was_opened(page: Page) -> None:
    shown(page, case_of(*[("inspection.finding", FINDING, {})] * 20))
    page.locator("#item-3 summary").click()
    page.locator("#item-3 .units").wait_for()
    page.emulate_media(media="print")
    assert page.locator("details.item:visible").count() == 1
    assert page.locator(".levels tbody tr:visible").count() == 8
    assert page.locator("button:visible, input:visible").count() == 0


CONTRAST = """() => {
    const parse = (text) => (text.match(/[0-9.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((value) => value / 255)
        .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, n) => sum + value * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = (element) => {
        for (let at = element; at !== null; at = at.parentElement) {
            const found = parse(getComputedStyle(at).backgroundColor);
            if (found.length === 3 || found[3] === 1) {
                return found;
            }
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll("body *")].filter((element) =>
        element.checkVisibility() && [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
    return texts.map((element) => {
        const [one, two] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        return [ratio, element.className, element.textContent.slice(0, 40)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("lang", ["zh-CN", "en-GB"])
@pytest.mark.parametrize("width", [360, 1200])
def test_everybody_can_read_it(browser: Browser, built: Path, lang: str, width: int) -> None:
    context = browser.new_context(locale=lang, viewport={"width": width, "height": 800})
    opened = context.new_page()
    opened.goto(built.as_uri())
    data = case_of(("photo.taken", FINDING, {"出口.png": ("image/png", PICTURE)}), ("note.added", FINDING, {}))
    for changed in (data, data.replace(PICTURE, PICTURE[:-1] + b"\x83")):
        choose(opened, "trust", trust_file())
        choose(opened, "files", {"case.zip": changed})
        verdict(opened)
        opened.locator(".units").first.wait_for()
        assert opened.evaluate(CONTRAST) == []
        # nothing runs out of a narrow screen
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for control in opened.locator("button, input, a, summary, video").all():
            named = "(e) => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent"
            assert control.evaluate(named).strip()
        opened.locator("#clear").click()
    context.close()


def test_the_answer_for_programs_is_json(page: Page) -> None:
    answer = page.evaluate(VERIFY, [[["case.zip", _base64(good())]], ["t", _base64(world().trust().serialize())], {}])
    assert json.loads(answer)["files"][0]["facts"]["kind"] == "case-file"
