"""Custody as linked data: the CASE 1.4 and UCO 1.4 ontologies in JSON-LD 1.1, as forensic tools read them.

    {"@context": {…}, "@graph": [node …]}      a node a line, one line feed at the end

For each item: the sealed statement as a file with its SHA-256 (the record), each of its files with theirs, a provenance
record with the item's number, and the actions that the record tells of:

    captured    who, with which device, when and where a file came to be     photo.taken, media.captured
    derived     from which file, with which tool                            media.derived
    sealed      department, time; what was there before becomes the record   every item
    disclosed   to which department which records went                      disclosure.made
    received    from which department which records came                    disclosure.received, record.attached
    exported    all of it into the case file; without a time, which the case file's signature says

Node ids are UUIDs (version 5) of what they stand for, so that the same facts always give the same bytes. Members of a
record that are not shown are left out. Nothing here is a proof: it is what the records say, for other tools to read;
what is proven, the verifier says from the records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ONTOLOGIES = {
    "case-investigation": "https://ontology.caseontology.org/case/investigation/",
    "uco-action": "https://ontology.unifiedcyberontology.org/uco/action/",
    "uco-core": "https://ontology.unifiedcyberontology.org/uco/core/",
    "uco-identity": "https://ontology.unifiedcyberontology.org/uco/identity/",
    "uco-location": "https://ontology.unifiedcyberontology.org/uco/location/",
    "uco-observable": "https://ontology.unifiedcyberontology.org/uco/observable/",
    "uco-tool": "https://ontology.unifiedcyberontology.org/uco/tool/",
    "uco-types": "https://ontology.unifiedcyberontology.org/uco/types/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
PREFIX = "urn:yunxi:custody:"
_CAPTURES = ("photo.taken", "media.captured")

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """An attachment: `ordinal` from 1, `sha256` in lower-case hex, `size` in bytes. Whether it was given out does not
    matter here."""

    ordinal: int
    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a case file: its number from 1, its record, and what of the record is shown.

    `leaf`: lower-case hex; `statement_sha256`: of the statement's bytes, None where they are not at hand; `sealed_at`:
    seconds since 1970; `members`: those of all units shown, as they were sealed.
    """

    n: int
    record_id: str
    type: str
    department: str
    leaf: str
    sealed_at: int
    name: str
    statement_sha256: str | None = None
    files: tuple[File, ...] = ()
    members: Mapping[str, Any] = field(default_factory=dict)


def custody_graph(case: str, consortium: str, names: Mapping[str, str], items: Iterable[Item]) -> Iterator[bytes]:
    """The custody of a case's items, a line at a time; joined they are one JSON-LD document in UTF-8.

    `names`: departments' names by id; a department that is not in it is called by its id. Memory: the ids of what was
    written, no content.
    """
    graph = _Graph(consortium, case, names)
    context = {"kb": PREFIX} | ONTOLOGIES
    yield b'{"@context":' + _line(context) + b',"@graph":[\n'
    for item in items:
        for node in graph.item(item):
            yield _line(node) + b",\n"
    for node in graph.closing():
        yield _line(node) + b",\n"
    # last, because it names the actions; it is always there, so no comma dangles
    yield _line(graph.investigation()) + b"\n]}\n"


