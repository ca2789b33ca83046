"""Custody in JSON-LD: `case_validate` (PyPI case-utils, the ontologies' own shapes) says yes, and no to the bad."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.interchange.case_uco import PREFIX, File, Item, custody_graph

RECORDS = [f"01900000-0000-7000-8000-00000000000{n}" for n in range(6)]
DIGEST = "ab" * 32
PHOTO = File(1, "门头.jpg", "image/jpeg", 52_101, DIGEST)


def item(n: int, kind: str, department: str = "fire", files: tuple[File, ...] = (), **members: Any) -> Item:
    return Item(
        n=n,
        record_id=RECORDS[n],
        type=kind,
        department=department,
        leaf="cd" * 32,
        sealed_at=1_767_225_600 + n,
        name=f"证据{n}",
        statement_sha256="ef" * 32,
        files=files,
        members=members,
    )


ITEMS = [
    item(
        1,
        "media.captured",
        files=(PHOTO,),
        capture={"device": "terminal-7", "clock": "measured"},
        captured_at="2026-01-01T08:00:00.250+08:00",
        place={"address": "望京街1号"},
        officers=[{"id": "A-1", "name": "王一"}, {"id": "A-2", "name": "李二"}],
    ),
    item(
        2,
        "media.derived",
        files=(replace(PHOTO, sha256="12" * 32),),
        original={"record": RECORDS[1], "attachment": 1, "sha256": DIGEST},
        tool={"name": "yunxi-blur", "version": "1"},
        occurred_at="2026-01-01T09:00:00+08:00",
    ),
    item(3, "disclosure.made", requester="health", records=[{"id": RECORDS[1]}], occurred_at="2026-01-02T00:00:00Z"),
    item(4, "disclosure.received", "health", owner="fire", records=[{"id": RECORDS[1]}, {"id": RECORDS[0]}]),
    item(5, "record.attached", "health", record=RECORDS[2], owner="fire"),
]


def document(items: Iterable[Item] = ITEMS) -> bytes:
    return b"".join(custody_graph("望消立〔2026〕1号", "望京", {"fire": "消防", "health": "卫健"}, items))


def nodes(data: bytes) -> list[dict[str, Any]]:
    graph: list[dict[str, Any]] = json.loads(data)["@graph"]
    return graph


def actions(data: bytes) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (node["uco-core:name"], node["uco-core:description"].split()[1]): node
        for node in nodes(data)
        if node["@type"] == "case-investigation:InvestigativeAction"
    }


def test_the_same_facts_give_the_same_bytes_and_other_cases_other_ids() -> None:
    assert document() == document()
    other = b"".join(custody_graph("another", "望京", {}, ITEMS))
    assert not {node["@id"] for node in nodes(document())} & {node["@id"] for node in nodes(other)}


def test_every_step_of_custody_is_told() -> None:
    told = actions(document())
    verbs = [verb for verb, _ in told]
    assert verbs.count("sealed") == 5
    assert {*verbs} == {"captured", "derived", "sealed", "disclosed", "received", "exported"}
    captured, derived = told["captured", RECORDS[1]], told["derived", RECORDS[2]]
    assert captured["uco-action:startTime"]["@value"] == "2026-01-01T00:00:00.250000Z"
    assert len(captured["uco-action:participant"]) == 2
    assert derived["uco-action:object"] == captured["uco-action:result"]
    assert told["disclosed", RECORDS[3]]["uco-action:object"] == told["sealed", RECORDS[1]]["uco-action:result"]
    assert "uco-action:endTime" not in next(node for (verb, _), node in told.items() if verb == "exported")


def test_every_id_is_written_once_and_every_reference_leads_to_one() -> None:
    data = document()
    written = [node["@id"] for node in nodes(data)]
    assert len(written) == len(set(written))

    def references(value: Any) -> Iterable[str]:
        if isinstance(value, dict):
            if value.keys() == {"@id"}:
                yield value["@id"]
            for member in value.values():
                yield from references(member)
        if isinstance(value, list):
            for member in value:
                yield from references(member)

    assert set(references(nodes(data))) <= set(written)


def test_what_is_masked_is_left_out() -> None:
    masked = [replace(each, members={}) for each in ITEMS]
    data = document(masked)
    assert "望京街1号".encode() not in data and b"terminal-7" not in data
    assert ("captured", RECORDS[1]) in actions(data)


def test_what_is_named_before_it_comes_keeps_its_digest() -> None:
    attached, foreign = (
        item(1, "record.attached", record=RECORDS[2], owner="health"),
        item(2, "licence.issued", "health"),
    )
    (record,) = (node for node in nodes(document([attached, foreign])) if node.get("uco-core:name") == RECORDS[2])
    assert "uco-core:hasFacet" in record


def test_a_case_without_items() -> None:
    (only,) = nodes(document([]))
    assert only["@type"] == "case-investigation:Investigation"


def validated(path: Path) -> bool:
    command = [Path(sys.executable).with_name("case_validate"), "--built-version", "case-1.4.0", "--allow-info", path]
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0 and "Conforms: True" in done.stdout


def change(find: str, replacement: str) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        assert find.encode() in data
        return data.replace(find.encode(), replacement.encode(), 1)

    return changed


BAD: dict[str, Callable[[bytes], bytes]] = {
    "a time that is none": change("2026-01-01T00:00:00.250000Z", "yesterday"),
    "a digest that is no hex": change(DIGEST, "xyz"),
    "a hash without a method": change('"uco-types:hashMethod":"SHA256",', ""),
    "a performer of no department": change('"@type":"uco-identity:Organization"', '"@type":"uco-types:Hash"'),
    "two exhibit numbers": change('exhibitNumber":"1"', 'exhibitNumber":["1","2"]'),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["good", "masked", "empty", *BAD])
def test_case_validate(tmp_path: Path, case: str) -> None:
    pytest.importorskip("case_utils")
    given = {"masked": [replace(each, members={}) for each in ITEMS], "empty": []}.get(case, ITEMS)
    data = document(given)
    path = tmp_path / "custody.jsonld"
    path.write_bytes(BAD[case](data) if case in BAD else data)
    assert validated(path) == (case not in BAD)


def test_ids_are_of_one_namespace() -> None:
    assert json.loads(document())["@context"]["kb"] == PREFIX
    assert all(node["@id"].startswith("kb:") for node in nodes(document()))
