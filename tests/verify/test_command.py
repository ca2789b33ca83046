"""The verifier as a command: files in any order, verdicts, exit codes, both languages, no tracebacks."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import CouldNotRun
from ledger.verify import verifier
from ledger.verify.__main__ import _opened, run
from tests.verify.factory import (
    PHOTO,
    START,
    department,
    evidence,
    key,
    log,
    record_id,
    seal,
    trust,
)

LANGUAGES = ("en", "zh")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "verify.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good evidence, which is the working directory: no machine path in any output."""
    record, state = evidence()
    (tmp_path / "trust.json").write_bytes(trust().serialize())
    (tmp_path / "a.sd-jwt").write_bytes(record.present())
    (tmp_path / "a.tlog-proof").write_bytes(state.receipt(5))
    (tmp_path / "b.sd-jwt").write_bytes(seal(number=6).present("finding"))
    (tmp_path / "b.tlog-proof").write_bytes(state.receipt(6))
    (tmp_path / "exit.png").write_bytes(PHOTO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


ODD: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "nothing there": lambda path: None,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link in a circle": lambda path: path.symlink_to("odd"),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("arguments", [["odd", "--trust", "trust.json"], ["a.sd-jwt", "--trust", "odd"]])
def test_what_is_no_file_is_said_in_one_sentence(
    place: Path, make: Callable[[Path], object], arguments: list[str]
) -> None:
    make(place / "odd")
    code, out, err = say(*arguments)
    assert (code, out) == (2, "")
    assert "odd" in err
    assert err.count("\n") == 1


def test_options_are_not_guessed(place: Path) -> None:
    assert say("a.sd-jwt", "a.tlog-proof", "--trust", "trust.json", "--jso")[:2] == (2, "")


def test_a_file_that_became_a_pipe_is_not_waited_for(place: Path) -> None:
    path = place / "odd"
    os.mkfifo(path)
    with pytest.raises(CouldNotRun, match="not a file"):
        _opened(path)


def say(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    return run(arguments, out, err), out.getvalue(), err.getvalue()


def answer(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the JSON object."""
    code, out, err = say(*arguments, "--json")
    assert err == ""
    return code, json.loads(out)


def codes(report: dict[str, Any]) -> list[str | None]:
    return [file["error"] and file["error"]["code"] for file in report["files"]]


def test_good_files_in_any_order(place: Path) -> None:
    names = ["a.sd-jwt", "b.sd-jwt", "exit.png", "a.tlog-proof", "b.tlog-proof"]
    for order in (names, names[::-1], sorted(names)):
        code, report = answer(*order, "--trust", "trust.json")
        assert (code, report["verdict"], report["error"]) == (0, "good", None)
        assert [file["file"] for file in report["files"]] == order
        assert {file["verdict"] for file in report["files"]} == {"good"}


def test_names_decide_nothing(place: Path) -> None:
    for number, name in enumerate(("a.tlog-proof", "exit.png", "b.sd-jwt", "a.sd-jwt", "b.tlog-proof")):
        (place / name).rename(place / f"{number}.dat")
    assert answer("0.dat", "1.dat", "2.dat", "3.dat", "4.dat", "--trust", "trust.json")[0] == 0


def test_the_json_report(place: Path) -> None:
    code, report = answer("a.sd-jwt", "a.tlog-proof", "exit.png", "--trust", "trust.json")
    assert code == 0
    assert set(report) == {"verdict", "error", "trust", "files"}
    assert report["trust"]["consortium"] == "yunxi.example"
    for file in report["files"]:
        assert set(file) == {"file", "verdict", "error", "facts", "proven", "not_proven"}
        assert file["proven"]
        assert file["not_proven"]
    record, receipt, photo = (file["facts"] for file in report["files"])
    assert record["kind"] == "record"
    assert record["record_id"] == receipt["record_id"] == photo["record_id"] == record_id(5)
    assert record["department"] == {"id": "fire", "name": department("fire").name}
    assert record["attachments"][0]["files"] == ["exit.png"]
    assert record["log"] == receipt["log"]
    assert record["log"]["anchor"]["block_number"] == 77
    assert record["log"]["cosigned"][0]["time"] == START + 100


def test_a_record_without_receipt_is_bad_unless_allowed(place: Path) -> None:
    code, report = answer("a.sd-jwt", "--trust", "trust.json")
    assert (code, report["verdict"], codes(report)) == (1, "bad", ["not-proven"])
    # its signature is still good, and the report says so
    assert report["files"][0]["facts"]["log"] is None
    assert report["files"][0]["proven"]
    code, report = answer("a.sd-jwt", "--trust", "trust.json", "--allow-unlogged")
    assert (code, report["verdict"]) == (0, "good")
    assert any("receipt" in sentence for sentence in report["files"][0]["not_proven"])


def test_a_receipt_without_its_record(place: Path) -> None:
    code, report = answer("a.tlog-proof", "--trust", "trust.json")
    assert (code, codes(report)) == (1, ["inclusion-invalid"])


def test_a_receipt_of_another_record(place: Path) -> None:
    code, report = answer("a.sd-jwt", "b.tlog-proof", "--trust", "trust.json")
    assert (code, codes(report)) == (1, ["inclusion-invalid", "inclusion-invalid"])


def test_a_bad_receipt_beside_a_good_one(place: Path) -> None:
    (place / "other.tlog-proof").write_bytes(evidence()[1].receipt(2))
    code, report = answer("a.sd-jwt", "other.tlog-proof", "a.tlog-proof", "--trust", "trust.json")
    assert (code, codes(report)) == (1, [None, "inclusion-invalid", None])


def test_two_receipts_of_one_record(place: Path) -> None:
    later = log([*evidence()[1].entries, seal(number=11).ascii])
    (place / "later.tlog-proof").write_bytes(later.receipt(5))
    assert answer("a.sd-jwt", "a.tlog-proof", "later.tlog-proof", "--trust", "trust.json")[0] == 0


def test_one_receipt_for_two_presentations_of_a_record(place: Path) -> None:
    (place / "masked.sd-jwt").write_bytes(evidence()[0].present("place"))
    code, report = answer("a.sd-jwt", "masked.sd-jwt", "a.tlog-proof", "--trust", "trust.json")
    # the receipt goes to the first; the other says that it has none
    assert (code, codes(report)) == (1, [None, "not-proven", None])


def test_a_changed_attachment(place: Path) -> None:
    (place / "exit.png").write_bytes(PHOTO[:-1] + b"!")
    code, report = answer("a.sd-jwt", "a.tlog-proof", "exit.png", "--trust", "trust.json")
    assert (code, codes(report)) == (1, [None, None, "disclosure-invalid"])


def test_an_attachment_of_a_record_that_is_not_verified(place: Path) -> None:
    code, report = answer("a.sd-jwt", "exit.png", "--trust", "trust.json")
    assert (code, codes(report)) == (1, ["not-proven", "not-proven"])


def test_an_attachment_alone(place: Path) -> None:
    assert codes(answer("exit.png", "--trust", "trust.json")[1]) == ["disclosure-invalid"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["a.sd-jwt", "a.tlog-proof", "exit.png"])
def test_a_flipped_bit_of_any_file(place: Path, name: str) -> None:
    flip(place / name)
    code, report = answer("a.sd-jwt", "a.tlog-proof", "exit.png", "--trust", "trust.json")
    assert (code, report["verdict"]) == (1, "bad")
    assert report["files"][["a.sd-jwt", "a.tlog-proof", "exit.png"].index(name)]["verdict"] == "bad"


# --- what keeps it from running, and files that are nothing ---

CANNOT_RUN: dict[str, tuple[str, ...]] = {
    "no such file": ("missing.sd-jwt", "--trust", "trust.json"),
    "no such trust file": ("a.sd-jwt", "--trust", "missing.json"),
    "a folder": (".", "--trust", "trust.json"),
    "a folder as trust file": ("a.sd-jwt", "--trust", "."),
    "a device": ("/dev/null", "--trust", "trust.json"),
    "a name with a zero byte": ("a\0b", "--trust", "trust.json"),
    "a name that is too long": ("a" * 5000, "--trust", "trust.json"),
    "no files": ("--trust", "trust.json"),
    "no trust file": ("a.sd-jwt",),
    "an unknown option": ("a.sd-jwt", "--trust", "trust.json", "--yes"),
    "an unknown language": ("a.sd-jwt", "--trust", "trust.json", "--lang", "fr"),
}


@pytest.mark.parametrize("arguments", CANNOT_RUN.values(), ids=CANNOT_RUN)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_could_not_run_is_one_line_and_exit_2(place: Path, arguments: tuple[str, ...], lang: str) -> None:
    spoken = arguments if "--lang" in arguments else (*arguments, "--lang", lang)
    code, out, err = say(*spoken)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    code, report = answer(*spoken)
    assert (code, report["verdict"], report["files"]) == (2, "could-not-run", [])
    assert report["error"]["code"] == "could-not-run"
    assert (re.search("[一-龥]", report["error"]["message"]) is not None) == ("zh" in spoken)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(place: Path) -> None:
    (place / "a.sd-jwt").chmod(0)
    assert say("a.sd-jwt", "--trust", "trust.json")[0] == 2


BAD_TRUST = {
    "nothing": b"",
    "an empty object": b"{}",
    "not JSON": b"trust me",
    "a picture": PHOTO,
    "ten megabytes": b"x" * 10_000_000,
    "another format": evidence()[1].receipt(5),
    "nobody to trust": re.sub(rb'"departments": \[.*?\n  \]', b'"departments": []', trust().serialize(), flags=re.S),
}


@pytest.mark.parametrize("data", BAD_TRUST.values(), ids=BAD_TRUST)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_trust_file_that_cannot_be_used(place: Path, data: bytes, lang: str) -> None:
    (place / "trust.json").write_bytes(data)
    code, report = answer("a.sd-jwt", "a.tlog-proof", "--trust", "trust.json", "--lang", lang)
    assert (code, report["verdict"], report["files"]) == (1, "bad", [])
    assert report["error"]["code"] in ("malformed", "trust-refused")
    code, out, _ = say("a.sd-jwt", "a.tlog-proof", "--trust", "trust.json", "--lang", lang)
    assert code == 1
    assert ("No file was examined" if lang == "en" else "未对任何文件进行核验") in out


def test_the_empty_policy_says_what_it_is(place: Path) -> None:
    (place / "trust.json").write_bytes(BAD_TRUST["nobody to trust"])
    assert answer("a.sd-jwt", "--trust", "trust.json")[1]["error"]["code"] == "trust-refused"


def test_the_trust_file_of_others(place: Path) -> None:
    (place / "trust.json").write_bytes(trust(departments=(department("market"),)).serialize())
    code, report = answer("a.sd-jwt", "a.tlog-proof", "--trust", "trust.json")
    assert (code, codes(report)) == (1, ["key-refused", "key-refused"])


GARBAGE = {
    "an empty file": b"",
    "ten megabytes of zeros": bytes(10_000_000),
    "ten megabytes that begin like a record": b"eyJ" + b"A" * 10_000_000,
    "twenty megabytes that begin like a record": b"eyJ" + b"A" * 20_000_000,
    "a record that is only tildes": b"eyJ" + b"~" * 100_000,
    "a receipt that is only its head": b"c2sp.org/tlog-proof@v1\n",
    "a receipt of a later version": evidence()[1].receipt(5).replace(b"@v1", b"@v2"),
    "a megabyte that begins like a receipt": b"c2sp.org/tlog-proof@v1\n" * 50_000,
    "binary": bytes(range(256)) * 40,
    "a record with Windows line ends": b"\r\n" + evidence()[0].present() + b"\r\n",
    "the trust file": trust().serialize(),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_garbage_is_a_finding_not_a_crash(place: Path, data: bytes, lang: str) -> None:
    (place / "garbage").write_bytes(data)
    code, report = answer("a.sd-jwt", "a.tlog-proof", "garbage", "--trust", "trust.json", "--lang", lang)
    assert (code, report["verdict"]) == (1, "bad")
    assert [file["verdict"] for file in report["files"]] == ["good", "good", "bad"]
    assert say("garbage", "--trust", "trust.json", "--lang", lang)[0] == 1


def test_help_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], io.StringIO()) == 0
    text = capsys.readouterr().out
    for option in ("--trust", "--json", "--lang", "--allow-unlogged", "Exit status"):
        assert option in text


# --- what stands in the reports ---


def english(place: Path, *more: str) -> str:
    return say("a.sd-jwt", "a.tlog-proof", "--trust", "trust.json", *more)[1]


ALWAYS_OPEN = {
    "en": ("Whether what the record says is true", "own clock", "officers", "time-stamping", "trust file is the right"),
    "zh": ("存证之前是否真实", "自身时钟", "执法人员", "可信时间戳", "信任文件本身是否可靠"),
}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_is_not_proven_shows_even_when_all_is_good(place: Path, lang: str) -> None:
    text = english(place, "--lang", lang)
    for part in ALWAYS_OPEN[lang]:
        assert part in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_embedded_chain_proves_nothing_against_its_operator(place: Path, lang: str) -> None:
    (place / "trust.json").write_bytes(trust().serialize().replace(b'"qbft"', b'"embedded"'))
    part = {"en": "nothing against that operator", "zh": "对运营方自身不具有证明作用"}[lang]
    assert part in english(place, "--lang", lang)


def test_no_witness_shows(place: Path) -> None:
    (place / "trust.json").write_bytes(trust(witnesses=(), quorum=0).serialize())
    text = english(place)
    assert "only one version of its log" in text
    assert "Since when the record has existed" in text


def test_a_receipt_without_anchor_shows(place: Path) -> None:
    (place / "a.tlog-proof").write_bytes(log(evidence()[1].entries, anchored=False).receipt(5))
    assert "The receipt names none" in english(place)


def test_a_clock_that_was_wrong_shows(place: Path) -> None:
    record = seal(payload={"iat": START + 5000})
    (place / "a.sd-jwt").write_bytes(record.present())
    (place / "a.tlog-proof").write_bytes(log([record.ascii]).receipt(0))
    assert "one of the two clocks was wrong" in english(place)


def test_a_key_that_had_ended_when_the_record_was_first_seen_shows(place: Path) -> None:
    keys = (key("fire", valid_to=START + 60),)
    trusted = trust(departments=(replace(department("fire"), keys=keys), department("market")))
    (place / "trust.json").write_bytes(trusted.serialize())
    assert "The key's validity ended" in english(place)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_time_beyond_the_calendar_does_not_crash(place: Path, lang: str) -> None:
    record = seal(payload={"iat": 2**53 - 1})
    (place / "a.sd-jwt").write_bytes(record.present())
    (place / "a.tlog-proof").write_bytes(log([record.ascii]).receipt(0))
    assert "9007199254740991" in english(place, "--lang", lang)


def test_evidence_cannot_paint_the_terminal(place: Path) -> None:
    evil = "\x1b[2J\x1b[32mVERIFIED\x1b[0m\r\n\u202e\u2066VERIFIED"
    units = {evil: {evil: evil, "deep": [{evil: evil}]}}
    record = seal(units=units, payload={"type": evil[:60], "matter": evil})
    (place / "a.sd-jwt").write_bytes(record.present())
    (place / "a.tlog-proof").write_bytes(log([record.ascii]).receipt(0))
    (place / "\x1b[31mx\n.png").write_bytes(b"no")
    for lang in LANGUAGES:
        _, text, _ = say("a.sd-jwt", "a.tlog-proof", "\x1b[31mx\n.png", "--trust", "trust.json", "--lang", lang)
        assert not set(text.replace("\n", "")) & set("\x1b\r\u202e\u2066")
        assert "\nVERIFIED\n" not in text


def test_a_file_name_that_is_no_text(place: Path) -> None:
    name = os.fsdecode(b"\xff.sd-jwt")
    (place / "a.sd-jwt").rename(place / name)
    code, out, _ = say(name, "a.tlog-proof", "--trust", "trust.json")
    assert code == 0
    out.encode()
    json.dumps(answer(name, "a.tlog-proof", "--trust", "trust.json")[1], ensure_ascii=False).encode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(lang: str) -> str:
    out = Terminal()
    assert run(["a.sd-jwt", "a.tlog-proof", "--trust", "trust.json", "--lang", lang], out) == 0
    return out.getvalue()


def columns(line: str) -> int:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return sum(2 if re.match("[⺀-鿿＀-￯]", c) else 1 for c in plain)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_gets_colour_and_its_width(
    place: Path, monkeypatch: pytest.MonkeyPatch, lang: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = on_terminal(lang)
    assert "\x1b[1;32m" in text
    # headings and file names are not broken
    assert all(columns(line) <= min(width, 100) + 2 for line in text.splitlines())


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_refused(place: Path, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]) -> None:
    monkeypatch.setenv(*variable)
    assert "\x1b" not in on_terminal("en")


def test_a_pipe_gets_neither_colour_nor_breaks(place: Path) -> None:
    text = english(place)
    assert "\x1b" not in text
    assert any(len(line) > 150 for line in text.splitlines())


def test_the_same_evidence_always_gives_the_same_report(place: Path) -> None:
    # no clock is read: what is shown today is shown in ten years
    assert english(place) == english(place)


def test_the_clerks_instructions_name_what_the_program_has(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english_half, chinese_half = DOCUMENT.read_text(encoding="utf-8").split("\n---\n")
    run(["--help"], io.StringIO())
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    steps = re.findall(r"^ *(\d+)\. ", verifier.__doc__ or "", flags=re.M)
    assert len(steps) == 17
    for half in (english_half, chinese_half):
        assert options <= set(re.findall(r"--[a-z-]+", half))
        checked = re.split(r"^## (?:What the program checks|核验步骤)$", half, flags=re.M)[1].split("\n## ")[0]
        assert re.findall(r"^(\d+)\. ", checked, flags=re.M) == steps
    for half, lang in ((english_half, "en"), (chinese_half, "zh")):
        (command,) = re.findall(r"^python yunxi-verify.pyz (.*)$", half, flags=re.M)
        names = {"record.sd-jwt": "a.sd-jwt", "record.tlog-proof": "a.tlog-proof", "photo.png": "exit.png"}
        code, text, _ = say(*(names.get(word, word) for word in command.split()))
        assert code == 0
        assert ("已证明的事项" if lang == "zh" else "What is proven") in text
