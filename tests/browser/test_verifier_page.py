"""The HTML verifier in a real browser: it says what the command line says, and nothing leaves it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.verify.__main__ import run
from tests.attacks.test_verifier_attacks import quorum_not_met
from tests.browser.verifier_vectors import Vector, good, vectors
from tests.verify.factory import log, seal, trust

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

LIBRARY_WORDS = re.compile(r"not JSON at line [^\"]*|(?:not )?base64(?:url)?(?: with stray bits or padding)?")
"""In technical notes: how Python's own readers say it, which differs between its versions."""

VERIFY = """async ([files, trust, options]) => {
    const file = ([name, data]) => new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name);
    return await yunxi.verify(files.map(file), file(trust), options);
}"""


def by_page(page: Page, vector: Vector, lang: str) -> dict[str, Any]:
    files = [[name, _base64(data)] for name, data in vector.files.items()]
    options = {"lang": lang, "allowUnlogged": "--allow-unlogged" in vector.options}
    return plain(page.evaluate(VERIFY, [files, ["trust.json", _base64(vector.trust)], options]))


def by_command(place: Path, vector: Vector, lang: str) -> dict[str, Any]:
    for name, data in vector.files.items():
        (place / name).write_bytes(data)
    (place / "trust.json").write_bytes(vector.trust)
    out = io.StringIO()
    run([*vector.files, "--trust", "trust.json", "--json", "--lang", lang, *vector.options], out)
    return plain(out.getvalue())


def plain(answer: str) -> dict[str, Any]:
    return json.loads(LIBRARY_WORDS.sub("…", answer))


