"""EvidenceLog: what it anchors, what it refuses, and by which error."""

from __future__ import annotations

from hashlib import sha256

import pytest

FIRE = b"fire".ljust(32, b"\0")
URBAN = b"urban".ljust(32, b"\0")
NOBODY = b"nobody".ljust(32, b"\0")
LEAVES = [sha256(bytes([number])).digest() for number in range(21)]
OTHER = sha256(b"other").digest()

# The eight leaves of the Certificate Transparency reference implementation's Merkle tree tests (Apache-2.0), and the
# roots it publishes for their prefixes.
CT_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    bytes.fromhex(text)
    for text in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]


@pytest.fixture
def fire(world, proofs):
    """The fire department's log on chain, with a list of leaves to anchor prefixes of."""
    return Log(world, proofs, "fire")


class Log:
    def __init__(self, world, proofs, name: str) -> None:
        self.world, self.proofs = world, proofs
        self.name, self.id = name, name.encode().ljust(32, b"\0")
        self.size = 0
        self.old = world.log

    def prove(self, size: int, leaves=LEAVES) -> tuple[bytes, list[bytes]]:
        proof = self.proofs.consistency(self.size, leaves[:size]) if 0 < self.size < size else []
        return self.proofs.root(leaves[:size]), proof

    def send(self, size: int, root: bytes, proof: list[bytes], account: str | None = None, log_id: bytes | None = None):
        sender = account or self.world.anchorers[self.name]
        return self.world.log.send("anchor", log_id or self.id, size, root, proof, sender=sender)

    def try_call(self, size: int, root: bytes, proof: list[bytes]) -> None:
        self.world.log.read("anchor", self.id, size, root, proof, sender=self.world.anchorers[self.name])

    def anchor(self, size: int, leaves=LEAVES):
        sent = self.send(size, *self.prove(size, leaves))
        self.size = size
        return sent

    def head(self):
        return self.world.log.read("head", self.id)


def test_the_first_anchor_needs_no_proof(fire):
    sent = fire.anchor(5)
    head = fire.head()
    root, _ = fire.prove(5)
    assert (head.root, head.size, head.previousSize) == (root, 5, 0)
    assert (head.blockNumber, head.timestamp) == (fire.world.chain.block_number(), fire.world.chain.now())
    account = fire.world.anchorers["fire"].lower()
    assert sent.events == [
        ("Anchored", {"logId": FIRE, "size": 5, "root": root, "previousSize": 0, "account": account})
    ]


def test_a_log_without_anchors_has_an_empty_head(fire):
    head = fire.head()
    assert (head.root, head.size, head.previousSize, head.blockNumber, head.timestamp) == (bytes(32), 0, 0, 0, 0)


def test_every_anchored_size_is_answered_and_no_other(fire, refused):
    stood = {}
    for size in (1, 2, 7, 8, 21):
        fire.anchor(size)
        stood[size] = fire.head()
    for size, anchor in stood.items():
        assert fire.world.log.read("rootAt", FIRE, size) == anchor
    with refused("EvidenceLogNotAnchored", FIRE, 9):
        fire.world.log.read("rootAt", FIRE, 9)
    assert [stood[size].previousSize for size in (21, 8, 7, 2, 1)] == [8, 7, 2, 1, 0]


def test_the_heads_own_size_and_root_again_changes_nothing(fire):
    fire.anchor(3)
    before = fire.head()
    root, _ = fire.prove(3)
    assert fire.send(3, root, []).events == []
    assert fire.send(3, root, [OTHER]).events == [], "a retry carries the proof it was first sent with"
    assert fire.head() == before


def test_logs_do_not_touch_each_other(world, proofs):
    fire, urban = Log(world, proofs, "fire"), Log(world, proofs, "urban")
    fire.anchor(4)
    urban.anchor(9)
    fire.anchor(5)
    assert (fire.head().size, urban.head().size) == (5, 9)


