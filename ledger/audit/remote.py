"""A log audited over the network, as C2SP tlog-tiles, by somebody who has its URL and the chain, and not its content.

1. The newest checkpoint is signed by the log's key in the chain's registry; its cosignatures are good.
2. The chain holds no more of the log than the checkpoint covers: an older state is not served for the newest.
3. Every tile of level 0, or the drawn ones; where statements may be read, each is its leaf, and signed by a statement
   key of the department at a time within that key's interval.
4. The roots recomputed from the tiles are the checkpoint's, and the chain's at every size that was anchored: what is
   served today continues everything that ever was anchored. Tiles above level 0 are those that follow.
5. Where statements may be read, the receipts of some anchored records, drawn by the seed: each verifies as whoever was
   given it would verify it, is of the entry that it is asked for, and its anchor is the chain's.
6. What is served at the end continues what was served at the beginning.

The node is a stranger: an answer is bounded in bytes and seconds, comes from the place that was asked and in the form
that it should have. An answer that does not come is no finding (CouldNotRun); one that is wrong is.

Statements show types, numbers, blind indexes and the times of sealing, never content. Nothing is said of what lies in
the vault: only its own node can open that.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.audit.chain import Anchored, AnchoredRoots, ChainRoots, LogKeys
from ledger.audit.findings import LogReport
from ledger.audit.node import Begin, NodeAudit
from ledger.audit.remote_state import Kept, Place, RemoteState
from ledger.audit.sample import MAX_OLD_SIZES, draw, some_of
from ledger.audit.statements import StatementReader
from ledger.audit.stretch import LATE_S, dated_back
from ledger.audit.trusted import check_trust
from ledger.chain.contracts import Department
from ledger.disclosures import APART_S
from ledger.errors import ConsistencyInvalid, CouldNotRun, Malformed, NotProven, Refusal, YunxiError
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.formats.note import Note
from ledger.formats.tiles import (
    TILE_WIDTH,
    Edge,
    TileWrite,
    TreeView,
    consistency_path,
    decode_bundle,
    entries_path,
    hashes_of,
    tile_path,
    tree_root,
)
from ledger.formats.trust import Trust
from ledger.http_signatures import Target, sign_request
from ledger.keys import Signer
from ledger.node import Node
from ledger.store.reading import LogRow
from ledger.trust import export_trust
from ledger.verify import Verifier
from ledger.verify.control import outside_hands

TIMEOUT_S = 30.0
"""For connecting, and for each piece of an answer."""
ANSWER_S = 120.0
"""For a whole answer, however small its pieces."""
RECEIPTS = 32
"""How many receipts of a log are asked for."""
KEEP_TILES = 256
"""After so many tiles the memory is written: a stretch of the local audit."""
_FORMS = ("application/octet-stream", "text/plain")
MAX_ANSWER_BYTES = 17 << 20
"""An entry bundle has up to 256 entries of 64 KiB."""

_CLOSED = (401, 403)


class NotServed(NotProven):
    """The node answers, and does not give what its own checkpoint covers."""


class _Withheld(NotProven):
    """A receipt that whoever asks may see does not come."""


@dataclass(frozen=True, slots=True)
class LogUrl:
    """One log behind its prefix, over a client that knows where and who asks. Fetches are checked for their length
    only."""

    client: httpx.Client
    department: str

    def checkpoint(self) -> bytes | None:
        """The newest note; None where the node has no such log, or no checkpoint of it yet."""
        answer = self._ask("checkpoint")
        return None if answer.status_code == 404 else _content(answer)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """See `formats.tiles.TileReader`. Raises NotServed, CouldNotRun."""
        path = tile_path(level, index, width)
        data = _content(self._ask(path))
        if len(data) != 32 * width:
            raise NotServed(f"{path} has {len(data):,} bytes, not {32 * width:,}")
        return data

    def bundle(self, index: int, width: int) -> list[bytes] | None:
        """The statements of tile `index`; None where this caller may not read any. Raises NotServed, CouldNotRun."""
        path = entries_path(index, width)
        answer = self._ask(path)
        if answer.status_code in _CLOSED:
            return None
        try:
            found = decode_bundle(_content(answer))
        except Malformed as error:
            raise NotServed(f"{path}: {error}") from error
        if len(found) != width:
            raise NotServed(f"{path} has {len(found)} entries, not {width}")
        return found

    def receipt(self, record_id: str) -> bytes | None:
        """The receipt of a record; None where this caller may not read it: a node shows receipts to its own department,
        and says of others that they are not there. Raises NotServed, CouldNotRun."""
        answer = fetch(self.client, f"/v1/records/{record_id}/receipt")
        return None if answer.status_code in (*_CLOSED, 404) else _content(answer)

    def _ask(self, path: str) -> httpx.Response:
        return fetch(self.client, f"/v1/logs/{self.department}/{path}")


def fetch(client: httpx.Client, path: str) -> httpx.Response:
    """An answer, read to its end within `ANSWER_S`. Raises CouldNotRun where none comes in time, NotServed where it is
    longer than any of ours or comes compressed, which nobody asked for."""
    box: SimpleQueue[httpx.Response | Exception] = SimpleQueue()
    # in a thread, because a header or a chunk may come a byte at a time, each in time
    Thread(target=lambda: box.put(_attempt(client, path)), daemon=True).start()
    try:
        found = box.get(timeout=ANSWER_S)
    except Empty:
        found = CouldNotRun(f"{client.base_url} does not answer {path} in {ANSWER_S:g} seconds; ask again later")
    if isinstance(found, Exception):
        raise found
    return found


def _attempt(client: httpx.Client, path: str) -> httpx.Response | Exception:
    data = bytearray()
    try:
        with client.stream("GET", path, headers={"Accept-Encoding": "identity"}, follow_redirects=False) as answer:
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                return NotServed(f"{path} comes compressed, which was not asked for")
            for piece in answer.iter_bytes():  # not compressed, so these are the raw ones
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    return NotServed(f"{path} is longer than {MAX_ANSWER_BYTES:,} bytes")
            form = {"Content-Type": answer.headers.get("Content-Type", "")}
            return httpx.Response(answer.status_code, headers=form, content=bytes(data), request=answer.request)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        return CouldNotRun(f"{client.base_url} does not answer: {error or type(error).__name__}; ask again later")
    except YunxiError as error:
        return error


def _content(answer: httpx.Response) -> bytes:
    path = answer.url.path
    if answer.status_code >= 500 or answer.status_code == 429:
        raise CouldNotRun(f"{answer.url} answers {answer.status_code}; ask again later")
    if answer.is_redirect:
        raise NotServed(f"{path} is said to be elsewhere ({answer.status_code}): name the node that has the log")
    if answer.status_code != 200:
        raise NotServed(f"{path} is not served ({answer.status_code}), and the checkpoint covers it")
    form = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if form not in _FORMS:
        raise NotServed(f"{path} is served as {form[:60] or 'nothing'}, not as {' or '.join(_FORMS)}")
    return answer.content


class Signing(httpx.Auth):
    """Signs requests with a department's request key: members may read statements."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # nothing is sent back
        """One signed request, nothing more."""
        target = Target.of_url(request.method, str(request.url))
        nonce = secrets.token_urlsafe(16)
        request.headers.update(sign_request(target, None, self._signer, int(time.time()), nonce))
        yield request


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a log: from the chain its keys and what was anchored, and what receipts are verified with.
    `receipts_due`: who asks is of the log's department, to whom its node shows receipts."""

    origin: str
    keys: LogKeys
    chain: AnchoredRoots
    trust: Trust
    receipts_due: bool = False


