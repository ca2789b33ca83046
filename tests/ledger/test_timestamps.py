"""Trusted time at a node: real authorities, fail-over, what is stamped when, the stop rule, renewal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.anchor import Anchorer
from ledger.errors import CouldNotRun, InclusionInvalid, Malformed, NotProven
from ledger.formats import renewal
from ledger.formats.checkpoint import open_checkpoint_by
from ledger.formats.renewal import RenewalChain, verify_renewals
from ledger.formats.timestamp import Timestamp, verify_token
from ledger.node import Node
from ledger.settings import Settings
from ledger.store.models import checkpoints
from ledger.store.reading import LogRow, read_logs
from ledger.timestamps.report import TimeEvidence, authority_problems, require_time, time_evidence, time_status
from ledger.timestamps.rounds import Timestamping
from ledger.timestamps.settings import AuthoritySettings, TimestampSettings, timestamp_settings
from ledger.trust import export_trust
from tests.fixtures.nodes import FIRST_ANCHOR, SECOND_ANCHOR, SIZE, Built
from tests.fixtures.records import acknowledged, submissions
from tests.fixtures.tsa import Authority, make_authority, serving

NOBODY = "http://127.0.0.1:9/"


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Two:
    """Two real authorities that answer, and a node that may ask them."""

    first: Authority
    second: Authority
    urls: tuple[str, str]
    roots: list

    def settings(self, **changes: object) -> TimestampSettings:
        named = [
            AuthoritySettings(name, url, authority.root_pem)
            for name, url, authority in zip(("a", "b"), self.urls, (self.first, self.second), strict=True)
        ]
        return replace(TimestampSettings(authorities=tuple(named)), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    base = tmp_path_factory.mktemp("authorities")
    short = {"starts": datetime.now(UTC) - timedelta(days=1), "days": 3}
    first, second = make_authority(base / "a", "Short", **short), make_authority(base / "b", "Long", kind="ec")  # type: ignore[arg-type]
    with ExitStack() as stack:
        urls = stack.enter_context(serving(first)), stack.enter_context(serving(second))
        yield Two(first, second, urls, [first.root, second.root])


@pytest.fixture
def node(built: Built, tmp_path: Path, two: Two) -> Iterator[Node]:
    opened = built.open(built.copy(tmp_path / "node"))
    opened.settings = replace(opened.settings, timestamps=two.settings())
    yield opened
    opened.close()


def log_of(node: Node, department: str = "fire") -> LogRow:
    with node.database.reading() as connection:
        return read_logs(connection, department)[0]


def evidence(node: Node, size: int = SECOND_ANCHOR) -> list[TimeEvidence]:
    with node.database.reading() as connection:
        return time_evidence(connection, log_of(node).number, size)


def text_of(node: Node, size: int = SECOND_ANCHOR) -> bytes:
    log, signer = log_of(node), node.agent.log_signer("fire")
    from sqlalchemy import select

    from ledger.checkpoints import vkeys_of

    with node.database.reading() as connection:
        here = (checkpoints.c.log == log.number) & (checkpoints.c.size == size)
        note = connection.scalar(select(checkpoints.c.note).where(here))
    assert note is not None
    return open_checkpoint_by(note, vkeys_of(log.origin, signer))[0].text


# -- stamping --


def test_the_newest_anchored_checkpoint_is_stamped_once(node: Node, two: Two) -> None:
    timestamping = Timestamping(node)
    assert timestamping.round() == 2  # fire and health
    assert timestamping.round() == 0
    (found,) = evidence(node)
    assert found.authority == "a" and found.renewals is None
    stamp = verify_token(found.token, text_of(node), two.roots)
    assert stamp.root == "CN=Short root"
    assert evidence(node, FIRST_ANCHOR) == []
    status = {each.department: each for each in time_status(node)}
    assert status["fire"].stamped_size == SECOND_ANCHOR
    assert status["fire"].age is not None  # five records came after the last anchor
    assert status["health"].age is None
    assert SIZE > SECOND_ANCHOR


def test_two_authorities_where_two_are_asked_for(node: Node, two: Two) -> None:
    node.settings = replace(node.settings, timestamps=two.settings(required=2))
    assert Timestamping(node).round() == 4
    assert [found.authority for found in evidence(node)] == ["a", "b"]


def test_the_next_one_is_asked_when_one_fails(node: Node, two: Two) -> None:
    down = AuthoritySettings("down", NOBODY, two.first.root_pem)
    liar = AuthoritySettings("liar", two.urls[0], two.second.root_pem)  # its tokens lead to roots that are not its own
    good = two.settings().authorities[1]
    node.settings = replace(node.settings, timestamps=TimestampSettings(authorities=(down, liar, good)))
    assert Timestamping(node).round() == 2
    assert [found.authority for found in evidence(node)] == ["b"]
    problems = authority_problems(node)
    assert "does not answer" in (problems["down"] or "")
    assert "tsa_roots" in (problems["liar"] or "")
    assert problems["b"] is None


def test_an_authority_that_failed_is_left_alone_for_a_while(node: Node, two: Two) -> None:
    with serving(two.second) as url:
        authority = AuthoritySettings("b", url, two.second.root_pem)
    node.settings = replace(node.settings, timestamps=TimestampSettings(authorities=(authority,)))
    patient, prompt = Timestamping(node), Timestamping(node, pause=0)
    assert patient.round() == prompt.round() == 0
    node.settings = replace(node.settings, timestamps=two.settings())
    revived = replace(authority, url=two.urls[1])
    for timestamping in (patient, prompt):
        timestamping._settings = TimestampSettings(authorities=(revived,))
    assert patient.round() == 0
    assert prompt.round() == 2


def test_a_busy_log_is_stamped_now_and_then(own_node: Node, two: Two) -> None:
    clock = Clock(own_node.clock())
    own_node.clock = clock
    own_node.settings = replace(own_node.settings, timestamps=two.settings(every_seconds=60))
    anchorer, tokens = Anchorer(own_node), []
    for number in range(4):
        acknowledged(own_node.intake.submit("fire", submissions(1000 + number, 1)))
        anchorer.round()
        with own_node.database.reading() as connection:
            tokens.append(len(_rows(connection, log_of(own_node).number)))
        clock.now += 25
    assert tokens == [1, 1, 1, 2]


def _rows(connection: object, log: int) -> list[object]:
    from ledger.timestamps.book import all_tokens

    return all_tokens(connection, log)  # type: ignore[arg-type]


def test_the_trust_file_names_the_roots(own_node: Node, two: Two) -> None:
    own_node.settings = replace(own_node.settings, timestamps=two.settings())
    assert export_trust(own_node).tsa_roots == (two.first.root_pem, two.second.root_pem)


# -- the stop rule --


def test_behind_the_limit_nothing_is_done_that_must_be_dated(node: Node, two: Two) -> None:
    Timestamping(node).round()
    require_time(node, "fire")
    node.clock = Clock(node.clock() + 25 * 3600)
    with pytest.raises(CouldNotRun, match="more than 24 hours"):
        require_time(node, "fire")
    require_time(node, "health")  # everything of it is stamped
    node.settings = replace(node.settings, timestamps=TimestampSettings())
    require_time(node, "fire")  # who names no authority has promised nothing


# -- renewal --


@pytest.fixture
def renewed(node: Node, two: Two) -> tuple[bytes, Timestamp, RenewalChain]:
    """A token, and its two renewals: by the same authority, then by the other."""
    timestamping = Timestamping(node)
    timestamping.round()
    log = log_of(node)
    assert timestamping.renew(log) is None
    timestamping._settings = replace(two.settings(), authorities=two.settings().authorities[1:])
    assert timestamping.renew(log) is None
    (found,) = evidence(node)
    assert found.renewals is not None
    return found.token, verify_token(found.token, text_of(node), two.roots), found.renewals


def test_a_renewed_token_is_good_beyond_its_certificates(
    node: Node, two: Two, renewed: tuple[bytes, Timestamp, RenewalChain]
) -> None:
    token, stamp, chain = renewed
    chain = RenewalChain.parse(chain.serialize())
    first, second = verify_renewals(token, stamp, chain, two.roots)
    assert stamp.time <= first.time <= second.time
    assert first.expires < datetime.now(UTC) + timedelta(days=3) < second.expires
    (fire, _) = time_status(node)
    assert fire.renew_by is not None and fire.renew_by > datetime.now(UTC).timestamp() + 300 * 86_400


def test_a_renewal_that_came_too_late(two: Two, renewed: tuple[bytes, Timestamp, RenewalChain]) -> None:
    token, stamp, chain = renewed
    ended = replace(stamp, expires=stamp.time - timedelta(seconds=1))
    with pytest.raises(NotProven, match="had ended"):
        verify_renewals(token, ended, chain, two.roots)


WRONG = {
    "another token's": lambda chain: replace(chain, index=chain.index + 1),
    "a size that is not the tree's": lambda chain: _first(chain, size=chain.renewals[0].size + 1),
    "a renewal left out": lambda chain: replace(chain, renewals=chain.renewals[1:]),
    "in another order": lambda chain: replace(chain, renewals=chain.renewals[::-1]),
    "a path cut short": lambda chain: replace(chain, renewals=(chain.renewals[0], replace(chain.renewals[1], path=()))),
    "a path too long": lambda chain: _first(chain, path=(*chain.renewals[0].path, bytes(64))),
}


def _first(chain: RenewalChain, **changes: object) -> RenewalChain:
    return replace(chain, renewals=(replace(chain.renewals[0], **changes), *chain.renewals[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", WRONG)
def test_renewals_that_do_not_follow(two: Two, renewed: tuple[bytes, Timestamp, RenewalChain], case: str) -> None:
    token, stamp, chain = renewed
    with pytest.raises((NotProven, InclusionInvalid)):
        verify_renewals(token, stamp, WRONG[case](chain), two.roots)


def test_nothing_to_renew_is_no_error(node: Node) -> None:
    assert Timestamping(node).renew(log_of(node)) is None


def test_nobody_to_renew_with(node: Node, two: Two) -> None:
    Timestamping(node).round()
    node.settings = replace(node.settings, timestamps=TimestampSettings())
    trouble = Timestamping(node).renew(log_of(node))
    assert trouble is not None and "node.toml" in str(trouble)


@given(st.integers(1, 70), st.data())
def test_every_path_leads_to_the_root_and_no_other_does(size: int, data: st.DataObject) -> None:
    leaves = [renewal.leaf_hash(str(number).encode()) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path, root = renewal.path_of(index, leaves), renewal.root_of(leaves)
    assert renewal._root_by(leaves[index], index, size, path) == root
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with_other = _root_or_none(leaves[index], other, size, path)
        assert with_other != root


def _root_or_none(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    try:
        return renewal._root_by(leaf, index, size, path)
    except InclusionInvalid:
        return None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"index": 0, "renewals": []}',
        b'{"index": -1, "renewals": [{}]}',
        b'{"index": 0, "renewals": [{"size": 1, "path": [], "token": "AA==", "index": true}]}',
        b'{"index": 0, "renewals": [{"size": 1, "path": ["AA=="], "token": "AA==", "index": 1}]}',
        b'{"index": 0, "renewals": [{"size": 1, "path": [], "token": "AB==", "index": 1}]}',
        b'{"index": 0, "index": 0, "renewals": [{"size": 1, "path": [], "token": "AA==", "index": 1}]}',
    ],
)
def test_what_is_no_chain_of_renewals(text: bytes) -> None:
    with pytest.raises(Malformed):
        RenewalChain.parse(text)


# -- settings --

PEM = "tsa.pem"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"required": 0}, "1 or more"),
        ({"required": 2, "authorities": [{"name": "a", "url": "http://x/", "roots": PEM}]}, "only 1"),
        ({"every_seconds": 0}, "above 0"),
        ({"often": True}, "has the members"),
        ({"authorities": [{"name": "a", "url": "http://x/"}]}, "name, url and roots"),
        ({"authorities": [{"name": "a", "url": "ftp://x/", "roots": PEM}]}, "http"),
        ({"authorities": [{"name": "a", "url": "http://x/", "roots": "none.pem"}]}, "cannot be read"),
        ({"authorities": [{"name": "a", "url": "http://x/", "roots": "bad.pem"}]}, "no certificate"),
        ({"authorities": [{"name": "a", "url": "http://x/", "roots": PEM}] * 2}, "same name"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, two: Two, table: dict, sentence: str) -> None:
    (tmp_path / PEM).write_text(two.first.root_pem)
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match=sentence):
        timestamp_settings(table, tmp_path)


def test_a_node_reads_them_and_keeps_them(built: Built, tmp_path: Path, two: Two) -> None:
    directory = built.copy(tmp_path / "node")
    (directory / PEM).write_text(two.first.root_pem)
    with (directory / "node.toml").open("a") as file:
        file.write("\n[timestamps]\nrequired = 1\n\n[[timestamps.authorities]]\n")
        file.write(f'name = "a"\nurl = "{two.urls[0]}"\nroots = "{PEM}"\n')
    settings = Settings.load(directory)
    assert settings.timestamps.authorities[0].name == "a"
    settings.save()
    assert Settings.load(directory).timestamps == settings.timestamps
