"""What an audit asks of the chain: many anchors by ranges of events, whatever its node refuses or leaves out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ledger.audit import chain
from ledger.audit.chain import NOWHERE, ChainRoots, Near, in_ranges
from ledger.chain.client import Block
from ledger.chain.contracts import AnchoredEvent, AnchoredRoot, EvidenceLogContract
from ledger.errors import ChainUnreachable, HistoryRefused

EVERY = 3
"""Blocks from one anchor to the next."""


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


@dataclass
class Node:
    """A chain's node with one log, anchored at the sizes 2, 4, 6 … and with its limits. Counts what it is asked."""

    anchors: int
    most_blocks: int = 10**9
    most_events: int = 10**9
    hidden: frozenset[int] = frozenset()
    silent: bool = False
    asked: list[str] = field(default_factory=list)
    client: Any = None

    def __post_init__(self) -> None:
        self.client = self  # contract and client in one

    # -- the contract --

    def root_at(self, log_id: bytes, size: int) -> AnchoredRoot | None:
        self.asked.append("state")
        if size % 2 or not 0 < size <= 2 * self.anchors:
            return None
        number = size // 2 * EVERY
        return AnchoredRoot(size, _hash("root", size), size - 2, number, 1_000 + number)

    history = EvidenceLogContract.history

    def lineage(self) -> tuple[str, ...]:
        return ("0x0",)

    def anchored_events(self, log_id: bytes, first: int, last: int, lineage: Any) -> list[AnchoredEvent]:
        self.asked.append("events")
        found = [self._event(n) for n in range(1, self.anchors + 1) if first <= n * EVERY <= last]
        if self.silent or last - first >= self.most_blocks or len(found) > self.most_events:
            raise ChainUnreachable("too much")
        return [event for event in found if event.size not in self.hidden]

    def anchored_event(self, log_id: bytes, size: int, block: int) -> Any:
        self.asked.append("event")
        if size in self.hidden:
            return None
        return type("Event", (), {"tx_hash": _hash("tx", size)})

    def _event(self, n: int) -> AnchoredEvent:
        size, number = 2 * n, n * EVERY
        transaction = _hash("tx", size)
        return AnchoredEvent(size, _hash("root", size), size - 2, number, _hash("block", number), transaction)

    # -- the client --

    def block(self, number: int | str) -> Block:
        number = self.anchors * EVERY + 5 if isinstance(number, str) else number
        return Block(number, _hash("block", number), _hash("block", number - 1), 1_000 + number, 0, 0)

    def blocks(self, numbers: list[int]) -> list[Block | None]:
        self.asked.append("headers")
        return [self.block(number) for number in numbers]

    def check_identity(self) -> None:
        if self.silent:
            raise ChainUnreachable("nobody answers")


def roots(node: Node) -> ChainRoots:
    return ChainRoots(cast(EvidenceLogContract, node), "fire", 2 * node.anchors)


def one_by_one(node: Node, after: int, upto: int) -> list[Any]:
    """The same, asked as one asks for a single anchor."""
    asked = roots(node)
    sizes = [size for size in range(after + 1, upto + 1) if asked.root_at(size) is not None]
    return [(size, asked.root_at(size), asked.location_of(size)) for size in sizes]


def between(node: Node, after: int, upto: int, near: Near = NOWHERE) -> list[Any]:
    found = list(roots(node).between(after, upto, near))
    assert all(each.location is None or each.time == each.location.block_time for each in found)
    return [(each.size, each.root, each.location) for each in found]


SPANS = {"all": (0, 10**6), "from the middle": (31, 80), "one": (39, 40), "none": (40, 41), "the end": (190, 500)}
NODES: dict[str, Callable[[], Node]] = {
    "a node that gives everything": lambda: Node(100),
    "a node that gives few blocks": lambda: Node(100, most_blocks=7),
    "a node that gives one block": lambda: Node(100, most_blocks=1),
    "a node that gives few events": lambda: Node(100, most_events=3),
    "a node without some events": lambda: Node(100, hidden=frozenset((2, 36, 38, 40, 78, 200))),
    "a node without any event": lambda: Node(100, hidden=frozenset(range(2, 202))),
}
HINTS = {
    "no hint": NOWHERE,
    "a good hint": Near(15 * EVERY, 80),
    "too far a block": Near(90 * EVERY, 80),
    "a block that there is not": Near(10**9, 0),
    "a size that is not anchored": Near(0, 99_999),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("span", SPANS)
def test_ranges_say_what_single_questions_say(name: str, span: str) -> None:
    after, upto = SPANS[span]
    for hint, near in HINTS.items():
        assert between(NODES[name](), after, upto, near) == one_by_one(NODES[name](), after, min(upto, 200)), hint


def test_many_anchors_are_few_questions() -> None:
    node = Node(5_000)
    assert len(between(node, 0, 10_000)) == 5_000
    assert len(node.asked) < 60
    assert "state" not in node.asked


def test_a_good_hint_asks_for_nothing_that_lies_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_BLOCKS", 30)
    far, near = Node(2_000), Node(2_000)
    assert between(far, 3_900, 3_910) == between(near, 3_900, 3_910, Near(1_950 * EVERY, 3_910))
    assert len(near.asked) * 20 < len(far.asked)


def test_a_node_that_does_not_answer_ends_it_at_once() -> None:
    node = Node(100, silent=True)
    with pytest.raises(ChainUnreachable, match="nobody answers"):
        between(node, 0, 200)
    assert node.asked == ["events"]


def test_a_node_that_refuses_a_single_block_ends_it() -> None:
    with pytest.raises(ChainUnreachable, match="too much"):
        between(Node(100, most_blocks=0), 0, 200)


def test_a_chain_that_contradicts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives no event of the newest size, which it said is anchored, and has no state of it."""
    node = Node(100)
    with pytest.raises(HistoryRefused, match="contradicts itself"):
        list(ChainRoots(cast(EvidenceLogContract, node), "fire", 300).between(0, 300))


def test_an_event_of_no_size_on_a_block_that_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(3)
    event = AnchoredEvent(0, _hash("root", 0), 0, EVERY, _hash("gone"), _hash("tx", 0))
    monkeypatch.setattr(node, "anchored_events", lambda *_: [event])
    with pytest.raises(HistoryRefused, match="names an anchor of size 0"):
        list(roots(node).between(0, 6))


def test_what_was_too_much_is_not_asked_for_again_at_once() -> None:
    asked: list[int] = []

    def ask(first: int, last: int) -> list[int]:
        asked.append(last - first + 1)
        if last - first >= 1_000:
            raise ChainUnreachable("too many blocks")
        return list(range(first, last + 1))

    found = [block for some in in_ranges(ask, 5, 40_000, lambda: None) for block in some]
    assert found == list(range(5, 40_001))
    assert sum(width > 1_000 for width in asked) < len(asked) // 6
