"""`yunxi citizens`: codes for decisions, drawn, bound, listed and withdrawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.citizens import decision
from tests.fixtures.command import Yunxi

pytestmark = pytest.mark.xdist_group("cli")

ADDRESS = ("--address", "https://ledger.example.org")


def seal(yunxi: Yunxi, tmp_path: Path) -> str:
    """A decision of `fire`; its id."""
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(decision() | {"department": "fire"}), "utf-8")
    record_id: str = yunxi.good("seal", path, "--json").json()["record_id"]
    return record_id


def test_a_code_from_drawing_to_withdrawing(yunxi: Yunxi, tmp_path: Path) -> None:
    drawn = yunxi.good("citizens", "qr", "-o", tmp_path / "code.png", *ADDRESS, "--department", "fire", "--json").json()
    assert drawn["url"].startswith("https://ledger.example.org/c#")
    assert drawn["record_id"] is None
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")
    record = seal(yunxi, tmp_path)
    yunxi.good("citizens", "bind", drawn["link"], record, "--department", "fire")
    said = yunxi.good("citizens", "qr", record, "-o", tmp_path / "code.svg", *ADDRESS, "--department", "fire").out
    assert "https://ledger.example.org/c#" in said
    assert "<svg" in (tmp_path / "code.svg").read_text("utf-8")
    yunxi.good("citizens", "revoke", drawn["link"], "--department", "fire")
    links = yunxi.good("citizens", "list", record, "--department", "fire", "--json").json()["links"]
    assert [each["revoked_at"] is None for each in links if each["link"] == drawn["link"]] == [False]
    shown = yunxi.good("citizens", "list", record, "--department", "fire").out
    assert "withdrawn" in shown
    assert "2 codes." in shown
    assert drawn["url"].partition("#")[2] not in shown


REFUSALS = {
    "an address without https": (
        ("qr", "-o", "c.png", "--address", "http://a.example", "--department", "fire"), 2, "https",
    ),
    "no address at all": (("qr", "-o", "c.png", "--department", "fire"), 2, "--address"),
    "another kind of picture": (("qr", "-o", "c.gif", *ADDRESS, "--department", "fire"), 2, ".svg or .png"),
    "another department": (("qr", "-o", "c.png", *ADDRESS, "--department", "police"), 2, "--department"),
    "a record that is not here": (
        ("qr", "0193510b-8c00-7abc-8def-0123456789ab", "-o", "c.png", *ADDRESS, "--department", "fire"), 1, "no record",
    ),
    "a code that is not here": (("revoke", "0" * 16, "--department", "fire"), 1, "no such link"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_says_why_and_writes_nothing(yunxi: Yunxi, name: str) -> None:
    words, exit_code, said = REFUSALS[name]
    result = yunxi("citizens", *words)
    assert result.code == exit_code
    assert said in result.sentence()
    assert not list(yunxi.directory.glob("c.*"))