def audit_remote(
    node: Node,
    urls: Sequence[str],
    department: str | None = None,
    *,
    bearer: str | None = None,
    signer: Signer | None = None,
    asker: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    begin: Begin = lambda _: lambda _: None,
    trust: Trust | None = None,
    memory: RemoteState | None = None,
) -> NodeAudit:
    """Audits every log that is served at `urls`, or one department's. `node` is the auditor's own: its chain is asked.

    `bearer` or `signer`: who asks; neither: hashes alone are read. `asker`: of which department that is, whose receipts
    are due then. `trust`: what the auditor was told elsewhere, in place of what the chain says; `memory`: goes on where
    an audit was cut off. Raises ChainUnreachable, CouldNotRun where a URL does not answer, Refusal where no log is
    served.
    """
    link = node.connect()
    link.evidence_log.client.check_identity()
    told = trust or export_trust(node)
    headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
    auth = Signing(signer) if signer is not None and bearer is None else None
    reports: list[LogReport] = []
    for url in urls:
        here: list[LogReport] = []
        with httpx.Client(base_url=url, headers=headers, auth=auth, timeout=TIMEOUT_S, trust_env=False) as client:
            for found in link.consortium.departments():
                if department in (None, found.id):
                    log_url = LogUrl(client, found.id)
                    known = Known(
                        found.log_origin,
                        LogKeys.registered(link.consortium, found.id, found.log_origin),
                        ChainRoots.ask(link.evidence_log, found.id),
                        told,
                        asker == found.id,
                    )
                    place = Place(memory or RemoteState(), f"{url} {found.id}")
                    report = audit_log_url(log_url, found, known, sample, seed, begin, place)
                    here += [report] if report is not None else []
        if bearer is not None and (asker, department) == (None, None):
            _check_withheld(here)
        reports += here
    if not reports:
        raise Refusal(f"no log of {department or 'any department'} is served at {', '.join(urls)}: name its node's URL")
    if trust is not None:
        check_trust(reports[0], node.settings, link, trust, [report.department for report in reports])
    return NodeAudit(tuple(reports), None)


