"""A log as C2SP tiles: somebody who only has the URL recomputes its root, and nobody sees entries without a role."""

from __future__ import annotations

import httpx
import pytest

from gateway.caller import AUDITOR, OFFICER
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.merkle import leaf_hash, verify_inclusion
from ledger.formats.tiles import TreeView, decode_bundle, entries_path, tile_path
from tests.fixtures.gateway import Gateway
from tests.fixtures.nodes import SECOND_ANCHOR

SIZE = SECOND_ANCHOR


@pytest.fixture
def followed(gateway_on_chain: Gateway) -> Gateway:
    """`fire` has five entries more than its newest checkpoint covers."""
    return gateway_on_chain


class Fetched:
    """The tile reader of somebody outside."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def tile(self, level: int, index: int, width: int) -> bytes:
        answer = self.client.get("/v1/logs/fire/" + tile_path(level, index, width))
        assert answer.status_code == 200, answer.text
        assert len(answer.content) == 32 * width
        return answer.content


def checkpoint_of(client: httpx.Client) -> Checkpoint:
    answer = client.get("/v1/logs/fire/checkpoint")
    assert answer.status_code == 200, answer.text
    return Checkpoint.parse(answer.content.partition(b"\n\n")[0] + b"\n")


def test_anybody_recomputes_the_root(followed: Gateway) -> None:
    outside = followed.client(None)
    found = checkpoint_of(outside)
    assert found.size == SIZE
    assert TreeView(found.size, Fetched(outside)).root() == found.root


def test_an_auditor_reads_the_entries_and_finds_each_in_the_tree(followed: Gateway) -> None:
    auditor = followed.client("fire", {AUDITOR})
    found = checkpoint_of(auditor)
    full = auditor.get("/v1/logs/fire/" + entries_path(0, 256))
    rest = auditor.get("/v1/logs/fire/" + entries_path(1, SIZE - 256))
    assert "immutable" in full.headers["cache-control"]
    assert rest.headers["cache-control"] == "no-store"
    statements = decode_bundle(full.content) + decode_bundle(rest.content)
    assert len(statements) == SIZE
    view = TreeView(found.size, Fetched(auditor))
    for index in (0, 255, 256, SIZE - 1):
        verify_inclusion(leaf_hash(statements[index]), index, found.size, view.inclusion_path(index), found.root)


@pytest.mark.parametrize("roles", [None, {OFFICER}])
def test_entries_are_not_for_everybody(followed: Gateway, roles: set[str] | None) -> None:
    client = followed.client(None) if roles is None else followed.client("fire", roles)
    assert client.get("/v1/logs/fire/" + entries_path(0, 256)).status_code in (401, 403)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("fire/tile/0/001.p/85", 404),  # acknowledged, and not under the checkpoint yet
        ("fire/tile/0/002", 404),
        ("fire/tile/1/000", 404),
        ("fire/tile/0/1", 400),
        ("fire/tile/0/x000/001", 400),
        ("fire/tile/0/000.p/256", 400),
        ("fire/tile/0/000.p/0", 400),
        ("fire/tile/64/000", 400),
        ("fire/tile/0/%2e%2e/000", 400),
        ("police/checkpoint", 404),
        ("police/tile/0/000", 404),
        ("health/tile/0/000", 404),
        ("FIRE/checkpoint", 400),
    ],
)
def test_what_is_not_there(followed: Gateway, path: str, status: int) -> None:
    assert followed.client(None).get(f"/v1/logs/{path}").status_code == status
