"""The custody in a real case file: `case_validate` takes it, and it tells what the case's records tell."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.casefile.export import Order, export
from ledger.node import Node
from tests.fixtures.cases import CASE, FilledCase, fill_case
from tests.fixtures.nodes import Built, end_chain
from tests.interchange.test_case_uco import validated

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, FilledCase]]:
    directory = built.copy_with_chain(tmp_path_factory.mktemp("custody") / "node")
    node = built.open(directory)
    yield node, fill_case(node)
    node.close()
    end_chain(directory)


def test_the_custody_of_a_case(made: tuple[Node, FilledCase], tmp_path: Path) -> None:
    pytest.importorskip("case_utils")
    node, case = made
    export(node, node.intake.submit, Order(CASE), tmp_path / "case.zip")
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        (tmp_path / "custody.jsonld").write_bytes(archive.read("data/custody.jsonld"))
        items = json.loads(archive.read("case.json"))["items"]
    assert validated(tmp_path / "custody.jsonld")
    graph = json.loads((tmp_path / "custody.jsonld").read_bytes())["@graph"]
    told = {
        (node["uco-core:name"], node["uco-core:description"].split()[1])
        for node in graph
        if node["@type"] == "case-investigation:InvestigativeAction"
    }
    assert {
        ("captured", case.own["photo"]),
        ("derived", case.own["derived"]),
        ("received", case.own["received"]),
    } <= told
    assert {("sealed", item["record_id"]) for item in items} <= told
    exhibits = [node for node in graph if node["@type"] == "case-investigation:ProvenanceRecord"]
    assert [node["case-investigation:exhibitNumber"] for node in exhibits] == [str(item["n"]) for item in items]
