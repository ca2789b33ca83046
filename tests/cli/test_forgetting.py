"""`yunxi forget`, `hold`, `retention` and `shred` as an administrator uses them; and proofs that go on verifying."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import record_file
from tests.fixtures.command import Yunxi, made_node

pytestmark = pytest.mark.xdist_group("cli-forgetting")

BY = ("--by", "XF0001:王建国", "--by", "XF0002:李敏")
WHY = ("--reason", "subject-request", "--basis", "个人信息保护法第四十七条")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yunxi]:
    """A node of these tests' own: what they forget is gone."""
    with made_node(tmp_path_factory.mktemp("forgetting"), "fire") as made:
        (made.directory / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(999))
        yield made


def sealed(own: Yunxi, number: int, *words: str) -> str:
    name = record_file(own.directory, f"r{number}.json", number)
    return str(own.good("seal", name, *words, "--json").json()["record_id"])


def test_a_forgotten_record_still_verifies_and_says_what_is_withheld(own: Yunxi) -> None:
    record_id = sealed(own, 1, "--attach", "photo.png")
    own.good("trust", "export", "-o", "trust.json")
    own.good("receipt", record_id, "-o", "before.tlog-proof")
    done = own.good("forget", record_id, *WHY, *BY, "--json").json()
    assert (done["new"], done["blobs"]) == (True, 1)
    assert not [path for path in (own.directory / "node" / "blobs").rglob("*") if path.is_file()]
    own.good("receipt", record_id, "-o", "after.tlog-proof")
    own.good("present", record_id, "--bare", "-o", "bare.sd-jwt")
    for receipt in ("before.tlog-proof", "after.tlog-proof"):
        report = own.good("verify", "bare.sd-jwt", receipt, "--trust", "trust.json", "--json").json()
        facts = report["files"][0]["facts"]
        assert (report["verdict"], facts["units"]) == ("good", [])
        assert facts["masked"] > 5
    assert "withheld" in own.good("verify", "bare.sd-jwt", "after.tlog-proof", "--trust", "trust.json").out
    shown = own.good("show", record_id).out
    assert f"Record {record_id} was destroyed" in shown
    assert "个人信息保护法第四十七条" in shown
    assert done["by_record"] in shown
    certificate = own.good("show", record_id, "--json").json()["destroyed"]
    assert (certificate["record"], certificate["type"]) == (record_id, "record.destroyed")
    assert "Known already" in own.good("forget", record_id, *WHY, *BY).out
    refused = own("present", record_id, "-o", "no.sd-jwt")
    assert (refused.code, "forgotten" in refused.sentence()) == (1, True)
    audited = own.good("audit", "--json").json()
    assert (audited["good"], audited["logs"][0]["forgotten"]) == (True, 1)


def test_a_hold_keeps_a_record(own: Yunxi) -> None:
    record_id = sealed(own, 2)
    words = ("--record", record_id, "--reason", "行政诉讼", "--by", "XF0001:王建国")
    hold = own.good("hold", "place", "fire", *words, "--json").json()["hold"]
    refused = own("forget", record_id, *WHY, *BY)
    assert refused.code == 1
    assert hold in refused.sentence()
    assert hold in own.good("hold", "list").out
    own.good("hold", "lift", hold, "--reason", "结案", "--by", "XF0001:王建国")
    assert own.good("hold", "list", "--json").json()["holds"] == []
    assert own.good("hold", "list", "--lifted", "--json").json()["holds"][0]["lifted"]
    assert own.good("forget", record_id, *WHY, *BY).out.startswith("Forgot record")


def test_wrong_calls(own: Yunxi) -> None:
    record_id = sealed(own, 3)
    words = ("--reason", "x", "--by", "XF0001:王建国")
    assert "two different officers" in own("forget", record_id, *WHY, "--by", "XF0001:王建国").sentence()
    assert "ID:NAME" in own("forget", record_id, *WHY, "--by", "nobody").sentence()
    assert "name what is held" in own("hold", "place", "fire", *words).sentence()
    assert "no hold" in own("hold", "lift", record_id, *words).sentence()
    own.good("show", record_id)


def test_retention_by_the_node_s_settings(own: Yunxi) -> None:
    settings = own.directory / "node" / "node.toml"
    before = settings.read_text("utf-8")
    assert "everything is kept" in own.good("retention", "show").out
    settings.write_text(before + '\n[retention]\n"disclosure.made" = "2y"\n', "utf-8")
    assert "at least 3 years" in own("retention", "show").sentence()
    settings.write_text(before + '\n[retention]\n"inspection.report" = "3y"\n', "utf-8")
    assert "inspection.report" in own.good("retention", "show").out
    assert own.good("retention", "due").out == "Nothing is due.\n"
    assert own.good("retention", "run", "--json").json() == {"forgotten": 0, "on_hold": [], "blobs_swept": 0}
    settings.write_text(before, "utf-8")


def test_shredding_tells_when_to_come_again(own: Yunxi, tmp_path: Path) -> None:
    record_id = sealed(own, 4)
    first = own.good("shred", "fire", "--json").json()
    assert first["moved"] > 0
    assert first["epochs"] == 1
    assert first["wait"] > 0
    assert "run this again" in own.good("shred", "fire").out
    own.good("present", record_id, "-o", tmp_path / "r.sd-jwt")
    sealed(own, 5)
    assert own.good("audit", "--json").json()["good"]