def _check_withheld(reports: Sequence[LogReport]) -> None:
    """Whoever has a token is of one of the departments there, and to those who are the node shows receipts."""
    closed = [report for report in reports if any(notice.kind == "receipts-closed" for notice in report.notices)]
    if closed and not any(report.receipts for report in reports):
        sentence = "the node shows whoever has this token no receipt of any log, and one of them is of its department"
        closed[0].add("receipts-withheld", "receipts", sentence, thing="receipts")


def audit_log_url(
    url: LogUrl,
    department: Department,
    known: Known,
    sample: int | None,
    seed: int,
    begin: Begin,
    place: Place | None = None,
) -> LogReport | None:
    """The audit of one log; None where it is not served there. Raises CouldNotRun."""
    place = place or Place(RemoteState(), "")
    try:
        newest = url.checkpoint()
    except NotServed as error:
        report = LogReport(department.id, known.origin, 0, chain_asked=True)
        report.add("not-served", "checkpoint", str(error))
        return report
    if newest is None:
        return None
    before = place.read()
    if before is not None and before.done:
        return before.report
    note = newest if before is None else before.note
    report = before.report if before is not None else _begun(department, known)
    checkpoint = _open(report, note, known)
    if checkpoint is None:
        return report
    if before is None:
        report.size, report.checkpoints = checkpoint.size, 1
        _check_witnesses(report, note, checkpoint, known)
    # 2
    end = _open(report, newest, known) if newest != note else checkpoint
    if end is not None and report.anchored_size > end.size:
        sentence = f"size {end.size:,} is served as the newest, the chain holds {report.anchored_size:,}"
        report.add("rolled-back", f"size {end.size}", sentence, end.size)
    progress = begin(LogRow(0, department.id, known.origin, checkpoint.size, checkpoint.root, None))
    audit = _UrlAudit(url, report, checkpoint, known, seed)
    try:
        if sample is None:
            audit.full(progress, before, lambda progress_so_far: place.keep(note, progress_so_far))
        else:
            audit.sampled(sample, seed, progress)
        audit.check_end(known)
    except NotProven as error:
        report.add("not-served", f"checkpoint {checkpoint.size}", str(error))
    except Malformed as error:
        report.add("not-served", f"checkpoint {checkpoint.size}", str(error))
    if sample is None:
        place.keep(note, Kept(note, report, done=True))
    return report


