"""What belongs into a case file: every entry of the case in the department's log up to a state of it, and the records
of other departments that it received for the case; with the gaps that the records themselves show.

Gathering reads each record once and spools what will be written: presentation and receipt. In memory stays one small
object an item. Nothing here is verified: what is stored wrongly shows when the case file is verified, or in the audit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from ledger.casefile.reveal import Reveal
from ledger.casefile.spool import Piece, Spool
from ledger.casefile.words import is_date, is_line
from ledger.disclosures import MADE, RECEIVED, REFUSED
from ledger.errors import CouldNotRun, PayloadInvalid, SealedElsewhere
from ledger.formats.casefile import DECISION, MAX_ITEMS, Gap, Named, amends_of, named_records
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.encoding import b64url_decode
from ledger.formats.manifest import NAME, UNIT
from ledger.formats.merkle import leaf_hash
from ledger.formats.note import Note
from ledger.formats.receipt import AnchorHint, decode_extra
from ledger.formats.sdjwt import parse_presentation, parse_statement
from ledger.formats.tlogproof import TlogProof
from ledger.node import Node
from ledger.receipts import make_receipts
from ledger.records import unit_of
from ledger.store.models import case_entries, position_of
from ledger.store.reading import EntryRow, LogRow, read_logs, read_positions

MISSING, ATTACHED, FILED = "participant.missing", "record.attached", "case.filed"
EXPORTED = "casefile.exported"
_ROWS = 100
_SECONDS_AN_HOUR = 3600
_PAGES = (RECEIVED, MADE)
"""Their attachments are pages of presentations, which stand in the case file as items of their own."""


_STATES = {
    "waiting": ("未能取得其数据：尚未答复", "its records did not arrive: it has not answered yet"),
    "unreachable": ("未能取得其数据：联系不上其系统", "its records did not arrive: its system cannot be reached"),
    "damaged": ("未能取得其数据：收到的有损坏", "its records did not arrive: what came was damaged"),
}


@dataclass(frozen=True, slots=True)
class File:
    """An attachment that a shown unit names; `given`: its bytes go into the case file."""

    ordinal: int
    name: str
    media_type: str
    size: int
    sha256: str
    given: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A record on its way into the case file. `checkpoint`: department and size of what its receipt is under, with the
    anchor that the receipt names. `manifest`: the member of a decision that froze."""

    department: str
    index: int
    record_id: str
    type: str
    v: int
    leaf: bytes
    sealed_at: int
    amends: str | None
    presentation: Piece
    receipt: Piece | None
    checkpoint: tuple[str, int] | None
    anchor: AnchorHint | None
    files: tuple[File, ...]
    named: tuple[Named, ...]
    date: str | None
    source: str | None
    forgotten: bool
    manifest: Mapping[str, Any] | None


@dataclass(slots=True)
class Contents:
    """What was gathered: own records by index, then foreign ones by department and index, and what is missing."""

    found: list[Found] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def decisions(self) -> list[tuple[int, Found]]:
        """The decisions that froze, each with its number as an item, from 1."""
        return [(n, each) for n, each in enumerate(self.found, 1) if each.manifest is not None]


def find_log(connection: Connection, case: str, department: str | None) -> LogRow:
    """The log that holds the case. Raises CouldNotRun: no such department, no such case, or several departments have a
    case of that number and none is named."""
    found = read_logs(connection, department)
    if department is not None and not found:
        raise CouldNotRun(f"there is no log of department {department!r} on this node: see `yunxi status`")
    having = [log for log in found if size_of(connection, log.number, case, log.size)]
    if not having:
        raise CouldNotRun(
            f"no record of this node carries the case number {case[:100]!r}: compare the number, sign for sign"
        )
    if len(having) > 1:
        names = ", ".join(log.department for log in having)
        raise CouldNotRun(f"several departments have a case {case!r} ({names}): name one with --department")
    return having[0]


def size_of(connection: Connection, log: int, case: str, before: int, start: int = 0) -> int:
    """How many entries of the case stand in a log from index `start` up to, not with, `before`."""
    span = case_entries.c.position.between(position_of(log, start), position_of(log, before) - 1)
    here = (case_entries.c.log == log) & (case_entries.c.case == case) & span
    return connection.scalar(select(func.count()).select_from(case_entries).where(here)) or 0