@pytest.mark.parametrize("old", range(1, 20))
def test_every_consistency_proof_of_a_small_tree_and_no_other(fire, refused, proofs, old):
    fire.anchor(old)
    for new in range(old + 1, 21):
        root, proof = fire.prove(new)
        fire.try_call(new, root, proof)
        with refused("Rfc9162ProofTooShort"):
            fire.try_call(new, root, proof[:-1])
        with refused("Rfc9162ProofTooLong"):
            fire.try_call(new, root, [*proof, OTHER])
        for place in {0, len(proof) - 1}:
            with refused("EvidenceLogInconsistent"):
                fire.try_call(new, root, [*proof[:place], _flip(proof[place]), *proof[place + 1 :]])
        with refused("EvidenceLogInconsistent"):
            fire.try_call(new, _flip(root), proof)


def test_published_vectors_stand_on_chain(fire):
    leaves = [sha256(b"\x00" + entry).digest() for entry in CT_ENTRIES]
    for size, root in enumerate(CT_ROOTS, start=1):
        fire.anchor(size, leaves)
        assert fire.head().root == root
        for index in range(size):
            path = fire.proofs.inclusion(index, leaves[:size])
            anchor = fire.world.log.read("verifyInclusion", FIRE, size, leaves[index], index, path)
            assert (anchor.root, anchor.size) == (root, size)


INCLUSION_ATTACKS = {
    "another leaf": ("EvidenceLogNotIncluded", lambda leaf, index, path: (OTHER, index, path)),
    "another place": ("EvidenceLogNotIncluded", lambda leaf, index, path: (leaf, index - 1, path)),
    "a flipped node": ("EvidenceLogNotIncluded", lambda leaf, index, path: (leaf, index, [_flip(path[0]), *path[1:]])),
    "nodes swapped": ("EvidenceLogNotIncluded", lambda leaf, index, path: (leaf, index, path[::-1])),
    "a path that stops early": ("Rfc9162ProofTooShort", lambda leaf, index, path: (leaf, index, path[:-1])),
    "a path that goes on": ("Rfc9162ProofTooLong", lambda leaf, index, path: (leaf, index, [*path, OTHER])),
    "a path of a thousand nodes": ("Rfc9162ProofTooLong", lambda leaf, index, path: (leaf, index, [OTHER] * 1000)),
    "the size as index": ("Rfc9162IndexOutOfRange", lambda leaf, index, path: (leaf, 21, path)),
    "an interior node as leaf": ("Rfc9162ProofTooShort", lambda leaf, index, path: (path[-1], 1, path[-1:])),
}


@pytest.mark.parametrize("attack", INCLUSION_ATTACKS)
def test_inclusion_is_not_proven_by(attack, fire, refused):
    fire.anchor(21)
    error, change = INCLUSION_ATTACKS[attack]
    leaf, index, path = change(LEAVES[5], 5, fire.proofs.inclusion(5, LEAVES))
    with refused(error):
        fire.world.log.read("verifyInclusion", FIRE, 21, leaf, index, path)


def test_inclusion_is_asked_of_anchored_sizes_only(fire, refused):
    fire.anchor(21)
    with refused("EvidenceLogNotAnchored", FIRE, 20):
        fire.world.log.read("verifyInclusion", FIRE, 20, LEAVES[0], 0, fire.proofs.inclusion(0, LEAVES[:20]))


def _rewritten(fire: Log) -> list[bytes]:
    return [*LEAVES[:2], OTHER, *LEAVES[3:]]


def _anchor_as(account):
    return lambda fire: fire.send(9, *fire.prove(9), account=account(fire.world))


