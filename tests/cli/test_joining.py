"""Three nodes, five departments, one consortium: joined during set-up and after it, by the commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import CouldNotRun
from ledger.formats.sdjwt import parse_statement
from ledger.keys import FileKeyAgent
from ledger.node import Node
from ledger.store.reading import find_entry
from tests.fixtures.command import Result, Yunxi
from tests.fixtures.node_databases import new_database
from tests.fixtures.records import acknowledged, submissions

pytestmark = [pytest.mark.xdist_group("joining"), pytest.mark.slow]

NODES = {"first": ("fire", "health"), "second": ("market", "urban"), "third": ("water",)}
HOSTED = [(node, department) for node, departments in NODES.items() for department in departments]


@dataclass(frozen=True, slots=True)
class Consortium:
    """The command in a directory with the nodes `first`, `second` and `third`; what was said on the way."""

    yunxi: Yunxi
    url: str
    address: str
    said: dict[str, Result]

    @property
    def directory(self) -> Path:
        return self.yunxi.directory

    def open(self, node: str) -> Node:
        return Node.open(self.directory / node)

    def join(self, name: str, *, address: str | None = None, consortium: str = "test.example") -> Result:
        words = ("--chain", self.url, "--engine", "embedded", "--join", address or self.address)
        words += ("--database", new_database())
        return self.yunxi("init", name, "--consortium", consortium, *words)

    def request(self, node: str, department: str, *more: str) -> Result:
        words = ("--name", f"{department}局", "--url", f"http://{node}.test", "-o", f"{department}.json", *more)
        return self.yunxi("department", "request", department, *words, "--node", node)

    def admit(self, department: str, *more: str, node: str = "first") -> Result:
        words = (f"{department}.json", "-o", f"{department}.admission", "--json", *more)
        return self.yunxi("department", "admit", *words, "--node", node)

    def finish(self, node: str, department: str, *admission: str) -> Result:
        return self.yunxi("department", "finish", department, *admission, "--node", node)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    directory = tmp_path_factory.mktemp("joining")
    yunxi = Yunxi(directory)
    yunxi.good("init", "first", "--consortium", "test.example", "--database", new_database())
    for department in NODES["first"]:
        yunxi.good("department", "add", department, "--name", f"{department}局", "--node", "first")
    chain = yunxi.good("chain", "url", "--node", "first", "--json").json()
    made = Consortium(yunxi, chain["url"], chain["consortium"], {})
    # served in the foreground, so that it neither ends when idle nor changes its address
    serving = yunxi.start("chain", "serve", "--node", "first", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert serving.stdout is not None
        made.said["serve"] = Result(0, serving.stdout.readline().decode(), "")
        _second_joins_during_set_up(made)
        _third_joins_by_vote(made)
        for node, department in HOSTED:
            _seal(made, node, department)
        for node in NODES:
            made.said[f"anchor {node}"] = yunxi("anchor", "--node", node, "--json")
        yield made
    finally:
        serving.terminate()
        serving.communicate(timeout=30)


def _second_joins_during_set_up(made: Consortium) -> None:
    made.said["init"] = made.join("second")
    made.said["add"] = made.yunxi("department", "add", "market", "--name", "x", "--node", "second")
    for department in NODES["second"]:
        made.said[f"request {department}"] = made.request("second", department, "--json")
    made.said["finish early"] = made.finish("second", "market")
    made.said["admit elsewhere"] = made.admit("market", node="second")
    for department in NODES["second"]:
        made.said[f"admit {department}"] = made.admit(department)
    made.said["admit again"] = made.admit("urban")
    made.said["finish market"] = made.finish("second", "market", "market.admission")
    made.said["finish urban"] = made.finish("second", "urban")
    made.said["url"] = made.yunxi("department", "url", "fire", "http://first.test/", "--node", "first")


def _third_joins_by_vote(made: Consortium) -> None:
    made.yunxi.good("consortium", "close-setup", "--votes", "2", "--node", "first")
    assert made.join("third").code == 0
    made.said["request water"] = made.request("third", "water", "--json")
    made.said["admit water, nobody"] = made.admit("water")
    made.said["propose"] = made.admit("water", "--as", "market", node="second")
    made.said["propose again"] = made.admit("water", "--as", "fire")
    number = str(made.said["propose"].json()["proposal"])
    made.said["finish unvoted"] = made.finish("third", "water")
    for department in ("fire", "health"):
        made.yunxi.good("consortium", "approve", number, "--as", department, "--node", "first")
    made.yunxi.good("consortium", "execute", number, "--as", "urban", "--node", "second")
    made.said["trust meanwhile"] = made.yunxi("trust", "export", "-o", "meanwhile.json", "--node", "first")
    made.said["admit water"] = made.admit("water", node="second")
    made.said["finish water"] = made.finish("third", "water", "water.admission")
    made.said["url later"] = made.yunxi("department", "url", "water", "https://water.test:8443", "--node", "third")


def _seal(made: Consortium, node: str, department: str) -> None:
    opened = made.open(node)
    taken = acknowledged(opened.intake.submit(department, submissions(0, 3)))
    with opened.database.reading() as connection:
        statement = parse_statement(find_entry(connection, taken[0].record_id).statement)
    made.said[f"record {department}"] = Result(0, taken[0].record_id, "")
    made.said[f"subj {department}"] = Result(0, json.dumps(statement.payload["subj"]), "")
    opened.close()


def test_the_departments_are_members_at_their_addresses(joined: Consortium) -> None:
    for node in NODES:
        opened = joined.open(node)
        found = {d.id: (d.state, d.node_url) for d in opened.connect().consortium.departments()}
        opened.close()
        assert found == {
            "fire": ("admitted", "http://first.test"),
            "health": ("admitted", ""),
            "market": ("admitted", "http://second.test"),
            "urban": ("admitted", "http://second.test"),
            "water": ("admitted", "https://water.test:8443"),
        }


@pytest.mark.parametrize("node", NODES)
def test_every_node_anchors_and_audits_its_own(joined: Consortium, node: str) -> None:
    anchored = joined.said[f"anchor {node}"]
    assert anchored.code == 0
    assert {a["department"]: a["size"] for a in anchored.json()["anchors"]} == dict.fromkeys(NODES[node], 3)
    audit = joined.yunxi("audit", "--node", node, "--json")
    assert audit.code == 0, audit
    assert joined.yunxi("status", "--node", node).code == 0


def test_the_trust_files_are_the_same_but_for_who_runs_what(joined: Consortium) -> None:
    files = []
    for node in NODES:
        joined.yunxi.good("trust", "export", "-o", f"{node}.trust", "--node", node)
        trust = json.loads((joined.directory / f"{node}.trust").read_text())
        for part in (*trust["departments"], *trust["witnesses"]):
            part.pop("operator", None)
        files.append(trust)
    assert files[0] == files[1] == files[2]
    assert len(files[0]["departments"]) == 5


def test_the_same_subject_has_the_same_blind_index_on_every_node(joined: Consortium) -> None:
    indexes = {joined.said[f"subj {department}"].out for _, department in HOSTED}
    assert len(indexes) == 1
    assert json.loads(indexes.pop())


def test_a_record_of_one_node_verifies_with_the_trust_file_of_another(joined: Consortium) -> None:
    record = joined.said["record water"].out
    joined.yunxi.good("trust", "export", "-o", "trust.json", "--node", "first")
    joined.yunxi.good("present", record, "-o", "p.txt", "--node", "third")
    joined.yunxi.good("receipt", record, "-o", "r.txt", "--node", "third")
    assert joined.yunxi("verify", "p.txt", "r.txt", "--trust", "trust.json").code == 0


SAID = {
    "init": (0, "Next: yunxi department request ID"),
    "add": (1, "another node sets the consortium up: ask it to admit market with `yunxi department request"),
    "finish early": (2, "this node has no index key yet"),
    "admit elsewhere": (1, "neither the deployer"),
    "admit again": (0, '"admitted": true'),
    "finish market": (0, "its log is test.example/market"),
    "finish urban": (0, "its log is test.example/urban"),
    "admit water, nobody": (1, "name the department of this node that proposes, with --as"),
    "propose": (0, '"admitted": false'),
    "finish unvoted": (2, "this node has no index key yet"),
    "admit water": (0, '"admitted": true'),
}


@pytest.mark.parametrize("step", SAID)
def test_what_the_steps_say(joined: Consortium, step: str) -> None:
    code, words = SAID[step]
    result = joined.said[step]
    assert result.code == code, result
    assert words in result.out + result.err


def test_who_is_admitted_and_not_finished_yet_stops_no_trust_file(joined: Consortium) -> None:
    assert joined.said["trust meanwhile"].code == 0
    departments = json.loads((joined.directory / "meanwhile.json").read_text())["departments"]
    assert [department["id"] for department in departments] == ["fire", "health", "market", "urban"]


def test_both_sides_read_the_same_fingerprint(joined: Consortium) -> None:
    asked, read = joined.said["request market"].json(), joined.said["admit market"].json()
    assert asked["fingerprint"] == read["fingerprint"]
    assert len(asked["fingerprint"].replace(" ", "")) == 20


def test_proposing_twice_is_one_proposal(joined: Consortium) -> None:
    assert joined.said["propose"].json()["proposal"] == joined.said["propose again"].json()["proposal"]


def _changed(joined: Consortium, source: str, change: Any) -> str:
    members = json.loads((joined.directory / source).read_text())
    change(members)
    (joined.directory / "changed.json").write_text(json.dumps(members))
    return "changed.json"


REQUESTS = {
    "another address": (lambda m: m.update(url="http://evil.test"), "was changed after it was signed"),
    "another governance account": (lambda m: m.update(governor="0x" + "11" * 20), "was changed after it was signed"),
    "another key": (lambda m: m["keys"].update(request="A" * 43), "was changed after it was signed"),
    "another chain": (lambda m: m["chain"].update(id=1), "another chain or consortium"),
    "a signature of zeros": (lambda m: m.update(signature="00" * 65), "ask for"),
    "no signature": (lambda m: m.pop("signature"), "signature must be a text"),
    "an admission": (lambda m: m.update(format="yunxi-department-admission"), "something else"),
    "a newer version": (lambda m: m.update(v=2), "something else"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_changed_request_is_refused(joined: Consortium, case: str) -> None:
    change, words = REQUESTS[case]
    name = _changed(joined, "water.json", change)
    refused = joined.yunxi("department", "admit", name, "--node", "first")
    assert refused.code == 1
    assert words in refused.sentence()


ADMISSIONS = {
    "for another department": (lambda m: m.update(department="urban"), "is for 'urban', not for water"),
    "with another key inside": (lambda m: m.update(index_key="A" * 80), "no member of the consortium signed"),
    "of another chain": (lambda m: m["chain"].update(id=1), "another chain or consortium"),
}


@pytest.mark.parametrize("case", ADMISSIONS)
def test_a_changed_admission_is_refused(joined: Consortium, case: str) -> None:
    change, words = ADMISSIONS[case]
    refused = joined.finish("third", "water", _changed(joined, "water.admission", change))
    assert refused.code == 1
    assert words in refused.sentence()


def test_an_admission_that_a_stranger_signed_is_refused(joined: Consortium) -> None:
    from ledger.joining import ADMISSION, _signed

    members = json.loads((joined.directory / "water.admission").read_text())
    assert members.pop("format") == ADMISSION
    members.pop("signature")
    forged = _signed({"format": ADMISSION, **members}, b"\x01" * 32)
    (joined.directory / "forged.json").write_bytes(forged)
    assert "no member of the consortium signed" in joined.finish("third", "water", "forged.json").sentence()


def test_a_node_with_another_index_key_does_not_take_it(tmp_path: Path) -> None:
    agent = FileKeyAgent.create(tmp_path / "keys")
    agent.take_index_key(agent.index_key())
    with pytest.raises(Exception, match="another index key than the consortium"):
        agent.take_index_key(bytes(32))
    fresh = FileKeyAgent.create(tmp_path / "fresh", joining=True)
    with pytest.raises(CouldNotRun, match="has no index key yet"):
        fresh.index_key()
    other = FileKeyAgent.open(tmp_path / "fresh")
    other.take_index_key(b"\x07" * 32)
    assert fresh.index_key() == b"\x07" * 32


JOINING = {
    "an address without code": ({"address": "0x" + "11" * 20}, "is not the Consortium of this version"),
    "another contract": ({"address": "SharingGrants"}, "is not the Consortium of this version"),
    "no address": ({"address": "0x12"}, "is no address"),
    "another name": ({"consortium": "other.example"}, "have names like test.example/fire"),
}


@pytest.mark.parametrize("case", JOINING)
def test_joining_what_is_not_there_leaves_nothing(joined: Consortium, case: str) -> None:
    changes, words = JOINING[case]
    if changes.get("address") == "SharingGrants":
        opened = joined.open("first")
        changes = {"address": opened.connect().consortium.module("SharingGrants") or ""}
        opened.close()
    refused = joined.join("fourth", **changes)
    assert refused.code == 1
    assert words in refused.sentence()
    assert not (joined.directory / "fourth").exists()


def test_joining_needs_a_chain(joined: Consortium) -> None:
    refused = joined.yunxi("init", "fourth", "--join", joined.address)
    assert (refused.code, "name its URL with --chain" in refused.sentence()) == (2, True)


def test_an_address_that_is_none_and_a_department_of_another_node(joined: Consortium) -> None:
    url = joined.yunxi("department", "url", "water", "ftp://x", "--node", "third")
    assert "is no address of a node" in url.sentence()
    foreign = joined.yunxi("department", "url", "water", "http://x.test", "--node", "first")
    assert "holds no keys of department 'water'" in foreign.sentence()


def test_the_chain_served_in_the_foreground_keeps_its_address(joined: Consortium) -> None:
    assert joined.said["serve"].out == f"The chain answers at {joined.url}\n"
    assert joined.yunxi("chain", "url", "--node", "first").out == f"{joined.url}\n"
    refused = joined.yunxi("chain", "serve", "--node", "third")
    assert (refused.code, "another process's" in refused.sentence()) == (2, True)