class Gathering:
    """One case of one log up to a size of it."""

    def __init__(self, node: Node, log: LogRow, case: str, at: int, reveal: Reveal, spool: Spool, *, media: bool):
        self._node = node
        self._log = log
        self._case = case
        self._at = at
        self._reveal = reveal
        self._spool = spool
        self._media = media
        self._contents = Contents()
        self._foreign: dict[tuple[str, str], Found] = {}
        self._most: dict[tuple[str, str], int] = {}
        self._attached: dict[str, str] = {}
        self._taking_part: set[str] = set()
        self._heard: set[str] = set()
        self._states: dict[str, Gap] = {}

    def gather(self) -> Contents:
        """Reads everything. Raises Refusal for a payload that does not open, CouldNotRun for too many items."""
        contents, count = self._contents, 0
        for rows in self._rows():
            receipts = self._receipts([row.index for row in rows])
            count += len(rows)
            if count > MAX_ITEMS:
                raise CouldNotRun(f"a case file holds at most {MAX_ITEMS:,} records: this case has more")
            with self._node.database.reading() as connection:
                for row, receipt in zip(rows, receipts, strict=True):
                    contents.found.append(self._own(connection, row, receipt))
        contents.found += sorted(self._foreign.values(), key=lambda each: (each.department, each.index))
        if len(contents.found) > MAX_ITEMS:
            raise CouldNotRun(f"a case file holds at most {MAX_ITEMS:,} records: this case has more")
        self._close_gaps()
        return contents

    # -- the department's own --

    def _rows(self) -> Iterator[list[EntryRow]]:
        number, after = self._log.number, position_of(self._log.number, 0) - 1
        here = (case_entries.c.log == number) & (case_entries.c.case == self._case)
        query = select(case_entries.c.position).where(here).order_by(case_entries.c.position).limit(_ROWS)
        while True:
            span = (case_entries.c.position > after) & (case_entries.c.position < position_of(number, self._at))
            with self._node.database.reading() as connection:
                positions = list(connection.scalars(query.where(span)))
                rows = read_positions(connection, positions)
            if len(rows) != len(positions):
                raise PayloadInvalid(f"an entry of case {self._case} is missing from the log: run `yunxi audit`")
            if not rows:
                return
            yield rows
            after = positions[-1]

    def _receipts(self, indexes: Sequence[int]) -> list[TlogProof]:
        node = self._node
        within = node.settings.timestamps.stop_after_hours * _SECONDS_AN_HOUR
        with node.database.writing() as connection:
            return make_receipts(
                connection,
                node.agent,
                self._log,
                indexes,
                int(node.clock()),
                node.settings.policy,
                upto=self._at,
                stamped_within=within if node.settings.timestamps.authorities else None,
            )

    def _own(self, connection: Connection, row: EntryRow, receipt: TlogProof) -> Found:
        statement = parse_statement(row.statement)
        forgotten = row.wrapped_key is None and row.payload == b""
        texts: list[bytes] = []
        if forgotten:
            self._gap(
                "forgotten",
                row.record_id,
                "该记录已依法销毁，仅余存在证明",
                "this record was destroyed; its proof stays",
            )
        else:
            try:
                texts = self._node.reader.texts(connection, row, self._log.department)
            except SealedElsewhere:
                self._gap(
                    "sealed-elsewhere",
                    row.record_id,
                    "该记录由终端加密，内容未附",
                    "sealed at a terminal; not opened here",
                )
        units = _units(texts)
        if texts:
            self._learn(connection, statement.type, row.record_id, units)
        shown = {unit for unit in units if self._shows(statement.type, unit, units[unit])}
        kept = [text for text in texts if unit_of(text) in shown]
        self._note_withheld(statement.type, row.record_id, units, shown)
        return self._found(
            self._log.department,
            row.index,
            statement.payload,
            row.statement,
            b"~".join([row.statement, *kept, b""]),
            receipt,
            {unit: members for unit, members in units.items() if unit in shown},
            forgotten=forgotten,
            own=True,
        )

    def _shows(self, record_type: str, unit: str, members: Mapping[str, Any]) -> bool:
        frozen = record_type == DECISION and unit.startswith("attachment-") and members.get("name") == NAME
        return frozen or self._reveal.shows(record_type, unit)

    def _found(
        self,
        department: str,
        index: int,
        claims: Mapping[str, Any],
        statement: bytes,
        presentation: bytes,
        receipt: TlogProof | None,
        shown: Mapping[str, Mapping[str, Any]],
        *,
        forgotten: bool,
        own: bool,
    ) -> Found:
        hint, checkpoint = None, None
        if receipt is not None:
            hint = None if receipt.extra is None else decode_extra(receipt.extra)[0]
            checkpoint = (department, Checkpoint.parse(Note.parse(receipt.checkpoint).text).size)
        manifest = shown.get(UNIT, {}).get("manifest") if own and claims["type"] == DECISION else None
        given = own and self._media and claims["type"] not in _PAGES
        return Found(
            department=department,
            index=index,
            record_id=claims["jti"],
            type=claims["type"],
            v=claims["v"],
            leaf=leaf_hash(statement),
            sealed_at=claims["iat"],
            amends=amends_of(claims.get("amends")),
            presentation=self._spool.put([presentation]),
            receipt=None if receipt is None else self._spool.put([receipt.serialize()]),
            checkpoint=checkpoint,
            anchor=hint,
            files=tuple(_files(shown, given=given, frozen=manifest is not None)),
            named=tuple(named_records(claims["type"], shown)),
            date=_date(shown.get("when", {}).get("occurred_at")),
            source=_system(shown.get("source", {}).get("source")),
            forgotten=forgotten,
            manifest=manifest,
        )

    # -- what other departments gave --

    def _learn(self, connection: Connection, kind: str, record_id: str, units: Mapping[str, Mapping[str, Any]]) -> None:
        """What a record says of other departments: shown or not, it is what is looked for."""
        members = {name: value for inside in units.values() for name, value in inside.items()}
        if kind == RECEIVED:
            self._heard.add(members["owner"])
            self._states.pop(members["owner"], None)
            self._receive(connection, record_id, members)
        elif kind == ATTACHED and members["owner"] != self._log.department:
            self._attached[members["record"]] = members["owner"]
        elif kind == FILED:
            self._taking_part = set(members.get("participants", ())) - {self._log.department}
        elif kind == MISSING:
            self._state(
                members["participant"],
                "participant-missing",
                *_STATES.get(members["state"], ("未能取得其数据", "its records did not arrive")),
                members,
            )
        elif kind == REFUSED and members["role"] == "requester" and "owner" in members:
            self._state(
                members["owner"],
                "participant-refused",
                "其数据被拒绝提供或者被拒收",
                "what it gave, or would not give, was refused",
                members,
            )

    def _state(self, department: str, kind: str, zh: str, en: str, members: Mapping[str, Any]) -> None:
        code = members.get("code", "unknown")
        self._heard.add(department)
        self._states[department] = Gap(
            kind, department, None, f"{department}：{zh}（原因代码 {code}）", f"{department}: {en} (code {code})"
        )

    def _receive(self, connection: Connection, record_id: str, members: Mapping[str, Any]) -> None:
        pages = self._node.reader.attachment(connection, record_id, 1)
        presentations = b"".join(pages).split(b"\n")
        receipts = orjson.loads(b"".join(self._node.reader.attachment(connection, record_id, 2)))
        for listed, presentation, receipt in zip(members["records"], presentations, receipts, strict=True):
            key, most = (members["owner"], listed["id"]), len(listed["units"])
            if members["owner"] != self._log.department and most >= self._most.get(key, 0):  # received again with more
                self._most[key] = most
                self._foreign[key] = self._theirs(members["owner"], listed["index"], presentation, receipt.encode())

    def _theirs(self, owner: str, index: int, presentation: bytes, receipt: bytes) -> Found:
        opened = parse_presentation(presentation)
        shown = {
            each.unit: each
            for each in opened.disclosures
            if self._reveal.shows(opened.statement.type, each.unit) and _is_sayable(each.unit, each.members)
        }
        return self._found(
            owner,
            index,
            opened.statement.payload,
            opened.statement.ascii,
            b"~".join([opened.statement.ascii, *(each.text.encode() for each in shown.values()), b""]),
            TlogProof.parse(receipt),
            {unit: each.members for unit, each in shown.items()},
            forgotten=False,
            own=False,
        )

    # -- gaps --

    def _gap(self, kind: str, record_id: str | None, zh: str, en: str, department: str | None = None) -> None:
        self._contents.gaps.append(Gap(kind, department, record_id, zh, en))

    def _note_withheld(
        self, kind: str, record_id: str, units: Mapping[str, Mapping[str, Any]], shown: set[str]
    ) -> None:
        for unit, members in units.items():
            hidden = unit not in shown or not self._media
            if unit.startswith("attachment-") and hidden and kind not in _PAGES and members["name"] != NAME:
                number = unit.removeprefix("attachment-")
                self._gap(
                    "attachment-withheld",
                    record_id,
                    f"附件{number}未随卷提供",
                    f"attachment {number} is not in the file",
                )

    def _close_gaps(self) -> None:
        contents = self._contents
        contents.gaps += [self._states[department] for department in sorted(self._states)]
        for department in sorted(self._taking_part - self._heard):
            zh, en = (
                f"{department}：无其提供或拒绝的记录",
                f"{department}: no record says that it gave or refused anything",
            )
            self._gap("participant-silent", None, zh, en, department)
        held = {each.record_id for each in contents.found}
        for record_id, owner in sorted(self._attached.items()):
            if record_id not in held:
                self._gap(
                    "foreign-not-held",
                    record_id,
                    f"{owner}的记录未取得内容",
                    f"a record of {owner} was never received",
                    owner,
                )
        for each in contents.found:
            if each.department != self._log.department:
                self._note_foreign(each)
        if not any(each.type == FILED for each in contents.found):
            self._gap("no-filing", None, "日志中没有本案立案记录", "the log has no record of the case being filed")
        for each in contents.found:
            if each.type == DECISION and each.department == self._log.department and each.manifest is None:
                zh, en = "该决定未固定证据清单", "this decision froze no manifest, or it cannot be shown"
                self._gap("decision-open", each.record_id, zh, en)

    def _note_foreign(self, each: Found) -> None:
        if each.anchor is None:
            zh, en = "取得时尚未锚定", "it was not anchored yet when it was received"
            self._gap("not-anchored", each.record_id, zh, en, each.department)
        for file in each.files:
            zh, en = f"附件{file.ordinal}未取得", f"attachment {file.ordinal} was not received"
            self._gap("attachment-not-held", each.record_id, zh, en, each.department)