# From a head of 7 leaves. Each attack: the error it must meet, and the steps.
ATTACKS = {
    "roll the log back": ("EvidenceLogShrunk", lambda fire: fire.send(6, *fire.prove(6))),
    "roll back to one leaf": ("EvidenceLogShrunk", lambda fire: fire.send(1, LEAVES[0], [])),
    "empty the log": ("EvidenceLogEmptyTree", lambda fire: fire.send(0, bytes(32), [])),
    "show another root of the same size": ("EvidenceLogForked", lambda fire: fire.send(7, OTHER, [])),
    "rewrite a leaf and prove it as best one can": (
        "EvidenceLogInconsistent",
        lambda fire: fire.send(
            9, fire.proofs.root(_rewritten(fire)[:9]), fire.proofs.consistency(7, _rewritten(fire)[:9])
        ),
    ),
    "rewrite a leaf with the honest proof": (
        "EvidenceLogInconsistent",
        lambda fire: fire.send(9, fire.proofs.root(_rewritten(fire)[:9]), fire.prove(9)[1]),
    ),
    "grow without a proof": ("Rfc9162ProofTooShort", lambda fire: fire.send(9, fire.prove(9)[0], [])),
    "give a proof one node short": ("Rfc9162ProofTooShort", lambda fire: fire.send(9, *_cut(fire))),
    "give a proof one node long": (
        "Rfc9162ProofTooLong",
        lambda fire: fire.send(9, fire.prove(9)[0], [*fire.prove(9)[1], OTHER]),
    ),
    "give a proof of five hundred nodes": (
        "Rfc9162ProofTooLong",
        lambda fire: fire.send(9, fire.prove(9)[0], [OTHER] * 500),
    ),
    "claim a size of another shape": ("Rfc9162ProofTooShort", lambda fire: fire.send(17, *fire.prove(9))),
    "claim the largest size": ("Rfc9162ProofTooShort", lambda fire: fire.send(2**64 - 1, *fire.prove(9))),
    "use a proof from an older head": (
        "EvidenceLogInconsistent",
        lambda fire: fire.send(9, fire.prove(9)[0], fire.proofs.consistency(5, LEAVES[:9])),
    ),
    "anchor as a stranger": ("EvidenceLogNotAnchorer", _anchor_as(lambda world: world.stranger)),
    "anchor as the deployer": ("EvidenceLogNotAnchorer", _anchor_as(lambda world: world.deployer)),
    "anchor as another department": ("EvidenceLogNotAnchorer", _anchor_as(lambda world: world.anchorers["urban"])),
    "anchor as the department's voter": ("EvidenceLogNotAnchorer", _anchor_as(lambda world: world.governors["fire"])),
    "anchor a department that is not there": (
        "EvidenceLogDepartmentUnknown",
        lambda fire: fire.send(9, *fire.prove(9), log_id=NOBODY),
    ),
    "anchor under the empty id": (
        "EvidenceLogDepartmentUnknown",
        lambda fire: fire.send(9, *fire.prove(9), log_id=bytes(32)),
    ),
}


def _cut(fire: Log) -> tuple[bytes, list[bytes]]:
    root, proof = fire.prove(9)
    return root, proof[:-1]


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_chain_refuses_to(attack, fire, refused):
    fire.anchor(7)
    before = fire.head()
    error, steps = ATTACKS[attack]
    with refused(error):
        steps(fire)
    assert fire.head() == before
    fire.anchor(9)


def test_a_proof_does_not_tell_sizes_of_one_shape_apart(fire):
    """RFC 9162 leaves that to the signed checkpoint: 7 to 9 and 7 to 10 leaves take the same steps. So a verifier
    compares an anchor's size and root with the checkpoint's, never its root alone."""
    fire.anchor(7)
    fire.try_call(10, *fire.prove(9))


def test_a_first_anchor_with_a_proof_is_refused(fire, refused):
    with refused("Rfc9162ProofTooLong", 1):
        fire.send(3, fire.prove(3)[0], [OTHER])


def test_a_suspended_department_does_not_anchor_until_reinstated(fire, refused):
    fire.anchor(3)
    others = ["health", "market", "urban"]
    fire.world.vote(others, "suspend", FIRE)
    with refused("EvidenceLogDepartmentSuspended", FIRE):
        fire.anchor(4)
    with refused("EvidenceLogDepartmentSuspended", FIRE):
        fire.anchor(3)
    assert fire.head().size == 3, "what was anchored stays"
    fire.world.vote(others, "reinstate", FIRE)
    fire.anchor(4)


def test_an_anchor_account_serves_from_its_keys_opening_to_its_closing(fire, refused, key_use):
    world = fire.world
    account = world.stranger
    public_key, kid = world.chain.public_keys[account], sha256(b"second key").digest()
    opens = world.chain.now() + 1000
    governor = world.governors["fire"]
    world.consortium.send("registerKey", FIRE, kid, key_use["Anchor"], public_key, opens, sender=governor)
    with refused("EvidenceLogNotAnchorer"):
        fire.send(1, LEAVES[0], [], account=account)
    world.chain.warp(1000)
    fire.send(1, LEAVES[0], [], account=account)
    fire.size = 1
    fire.anchor(2)
    world.consortium.send("closeKey", FIRE, kid, opens + 2000, sender=governor)
    fire.send(3, *fire.prove(3), account=account)
    world.chain.warp(2000)
    with refused("EvidenceLogNotAnchorer"):
        fire.send(4, fire.prove(4)[0], [], account=account)


