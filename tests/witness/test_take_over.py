"""A witness with a new key goes on where it stood: what it saw before still binds it."""

from __future__ import annotations

import pytest

from ledger.errors import ConsistencyInvalid
from ledger.formats.merkle import leaf_hash, root_of
from ledger.formats.note import COSIGNATURE_ED25519, VerifierKey
from ledger.witness.core import Witness
from ledger.witness.protocol import AddCheckpoint, SizeConflict
from ledger.witness.store import SqlStore
from tests.fixtures.parts import Parts
from tests.verify.factory import checkpoint_of, public_of
from tests.witness.simulation import signer

ORIGIN, NAME = "yunxi.example/fire", "yunxi.example/health/witness"
LOG = VerifierKey.parse(str(VerifierKey.of(ORIGIN, 0x01, public_of("fire log"))))


def head(*entries: bytes) -> bytes:
    return checkpoint_of("fire", len(entries), root_of([leaf_hash(entry) for entry in entries]))


def vkey(name: str) -> VerifierKey:
    return VerifierKey.of(NAME, COSIGNATURE_ED25519, signer(name).public)


def witness(parts: Parts, name: str) -> tuple[Witness, SqlStore]:
    store = SqlStore.of(vkey(name), parts.database)
    return Witness(NAME, signer(name), {ORIGIN: (LOG,)}, store, lambda: 1_772_352_000.0), store


def test_what_was_seen_binds_the_new_key(sqlite_parts: Parts) -> None:
    first, _ = witness(sqlite_parts, "first key")
    first.add_checkpoint(AddCheckpoint(0, (), head(b"a")))
    second, store = witness(sqlite_parts, "second key")
    store.take_over([vkey("never used"), vkey("first key")], ORIGIN)
    found = store.head(ORIGIN)
    assert found is not None and found.size == 1
    with pytest.raises(SizeConflict):
        second.add_checkpoint(AddCheckpoint(0, (), head(b"b", b"c")))
    with pytest.raises(ConsistencyInvalid):
        second.add_checkpoint(AddCheckpoint(1, (leaf_hash(b"c"),), head(b"b", b"c")))
    second.add_checkpoint(AddCheckpoint(1, (leaf_hash(b"c"),), head(b"a", b"c")))


def test_it_is_taken_over_once(sqlite_parts: Parts) -> None:
    first, before = witness(sqlite_parts, "first key")
    first.add_checkpoint(AddCheckpoint(0, (), head(b"a")))
    second, store = witness(sqlite_parts, "second key")
    for _ in range(2):
        store.take_over([vkey("first key")], ORIGIN)
    assert before.head(ORIGIN) is None
    second.add_checkpoint(AddCheckpoint(1, (leaf_hash(b"c"),), head(b"a", b"c")))
    # nothing that comes under the old key afterwards puts the new one back
    first.add_checkpoint(AddCheckpoint(0, (), head(b"x")))
    store.take_over([vkey("first key")], ORIGIN)
    found = store.head(ORIGIN)
    assert found is not None and found.size == 2


def test_without_earlier_keys_nothing_happens(sqlite_parts: Parts) -> None:
    _, store = witness(sqlite_parts, "first key")
    store.take_over([], ORIGIN)
    store.take_over([vkey("never used")], ORIGIN)
    assert store.head(ORIGIN) is None