def _begun(department: Department, known: Known) -> LogReport:
    return LogReport(department.id, known.origin, 0, chain_asked=True, anchored_size=known.chain.size())


def _open(report: LogReport, note: bytes, known: Known) -> Checkpoint | None:
    """1: the checkpoint, or a finding."""
    try:
        checkpoint, _ = known.keys.open(note)
        if checkpoint.origin != known.origin:
            raise Malformed("checkpoint", "is of another log")
    except YunxiError as error:
        report.add("checkpoint-changed", "checkpoint", f"the checkpoint that is served: {error}", 0)
        return None
    return checkpoint


def _check_witnesses(report: LogReport, note: bytes, checkpoint: Checkpoint, known: Known) -> None:
    where = f"checkpoint {checkpoint.size}"
    parsed = Note.parse(note)
    keeper = next((found for found in known.trust.departments if found.id == report.department), None)
    operators = []
    for witness in known.trust.witnesses:
        if not parsed.signatures_by(witness.key):
            continue
        try:
            verify_cosignature(note, witness.key)
        except YunxiError as error:
            sentence = f"the cosignature of {witness.name} at size {checkpoint.size:,}: {error}"
            report.add("cosignature-changed", where, sentence, checkpoint.size)
            continue
        report.cosignatures += 1
        operators.append(witness.operator)
    hands = outside_hands(operators, keeper) if keeper is not None else ()
    if len(hands) < known.trust.quorum:
        sentence = f"the checkpoint that is served was cosigned by {len(hands)} in hands other than the log's and each "
        sentence += f"other's, and {known.trust.quorum} are asked for"
        report.add("unwitnessed", where, sentence, checkpoint.size)