class _Graph:
    """What was written so far: shared nodes once, and the ids that the investigation names."""

    def __init__(self, consortium: str, case: str, names: Mapping[str, str]) -> None:
        self._root = f"{consortium}\x1f{case}"
        self._consortium, self._case, self._names = consortium, case, names
        self._written: set[str] = set()
        self._later: dict[str, Node] = {}
        self._actions: list[str] = []
        self._exhibits: list[str] = []

    def item(self, item: Item) -> Iterator[Node]:
        """Every node of one item; those that it shares with earlier ones are not repeated."""
        record = self._id("record", item.record_id)
        files = [self._id("file", item.record_id, str(file.ordinal)) for file in item.files]
        yield from self._department(item.department)
        yield from self._once(_record(record, item))
        for iri, file in zip(files, item.files, strict=True):
            yield from self._once(_file(iri, file))
        if item.type in _CAPTURES:
            yield from self._captured(item, files)
        if item.type == "media.derived":
            yield from self._derived(item, files)
        sealed = self._action(item, "sealed", "sealed into the department's log", item.sealed_at)
        sealed |= _refs(object=files, result=[record])
        sealed["uco-action:performer"] = _ref(self._id("department", item.department))
        yield from self._kept(sealed)
        if item.type == "disclosure.made":
            yield from self._passed(item, "disclosed", item.members.get("requester"))
        if item.type == "disclosure.received":
            yield from self._passed(item, "received", item.members.get("owner"))
        if item.type == "record.attached":
            yield from self._passed(item, "received", item.members.get("owner"), [{"id": item.members.get("record")}])
        exhibit = self._id("exhibit", item.record_id)
        self._exhibits.append(exhibit)
        yield _provenance(exhibit, item, [record, *files])

    def closing(self) -> Iterator[Node]:
        """What is named and is no item of its own, and the export; nothing where there is no item."""
        for node in self._later.values():
            yield from self._once(node)
        if not self._exhibits:
            return
        exported = self._id("action", "exported")
        self._actions.append(exported)
        yield (
            _typed(exported, "case-investigation:InvestigativeAction", name="exported")
            | {"uco-core:description": "written into a case file; when, its signature says"}
            | _refs(object=self._exhibits)
        )

    def investigation(self) -> Node:
        """The node that holds all of it together."""
        node = _typed(self._id("investigation"), "case-investigation:Investigation", name=self._case)
        node["uco-core:description"] = f"custody as the records of {self._consortium} tell it"
        return node | _refs("uco-core", object=[*self._actions, *self._exhibits])

    def _captured(self, item: Item, files: list[str]) -> Iterator[Node]:
        capture = item.members.get("capture") or item.members.get("device") or {}
        device = capture.get("device") or capture.get("id")
        action = self._action(item, "captured", "came to be", None)
        action |= _refs(result=files) | _at(item.members.get("captured_at") or item.members.get("occurred_at"))
        action["uco-action:performer"] = _ref(self._id("department", item.department))
        if device:
            tool = self._id("device", device)
            yield from self._once(_typed(tool, "uco-tool:Tool", name=device))
            action |= _refs(instrument=[tool])
        if place := (item.members.get("place") or {}).get("address"):
            location = self._id("place", place)
            yield from self._once(_typed(location, "uco-location:Location", name=place))
            action |= _refs(location=[location])
        for officer in item.members.get("officers") or ():
            person = self._id("officer", item.department, officer["id"])
            yield from self._once(_typed(person, "uco-identity:Person", name=officer["name"]))
            action["uco-action:participant"] = [*action.get("uco-action:participant", []), _ref(person)]
        yield from self._kept(action)

    def _derived(self, item: Item, files: list[str]) -> Iterator[Node]:
        original, tool = item.members.get("original"), item.members.get("tool")
        action = self._action(item, "derived", "made from another file", None)
        action |= _refs(result=files) | _at(item.members.get("occurred_at"))
        action["uco-action:performer"] = _ref(self._id("department", item.department))
        if original:
            source = self._id("file", original["record"], str(original["attachment"]))
            self._mentioned(_content(source, "original", original["sha256"]))
            action |= _refs(object=[source])
        if tool:
            made_with = self._id("tool", tool["name"], tool["version"])
            yield from self._once(_tool(made_with, tool))
            action |= _refs(instrument=[made_with])
        yield from self._kept(action)

    def _passed(self, item: Item, verb: str, other: Any, records: Any = None) -> Iterator[Node]:
        action = self._action(item, verb, f"records were {verb}", None) | _at(item.members.get("occurred_at"))
        action["uco-action:performer"] = _ref(self._id("department", item.department))
        if other:
            yield from self._department(other)
            action["uco-action:participant"] = [_ref(self._id("department", other))]
        passed = []
        for record in records or item.members.get("records") or ():
            if not record.get("id"):
                continue
            iri = self._id("record", record["id"])
            passed.append(iri)
            self._mentioned(_typed(iri, "uco-observable:File", name=record["id"]))
        yield from self._kept(action | _refs(object=passed))

    def _department(self, department: str) -> Iterator[Node]:
        iri, name = self._id("department", department), self._names.get(department, department)
        yield from self._once(_typed(iri, "uco-identity:Organization", name=name))

    def _action(self, item: Item, verb: str, says: str, at: int | None) -> Node:
        iri = self._id("action", verb, item.record_id)
        action = _typed(iri, "case-investigation:InvestigativeAction", name=verb)
        action["uco-core:description"] = f"record {item.record_id} ({item.type}): {says}"
        if at is not None:
            action["uco-action:endTime"] = _moment(datetime.fromtimestamp(at, UTC))
        return action

    def _kept(self, action: Node) -> Iterator[Node]:
        self._actions.append(action["@id"])
        yield action

    def _once(self, node: Node) -> Iterator[Node]:
        if node["@id"] not in self._written:
            self._written.add(node["@id"])
            yield node

    def _mentioned(self, node: Node) -> None:
        # it may come as an item later, and with more
        self._later.setdefault(node["@id"], node)

    def _id(self, kind: str, *parts: str) -> str:
        return f"kb:{kind}-{uuid5(NAMESPACE_URL, chr(0x1F).join((self._root, kind, *parts)))}"


