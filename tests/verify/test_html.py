"""The HTML verifier as a file: one file, always the same bytes, held to the Python one. What it does: tests/browser."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.proof import commands
from ledger.verifier_html import PAGE, build_page, bundled, html_page, modules
from ledger.verify import refusals, sentences

ROOT = Path(__file__).resolve().parents[2]


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    built = build_page(tmp_path / "a.html").read_bytes()
    assert build_page(tmp_path / "b.html").read_bytes() == built
    script = ROOT / "scripts" / "build_verifier.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "c.html"], capture_output=True, encoding="utf-8", check=True
    )
    assert (tmp_path / "c.html").read_bytes() == built
    assert hashlib.sha256(built).hexdigest() in done.stdout


def test_the_command_writes_it(tmp_path: Path) -> None:
    target = tmp_path / "verify.html"
    result = CliRunner().invoke(commands, ["verifier", "--html", "-o", str(target)])
    assert (result.exit_code, target.read_text(encoding="utf-8")) == (0, html_page())


def test_its_policy_lets_its_own_script_and_style_run_and_nothing_load() -> None:
    page = html_page()
    policy = between(page, 'http-equiv="Content-Security-Policy" content="', '"')
    for tag in ("script", "style"):
        content = between(page, f"<{tag}>", f"</{tag}>")
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert page.count(f"<{tag}") == 1
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"(?:src|href)=\"", page)


FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|localStorage"
    r"|fetch\(|XMLHttp|WebSocket|https?:|Date\.now|new Date\(\)"
)


@pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
def test_no_source_reads_html_asks_a_network_or_a_clock(path: Path) -> None:
    assert not re.search(FORBIDDEN, path.read_text(encoding="utf-8"))


def test_every_module_is_in_it() -> None:
    script = bundled("page.js")
    for name in modules():
        assert f'modules["{name}"] = ' in script


def test_it_has_every_sentence_of_the_python_verifier() -> None:
    page = html_page()
    tables = [*sentences._SENTENCES.values(), *refusals._BY_CODE.values()]
    texts = [text for table in tables for text in table.values()]
    texts += [text for reason in refusals._REASONS.values() for text in (reason.en, reason.zh)]
    assert len(texts) > 150
    for text in texts:
        assert text in page


def test_the_checks_it_lists_are_those_of_the_guide() -> None:
    guide = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    listed = re.findall(
        r'^        (en|zh): "(.*)",$', between(modules()["labels.js"], "export const STEPS = [", "];"), re.M
    )
    for lang, heading, joint in (("en", "## What the program checks", " "), ("zh", "## 核验步骤", "")):
        steps = re.findall(
            r"^\d+\. (.*(?:\n    .*)*)", re.split(r"\n(?:## |---)", guide.partition(heading)[2])[0], re.M
        )
        assert [re.sub(r"\n\s+", joint, step) for step in steps] == [text for found, text in listed if found == lang]
        assert len(steps) == 17


def test_a_module_that_cannot_be_joined_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text in ('import x from "./page.js";\n', "export default 1;\n", 'import { a } from "./page.js";\n'):
        (tmp_path / "page.js").write_text(text)
        monkeypatch.setattr("ledger.verifier_html.PAGE", tmp_path)
        with pytest.raises(ValueError, match=r"circle|does not know"):
            bundled("page.js")
