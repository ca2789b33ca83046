"""What a case file shows: which disclosure units of which record types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.errors import RecordRefused
from ledger.formats.casefile import DECISION
from ledger.formats.manifest import UNIT
from ledger.record_types import RecordTypes

ALL, NONE, DEFAULT = "all", "none", "default"
FILES = "attachments"
"""Stands for every unit `attachment-N`: what files there are, and the files themselves."""

_ALWAYS = {
    DECISION: frozenset({UNIT}),
    "disclosure.received": frozenset({"owner", "records"}),
    "record.attached": frozenset({"record"}),
}
"""Without these a verifier could not say what existed before the decision."""

_GUARDED = frozenset({("complaint.received", "complainant")})
"""Who complained is shown to nobody who was not meant to see it: these are asked for by name, or by `all`."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Which units are shown. `units` None: all of them, but who complained unless `all` was said. `by_type`: another
    choice for records of a type. `texts`: as it was asked for, for the record of the export."""

    units: frozenset[str] | None = None
    by_type: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    texts: tuple[str, ...] = (DEFAULT,)

    @staticmethod
    def parse(texts: Sequence[str], types: RecordTypes) -> Reveal:
        """Reads any number of `all`, `UNIT,UNIT…` for every type, and `TYPE=UNIT,UNIT…`, `TYPE=all`, `TYPE=none`.

        Where nothing is said for every type, all is shown of the others but who complained. Raises RecordRefused for a
        type (`unknown-type`) or a unit (`unknown-unit`) that no record type has.
        """
        general: set[str] | None = None
        by_type: dict[str, frozenset[str] | None] = {}
        for text in texts:
            name, equals, units = text.rpartition("=")
            if equals:
                by_type[name] = _units(units, _units_of(types, name), f"records of type {name} have")
            elif text != ALL:
                known = {unit for kind in types for unit in kind.units}
                general = (general or set()) | (_units(text, known, "records have") or set())
        shown = None if general is None or ALL in texts else frozenset(general)
        return Reveal(shown, by_type, tuple(texts) or (DEFAULT,))

    def shows(self, record_type: str, unit: str) -> bool:
        """Whether this unit of such a record is shown."""
        if unit in _ALWAYS.get(record_type, ()):
            return True
        chosen = self.by_type.get(record_type, self.units)
        if chosen is None and (record_type, unit) in _GUARDED:
            return ALL in self.texts or record_type in self.by_type
        return chosen is None or (FILES if unit.startswith("attachment-") else unit) in chosen


def _units_of(types: RecordTypes, name: str) -> set[str]:
    found = {unit for kind in types if kind.name == name for unit in kind.units}
    if not found:
        raise RecordRefused(
            "unknown-type", f"no record type {name[:64]!r}: `yunxi adapter types` shows which there are"
        )
    return found


def _units(text: str, known: Collection[str], owner: str) -> frozenset[str] | None:
    if text in (ALL, NONE):
        return None if text == ALL else frozenset()
    units = {unit.strip() for unit in text.split(",")}
    for unit in sorted(units - {FILES}):
        if unit not in known:
            raise RecordRefused("unknown-unit", f"{owner} no unit {unit[:64]!r}; there are {', '.join(sorted(known))}")
    return frozenset(units)
