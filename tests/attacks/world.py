"""A node with one of everything that can be forged: extractions, a decided case, holds, a forgotten record, a feed,
a list of matters, a terminal; anchored, and with records behind the newest anchor. And what a forger does to a copy.

The forger has the database, the files, the blobs and every key of the departments hosted there, and seals around the
intake whatever they like. The chain they share with everybody.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection

from cli.auditing import add_projections
from ledger.anchor import Anchorer
from ledger.attachments import StoredBlob, attachment_context
from ledger.audit import NodeAudit, Options, audit_nodes
from ledger.crypto.blind import content_key, content_mark
from ledger.crypto.stream import seal_stream
from ledger.enrolment import Request
from ledger.feeds import chain_next, chain_start, report_key
from ledger.forgetting import Forgetting
from ledger.holds import Holds
from ledger.keys import Signer
from ledger.node import Node
from ledger.record_types import BUILT_IN, CLEAR
from ledger.seal import Sealer
from ledger.sequencer import Arrival, Sequencer, lock_head
from ledger.store.models import position_of
from ledger.store.reading import find_entry
from ledger.submission import AttachmentSource, Submission, draw_record_id
from ledger.terminals import enrol, revoke
from tests.fixtures.cases import MATTER, OFFICERS, PHOTO, step
from tests.fixtures.exchange import LEAD, OTHER, OWNER, Exchange, exchange, reopened, until
from tests.fixtures.matters import publish_matter
from tests.fixtures.nodes import Built, Rows, end_chain
from tests.fixtures.records import COMPANY, acknowledged, report

CASE, HELD_CASE = "望消立〔2026〕7号", "望消立〔2026〕8号"
FEED = "shops"
TERMINAL, LOST_TERMINAL = "pda-07", "pda-08"
OWN_TYPE = "shop.visited"
OWN_RECORDS = 2
NAMED = 3
"""Records of `fire` behind the newest anchor."""


@dataclass(frozen=True, slots=True)
class World:
    """A node as it lies on the disk, and where in the log of `fire` things stand, by name. See `make_world`."""

    built: Built
    at: Mapping[str, int]

    def index(self, name: str) -> int:
        return self.at[name]


def make_world(base: Path) -> World:
    """Makes the node; takes some ten seconds. End its chain with `end_chain(base / "node")`."""
    import shutil

    from ledger.chain import embedded
    from tests.fixtures.node_databases import copy_database

    with exchange(base / "node", automatic=True) as opened:
        node = opened.site.node
        agent = node.agent
        publish_matter(node.database, node.intake, node.clock(), date(2020, 1, 1))
        opened.submit(30)
        opened.grant()
        number = opened.inspect()
        until(lambda: 0 < _count(opened, OWNER, "disclosure.made") == _count(opened, LEAD, "disclosure.received"))
    write_own_type(base / "node")
    # without its workers from here on: what is sealed below matches the inspection, and pages of it could be under way
    with reopened(Node.open(base / "node"), automatic=False) as opened:
        node = opened.site.node
        assert opened.ask(opened.request(number, OTHER) | {"owner": OTHER}).status_code != 200  # which is on record
        at = _fill(node)
        Anchorer(node).round()
        opened.submit(NAMED, prefix="late")
        opened.site.projector.catch_up()
    end_chain(base / "node")
    with Node.open(base / "node").database.reading() as connection:
        at |= {name: find_entry(connection, record).index for name, record in at.items()}
    shutil.copytree(base / "node", base / "pristine")
    copy_database(base / "pristine")
    embedded.ensure_running(base / "node" / "chain")
    return World(Built(base / "node", base / "pristine", agent, []), at)


def _count(opened: Exchange, department: str, kind: str) -> int:
    return len(opened.records(department, kind))


def _fill(node: Node) -> dict[str, Any]:
    """What is not extraction. Record ids by name."""
    at: dict[str, Any] = {}

    def take(name: str, submission: Submission) -> None:
        (taken,) = acknowledged(node.intake.submit(OWNER, [submission]))
        at[name] = taken.record_id

    subject = {"matter": MATTER, "subjects": [COMPANY], "officers": OFFICERS}
    photo = AttachmentSource(PHOTO, "photo.png", "image/png")
    take("filed", Submission("filed", step("case.filed", 1, CASE, cause="占用消防车通道", **subject)))
    take("photo", Submission("photo", step("photo.taken", 2, CASE, caption="通道被占用"), (photo,)))
    take("other photo", Submission("photo2", step("photo.taken", 2, CASE, caption="另一张"), (photo,)))
    decided = {"decision_number": "望消罚〔2026〕7号", "outcomes": ["fine"], "fine_fen": 500_000, "facts": "占用。"}
    take("decision", Submission("decision", step("decision.made", 3, CASE, **decided, **subject)))
    take("after", Submission("after", step("note.added", 4, CASE, text="补交。")))
    take("held", Submission("held", step("note.added", 4, HELD_CASE, text="保全。")))
    take("forgotten", Submission("forgotten", report(900)))
    holds = Holds(node.intake, node.clock)
    at["hold"] = holds.place(OWNER, "case", HELD_CASE, "court", OFFICERS)
    forgetting = Forgetting(node.database, node.blobs, node.intake, node.reader, node.clock)
    at["certificate"] = forgetting.forget(at["forgotten"], "court-order", "某法院", OFFICERS).by_record
    for seq in (1, 2):
        at[f"report {seq}"] = _report(node, seq)
    request = Request(OWNER, TERMINAL, _ed25519(), _ed25519(), secrets.token_bytes(32))
    recipient = X25519PrivateKey.generate().public_key()
    enrol(node, request, "0" * 20, recipient, "http://127.0.0.1:1", 30)
    request = Request(OWNER, LOST_TERMINAL, _ed25519(), _ed25519(), secrets.token_bytes(32))
    enrol(node, request, "0" * 20, recipient, "http://127.0.0.1:1", 30)
    revoke(node, OWNER, LOST_TERMINAL)
    for number in range(OWN_RECORDS):
        visit = {"type": OWN_TYPE, "v": 1, "occurred_at": "2026-03-04T09:15:00+08:00", "text": "来访。", "visitors": 2}
        take(f"visit {number}", Submission(f"visit {number}", visit))
    return at


def write_own_type(directory: Path, change: Callable[[dict[str, Any]], None] = lambda schema: None) -> None:
    """The file of the node's own record type: a note with a number of visitors."""
    schema = orjson.loads((BUILT_IN / "note.added.v1.json").read_bytes())
    schema["properties"]["type"] = {"const": OWN_TYPE}
    schema["properties"]["visitors"] = {"type": "integer", "minimum": 0, "maximum": 1000}
    schema["x-units"]["visitors"] = ["visitors"]
    schema["x-unit-titles"]["visitors"] = {"zh": "人数", "en": "Visitors"}
    change(schema)
    path = directory / "types" / f"{OWN_TYPE}.v1.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(schema))


