"""The names, options and exit codes that other programs rely on, and what a wrong call is answered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import Yunxi

pytestmark = pytest.mark.xdist_group("cli")

FIXED = {
    "init": ("DIR", "--chain"),
    "department add": ("ID", "--name", "--node"),
    "adapter check": ("MAPPING", "--node", "--json"),
    "adapter preview": ("MAPPING", "--node", "--json"),
    "adapter run": ("MAPPING", "--node", "--json", "--dry-run"),
    "seal": ("RECORD.json", "--node", "--json"),
    "show": ("RECORD_ID", "--node", "--json"),
    "receipt": ("RECORD_ID", "-o", "--node", "--json"),
    "present": ("RECORD_ID", "--disclose", "-o", "--node", "--json"),
    "trust export": ("-o", "--node", "--json"),
    "verify": ("FILE", "--trust", "--json", "--lang"),
    "audit": ("--department", "--node", "--json"),
    "status": ("--node", "--json"),
    "demo": ("DIR",),
}

WRONG_CALLS = {
    "a command that does not exist": (("frob",), "No such command 'frob'; see `yunxi --help`"),
    "a command of a group that does not exist": (
        ("adapter", "xyzzy"),
        "No such command 'xyzzy'; see `yunxi adapter --help`",
    ),
    "an option that does not exist": (("status", "--nope"), "No such option: --nope"),
    "an argument left out": (("seal",), "Missing argument 'RECORD.json'; see `yunxi seal --help`"),
    "an option left out": (("receipt", "x"), "Missing option '--output' / '-o'; see `yunxi receipt --help`"),
    "a number that is none": (("adapter", "run", "m.toml", "--limit", "many"), "Invalid value for '--limit'"),
    "a number out of range": (("adapter", "run", "m.toml", "--limit", "0"), "Invalid value for '--limit'"),
}


@pytest.mark.parametrize("command", FIXED)
def test_the_fixed_names_exist_and_explain_themselves(bare: Yunxi, command: str) -> None:
    shown = bare.good(*command.split(), "--help", COLUMNS="200").out
    for word in FIXED[command]:
        assert word in shown, f"yunxi {command} --help does not name {word}"


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_a_wrong_call_ends_with_2_and_one_sentence(bare: Yunxi, case: str) -> None:
    words, sentence = WRONG_CALLS[case]
    result = bare(*words)
    assert result.code == 2
    assert result.sentence().startswith(sentence)


def test_a_wrong_call_with_json_is_one_object_too(bare: Yunxi) -> None:
    result = bare("seal", "--json")
    assert result.code == 2
    assert result.json()["error"]["code"] == "usage"


@pytest.mark.parametrize("words", [(), ("department",), ("adapter",), ("trust",)])
def test_a_group_alone_shows_its_help(bare: Yunxi, words: tuple[str, ...]) -> None:
    result = bare(*words)
    assert result.code == 2
    assert "Usage: yunxi" in result.out + result.err


def test_the_version_is_said(bare: Yunxi) -> None:
    assert bare.good("--version").out.startswith("yunxi 0.")


def test_a_terminal_without_chinese_still_gets_an_answer(bare: Yunxi) -> None:
    assert "verify" in bare.good("--help", PYTHONIOENCODING="ascii", COLUMNS="60").out


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (("--help",), {"web3", "eth_account", "sqlalchemy", "alembic", "jsonschema_rs"}),
        (("verify", "--help"), {"web3", "eth_account", "sqlalchemy", "alembic", "jsonschema_rs"}),
        (("adapter", "check", "no.toml"), {"web3", "eth_account", "alembic"}),
        (("show", "no-id"), {"web3", "eth_account"}),
    ],
)
def test_a_command_imports_only_what_it_needs(tmp_path: Path, words: tuple[str, ...], heavy: set[str]) -> None:
    code = (
        f"import atexit, sys; sys.argv = ['yunxi', *{words!r}]\n"
        "atexit.register(lambda: print('IMPORTED', *sys.modules))\n"
        "import yunxi; yunxi.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert "typer" in imported
    assert not imported & heavy