def _units(texts: Iterable[bytes]) -> dict[str, dict[str, Any]]:
    decoded = [orjson.loads(b64url_decode(text.decode("ascii"), "disclosure")) for text in texts]
    return {unit: members for _, unit, members in decoded}


def _date(occurred: object) -> str | None:
    """The day of a record's time; another department's record may hold anything there."""
    return occurred[:10] if isinstance(occurred, str) and is_date(occurred[:10]) else None


def _system(source: object) -> str | None:
    said = source.get("system") if isinstance(source, dict) else None
    return said if isinstance(said, str) and is_line(said) else None


def _is_sayable(unit: str, members: Mapping[str, Any]) -> bool:
    """Whether case.json can repeat what a unit says. Of another department's attachment it may not be able to; then the
    unit is withheld, so that nobody's record can spoil the file."""
    if not unit.startswith("attachment-"):
        return True
    number = unit.removeprefix("attachment-")
    numbered = number.isascii() and number.isdecimal() and number == str(int(number)) and 1 <= int(number) <= 99
    return (
        numbered and is_line(members["name"]) and is_line(members["media_type"]) and len(members["media_type"]) <= 200
    )


def _files(shown: Mapping[str, Mapping[str, Any]], *, given: bool, frozen: bool) -> Iterator[File]:
    numbered = sorted(
        (int(unit.removeprefix("attachment-")), members)
        for unit, members in shown.items()
        if unit.startswith("attachment-")
    )
    for ordinal, members in numbered:
        # a frozen manifest has its own place in the case file
        here = given and not (frozen and members["name"] == NAME)
        yield File(ordinal, members["name"], members["media_type"], members["size"], members["sha256"], here)