def _ed25519() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def _report(node: Node, seq: int) -> str:
    """Three rows of the feed and its report number `seq`; the report's id."""
    batch = [Submission(f"{FEED}/{n}", report(1000 + n)) for n in range(3 * seq - 3, 3 * seq)]
    taken = acknowledged(node.intake.submit(OWNER, batch))
    (said,) = acknowledged(node.intake.submit(OWNER, [feed_report(seq, taken, node.clock())]))
    return said.record_id


_digests: dict[int, bytes] = {0: chain_start(OWNER, FEED)}
_ends: dict[int, int] = {}
_read_until: dict[int, str] = {}


def feed_report(seq: int, taken: Sequence[Any], now: float, due: float = 86_400) -> Submission:
    """Report number `seq` of the feed, on what was taken since the one before."""
    digest = _digests[seq - 1]
    for each in taken:
        digest = chain_next(digest, each.record_id, each.key)
    _digests[seq], _ends[seq] = digest, taken[-1].index + 1
    counts = {"read": len(taken), "sealed": len(taken), "known": 0, "quarantined": 0, "probes": 0, "late": 0}
    counts["back_dated"] = 0
    since = _read_until.get(seq - 1, _time(now - 10))  # a second may have begun between two reports
    _read_until[seq] = _time(now + seq - 9)
    record = {
        "type": "feed.report", "v": 1, "occurred_at": _read_until[seq],
        "source": {"system": "shops", "mapping": FEED, "version": "1"}, "feed": FEED, "seq": seq,
        "since": since, "reached_end": True, "next_due": _time(now + due), "counts": counts,
        "totals": {name: seq * count for name, count in counts.items()}, "reasons": [], "in_quarantine": 0,
        "parts": [], "further_parts": 0, "log_from": _ends.get(seq - 1, taken[0].index), "log_to": _ends[seq],
        "log_rows": len(taken), "digest": digest.hex(),
    }  # fmt: skip
    return Submission(report_key(FEED, seq), record, by_service=True)


def _time(now: float) -> str:
    return datetime.fromtimestamp(int(now), UTC).isoformat()