class _UrlAudit:
    """Reads one log over its URL and adds what does not fit to the report."""

    def __init__(self, url: LogUrl, report: LogReport, checkpoint: Checkpoint, known: Known, seed: int) -> None:
        self._url = url
        self._report = report
        self._checkpoint = checkpoint
        self._known = known
        self._reader = StatementReader()
        self._newest_time = 0
        self._open = True
        self._receipts_closed = any(notice.kind == "receipts-closed" for notice in report.notices)
        self._coming = known.chain.between(0, checkpoint.size)
        self._anchors: list[Anchored] = []
        self._asked = frozenset(draw(self._anchored(), RECEIPTS, f"{seed}/receipts/{known.origin}"))
        self._verifier = Verifier(known.trust)

    def full(self, progress: Callable[[int], None], before: Kept | None, keep: Callable[[Kept], None]) -> None:
        """3, 4 and 5, all of it; goes on after what was done `before`."""
        edge, size = Edge(), self._checkpoint.size
        upper: dict[tuple[int, int], TileWrite] = {}
        if before is not None:
            edge = Edge.load(before.size, before.edge)
            upper = {(write.level, write.index): write for write in before.upper}
            self._newest_time, self._open = before.newest_time, before.open
            self._coming = self._known.chain.between(before.size, size)
            progress(before.size)
        for tile in range(edge.size // TILE_WIDTH, -(-size // TILE_WIDTH)):
            start = tile * TILE_WIDTH
            leaves = self._leaves(tile, min(TILE_WIDTH, size - start))
            last = start + len(leaves)
            passed = {anchored.size: anchored.root for anchored in self._anchors if start < anchored.size <= last}
            for end in sorted({*passed, last}):
                for write in edge.append(leaves[edge.size - start : end - start]):
                    if write.level:
                        upper[write.level, write.index] = write
                if end in passed:
                    self._check_anchor(end, passed[end], edge.root())
            for place in [place for place, write in upper.items() if write.width == TILE_WIDTH]:
                self._check_upper(upper.pop(place))
            progress(len(leaves))
            if (tile + 1) % KEEP_TILES == 0 and edge.size < size:
                # die here: the next run begins behind this tile
                so_far = list(upper.values())
                keep(Kept(b"", self._report, edge.size, edge.tiles, so_far, self._newest_time, self._open))
        for write in upper.values():
            self._check_upper(write)
        if edge.root() != self._checkpoint.root:
            sentence = "the checkpoint that is served does not have the root that the served tiles give"
            self._report.add("checkpoint-differs", f"checkpoint {size}", sentence, size)

    def sampled(self, count: int, seed: int, progress: Callable[[int], None]) -> None:
        """3 and 4 for `count` entries, and up to 100 anchored sizes."""
        size, root = self._checkpoint.size, self._checkpoint.root
        drawn = draw(size, count, f"{seed}/{self._known.origin}")
        self._report.sampled = len(drawn)
        view = TreeView(size, self._url)
        for tile in sorted({index // TILE_WIDTH for index in drawn}):
            chosen = [index for index in drawn if index // TILE_WIDTH == tile]
            leaves = self._leaves(tile, min(TILE_WIDTH, size - tile * TILE_WIDTH), set(chosen))
            for index in chosen:
                try:
                    verify_inclusion(leaves[index % TILE_WIDTH], index, size, view.inclusion_path(index), root)
                except NotProven as error:
                    sentence = f"entry {index:,} is not under the checkpoint: {error}"
                    self._report.add("tile-changed", f"entry {index}", sentence, index)
            progress(len(chosen))
        for anchored in some_of(self._known.chain.between(0, size), MAX_OLD_SIZES, random.Random(seed)):  # noqa: S311
            self._check_anchor(anchored.size, anchored.root, tree_root(anchored.size, self._url))
        if view.root() != root:
            sentence = "the checkpoint that is served does not have the root that the served tiles give"
            self._report.add("checkpoint-differs", f"checkpoint {size}", sentence, size)

    def check_end(self, known: Known) -> None:
        """6: what is served now has all that was served at first."""
        newest = self._url.checkpoint()
        if newest is None:
            raise NotServed("the checkpoint is not served any more")
        end = _open(self._report, newest, known)
        if end is None or end == self._checkpoint:
            return
        begun, where = self._checkpoint, f"checkpoint {end.size}"
        if end.size < begun.size:
            sentence = f"the log shrank while it was read, from {begun.size:,} to {end.size:,} entries"
            self._report.add("rolled-back", where, sentence, end.size)
            return
        try:
            path = consistency_path(begun.size, end.size, self._url) if end.size > begun.size else []
            verify_consistency(begun.size, begun.root, end.size, end.root, path)
        except (ConsistencyInvalid, ValueError):
            sentence = f"the log's key signed two histories: size {end.size:,} does not continue size {begun.size:,}"
            self._report.add("split-view", where, sentence, end.size)

    def _check_receipt(self, index: int, statement: bytes, record_id: str) -> None:
        """5, for one record."""
        if self._receipts_closed:
            return
        where = f"receipt of entry {index}"
        try:
            data = self._url.receipt(record_id)
            if data is None and not self._report.receipts and not self._known.receipts_due:
                sentence = "receipts are not shown to who asks, so none was checked: say with --as which department's "
                self._report.add("receipts-closed", "receipts", sentence + "auditor asks, and it is a finding")
                self._receipts_closed = True
                return
            if data is None:
                if self._report.receipts:
                    raise NotServed("it is withheld, and others are served")
                raise _Withheld("it is not shown to who may see it")
            logged = self._verifier.verify(statement + b"~", data).logged
            if logged is None or logged.index != index:
                raise NotServed("it is the receipt of another entry")
            if logged.anchor is not None and self._known.chain.root_at(logged.size) != logged.root:
                raise NotServed(f"it names an anchor of size {logged.size:,} that the chain does not have so")
        except CouldNotRun:
            raise
        except _Withheld as error:
            sentence = f"the receipt of record {record_id}: {error}"
            self._report.add("receipts-withheld", where, sentence, index, record_id, thing="receipts")
            return
        except YunxiError as error:
            sentence = f"the receipt of record {record_id}: {error}"
            self._report.add("receipt-wrong", where, sentence, index, record_id)
            return
        self._report.receipts += 1

    def _leaves(self, tile: int, width: int, only: set[int] | None = None) -> list[bytes]:
        """The hashes of a tile, after its statements were held against them, where they may be read."""
        self._follow_anchors(tile * TILE_WIDTH, tile * TILE_WIDTH + width)
        leaves = hashes_of(self._url.tile(0, tile, width))
        statements = self._url.bundle(tile, width) if self._open else None
        if statements is None:
            if self._open:
                sentence = "statements are not for this caller, so hashes alone were read: name an auditor's --token"
                self._report.add("statements-closed", "entries", sentence)
            self._open = False
            return leaves
        for place, (statement, leaf) in enumerate(zip(statements, leaves, strict=True)):
            index = tile * TILE_WIDTH + place
            if only is None or index in only:
                self._check_entry(index, statement, leaf)
        return leaves

    def _check_entry(self, index: int, data: bytes, leaf: bytes) -> None:
        self._report.records += 1
        where = f"entry {index}"
        try:
            if leaf_hash(data) != leaf:
                raise NotServed("it does not hash to its leaf in the tile")
            claimed = self._reader.read(data)
            key = self._known.keys.statement.get(claimed.kid)
            if key is None or claimed.issuer != self._report.department:
                raise Malformed("statement", f"names key {claimed.kid[:64]}, which is not the department's")
            self._report.signatures += 1
            claimed.verify(cast(Ed25519PublicKey, key.public))
        except YunxiError as error:
            self._report.add("statement-changed", where, f"the statement at index {index:,}: {error}", index)
            return
        name = claimed.record_id
        if index in self._asked:
            self._check_receipt(index, data, name)
        self._newest_time = max(self._newest_time, claimed.issued_at)
        if not key.valid_at(claimed.issued_at):
            sentence = f"record {name} is dated outside the interval in which its key was registered"
            self._report.add("key-not-valid", where, sentence, index, name)
        elif key.valid_to is not None and self._newest_time >= key.valid_to + LATE_S:
            self._report.add("dated-back", where, dated_back(name), index, name)
        holding = next((anchored for anchored in self._anchors if anchored.size > index), None)
        if holding is not None and claimed.issued_at > holding.time + APART_S:
            sentence = f"record {name} is dated after the anchor of size {holding.size:,}, which holds it"
            self._report.add("clock-apart", where, sentence, index, name)

    def _anchored(self) -> int:
        """The newest size that is anchored and served: the chain may have gone on, or the log been cut."""
        size, newest = self._checkpoint.size, self._known.chain.size()
        if newest <= size:
            return newest
        return max((anchored.size for anchored in self._known.chain.between(0, size)), default=0)

    def _follow_anchors(self, start: int, end: int) -> None:
        """Holds the anchors of sizes above `start`, up to the first one above `end`; `start` only grows."""
        self._anchors = [anchored for anchored in self._anchors if anchored.size > start]
        while not self._anchors or self._anchors[-1].size <= end:
            anchored = next(self._coming, None)
            if anchored is None:
                return
            if anchored.size > start:
                self._anchors.append(anchored)

    def _check_anchor(self, size: int, root: bytes, given: bytes) -> None:
        self._report.anchors += 1
        if given != root:
            sentence = f"the chain holds another root for size {size:,} than the served tiles give"
            self._report.add("root-differs-from-chain", f"size {size}", sentence, size)

    def _check_upper(self, write: TileWrite) -> None:
        if self._url.tile(write.level, write.index, write.width) != write.data:
            path = tile_path(write.level, write.index, write.width)
            index = write.index * TILE_WIDTH ** (write.level + 1)
            self._report.add("tile-changed", path, f"{path} is not what the tiles below it give", index)
