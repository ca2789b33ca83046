"""Exporting a case file, of any size, in constant memory but for a small object an item.

    1. Ask what can be refused: case, state, keys, trusted time, output.   Die here: nothing happened.
    2. Gather and spool.                                                   Die here: a hidden file stays (`working`).
    3. Write the bag beside the output, sealed to the court if asked for.  Die here: likewise; never under its name.
    4. Seal `casefile.exported`.           Die here: the log says that it was made, and nobody has it.
    5. Give it its name, which nothing had before.

The same state (`at`, and what witnesses, authorities and the chain had said by then) gives the same bytes, but for
signature.jws; what is sealed to a court never is the same twice.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ledger.casefile.bag import BagWriter
from ledger.casefile.contents import EXPORTED, Contents, File, Found, Gathering, find_log, size_of
from ledger.casefile.index import Labels, index_html, write_index_pdf
from ledger.casefile.readme import readme
from ledger.casefile.reveal import Reveal
from ledger.casefile.sealing import seal_case_file
from ledger.casefile.spool import CHUNK_BYTES, Piece, Spool
from ledger.casefile.words import Words
from ledger.casefile.working import give_name, working_files
from ledger.errors import (
    AnchorInvalid,
    CouldNotRun,
    HistoryRefused,
    Malformed,
    PayloadInvalid,
    RecordRefused,
    Refusal,
)
from ledger.formats import casefile as names
from ledger.formats.casefile import CaseAttachment, CaseFile, Decision, Freeze, Gap, Item, TimeToken
from ledger.formats.jwk import kid_of
from ledger.formats.manifest import parse_lines
from ledger.formats.sdjwt import parse_presentation
from ledger.formats.trust import Trust
from ledger.interchange import case_uco
from ledger.keys import Signer
from ledger.node import Node
from ledger.record_types import RecordTypes
from ledger.store.models import anchors
from ledger.store.reading import LogRow, anchored_size
from ledger.submission import Outcome, Refused, Submission
from ledger.timestamps.report import TimeEvidence, require_time, time_evidence
from ledger.trust import export_trust
from ledger.verifier_html import html_page

SubmitFor = Callable[[str, Sequence[Submission]], list[Outcome]]
"""`Intake.submit` or what stands before it."""

Checkpoint = tuple[str, int]
MAX_FOR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported. `department` None: the only one that has the case. `at`: the size of an anchored
    checkpoint; None: the newest. `words`: the evidence list, by record id. `media`: with attachments. `exported_for`: a
    line, as given. `recipient`: seal it to that key. `account`, `request`: who asked, for the record."""

    case: str
    department: str | None = None
    at: int | None = None
    reveal: Reveal = field(default_factory=Reveal)
    words: Mapping[str, Words] = field(default_factory=dict)
    media: bool = True
    exported_for: str | None = None
    recipient: X25519PublicKey | None = None
    account: str | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made. `record_id`: of the record that says so. `later`: entries of the case that the log holds past
    `log_size` and that are therefore not in it. `sha256`: of the tag manifest, in hex. `octets`: of the file."""

    record_id: str
    department: str
    case: str
    log_size: int
    items: int
    files: int
    gaps: int
    later: int
    octets: int
    sha256: str


def export(node: Node, submit: SubmitFor, order: Order, target: Path) -> Exported:
    """Writes the case file `target`; durable on return.

    Raises CouldNotRun (no such case, nothing anchored yet, a state that is not anchored, trusted time behind, the
    output is there), Refusal for an evidence list that names a record which is not in the case, KeyRefused where the
    department's keys are elsewhere, PayloadInvalid where what is stored is not what was sealed, ChainUnreachable,
    StorageFailed where the disk is full.
    """
    # 1
    _check_line(order.exported_for)
    if target.exists():
        raise CouldNotRun(f"{target} is there already: a case file is never written over; name another file")
    if not target.parent.is_dir():
        raise CouldNotRun(f"there is no directory {target.parent}: make it first")
    log, at, later = _state_of(node, order)
    require_time(node, log.department)
    trust = export_trust(node)
    # the key that is in force now, which this trust file has: one that is rotated in later would be unknown to it
    now = int(node.clock())
    signer = node.agent.statement_signer(log.department, now)
    trust.statement_key(signer.kid)
    with working_files(target) as new:
        # 2, 3
        making = _Making(node, order, log, at, trust, Spool(new()), signer, now)
        finished = new()
        digest = making.write(finished)
        if order.recipient is not None:
            plain, finished = finished, new()
            finished.writelines(seal_case_file(order.recipient, _chunks(plain)))
        finished.flush()
        os.fsync(finished.fileno())
        octets = os.fstat(finished.fileno()).st_size
        # 4
        record_id = _record(node, submit, order, log, at, making.case, digest)
        # 5
        give_name(Path(finished.name), target)
    case = making.case
    files = sum(1 for item in case.items for each in item.attachments if each.path is not None)
    return Exported(
        record_id, log.department, order.case, at, len(case.items), files, len(case.gaps), later, octets, digest
    )


def _check_line(text: str | None) -> None:
    """What the record and the case file both can hold."""
    if text is not None and not (0 < len(text) <= MAX_FOR_CHARS and text.isprintable() and not text[0].isspace()):
        raise Malformed("exported_for", f"must be one line of 1 to {MAX_FOR_CHARS} characters")


def _state_of(node: Node, order: Order) -> tuple[LogRow, int, int]:
    with node.database.reading() as connection:
        log = find_log(connection, order.case, order.department)
        newest = anchored_size(connection, log.number)
        at = newest if order.at is None else order.at
        if newest == 0:
            raise CouldNotRun(f"nothing of {log.department} is anchored yet: run `yunxi anchor`, then export again")
        here = (anchors.c.log == log.number) & (anchors.c.size == at)
        if connection.execute(anchors.select().where(here)).first() is None:
            raise CouldNotRun(
                f"the log of {log.department} was not anchored at size {at:,}: the newest that was is {newest:,}"
            )
        if not size_of(connection, log.number, order.case, at):
            raise CouldNotRun(
                f"no record of case {order.case} is anchored up to size {at:,}: run `yunxi anchor`, then export again"
            )
        return log, at, size_of(connection, log.number, order.case, log.size, at)


class _Making:
    """One case file on its way. `case` is there once `write` is done."""

    case: CaseFile

    def __init__(
        self, node: Node, order: Order, log: LogRow, at: int, trust: Trust, spool: Spool, signer: Signer, now: int
    ) -> None:
        self._node = node
        self._order = order
        self._log = log
        self._at = at
        self._trust = trust
        self._spool = spool
        self._signer = signer
        self._now = now
        self._evidence: dict[Checkpoint, bytes] = {}
        self._times: dict[Checkpoint, list[TimeEvidence]] = {}
        self._manifests: dict[int, bytes] = {}

    def write(self, target: BinaryIO) -> str:
        """The whole bag, with its signature; hands back the digest of its tag manifest."""
        order = self._order
        gathering = Gathering(self._node, self._log, order.case, self._at, order.reveal, self._spool, media=order.media)
        contents = gathering.gather()
        _check_words(order.words, contents)
        gaps = [*self._collect(contents), *self._stamped(contents)]
        self._manifests = dict(self._read_manifests(contents))
        self.case = self._case_file(contents, gaps)
        CaseFile.parse(self.case.serialize())  # whatever a record says, no file is made that nobody can read
        bag = BagWriter(target)
        self._add_payload(bag, contents)
        organisation = self._trust.department(self._log.department).name["zh"]
        page = html_page().encode()
        kid, sign = self._signer.kid, self._signer.sign
        return bag.finish(
            self.case, organisation, readme=readme(self.case), page=page, kid=kid, iat=self._now, sign=sign
        )

    # -- evidence of chain and time --

    def _collect(self, contents: Contents) -> Iterator[Gap]:
        """Anchor evidence for each checkpoint; gaps where there is none to be had."""
        from ledger.chain.contracts import EvidenceLogContract, department_bytes
        from ledger.chain.evidence import collect

        node = self._node
        wanted = {each.checkpoint: each.anchor for each in contents.found if each.checkpoint and each.anchor}
        if node.settings.chain.engine == "embedded":
            zh, en = (
                "区块链由制作部门的节点单独运行，没有其他节点的确认，不能独立证明存证时间",
                "the chain runs on the department's own node alone: no validator confirms when records were sealed",
            )
            yield Gap("chain-embedded", None, None, zh, en)
            return
        link = node.connect() if wanted else None
        for (department, size), hint in sorted(wanted.items()):
            assert link is not None
            contract = EvidenceLogContract(link.client, hint.contract)
            try:
                found = collect(contract, department_bytes(department), size, node.settings.chain.engine)
            except (AnchorInvalid, HistoryRefused):
                zh, en = f"日志第{size}条处无锚定证据", f"no evidence is to be had of the anchor at size {size:,}"
                yield Gap("no-anchor-evidence", department, None, zh, en)
                continue
            self._evidence[department, size] = found.serialize()

    def _stamped(self, contents: Contents) -> Iterator[Gap]:
        own = {
            each.checkpoint for each in contents.found if each.checkpoint and each.department == self._log.department
        }
        with self._node.database.reading() as connection:
            for department, size in sorted(own):
                self._times[department, size] = time_evidence(connection, self._log.number, size)[: names.MAX_TIMES]
        without = sum(1 for each in own if not self._times[each])
        if without and self._node.settings.timestamps.authorities:
            zh, en = f"{without}个检查点无可信时间戳", f"{without:,} checkpoints have no trusted time stamp"
            yield Gap("no-time-stamp", self._log.department, None, zh, en)

    def _read_manifests(self, contents: Contents) -> Iterator[tuple[int, bytes]]:
        for n, each in contents.decisions:
            ordinal = each.files[-1].ordinal
            with self._node.database.reading() as connection:
                yield n, b"".join(self._node.reader.attachment(connection, each.record_id, ordinal))

    # -- case.json --

    def _case_file(self, contents: Contents, gaps: list[Gap]) -> CaseFile:
        decisions = tuple(self._decision(n, each) for n, each in contents.decisions)
        freeze = self._freeze(contents)
        return CaseFile(
            case=self._order.case,
            consortium=self._node.settings.consortium,
            department=self._log.department,
            exported_for=self._order.exported_for,
            log_size=self._at,
            volumes=1,  # until the index is made
            items=tuple(self._item(n, each, freeze) for n, each in enumerate(contents.found, 1)),
            decisions=decisions,
            gaps=(*contents.gaps, *gaps),
        )

    def _freeze(self, contents: Contents) -> Freeze | None:
        """What the first decision froze; None where none did."""
        if not contents.decisions:
            return None
        lines = frozenset(parse_lines(self._manifests[contents.decisions[0][0]].splitlines(keepends=True)))
        frozen = {line.index for line in lines}
        own = [each for each in contents.found if each.department == self._log.department and each.index in frozen]
        return Freeze(self._log.department, lines, frozenset(named for each in own for named in each.named))

    def _item(self, n: int, each: Found, freeze: Freeze | None) -> Item:
        words = self._order.words.get(each.record_id, Words())
        item = Item(
            n=n,
            role=names.role_of(each.type),
            record_id=each.record_id,
            type=each.type,
            v=each.v,
            department=each.department,
            index=each.index,
            leaf=each.leaf.hex(),
            sealed_at=each.sealed_at,
            before_decision=None,
            amends=each.amends,
            name=words.name or _title(self._node.types, each),
            source=words.source or each.source,
            purpose=words.purpose,
            date=words.date or each.date,
            page=words.page,
            record=names.record_path(n),
            receipt=None if each.receipt is None else names.receipt_path(n),
            anchor=names.anchor_path(*each.checkpoint) if each.checkpoint in self._evidence else None,
            times=tuple(token for token, _ in self._tokens(each.checkpoint)),
            attachments=tuple(_attachment(n, file) for file in each.files),
            forgotten=each.forgotten,
        )
        return item if freeze is None else replace(item, before_decision=freeze.holds(item))

    def _tokens(self, checkpoint: Checkpoint | None) -> Iterator[tuple[TimeToken, TimeEvidence]]:
        if checkpoint is None:
            return
        for k, each in enumerate(self._times.get(checkpoint, []), 1):
            renewals = None if each.renewals is None else names.renewals_path(*checkpoint, k)
            yield TimeToken(each.authority, names.token_path(*checkpoint, k), renewals), each

    def _decision(self, n: int, each: Found) -> Decision:
        assert each.manifest is not None  # only such are among the decisions
        members = each.manifest
        return Decision(
            n, names.manifest_path(n), members["count"], members["sha256"], members["size"], members["root"]
        )

    # -- the payload, in the order of its paths --

    def _add_payload(self, bag: BagWriter, contents: Contents) -> None:
        files = {names.anchor_path(*checkpoint): data for checkpoint, data in self._evidence.items()}
        _add_all(bag, files)
        for n, each in enumerate(contents.found, 1):
            self._add_attachments(bag, n, each)
        custody = self._spool.put(self._custody(contents))
        bag.add(names.CUSTODY, self._spool.read(custody), custody.size)
        labels = Labels.of(self._node.types, self._trust)
        first, *others = self._spool.write(lambda volumes: write_index_pdf(volumes, self.case, labels))
        self.case = replace(self.case, volumes=1 + len(others))
        for k, volume in enumerate(others, 2):
            bag.add(names.index_path(k), self._spool.read(volume), volume.size)
        bag.add_bytes(names.INDEX_HTML, index_html(self.case, labels))
        bag.add(names.INDEX_PDF, self._spool.read(first), first.size)
        _add_all(bag, {names.manifest_path(n): text for n, text in self._manifests.items()})
        self._add_pieces(bag, {n: each.receipt for n, each in enumerate(contents.found, 1)}, names.receipt_path)
        self._add_pieces(bag, {n: each.presentation for n, each in enumerate(contents.found, 1)}, names.record_path)
        times: dict[str, bytes] = {}
        for checkpoint in self._times:
            for token, each_time in self._tokens(checkpoint):
                times[token.token] = each_time.token
                if token.renewals is not None and each_time.renewals is not None:
                    times[token.renewals] = each_time.renewals.serialize()
        _add_all(bag, times)
        bag.add_bytes(names.TRUST, self._trust.serialize())

    def _add_attachments(self, bag: BagWriter, n: int, each: Found) -> None:
        for file in each.files:
            if not file.given:
                continue
            with self._node.database.reading() as connection:
                pieces = self._node.reader.attachment(connection, each.record_id, file.ordinal)
            digest = bag.add(names.attachment_path(n, file.ordinal, file.media_type), pieces, file.size)
            if digest != file.sha256:
                raise PayloadInvalid(
                    f"attachment {file.ordinal} of record {each.record_id} is not the file that was sealed: "
                    "run `yunxi audit`"
                )

    def _add_pieces(self, bag: BagWriter, pieces: Mapping[int, Piece | None], path_of: Callable[[int], str]) -> None:
        for n, piece in pieces.items():
            if piece is not None:
                bag.add(path_of(n), self._spool.read(piece), piece.size)

    def _custody(self, contents: Contents) -> Iterator[bytes]:
        departments = {each.id: each.name["zh"] for each in self._trust.departments}
        items = (self._custody_item(n, each) for n, each in enumerate(contents.found, 1))
        return case_uco.custody_graph(self._order.case, self._node.settings.consortium, departments, items)

    def _custody_item(self, n: int, each: Found) -> case_uco.Item:
        opened = parse_presentation(self._spool.get(each.presentation))
        units = [d for d in opened.disclosures if not d.unit.startswith("attachment-")]
        return case_uco.Item(
            n=n,
            record_id=each.record_id,
            type=each.type,
            department=each.department,
            leaf=each.leaf.hex(),
            sealed_at=each.sealed_at,
            name=self.case.items[n - 1].name,
            statement_sha256=hashlib.sha256(opened.statement.ascii).hexdigest(),
            files=tuple(case_uco.File(f.ordinal, f.name, f.media_type, f.size, f.sha256) for f in each.files),
            members={name: value for unit in units for name, value in unit.members.items()},
        )


def _add_all(bag: BagWriter, files: Mapping[str, bytes]) -> None:
    for path in sorted(files):
        bag.add_bytes(path, files[path])


def _attachment(n: int, file: File) -> CaseAttachment:
    path = names.attachment_path(n, file.ordinal, file.media_type) if file.given else None
    return CaseAttachment(file.ordinal, file.name, file.media_type, file.size, file.sha256, path)


def _title(types: RecordTypes, each: Found) -> str:
    try:
        title = types.get(each.type, each.v).title
    except RecordRefused:  # another department's own type
        return each.type
    return f"{title['zh']} {title['en']}"


def _check_words(words: Mapping[str, Words], contents: Contents) -> None:
    strangers = sorted(words.keys() - {each.record_id for each in contents.found})
    if strangers:
        raise Refusal(f"the evidence list names record {strangers[0][:64]!r}, which is not in the case file")


def _record(node: Node, submit: SubmitFor, order: Order, log: LogRow, at: int, case: CaseFile, digest: str) -> str:
    record = {
        "type": EXPORTED,
        "v": 1,
        "case": order.case,
        "occurred_at": _instant(node.clock()),
        "log_size": at,
        "items": len(case.items),
        "media": order.media,
        "revealed": list(dict.fromkeys(order.reveal.texts)),
        "sha256": digest,
        "exported_for": order.exported_for,
        "recipient": None if order.recipient is None else kid_of(order.recipient),
        "account": order.account,
        "request": order.request,
    }
    content = {name: value for name, value in record.items() if value is not None}
    submission = Submission(f"casefile/{secrets.token_hex(16)}", content, by_service=True)
    outcome = submit(log.department, [submission])[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome.record_id


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
