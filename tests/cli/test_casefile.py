"""`yunxi casefile`: export, open, verify, keys; one sentence for what goes wrong; and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.cases import CASE, step
from tests.fixtures.command import Yunxi, made_node

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """A node with a case of three records, one of them with a file; the trust file beside it."""
    directory = tmp_path_factory.mktemp("casefile")
    with made_node(directory, "fire") as yunxi:
        subject = {"matter": "330299-XF-001", "subjects": [{"kind": "licence", "value": "L-1"}]}
        officers = [{"id": "XF0001", "name": "甲一"}, {"id": "XF0002", "name": "乙二"}]
        (directory / "photo.bin").write_bytes(os.urandom(24 << 20))
        put(yunxi, "filed", step("case.filed", 1, cause="占用通道", officers=officers, **subject))
        put(yunxi, "photo", step("note.added", 2, text="x"), "--attach", "photo.bin")
        outcomes = {"decision_number": "1", "outcomes": ["warning"]}
        put(yunxi, "decision", step("decision.made", 3, officers=officers, **outcomes, **subject))
        yunxi.good("trust", "export", "-o", "trust.json")
        yield yunxi


def put(yunxi: Yunxi, name: str, record: dict[str, Any], *more: str) -> None:
    content = json.dumps({"department": "fire"} | record, ensure_ascii=False)
    (yunxi.directory / f"{name}.json").write_text(content, "utf-8")
    yunxi.good("seal", f"{name}.json", *more)


def test_export_and_verify(filled: Yunxi) -> None:
    done = filled.good("casefile", "export", CASE, "-o", "a.zip", "--to", "望澜区人民法院", "--json").json()
    assert (done["items"], done["files"], done["later"], done["department"]) == (3, 1, 0, "fire")
    judged = filled.good("casefile", "verify", "a.zip", "--trust", "trust.json", "--json").json()
    assert "望消立" in json.dumps(judged, ensure_ascii=False)
    assert filled.good("verify", "a.zip", "--trust", "trust.json").out
    data = bytearray((filled.directory / "a.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (filled.directory / "bad.zip").write_bytes(bytes(data))
    assert filled("casefile", "verify", "bad.zip", "--trust", "trust.json").code == 1


def test_a_second_export_says_what_came_later(filled: Yunxi) -> None:
    filled.good("casefile", "export", CASE, "-o", "b1.zip", "--no-media")
    result = filled.good("casefile", "export", CASE, "-o", "b2.zip", "--no-media")
    assert result.out.startswith("Wrote b2.zip: case")
    assert "later and" in result.err


def test_sealed_to_a_court_and_opened_there(filled: Yunxi) -> None:
    secret = {"YUNXI_CASEFILE_PASSPHRASE": "court's own"}
    kid = filled.good("casefile", "keygen", "-o", "court.key", "--public", "court.jwk", "--json", **secret).json()[
        "kid"
    ]
    assert len(kid) == 43
    filled.good("casefile", "export", CASE, "-o", "c.yunxi-sealed", "--for", "court.jwk", "--reveal", "when,decision")
    assert not zipfile.is_zipfile(filled.directory / "c.yunxi-sealed")
    assert filled("casefile", "verify", "c.yunxi-sealed", "--trust", "trust.json").code != 0
    filled.good("casefile", "open", "c.yunxi-sealed", "--key", "court.key", "-o", "c.zip", **secret)
    filled.good("casefile", "verify", "c.zip", "--trust", "trust.json")
    wrong = filled("casefile", "open", "c.yunxi-sealed", "--key", "court.key", "-o", "d.zip", stdin=b"another\n")
    assert (wrong.code, (filled.directory / "d.zip").exists()) == (2, False)
    again = filled("casefile", "keygen", "-o", "court.key", "--public", "other.jwk", **secret)
    assert "there already" in again.sentence()


CALLS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such case": (("export", "无此案", "-o", "x.zip"), 2, "no record of this node carries the case number"),
    "an output that is there": (("export", CASE, "-o", "trust.json"), 2, "there already"),
    "no such directory": (("export", CASE, "-o", "none/x.zip"), 2, "no directory"),
    "a unit that is none": (("export", CASE, "-o", "x.zip", "--reveal", "wehn"), 1, "no unit 'wehn'"),
    "a type that is none": (("export", CASE, "-o", "x.zip", "--reveal", "a.b=when"), 1, "no record type 'a.b'"),
    "a size that is none": (("export", CASE, "-o", "x.zip", "--at", "1000"), 2, "not anchored at size 1,000"),
    "no list": (("export", CASE, "-o", "x.zip", "--list", "none.csv"), 2, "cannot be read"),
    "a list that is none": (("export", CASE, "-o", "x.zip", "--list", "trust.json"), 1, "evidence list"),
    "a key that is none": (("export", CASE, "-o", "x.zip", "--for", "trust.json"), 1, "JWK"),
    "another department": (("export", CASE, "-o", "x.zip", "--department", "health"), 2, "no log of department"),
    "a line break for whom": (("export", CASE, "-o", "x.zip", "--to", "a\nb"), 1, "exported_for"),
    "nothing to open": (("open", "none", "--key", "none", "-o", "x.zip"), 2, "give it on standard input"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_goes_wrong_is_one_sentence(filled: Yunxi, name: str) -> None:
    words, code, sentence = CALLS[name]
    result = filled("casefile", *words)
    assert (result.code, sentence in result.sentence()) == (code, True), result
    assert not (filled.directory / "x.zip").exists()
    assert not list(filled.directory.glob(".x.zip*"))


@pytest.mark.slow
def test_killed_it_leaves_nothing_under_the_name(filled: Yunxi) -> None:
    for number, wanted in enumerate((1, 1 << 20, 16 << 20)):
        process = filled.start("casefile", "export", CASE, "-o", f"killed{number}.zip")
        parts: list[Path] = []
        while process.poll() is None and sum(part.stat().st_size for part in parts) < wanted:
            time.sleep(0.005)
            parts = list(filled.directory.glob(f".killed{number}.zip.*"))
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (filled.directory / f"killed{number}.zip").exists()
    filled.good("casefile", "export", CASE, "-o", "killed0.zip")
    filled.good("casefile", "verify", "killed0.zip", "--trust", "trust.json")
    assert not list(filled.directory.glob(".killed0.zip.*"))  # what the killed one left is gone