# ---- the forger --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forger:
    """Who holds a copy of the node: its rows, files and keys."""

    world: World
    directory: Path
    rows: Rows

    def open(self, clock: Callable[[], float] = time.time) -> Node:
        return self.world.built.open(self.directory, clock)

    def position(self, name: str | int, log: int | None = None) -> int:
        """Where a record stands, by its name or its index; in the log of `fire` unless said otherwise."""
        index = name if isinstance(name, int) else self.world.at[name]
        return position_of(self.number(OWNER) if log is None else log, index)

    def number(self, department: str) -> int:
        return int(self.rows.get("SELECT log FROM logs WHERE department = ?", department))

    def find(self, department: str, kind: str) -> int:
        """The position of the first record of a type in a department's log."""
        query = "SELECT position, statement FROM entries JOIN logs USING (log) WHERE department = ? ORDER BY position"
        wanted = f'"type":"{kind}"'.encode()
        from ledger.formats.encoding import b64url_decode

        return next(
            int(position)
            for position, statement in self.rows.all(query, department)
            if wanted in b64url_decode(bytes(statement).split(b".")[1].decode(), "payload")
        )

    def audit(self, clock: Callable[[], float] = time.time, **options: Any) -> NodeAudit:
        node = self.open(clock)
        try:
            found = audit_nodes([node], options=Options(**options))
            add_projections([node], found)
            return found
        finally:
            node.close()

    def seal(
        self,
        record: dict[str, Any],
        department: str = OWNER,
        *,
        key: str | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
        change: Callable[[dict[str, Any]], dict[str, Any]] = lambda claimed: claimed,
        raw: Callable[[list[bytes]], list[bytes]] = lambda texts: texts,
        signer: Signer | None = None,
        beside: Callable[[Connection, int], None] = lambda connection, position: None,
        clock: Callable[[], float] = time.time,
    ) -> int:
        """Seals and appends a record around the intake: no schema, no rules, the real keys. Its index.

        `change` makes of the record the one that the clear claims (and blind indexes) are taken from, `raw` of the
        disclosures those that are sealed.
        """
        node = self.open(clock)
        record = {"id": draw_record_id(clock()), "v": 1, "department": department, **record}
        with node.database.writing() as connection:
            head = lock_head(connection, department)
            kek = node.keks.current(connection, head.number, department)
            mine = signer or node.agent.statement_signer(department)
            sealer = _Sealer(department, mine, kek, node.agent.index_key())
            sealer.change, sealer.raw = change, raw
            data_key = sealer.draw_data_key()
            if files:
                described = [{"name": name, "media_type": "text/plain", **_facts(data)} for name, data in files.items()]
                record["attachments"] = [*record.get("attachments", ()), *described]
            sealed = sealer.seal(_all_units(record), record, int(clock()), data_key)
            blobs = tuple(
                StoredBlob(node.blobs.put(seal_stream(data_key, [data], attachment_context(record["id"], n))))
                for n, data in enumerate(files.values(), 1)
            )
            content = {name: value for name, value in record.items() if name not in ("id", "source")}
            if record["type"] == "decision.made":
                content.pop("manifest", None)
                content.pop("attachments", None)
            mark_key = content_key(node.agent.index_key(), department)
            mark = content_mark(mark_key, orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
            position = position_of(head.number, head.size)
            beside(connection, position)
            arrival = Arrival(sealed, key or f"forged{head.size}", mark, blobs)
            Sequencer().append(connection, head, [arrival], int(clock() * 1000))
        node.close()
        return head.size


class _Sealer(Sealer):
    change: Callable[[dict[str, Any]], dict[str, Any]]
    raw: Callable[[list[bytes]], list[bytes]]

    def _disclose(self, units: list[tuple[str, dict[str, Any]]]) -> bytes:
        return b"~".join([*self.raw(super()._disclose(units).split(b"~")[:-1]), b""])

    def _claims(self, record: dict[str, Any], issued_at: int, disclosures: list[bytes]) -> dict[str, Any]:
        return super()._claims(self.change(dict(record)), issued_at, disclosures)


def _facts(data: bytes) -> dict[str, Any]:
    import hashlib

    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _all_units(record: dict[str, Any]) -> Any:
    """Units as the type has them, all others in one of their own."""
    from ledger.errors import RecordRefused
    from tests.fixtures.parts import TYPES

    try:
        units = dict(TYPES.get(record["type"], record["v"]).units)
    except RecordRefused:
        units = {}
    known = {name for names in units.values() for name in names}
    rest = tuple(name for name in record if name not in known and name not in (*CLEAR, "attachments"))
    return SimpleNamespace(units=units | ({"other": rest} if rest else {}))