def _flip(node: bytes) -> bytes:
    return bytes([node[0] ^ 1]) + node[1:]


# ---- succession ----


def succeed(fire: Log) -> str:
    """Replaces the EvidenceLog by vote; returns the address of the one that was replaced."""
    before = fire.world.log
    fire.old = before
    fire.world.log = fire.world.succeed()
    return before.address


@pytest.fixture
def successor(fire):
    """The fire department's log after its EvidenceLog was replaced: anchored at 3 and 7 on the predecessor."""
    first = fire.world.log
    fire.anchor(3)
    fire.anchor(7)
    succeed(fire)
    yield fire
    fire.world.log = first


def test_heads_and_roots_carry_over(successor):
    assert successor.world.log.read("predecessor") == successor.old.address.lower()
    assert successor.head() == successor.old.read("head", FIRE)
    assert successor.head().size == 7
    assert successor.world.log.read("rootAt", FIRE, 3) == successor.old.read("rootAt", FIRE, 3)


def test_the_first_anchor_on_the_successor_extends_the_predecessors_head(successor):
    sent = successor.anchor(9)
    assert sent.events[0][1]["previousSize"] == 7
    assert [successor.world.log.read("rootAt", FIRE, size).size for size in (3, 7, 9)] == [3, 7, 9]
    successor.anchor(21)
    assert successor.head().previousSize == 9


def test_telling_the_successor_the_predecessors_head_changes_nothing(successor):
    root, _ = successor.prove(7)
    assert successor.send(7, root, []).events == []
    assert successor.head() == successor.old.read("head", FIRE)


def test_inclusion_is_proven_under_a_predecessors_anchor(successor, proofs):
    path = proofs.inclusion(2, LEAVES[:7])
    assert successor.world.log.read("verifyInclusion", FIRE, 7, LEAVES[2], 2, path).size == 7


def test_a_log_that_was_never_anchored_begins_on_the_successor(successor, proofs):
    urban = Log(successor.world, proofs, "urban")
    assert urban.head().size == 0
    urban.anchor(4)
    assert urban.head().size == 4


def test_succession_goes_on_and_on(successor, refused):
    first = successor.old
    successor.anchor(9)
    succeed(successor)
    successor.anchor(12)
    succeed(successor)
    assert first.read("head", FIRE).size == 7
    assert [successor.world.log.read("rootAt", FIRE, size).size for size in (3, 7, 9, 12)] == [3, 7, 9, 12]
    assert successor.head().size == 12
    with refused("EvidenceLogNotAnchored", FIRE, 8):
        successor.world.log.read("rootAt", FIRE, 8)


def _anchor_old(fire, size):
    root, proof = fire.prove(size)
    return fire.old.send("anchor", FIRE, size, root, proof, sender=fire.world.anchorers["fire"])


NO_NEW_HISTORY = {
    "begin the log anew": ("EvidenceLogShrunk", lambda f: f.send(1, LEAVES[0], [])),
    "begin it anew with as many entries": ("EvidenceLogForked", lambda f: f.send(7, OTHER, [])),
    "begin it anew with more entries": ("Rfc9162ProofTooShort", lambda f: f.send(9, OTHER, [])),
    "rewrite what the predecessor holds": (
        "EvidenceLogInconsistent",
        lambda f: f.send(9, *f.prove(9, [OTHER, *LEAVES[1:]])),
    ),
    "anchor on the predecessor, which was replaced": ("EvidenceLogNotCurrent", lambda f: _anchor_old(f, 9)),
}


@pytest.mark.parametrize("attack", NO_NEW_HISTORY)
def test_on_a_successor_nobody_can(attack, successor, refused):
    error, step = NO_NEW_HISTORY[attack]
    with refused(error):
        step(successor)


def test_a_successor_takes_nothing_before_it_is_named(fire, refused):
    fire.anchor(3)
    first, fire.world.log = fire.world.log, fire.world.succeed(name_it=False)
    with refused("EvidenceLogNotCurrent", first.address.lower()):
        fire.anchor(5)
    fire.world.log = first
    fire.anchor(5)
