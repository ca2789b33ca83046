"""The tables of sentences: complete in both languages, alike in their values, and Chinese where they should be."""

from __future__ import annotations

import re
import string

import pytest

from ledger.errors import (
    AnchorInvalid,
    CheckpointInvalid,
    DisclosureInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    SignatureInvalid,
    TimestampInvalid,
    TrustRefused,
)
from ledger.verify import refusals, report, sentences
from ledger.verify.refusals import explain, refusal
from ledger.verify.words import Duration, Moment, Span, clean, say
from tests.verify.factory import START

PAIRS = {
    **{f"sentence {name}": texts for name, texts in sentences._SENTENCES.items()},
    **{f"refusal {name}": {"en": r.en, "zh": r.zh} for name, r in refusals._REASONS.items()},
    **{f"code {name}": texts for name, texts in refusals._BY_CODE.items()},
    **{f"format {name}": texts for name, texts in refusals._FORMATS.items()},
    **{f"sentence of case files {name}": texts for name, texts in refusals._CASE.items()},
    **{f"label {name}": texts for name, texts in report._LABELS.items()},
}


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("texts", PAIRS.values(), ids=PAIRS)
def test_both_languages_say_the_same_values(texts: dict[str, str]) -> None:
    assert set(texts) == {"en", "zh"}
    assert fields(texts["en"]) == fields(texts["zh"])


WHOLE = {name: texts for name, texts in PAIRS.items() if name.startswith(("sentence", "refusal", "code"))}


@pytest.mark.parametrize("texts", WHOLE.values(), ids=WHOLE)
def test_chinese_is_chinese_and_english_is_english(texts: dict[str, str]) -> None:
    assert not re.search("[⺀-鿿，。；：（）]", texts["en"])
    bare = re.sub(
        r"\{\w+\}|yunxi casefile open|\.zip|SHA-256|\.tlog-proof|\.sd-jwt|\.anchor\.json|--help", "", texts["zh"]
    )
    assert not re.search("[A-Za-z]", bare), "a clerk reads no English"
    assert not re.search(r"[,;:()?!]", bare), "full-width punctuation"
    assert texts["en"].endswith(".")
    assert texts["zh"].endswith("。")


def test_every_error_that_the_recipe_passes_on_from_below_has_words() -> None:
    passed_on = (
        Malformed,
        KeyRefused,
        TrustRefused,
        SignatureInvalid,
        DisclosureInvalid,
        InclusionInvalid,
        CheckpointInvalid,
        AnchorInvalid,
        TimestampInvalid,
    )
    assert {kind.code for kind in passed_on} == set(refusals._BY_CODE)


def test_an_error_of_the_formats_is_said_in_plain_words() -> None:
    error = Malformed("tlog-proof", "has no index line")
    assert explain(error, "en").endswith("Technical note: tlog-proof: has no index line")
    assert explain(error, "zh").startswith("文件不符合规定格式（回执）")
    assert "Technical" not in explain(AnchorInvalid("x"), "en")


def test_a_refusal_of_the_recipe_speaks_both_languages() -> None:
    error = refusal("quorum", quorum=3, found=1)
    assert str(error) == explain(error, "en")
    assert "至少3个" in explain(error, "zh")


def test_times() -> None:
    assert say(Moment(START), "en") == "2026-03-01 08:00:00 UTC"
    assert say(Moment(START), "zh") == "北京时间2026年3月1日16时00分00秒"
    assert say(Moment(1_798_732_800), "zh") == "北京时间2027年1月1日0时00分00秒"
    assert say(Moment(2**63 - 1), "en").startswith("9223372036854775807 seconds")
    assert say(Span((START, None)), "en") == "valid from 2026-03-01 08:00:00 UTC onwards"
    assert say(Span((START, START + 1)), "zh").endswith("01秒止")


@pytest.mark.parametrize(
    ("seconds", "en", "zh"),
    [
        (0, "0 seconds", "0秒"),
        (1, "1 second", "1秒"),
        (60, "1 minute", "1分"),
        (3_661, "1 hour, 1 minute, 1 second", "1小时1分1秒"),
        (86_400 * 2 + 5, "2 days, 5 seconds", "2天5秒"),
    ],
)
def test_durations(seconds: int, en: str, zh: str) -> None:
    assert (say(Duration(seconds), "en"), say(Duration(seconds), "zh")) == (en, zh)


def test_clean() -> None:
    assert clean("云玺 plain text") == "云玺 plain text"
    assert clean("a\x1b[31m\n\u202eb\ud800") == "a\\u{1b}[31m\\u{a}\\u{202e}b\\u{d800}"


COUNTS = {
    ("units-some", 1): "Of the 3 parts of the record, 1 is shown: when.",
    ("units-some", 2): "Of the 3 parts of the record, 2 are shown: when.",
    ("units-all", 1): "The record has 1 part, all shown;",
    ("units-all", 1000): "The record has 1,000 parts, all shown;",
    ("not-masked", 1): "Anything about what is withheld: 1 part of the record, out of 3.",
    ("logged", 1): "when it held 1 entry.",
    ("logged", 21): "when it held 21 entries.",
}


@pytest.mark.parametrize(("name", "count"), COUNTS)
def test_numbers_and_their_nouns_agree(name: str, count: int) -> None:
    values = dict.fromkeys(("shown", "size", "masked"), count)
    total = count if name == "units-all" else 3
    said = sentences.sentence(name, "en", **values, total=total, names="when", department="d", origin="o", position=1)
    assert COUNTS[name, count] in said


@pytest.mark.parametrize("texts", PAIRS.values(), ids=PAIRS)
def test_no_number_stands_before_a_fixed_plural(texts: dict[str, str]) -> None:
    assert not re.search(r"\{\w+\} (?:parts|entries|bytes|witnesses|records|are)\b", texts["en"])
