"""`yunxi adapter types`: which members a record type has, as a mapping names them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.frame import HERE, JsonOption, NodeOption, answering, print_json, say

if TYPE_CHECKING:
    from ledger.record_types import RecordType, Schema

commands = typer.Typer()

_OUTERMOST = re.compile(r"[.\[]")
_SET_BY_ADAPTER = ("id", "type", "v", "department", "source", "attachments", "capture", "captured_at", "sealed_at")


@dataclass(frozen=True, slots=True)
class Member:
    """A member as a mapping names it: dots lead into objects, `name[]` is a list, `name[].x` a member of its entries.
    `required` in every record, or in every entry of its list; `beside`: where anything else of its object is there."""

    name: str
    required: bool
    beside: bool
    meaning: str


@commands.command("types")
@answering
def adapter_types(
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="A record type; without it, all.")] = None,
    v: Annotated[int, typer.Option(help="Its version.", min=1)] = 1,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show which record types a mapping can make, or the members of one: what to fill, and with what."""
    from ledger.record_types import load_types

    types = load_types(node_dir)
    if name is None:
        _show_types([each for each in types if not each.by_service], as_json=as_json)
        return
    record_type = types.get(name, v)
    found = list(_members(record_type))
    if as_json:
        print_json({"type": name, "v": v, "members": [asdict(member) for member in found]})
        return
    say(f"{name} v{v}: {record_type.title['zh']} | {record_type.title['en']}")
    width = max(len(member.name) for member in found)
    for member in found:
        sign = "*" if member.required else "+" if member.beside else " "
        say(f"{sign} {member.name:<{width}}  {member.meaning}".rstrip())
    say("* must be there, inside [] in each entry; + must be there where anything beside it is.")
    say("subjects[] are filled by [[subjects]], NAME[] by [[lists.NAME]], everything else under [fields].")
    say("What adapter and intake set themselves is not listed.")


def _show_types(types: list[RecordType], *, as_json: bool) -> None:
    types.sort(key=lambda each: (each.name, each.version))
    if as_json:
        print_json({"types": [{"type": each.name, "v": each.version, "title": dict(each.title)} for each in types]})
        return
    for each in types:
        say(f"{each.name + ' v' + str(each.version):<24} {each.title['zh']} | {each.title['en']}")
    say("Members of one: yunxi adapter types TYPE")


def _members(record_type: RecordType) -> Iterator[Member]:
    from ledger.record_types import BUILT_IN

    envelope = json.loads(BUILT_IN.joinpath("envelope.json").read_text(encoding="utf-8"))
    for member in _inside("", record_type.schema, record_type.schema, envelope):
        if _OUTERMOST.split(member.name)[0] not in _SET_BY_ADAPTER:
            yield member


def _inside(
    prefix: str, schema: Schema, document: Schema, envelope: Schema, *, always: bool = True
) -> Iterator[Member]:
    """The members of an object and of what lies in it, the required ones first. `always`: the object must be there."""
    required = schema.get("required", ())
    for name in sorted(schema.get("properties", {}), key=lambda name: name not in required):
        inner, home = _resolved(schema["properties"][name], document, envelope)
        where, wanted = f"{prefix}{name}", name in required
        entries, home_of_entries = _resolved(inner.get("items", {}), home, envelope)
        if entries.get("properties"):
            yield Member(f"{where}[]", wanted and always, wanted and not always, inner.get("description", ""))
            yield from _inside(f"{where}[].", entries, home_of_entries, envelope)
        elif "properties" in inner:
            yield from _inside(f"{where}.", inner, home, envelope, always=wanted and always)
        else:
            yield Member(where, wanted and always, wanted and not always, _meaning(inner, entries))


def _resolved(schema: Schema, document: Schema, envelope: Schema) -> tuple[Schema, Schema]:
    """What a reference leads to, narrowed by what stands beside it, and the document that it stands in."""
    merged: dict[str, Any] = dict(schema)
    while "$ref" in merged:
        file, _, path = merged.pop("$ref").partition("#/$defs/")
        document = envelope if file else document
        target = dict(document["$defs"][path])
        if "maxLength" in merged and "description" in target:  # what it says of the length is narrowed
            target["description"] = target["description"].partition(",")[0]
        merged = {**target, **merged}
    return merged, document


def _meaning(schema: Schema, entries: Schema) -> str:
    words = schema.get("enum") or entries.get("enum")
    told = f": {', '.join(map(str, words))}" if words else ""
    lists = "a list (`split`): " if entries else ""
    described = str(schema.get("description", ""))
    # of times and days the form says how long they are
    free = "maxLength" in schema and not words and not schema.keys() & {"format", "x-time"}
    length = f", at most {schema['maxLength']} characters" if free and "character" not in described else ""
    return f"{lists}{described}{told}{length}"
