"""`yunxi terminal` as people use it: from the first key to a record that a court's verifier accepts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.command import Result, Yunxi, made_node
from tests.fixtures.terminals import finding

pytestmark = pytest.mark.xdist_group("cli-terminal")

RECIPIENT = {"YUNXI_RECIPIENT_PASSPHRASE": "recipient passphrase"}
PINS = b"314159\n271828\n"


class Hands:
    """Somebody who carries files and codes between a node, a terminal in `terminal` and a department."""

    def __init__(self, node: Yunxi, terminal: str = "pda") -> None:
        self.yunxi = node
        self.field = Yunxi(node.directory, YUNXI_TERMINAL=terminal)

    def enrol(self, name: str) -> None:
        """Makes the terminal, and has it and its officers taken by `fire`, whose recipient key is there."""
        terminal, request, enrolment = self.field.environ["YUNXI_TERMINAL"], f"{name}-request.json", f"{name}.json"
        made = self.yunxi.good(
            "terminal", "create", terminal, "--department", "fire", "--name", name, "-o", request, "--json"
        ).json()
        self.yunxi.good(
            "terminal", "enroll", request, "--recipient", "recipient.key.pub", "--code", made["code"], "-o", enrolment
        )
        self.field.good("terminal", "accept", enrolment)
        for officer, pin in (("XF0001", b"314159\n"), ("XF0002", b"271828\n")):
            assert self.field("terminal", "officer", officer, "--name", "某", stdin=pin).code == 0

    def seal(self, number: int, *words: str) -> Result:
        record = self.yunxi.directory / f"finding-{number}.json"
        record.write_text(json.dumps(finding(number)), "utf-8")
        confirm = ("--confirm", "XF0001", "--confirm", "XF0002")
        return self.field("terminal", "seal", record.name, *confirm, *words, "--json", stdin=PINS)


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with made_node(tmp_path_factory.mktemp("terminals"), "fire") as node:
        node.good("terminal", "recipient", "create", "-o", "recipient.key", "--department", "fire", **RECIPIENT)
        made = Hands(node)
        made.enrol("pda-07")
        yield made


def test_from_the_field_to_the_verifier(hands: Hands) -> None:
    node, directory = hands.yunxi, hands.yunxi.directory
    (directory / "photo.png").write_bytes(os.urandom(50_000))
    sealed = hands.seal(1, "--attach", "photo.png", "--captured-at", "2026-03-02T09:15:20+08:00").json()
    assert hands.seal(1, "--attach", "photo.png").json()["record_id"] == sealed["record_id"]
    assert hands.field.good("terminal", "status", "--json").json()["waiting"] == 1
    submitted = hands.field.good("terminal", "submit", "--node", "node", "--json").json()
    assert (submitted["acknowledged"], submitted["waiting"], submitted["problem"]) == (1, 0, None)
    node.good("anchor")
    record = sealed["record_id"]

    # the node has it, proves it, and cannot read it
    for words in (("show", record), ("present", record, "-o", "no.sd-jwt")):
        refused = node(*words)
        assert refused.code == 1
        assert "open it with `yunxi terminal open`" in refused.sentence()
    audit = node.good("audit", "--json").json()
    (log,) = audit["logs"]
    assert (audit["good"], log["payloads"], log["sealed_elsewhere"]) == (True, 0, log["records"])
    lent = node.good("audit", "--json", "--recipient-key", "recipient.key", **RECIPIENT).json()
    (log,) = lent["logs"]
    assert (lent["good"], log["payloads"], log["sealed_elsewhere"]) == (True, log["records"], 0)

    # the department opens it elsewhere, and a court's verifier accepts it
    node.good("terminal", "export", record, "-o", "sealed.zip")
    (directory / "out").mkdir()
    elsewhere = Yunxi(directory, YUNXI_NODE="nowhere")
    opened = elsewhere.good(
        "terminal", "open", "sealed.zip", "--key", "recipient.key", "-o", "full.sd-jwt", "--attachments", "out",
        "--json",
        **RECIPIENT,
    ).json()  # fmt: skip
    assert (directory / opened["attachments"][0]).read_bytes() == (directory / "photo.png").read_bytes()
    masked = ("terminal", "open", record, "--key", "recipient.key", "-o", "masked.sd-jwt", "--disclose", "result")
    node.good(*masked, **RECIPIENT)
    node.good("receipt", record, "-o", "receipt.tlog-proof")
    node.good("trust", "export", "-o", "trust.json")
    for file in ("full.sd-jwt", "masked.sd-jwt"):
        verified = node.good("verify", file, "receipt.tlog-proof", "--trust", "trust.json", "--json").json()
        assert "observation" not in json.dumps(verified) or file == "full.sd-jwt"

    # the delays, by whose clock
    shown = node.good("terminal", "delays", record, "--json").json()
    assert (shown["opened"], shown["captured_at"]) == (False, None)
    assert shown["sealed_at"] <= shown["acknowledged_at"] + 1
    assert shown["anchored_at"] is not None
    whole = node.good("terminal", "delays", record, "--key", "recipient.key", "--json", **RECIPIENT).json()
    assert whole["captured_at"] == 1772414120.0
    assert whole["capture"]["confirmed_by"] == ["XF0001", "XF0002"]
    assert "captured" in node.good("terminal", "delays", record).out


def test_a_wrong_code_enrols_nobody(hands: Hands) -> None:
    node = hands.yunxi
    node.good("terminal", "create", "other", "--department", "fire", "--name", "pda-08", "-o", "other.json")
    words = ("terminal", "enroll", "other.json", "--recipient", "recipient.key.pub", "-o", "x.json", "--code")
    refused = node(*words, "0" * 20)
    assert refused.code == 1
    assert "the code is not the one" in refused.sentence()
    assert node(*words, "short").code == 1
    listed = node.good("terminal", "list", "--json").json()["terminals"]
    assert "pda-08" not in {terminal["name"] for terminal in listed}


def test_an_enrolment_is_for_its_terminal_only(hands: Hands) -> None:
    hands.yunxi.good("terminal", "create", "third", "--department", "fire", "--name", "pda-09", "-o", "third.json")
    refused = hands.yunxi("terminal", "accept", "pda-07.json", "--terminal", "third")
    assert refused.code == 1
    assert "was not made for this terminal" in refused.sentence()


def test_one_officer_seals_no_finding(hands: Hands) -> None:
    record = hands.yunxi.directory / "one.json"
    record.write_text(json.dumps(finding(50)), "utf-8")
    refused = hands.field("terminal", "seal", record.name, "--confirm", "XF0001", stdin=b"314159\n")
    assert refused.code == 1
    assert "needs 2 officers" in refused.sentence()


def test_the_nodes_own_key_still_rotates_beside_terminals(hands: Hands) -> None:
    rotated = hands.yunxi.good("department", "rotate", "fire", "--use", "statement", "--json").json()
    listed = hands.yunxi.good("terminal", "list", "--json").json()["terminals"]
    assert rotated["old"] not in {terminal["kid"] for terminal in listed}


def test_a_network_that_is_not_there_is_said_and_costs_nothing(hands: Hands) -> None:
    assert hands.seal(60).code == 0
    result = hands.field("terminal", "submit", "--json")
    assert result.code == 2
    answer = result.json()
    assert (answer["waiting"], answer["problem"]["code"]) == (1, "could-not-run")
    assert hands.field.good("terminal", "submit", "--node", "node", "--json").json()["acknowledged"] == 1


@pytest.mark.slow
def test_a_revoked_terminal_is_refused_and_its_records_stay_proven(hands: Hands) -> None:
    node, lost = hands.yunxi, Hands(hands.yunxi, "lost")
    lost.enrol("pda-70")
    assert lost.seal(70).code == 0
    assert lost.field.good("terminal", "submit", "--node", "node", "--json").json()["acknowledged"] == 1
    assert lost.seal(71).code == 0
    node.good("terminal", "revoke", "pda-70", "--department", "fire")
    node.good("terminal", "revoke", "pda-70", "--department", "fire")
    result = lost.field("terminal", "submit", "--node", "node", "--json")
    assert result.code == 1
    assert result.json()["kept_refused"][0]["reason"] == "revoked"
    assert lost.field("terminal", "status").code == 1
    node.good("anchor")
    assert node.good("audit", "--json").json()["good"]


def test_a_damaged_export_and_a_wrong_key_are_named(hands: Hands, tmp_path: Path) -> None:
    node, directory = hands.yunxi, hands.yunxi.directory
    sealed = hands.seal(80).json()
    hands.field.good("terminal", "submit", "--node", "node")
    node.good("terminal", "export", sealed["record_id"], "-o", "whole.zip")
    node.good("terminal", "recipient", "create", "-o", "other.key", "--department", "fire", **RECIPIENT)
    wrong = node("terminal", "open", "whole.zip", "--key", "other.key", "-o", "x", **RECIPIENT)
    assert "another recipient key" in wrong.sentence()
    locked = node("terminal", "open", "whole.zip", "--key", "recipient.key", "-o", "x", YUNXI_RECIPIENT_PASSPHRASE="no")
    assert locked.code == 2
    (directory / "broken.zip").write_bytes((directory / "whole.zip").read_bytes()[:-200])
    broken = node("terminal", "open", "broken.zip", "--key", "recipient.key", "-o", "x", **RECIPIENT)
    assert "not a file that" in broken.sentence()
    again = node("terminal", "recipient", "create", "-o", "recipient.key", "--department", "fire", **RECIPIENT)
    assert "never written over" in again.sentence()


def test_a_photo_is_sealed_with_its_facts_and_a_thumbnail(hands: Hands) -> None:
    directory = hands.yunxi.directory
    Image.new("RGB", (800, 600), "red").save(directory / "scene.jpg")
    record = {"department": "fire", "matter": "fire-safety", "occurred_at": "2026-03-02T09:15:20+08:00"}
    (directory / "scene.json").write_text(json.dumps(record), "utf-8")
    sealed = hands.field("terminal", "seal", "scene.json", "--media", "scene.jpg", "--json").json()
    assert not hands.field("terminal", "seal", "scene.json", "--media", "scene.jpg", "--json").json()["new"]
    Image.new("RGB", (800, 600), "blue").save(directory / "other.jpg")
    assert hands.field("terminal", "seal", "scene.json", "--media", "other.jpg", "--json").json()["new"]
    assert hands.field.good("terminal", "submit", "--node", "node", "--json").json()["waiting"] == 0
    hands.yunxi.good("terminal", "export", sealed["record_id"], "-o", "scene.export")
    refused = hands.yunxi("show", sealed["record_id"])
    assert refused.code == 1, "the node has facts and thumbnail, and cannot read them"
