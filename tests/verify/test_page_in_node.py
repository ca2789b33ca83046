"""Both verifiers on damaged evidence, the same in every run: one verdict, in words. The page's runs in Node; all named
attacks run in a real browser (tests/browser)."""

from __future__ import annotations

import base64
import copy
import io
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.formats.der import read_der
from ledger.verifier_html import modules
from ledger.verify.__main__ import run
from tests.browser.verifier_vectors import good_on_chain
from tests.verify.sealed import trust_of as trust_on
from tests.verify.test_timestamps import Stamps, make_stamps

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")

CASES = 10
"""Of each kind."""
LIBRARY_WORDS = re.compile(r"not JSON at line [^\"]*|(?:not )?base64(?:url)?(?: with stray bits or padding)?")

Ask = Callable[[dict[str, bytes], bytes, str], Any]


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Stamps:
    return make_stamps(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Hands files, a trust file and a language to the page's verifier."""
    place = tmp_path_factory.mktemp("page")
    for name, source in modules().items():
        (place / name).write_text(source.replace("\nstart();\n", "\n"), encoding="utf-8")
    (place / "package.json").write_text('{"type": "module"}')
    driver = Path(__file__).with_name("page.mjs")
    with subprocess.Popen(["node", driver, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdin is not None
        assert node.stdout is not None

        def answer(files: dict[str, bytes], trust: bytes, lang: str) -> Any:
            assert node.stdin is not None
            assert node.stdout is not None
            given = {"files": [[name, _base64(data)] for name, data in files.items()], "trust": _base64(trust)}
            node.stdin.write(json.dumps(given | {"lang": lang}).encode() + b"\n")
            node.stdin.flush()
            return _plain(json.loads(node.stdout.readline()))

        yield answer
        node.stdin.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _plain(answer: str) -> Any:
    return json.loads(LIBRARY_WORDS.sub("…", answer))


def by_command(files: dict[str, bytes], trust: bytes, lang: str) -> Any:
    for name, data in (files | {"trust.json": trust}).items():
        Path(name).write_bytes(data)
    out = io.StringIO()
    run([*files, "--trust", "trust.json", "--json", "--lang", lang], out)
    return _plain(out.getvalue())


# --- damage ---

ODD: list[Any] = [None, True, 0, -1, 2**53 - 1, 1.5, "", "...", "\u202e", [], {}, [[]], {"_sd": []}, "0x00", 2**32]


def bytes_damaged(data: bytes, chance: random.Random) -> bytes:
    """One byte changed, left out, doubled, or put in."""
    at = chance.randrange(len(data))
    put = chance.choice([b"", data[at : at + 1] * 2, bytes([data[at] ^ 1 << chance.randrange(8)]), b"\n", b"=", b"~"])
    return data[:at] + put + data[at + 1 :]


def lines_damaged(data: bytes, chance: random.Random) -> bytes:
    """A line left out, doubled, moved or counted otherwise."""
    lines = data.split(b"\n")
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    change = chance.randrange(4)
    if change == 0:
        del lines[one]
    elif change == 1:
        lines.insert(one, lines[two])
    elif change == 2:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines[one] = re.sub(
            rb"[0-9]+", chance.choice([b"0", b"-1", b"007", b"9223372036854775808"]), lines[one], count=1
        )
    return b"\n".join(lines)


def json_damaged(data: bytes, chance: random.Random) -> bytes:
    """A member or an element left out, doubled, or of another kind; written as the formats here are."""
    value = json.loads(data)
    holders = list(_holders(value))
    holder, place = chance.choice(holders)
    if chance.random() < 0.3:
        del holder[place]
    else:
        other, elsewhere = chance.choice(holders)
        holder[place] = chance.choice([*ODD, copy.deepcopy(other[elsewhere])])
    if data.startswith(b"{\n"):
        return json.dumps(value, indent=1).encode() + b"\n"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for place in value if isinstance(value, dict) else range(len(value)):
            yield value, place
            yield from _holders(value[place])


def der_damaged(data: bytes, chance: random.Random) -> bytes:
    """A value left out, doubled or changed, with right lengths around it."""
    value = read_der(data, "token")
    if not value.tag & 0x20 or chance.random() < 0.05:
        content = bytes_damaged(value.content, chance) if value.content else b"\0"
        return _der(chance.choice([value.tag, value.tag, 0x04, 0x30, 0x05]), content)
    parts = [part.encoded for part in value.values()]
    at = chance.randrange(len(parts))
    if chance.random() < 0.1:
        parts[at : at + 1] = chance.choice([[], [parts[at]] * 2, [parts[chance.randrange(len(parts))]]])
    else:
        parts[at] = der_damaged(parts[at], chance)
    return _der(value.tag, b"".join(parts))


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


DAMAGE = [
    ("a.sd-jwt", bytes_damaged),
    ("a.tlog-proof", bytes_damaged),
    ("a.tlog-proof", lines_damaged),
    ("x.anchor.json", json_damaged),
    ("x.renewals.json", json_damaged),
    ("x.tst", der_damaged),
    ("trust.json", json_damaged),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=[f"{name} {damage.__name__}" for name, damage in DAMAGE])
def test_both_verifiers_agree(
    ask: Ask, stamps: Stamps, name: str, damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = json.loads(trust_on("qbft").serialize())
    document["tsa_roots"] = [stamps.first.root_pem, stamps.second.root_pem]
    good = good_on_chain("qbft") | {"x.tst": stamps.token, "x.renewals.json": stamps.renewals.serialize()}
    good["trust.json"] = json.dumps(document, ensure_ascii=False).encode()
    chance, differ = random.Random(f"{name} {damage.__name__}"), []
    for number in range(CASES):
        files = good | ({name: damage(good[name], chance)} if number else {})
        trust, lang = files.pop("trust.json"), ("en", "zh")[number % 2]
        ours, theirs = by_command(files, trust, lang), ask(files, trust, lang)
        assert number or ours["verdict"] == "good"
        if ours != theirs:
            differ.append((number, files.get(name, trust)))
    assert differ == []
