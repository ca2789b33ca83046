"""A log audited by somebody who has its URL and the chain: what is served, what is withheld, who may read what."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import httpx
import pytest

from gateway.caller import AUDITOR, OFFICER
from ledger.audit import LogReport
from ledger.audit.chain import ChainRoots, LogKeys
from ledger.audit.remote import Known, LogUrl, audit_log_url
from ledger.trust import export_trust
from tests.fixtures.gateway import Gateway
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR

SIZE = SECOND_ANCHOR


@dataclass(slots=True)
class Remote:
    """An auditor's view of the log of `fire`. `changed` takes the place of what is served, by path."""

    gateway: Gateway
    changed: dict[str, Callable[[bytes], bytes | None]] = field(default_factory=dict)

    def audit(self, roles: Collection[str] | None = (AUDITOR,), sample: int | None = None) -> LogReport:
        node = self.gateway.site.node
        link, trust = node.connect(), export_trust(node)
        (fire,) = [found for found in link.consortium.departments() if found.id == "fire"]
        known = Known(
            fire.log_origin,
            LogKeys.registered(link.consortium, "fire", fire.log_origin),
            ChainRoots.ask(link.evidence_log, "fire"),
            trust,
        )
        client = self.gateway.client("fire", roles) if roles is not None else self.gateway.client(None)
        url = Lying(client, "fire", self.changed)
        found = audit_log_url(url, fire, known, sample, 7, lambda _: lambda _: None)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Lying(LogUrl):
    """What is served, changed on its way."""

    changed: dict[str, Callable[[bytes], bytes | None]] = field(default_factory=dict)

    def _ask(self, path: str) -> httpx.Response:
        answer = LogUrl._ask(self, path)
        change = self.changed.get(path)
        if change is None:
            return answer
        content = change(answer.content)
        status = 404 if content is None else answer.status_code
        return httpx.Response(status, headers=answer.headers, content=content or b"", request=answer.request)


@pytest.fixture
def remote(gateway_on_chain: Gateway) -> Remote:
    return Remote(gateway_on_chain)


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_an_auditor_checks_every_statement_and_every_anchor(remote: Remote) -> None:
    found = remote.audit()
    assert (found.good, found.notices) == (True, []), found.findings
    assert (found.size, found.records, found.signatures, found.anchors) == (SIZE, SIZE, SIZE, 2)
    assert (found.checkpoints, found.cosignatures, found.payloads) == (1, 1, 0)


def test_anybody_checks_that_history_goes_on(remote: Remote) -> None:
    for roles in (None, {OFFICER}):
        found = remote.audit(roles)
        assert (found.good, found.records, found.anchors) == (True, 0, 2)
        assert [notice.kind for notice in found.notices] == ["statements-closed"]


def test_a_sample_over_http(remote: Remote) -> None:
    found = remote.audit(sample=20)
    assert (found.good, found.sampled, found.records, found.anchors) == (True, 20, 20, 2)


# what is changed -> (how, kind of the first finding, its index)
LIES: dict[str, tuple[dict[str, Callable[[bytes], bytes | None]], str, int | None]] = {
    "a leaf": ({"tile/0/000": flip(32 * 7)}, "statement-changed", 7),
    "a leaf of the partial tile": ({"tile/0/001.p/84": flip(5)}, "statement-changed", 256),
    "a tile above": ({"tile/1/000.p/1": flip(3)}, "tile-changed", 0),
    "a statement": ({"tile/entries/000": flip(400)}, "statement-changed", 0),
    "a bundle cut short": ({"tile/entries/000": lambda data: data[:-1]}, "not-served", None),
    "a tile cut short": ({"tile/0/000": lambda data: data[:-32]}, "not-served", None),
    "a tile withheld": ({"tile/0/000": lambda _: None}, "not-served", None),
    "the checkpoint": ({"checkpoint": flip(25)}, "checkpoint-changed", 0),
    "a cosignature": ({"checkpoint": lambda data: data[:-6] + b"AAAA=\n"}, "cosignature-changed", SIZE),
}


@pytest.mark.parametrize("name", LIES)
def test_what_is_changed_on_its_way_is_found(remote: Remote, name: str) -> None:
    remote.changed, kind, index = LIES[name]
    found = remote.audit()
    first = found.findings[0]
    assert (first.kind, first.index) == (kind, index), found.findings


def test_hashes_alone_show_another_history(remote: Remote) -> None:
    remote.changed = {"tile/0/000": flip(32 * 7)}
    found = remote.audit(None)
    assert found.counts == {"tile-changed": 1, "root-differs-from-chain": 2, "checkpoint-differs": 1}


def test_an_old_checkpoint_is_not_served_for_the_newest(remote: Remote) -> None:
    from sqlalchemy import select

    from ledger.store.models import checkpoints

    with remote.gateway.site.database.reading() as connection:
        here = (checkpoints.c.log == 1) & (checkpoints.c.size == FIRST_ANCHOR)
        old = connection.scalar(select(checkpoints.c.note).where(here))
    assert old is not None
    remote.changed = {"checkpoint": lambda _: bytes(old)}
    found = remote.audit()
    assert found.findings[0].kind == "rolled-back"
    assert "the chain holds 340" in found.findings[0].sentence