def _record(iri: str, item: Item) -> Node:
    node = _typed(iri, "uco-observable:File", name=item.record_id)
    node["uco-core:description"] = f"sealed statement of type {item.type}; leaf {item.leaf} of the log"
    if item.statement_sha256:
        node["uco-core:hasFacet"] = [_content_facet(iri, item.statement_sha256, None, "application/jwt")]
    return node


def _file(iri: str, file: File) -> Node:
    node = _typed(iri, "uco-observable:File", name=file.name)
    facet = _typed(_part(iri, "file-facet"), "uco-observable:FileFacet") | {"uco-observable:fileName": file.name}
    facet["uco-observable:sizeInBytes"] = file.size
    node["uco-core:hasFacet"] = [facet, _content_facet(iri, file.sha256, file.size, file.media_type)]
    return node


def _content(iri: str, name: str, sha256: str) -> Node:
    node = _typed(iri, "uco-observable:File", name=name)
    return node | {"uco-core:hasFacet": [_content_facet(iri, sha256, None, None)]}


def _content_facet(iri: str, sha256: str, size: int | None, media_type: str | None) -> Node:
    facet = _typed(_part(iri, "content-facet"), "uco-observable:ContentDataFacet")
    if media_type is not None:
        facet["uco-observable:mimeType"] = media_type
    if size is not None:
        facet["uco-observable:sizeInBytes"] = size
    digest = _typed(_part(iri, "hash"), "uco-types:Hash")
    digest["uco-types:hashMethod"] = "SHA256"
    digest["uco-types:hashValue"] = {"@type": "xsd:hexBinary", "@value": sha256}
    return facet | {"uco-observable:hash": [digest]}


def _provenance(iri: str, item: Item, objects: list[str]) -> Node:
    node = _typed(iri, "case-investigation:ProvenanceRecord", name=item.name)
    return node | {"case-investigation:exhibitNumber": str(item.n)} | _refs("uco-core", object=objects)


def _tool(iri: str, tool: Mapping[str, str]) -> Node:
    return _typed(iri, "uco-tool:Tool", name=tool["name"]) | {"uco-tool:version": tool["version"]}


def _part(iri: str, kind: str) -> str:
    return f"kb:{kind}-{uuid5(NAMESPACE_URL, f'{iri}{chr(0x1F)}{kind}')}"


def _typed(iri: str, kind: str, *, name: str | None = None) -> Node:
    node: Node = {"@id": iri, "@type": kind}
    return node if name is None else node | {"uco-core:name": name}


def _refs(prefix: str = "uco-action", **named: list[str]) -> Node:
    return {f"{prefix}:{name}": [_ref(iri) for iri in iris] for name, iris in named.items() if iris}


def _ref(iri: str) -> Node:
    return {"@id": iri}


def _at(text: Any) -> Node:
    """When something happened, as the record says it (RFC 3339 with offset); in UTC, so that it sorts."""
    if not isinstance(text, str):
        return {}
    return {"uco-action:startTime": _moment(datetime.fromisoformat(text).astimezone(UTC))}


def _moment(at: datetime) -> Node:
    return {"@type": "xsd:dateTime", "@value": at.isoformat().replace("+00:00", "Z")}


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
