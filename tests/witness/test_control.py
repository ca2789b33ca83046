"""The table of who controls what: nothing that shares hands with the log passes for independent."""

from __future__ import annotations

import io
import json
import re
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.formats.trust import Trust, Validators
from ledger.verify import Verifier
from ledger.verify import control as module
from ledger.verify.__main__ import run
from ledger.verify.control import control
from ledger.verify.sentences import not_proven
from tests.verify.factory import department, evidence, trust, witness

BUREAU = "District data bureau"
COURT, NOTARY = "court.example/witness", "notary.example/witness"


def kept_by(operator: str | None, **changes: Any) -> Trust:
    """A trust file in which `operator` runs the node of the fire department."""
    return trust(departments=(replace(department("fire"), operator=operator), department("market")), **changes)


def table(file: Trust, lang: str = "en") -> dict[str, tuple[str, bool | None]]:
    record, log = evidence()
    rows = [row.members(lang) for row in control(Verifier(file).verify(record.present(), log.receipt(5)))]
    return {row["name"] or row["part"]: (row["controller"], row["independent"]) for row in rows}


def test_every_part_is_named_with_who_controls_it() -> None:
    assert table(kept_by(BUREAU)) == {
        "node": (BUREAU, None),
        "keys": ("Fire and Rescue Department", False),
        COURT: ("District People's Court", True),
        NOTARY: ("Notary Office", True),
        "chain": ("2 validators, of which 1 must agree", None),
        "time": ("the clock of Fire and Rescue Department", False),
        "seen": ("the clocks of: District People's Court / Notary Office", True),
    }


def test_a_witness_in_the_hands_of_the_log_s_operator_is_not_independent() -> None:
    witnesses = (replace(witness(COURT), operator=BUREAU), witness(NOTARY))
    found = table(kept_by(BUREAU, witnesses=witnesses, quorum=1))
    assert found[COURT] == (BUREAU, False)
    assert found["seen"] == ("the clocks of: Notary Office", True)
    only = table(kept_by(BUREAU, witnesses=witnesses[:1], quorum=0))
    assert only["seen"] == ("by nobody", False)


def test_the_report_says_that_such_a_witness_proves_nothing_against_its_operator() -> None:
    record, log = evidence()
    witnesses = (replace(witness(COURT), operator=BUREAU), witness(NOTARY))
    facts = Verifier(kept_by(BUREAU, witnesses=witnesses, quorum=1)).verify(record.present(), log.receipt(5))
    said = [text for text in not_proven(facts, (), "en") if "It runs both the node that keeps the log" in text]
    assert len(said) == 1
    assert COURT in said[0]
    assert any("自身所作确认对该单位不具有证明作用" in text for text in not_proven(facts, (), "zh"))


def test_the_department_s_own_witness_is_not_independent() -> None:
    own = replace(witness(COURT), operator="Fire and Rescue Department")
    assert table(kept_by(None, witnesses=(own,), quorum=0))[COURT][1] is False


def test_where_the_trust_file_is_silent_independence_is_unknown() -> None:
    found = table(trust())
    assert found["node"] == ("not said in the trust file", None)
    assert {independent for _, independent in found.values()} == {None}


@pytest.mark.parametrize("operator", [None, BUREAU])
def test_the_embedded_chain_is_in_the_hands_of_the_log_s_operator(operator: str | None) -> None:
    chain = replace(trust().chain, engine="embedded")
    expected = (BUREAU, False) if operator else ("not said in the trust file", None)
    assert table(kept_by(operator, chain=chain))["chain"] == expected


def test_a_chain_without_a_validator_rule_is_in_nobody_knows_whose_hands() -> None:
    chain = replace(trust().chain, validators=Validators(0, ()))
    assert table(kept_by(BUREAU, chain=chain))["chain"] == ("not said in the trust file", None)


def test_the_report_has_the_table_in_both_languages(tmp_path: Path) -> None:
    record, log = evidence()
    for name, data in {
        "r.sd-jwt": record.present(),
        "r.tlog-proof": log.receipt(5),
        "t": kept_by(BUREAU).serialize(),
    }.items():
        (tmp_path / name).write_bytes(data)
    files = [str(tmp_path / "r.sd-jwt"), str(tmp_path / "r.tlog-proof"), "--trust", str(tmp_path / "t")]
    expected = {"en": "(in other hands than the log)", "zh": "（与日志分属不同单位）"}
    for lang, words in expected.items():
        out = io.StringIO()
        assert run([*files, "--lang", lang], out) == 0
        assert words in re.sub(r"\s*\n\s*", " " if lang == "en" else "", out.getvalue())
    out = io.StringIO()
    run([*files, "--json"], out)
    rows = json.loads(out.getvalue())["files"][0]["facts"]["control"]
    assert [row["part"] for row in rows] == ["node", "keys", "witness", "witness", "chain", "time", "seen"]


def test_the_tables_of_words_are_complete() -> None:
    def fields(template: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}

    for words in (*module._PARTS.values(), *module._HANDS.values(), *module._APART.values()):
        assert set(words) == {"en", "zh"}
        assert fields(words["en"]) == fields(words["zh"])
        assert not re.search("[⺀-鿿（）]", words["en"])
        assert not re.search("[A-Za-z]", re.sub(r"\{\w+\}", "", words["zh"]))
