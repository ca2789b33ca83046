"""Documents are tested: commands exist, the two READMEs agree, links lead somewhere, every error code is explained."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer.main

import yunxi
from ledger import errors

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")


def commands_of(name: str) -> list[str]:
    """The command lines of a document's shell blocks, without comments and prose."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_both_readmes_give_the_same_commands() -> None:
    english, chinese = (commands_of(name) for name in READMES)
    assert english == chinese
    assert english[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("name", READMES)
def test_every_command_of_the_readme_exists(name: str) -> None:
    tree = typer.main.get_command(yunxi.app)
    for line in commands_of(name):
        words = line.split()
        if words[0] == "make":
            made = subprocess.run(
                ["make", "--dry-run", words[1]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
        elif words[0] == "yunxi":
            command = tree
            for word in words[1:]:
                if not hasattr(command, "commands"):
                    break
                assert word in command.commands, f"{line}: there is no {word}"
                command = command.commands[word]


@pytest.mark.parametrize(
    "document", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{document} links to {target}"


def test_every_error_code_is_explained() -> None:
    table = dict(
        re.findall(r"^\| `([a-z-]+)` \| (\d) \|", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    )
    waiting, found = [errors.YunxiError], {}
    while waiting:
        kind = waiting.pop()
        waiting += [sub for sub in kind.__subclasses__() if sub.__module__ == "ledger.errors"]
        if kind not in (errors.YunxiError,):
            found[kind.code] = str(kind.exit_code)
    assert table == found