def test_both_verifiers_agree_on_every_vector(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names, differ = set[str](), dict[str, tuple[Any, Any]]()
    for number, vector in enumerate(vectors()):
        assert vector.name not in names
        names.add(vector.name)
        lang = ("en", "zh")[number % 2]
        ours, theirs = by_command(tmp_path, vector, lang), by_page(page, vector, lang)
        if ours != theirs:
            differ[vector.name] = (ours, theirs)
    assert len(names) > 500
    assert differ == {}


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "照片 1.png", "a\\b"])
def test_names_of_files_are_said_alike(page: Page, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = good()
    files[name] = files.pop("exit.png")
    vector = Vector(name, files, trust().serialize())
    assert by_page(page, vector, "zh") == by_command(tmp_path, vector, "zh")


# --- as a clerk uses it ---

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = base64.b64decode(PIXEL)


def pictured(**changes: Any) -> dict[str, bytes]:
    """A record with a real picture, and its receipt."""
    members = {"name": "出口.png", "media_type": "image/png", "size": len(PICTURE)}
    members |= {"sha256": hashlib.sha256(PICTURE).hexdigest()} | changes
    record = seal(units={"finding": {"result": "fail"}, "attachment-1": members})
    return {"a.sd-jwt": record.present(), "a.tlog-proof": log([record.ascii]).receipt(0), "p.png": PICTURE}


def choose(page: Page, step: str, files: dict[str, bytes]) -> None:
    chosen = [{"name": name, "mimeType": "", "buffer": data} for name, data in files.items()]
    page.set_input_files(f"#{step}-input", chosen)  # type: ignore[arg-type]


def drop(page: Page, files: dict[str, bytes], where: str) -> None:
    make = """(files) => {
        const dropped = new DataTransfer();
        for (const [name, data] of files) {
            dropped.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
        }
        return dropped;
    }"""
    dropped = page.evaluate_handle(make, [[name, _base64(data)] for name, data in files.items()])
    page.dispatch_event(where, "drop", {"dataTransfer": dropped})


def trust_file() -> dict[str, bytes]:
    return {"trust.json": trust().serialize()}


def verdict(page: Page) -> str:
    page.wait_for_selector("#verdict")
    return page.inner_text("#verdict strong")


def test_the_walk_in_both_languages(page: Page) -> None:
    choose(page, "trust", trust_file())
    digest = hashlib.sha256(trust().serialize()).hexdigest()
    assert page.inner_text(".digest").replace("\n", "") == digest
    choose(page, "files", pictured())
    assert verdict(page) == "核验通过"
    # the answer is in sight, whatever stands above it
    assert page.evaluate("document.activeElement.id") == "verdict"
    assert page.locator(".badge.good").count() == 3
    assert (
        page.evaluate("document.querySelector('img').decode().then(() => document.querySelector('img').naturalWidth)")
        == 1
    )
    page.get_by_role("button", name="English").click()
    assert verdict(page) == "VERIFIED"
    said = page.inner_text("main")
    for part in ("What is proven", "What is NOT proven", "Who controls what", "The checks, one by one"):
        assert part in said
    assert not re.search("[⺀-鿿]", said.replace("出口.png", "")), "a reader of English reads no Chinese"


def test_the_page_says_the_sentences_of_the_report(page: Page) -> None:
    files = pictured()
    choose(page, "trust", trust_file())
    choose(page, "files", files)
    verdict(page)
    answer = by_page(page, Vector("", files, trust().serialize()), "zh")
    shown = page.inner_text("main")
    for file in answer["files"]:
        for sentence in file["proven"] + file["not_proven"]:
            assert sentence in shown


def test_dropped_one_after_another_in_any_order(page: Page) -> None:
    for name, data in pictured().items():
        drop(page, {name: data}, ".zone >> nth=1")
    page.locator("section").nth(2).get_by_text("尚缺信任文件").wait_for()
    drop(page, trust_file(), ".zone >> nth=0")
    assert verdict(page) == "核验通过"


def test_a_trust_file_among_the_evidence_is_set_aside(page: Page) -> None:
    drop(page, pictured() | trust_file(), "body")
    page.wait_for_selector(".notice")
    assert page.locator("#verdict").count() == 0
    page.get_by_role("button", name="用作第一步的信任文件").click()
    assert verdict(page) == "核验通过"
    assert page.locator(".given li").count() == 3


def test_evidence_in_the_place_of_the_trust_file_goes_to_step_two(page: Page) -> None:
    choose(page, "trust", {"a.sd-jwt": pictured()["a.sd-jwt"]})
    page.wait_for_selector(".notice")
    assert page.locator(".given li").count() == 1


def test_a_changed_picture_is_not_shown(page: Page) -> None:
    choose(page, "trust", trust_file())
    choose(page, "files", pictured() | {"p.png": PICTURE + b"x"})
    assert verdict(page) == "核验不通过"
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", "image/gif", "application/pdf"])
def test_only_plain_pictures_are_shown(page: Page, media_type: str) -> None:
    choose(page, "trust", trust_file())
    choose(page, "files", pictured(media_type=media_type))
    assert verdict(page) == "核验通过"
    assert page.locator("img, iframe, object, embed").count() == 0


def test_a_record_that_fails_names_the_check(page: Page) -> None:
    choose(page, "trust", trust_file())
    presentation, receipt = quorum_not_met()
    choose(page, "files", {"a.sd-jwt": presentation, "a.tlog-proof": receipt})
    assert verdict(page) == "核验不通过"
    assert "未通过的是第9项核验" in page.inner_text(".card >> nth=0")
    page.locator("summary").click()
    outcomes = page.locator("details .outcome").all_inner_texts()
    assert outcomes == ["符合"] * 8 + ["不符合"] + ["未进行到此步"] * 8


def test_what_the_evidence_says_stays_text(page: Page) -> None:
    evil = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
    record = seal(units={evil: {evil: [evil, {evil: evil}]}}, payload={"case": evil, "type": evil})
    files = {evil: record.present(), "r": log([record.ascii]).receipt(0)}
    choose(page, "trust", trust_file())
    choose(page, "files", files)
    assert verdict(page) == "核验通过"
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0
    assert evil in page.inner_text("main")


COMPARED = {"different": ("0" * 64, "不一致，请勿使用"), "too short": ("0" * 10, "尚不是完整的")}


@pytest.mark.parametrize(("entered", "said"), COMPARED.values(), ids=COMPARED)
def test_another_value_of_the_trust_file(page: Page, entered: str, said: str) -> None:
    choose(page, "trust", trust_file())
    page.fill("#expected", entered)
    assert said in page.inner_text(".comparison")
    choose(page, "files", pictured())
    verdict(page)
    # a verdict must not stand there as if the trust file were in order
    assert ("请勿使用" in page.inner_text("#verdict")) == (entered == "0" * 64)


def test_the_value_may_be_entered_as_it_is_printed(page: Page) -> None:
    choose(page, "trust", trust_file())
    digest = hashlib.sha256(trust().serialize()).hexdigest().upper()
    page.fill("#expected", " ".join(digest[n : n + 4] for n in range(0, 64, 4)))
    assert "两个校验值一致" in page.inner_text(".comparison")


def test_a_file_that_goes_away_gives_no_verdict(page: Page, tmp_path: Path) -> None:
    choose(page, "trust", trust_file())
    gone = """() => {
        const file = new File(["x"], "gone.png");
        file.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("", "NotReadableError")) });
        return yunxi.verify([file], file).then(JSON.parse);
    }"""
    answer = page.evaluate(gone)
    assert (answer["verdict"], answer["files"]) == ("could-not-run", [])
    assert "gone.png" in answer["error"]["message"]


def test_a_browser_without_ed25519_decides_nothing(browser: Browser, built: Path) -> None:
    context = browser.new_context(locale="en-GB")
    context.add_init_script(
        "crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError'));"
    )
    opened = context.new_page()
    opened.goto(built.as_uri())
    assert "cannot verify signatures" in opened.inner_text("[role=alert]")
    assert opened.locator("input").count() == 0
    context.close()


@pytest.mark.parametrize("lang", ["zh-CN", "en-GB"])
def test_everything_to_press_has_a_name(browser: Browser, built: Path, lang: str) -> None:
    context = browser.new_context(locale=lang, viewport={"width": 360, "height": 700})
    opened = context.new_page()
    opened.goto(built.as_uri())
    choose(opened, "trust", trust_file())
    choose(opened, "files", pictured())
    verdict(opened)
    for control in opened.locator("button, input").all():
        named = "(e) => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent"
        assert control.evaluate(named).strip()
    # nothing runs out of a narrow screen
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
