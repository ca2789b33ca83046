"""VerifiableDraw: nobody steers it alone, nobody blocks it, and the result is recomputed here with hashlib alone."""

from __future__ import annotations

from hashlib import sha256

import pytest

HOUR = 3600
PLAN = sha256(b"joint inspection plan 2026-7").digest()
ROSTER = [sha256(b"\0" + f"blinded entry {number}".encode()).digest() for number in range(40)]
NAMES = ("fire", "health", "urban")
SECRETS = {name: sha256(f"secret of {name}".encode()).digest() for name in (*NAMES, "market")}
COMMITTING, REVEALING, DRAWN, VOID = range(4)


def dept(name: str) -> bytes:
    return name.encode("ascii").ljust(32, b"\0")


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Drawing:
    """One draw of 5 out of 40 among three departments, opened by market."""

    def __init__(self, world, proofs) -> None:
        self.world, self.proofs = world, proofs
        self.contract = world.chain.deploy("VerifiableDraw", world.consortium.address)
        self.domain = word(int(world.chain.tester.backend.chain.chain_id)) + word(int(self.contract.address, 16))

    def plan(self, **changes):
        now = self.world.chain.now()
        fields = {
            "planId": PLAN,
            "rosterRoot": self.proofs.root(ROSTER),
            "rosterSize": len(ROSTER),
            "commitBy": now + HOUR,
            "revealBy": now + 2 * HOUR,
            "count": 5,
            "participants": [dept(name) for name in NAMES],
        }
        return tuple((fields | changes).values())

    def open(self, *, sender=None, organiser="market", **changes):
        account = sender or self.world.governors["market"]
        return self.contract.send("open", dept(organiser), self.plan(**changes), sender=account)

    def commitment(self, name: str, draw: int = 0) -> bytes:
        return sha256(self.domain + word(draw) + dept(name) + SECRETS[name]).digest()

    def commit(self, name: str, commitment: bytes | None = None, *, sender=None, draw: int = 0):
        value = self.commitment(name) if commitment is None else commitment
        account = sender or self.world.anchorers[name]
        return self.contract.send("commit", draw, dept(name), value, sender=account)

    def reveal(self, name: str, secret: bytes | None = None, *, sender=None):
        account = sender or self.world.anchorers[name]
        return self.contract.send("reveal", 0, dept(name), secret or SECRETS[name], sender=account)

    def finish(self, sender=None):
        return self.contract.send("finish", 0, sender=sender or self.world.stranger)

    def all_commit(self):
        for name in NAMES:
            self.commit(name)

    def wait(self, seconds: int = HOUR):
        self.world.chain.warp(seconds)

    def selection(self):
        return self.contract.read("selection", 0)

    def recompute(self, revealed) -> list[int]:
        """As IVerifiableDraw's NatSpec says, from what stands on chain."""
        draw = self.contract.read("drawAt", 0)
        parts = b"".join(dept(name) + (SECRETS[name] if name in revealed else bytes(32)) for name in NAMES)
        seed = sha256(self.domain + word(0) + draw.rosterRoot + draw.entropy + parts).digest()
        assert draw.seed == seed
        places: list[int] = []
        number = 0
        while len(places) < draw.count:
            place = int.from_bytes(sha256(seed + word(number)).digest(), "big") % draw.rosterSize
            places += [] if place in places else [place]
            number += 1
        return places


@pytest.fixture
def drawing(world, proofs):
    made = Drawing(world, proofs)
    made.open()
    return made


def test_all_commit_all_reveal_and_anyone_recomputes(drawing):
    drawing.all_commit()
    for name in NAMES:
        drawing.reveal(name)
    sent = drawing.finish()
    assert [name for name, _ in sent.events] == ["DrawFinished"]
    assert list(drawing.selection()) == drawing.recompute(NAMES)
    assert len(set(drawing.selection())) == 5


def test_who_does_not_reveal_is_recorded_and_does_not_block(drawing, refused):
    drawing.all_commit()
    drawing.wait()
    drawing.reveal("fire")
    drawing.reveal("urban")
    with refused("VerifiableDrawRevealOpen"):
        drawing.finish()
    drawing.wait()
    sent = drawing.finish()
    assert sent.events[0] == ("DrawMissed", {"draw": 0, "department": dept("health"), "committed": True})
    assert list(drawing.selection()) == drawing.recompute(["fire", "urban"])


def test_who_does_not_commit_is_recorded_and_does_not_block(drawing):
    drawing.commit("fire")
    drawing.wait()
    drawing.reveal("fire")
    drawing.wait()
    missed = [event for name, event in drawing.finish().events if name == "DrawMissed"]
    assert [event["committed"] for event in missed] == [False, False]
    assert list(drawing.selection()) == drawing.recompute(["fire"])


def test_the_entropy_is_the_block_before_the_first_reveal_and_stays(drawing):
    drawing.all_commit()
    before = drawing.world.chain.block_number()
    drawing.reveal("fire")
    drawing.reveal("urban")
    block = drawing.world.chain.tester.get_block_by_number(before)
    assert drawing.contract.read("drawAt", 0).entropy.hex() == block["hash"].removeprefix("0x")


def test_a_draw_in_which_nobody_revealed_is_void(drawing, refused):
    drawing.all_commit()
    drawing.wait(2 * HOUR)
    assert drawing.finish().events[-1][0] == "DrawVoided"
    with refused("VerifiableDrawNotDrawn", 0, VOID):
        drawing.selection()


def test_every_place_can_be_drawn(world, proofs):
    drawing = Drawing(world, proofs)
    drawing.open(count=40)
    drawing.all_commit()
    for name in NAMES:
        drawing.reveal(name)
    drawing.finish()
    assert sorted(drawing.selection()) == list(range(40))


def test_a_selected_entry_is_proven_against_the_roster(drawing, refused):
    drawing.all_commit()
    for name in NAMES:
        drawing.reveal(name)
    drawing.finish()
    selected = drawing.selection()
    for place in selected:
        path = drawing.proofs.inclusion(place, ROSTER)
        drawing.contract.read("verifySelected", 0, place, ROSTER[place], path)
        with refused("VerifiableDrawNotInRoster"):
            drawing.contract.read("verifySelected", 0, place, ROSTER[place - 1], path)
    other = next(place for place in range(40) if place not in selected)
    with refused("VerifiableDrawNotSelected", 0, other):
        drawing.contract.read("verifySelected", 0, other, ROSTER[other], drawing.proofs.inclusion(other, ROSTER))


def test_the_contracts_commitment_is_the_documented_one(drawing):
    assert drawing.contract.read("commitmentOf", 0, dept("fire"), SECRETS["fire"]) == drawing.commitment("fire")


def _revealed(drawing):
    drawing.all_commit()
    drawing.wait()
    drawing.reveal("fire")


ATTACKS = {
    "reveal while others may still commit": (
        "VerifiableDrawCommitOpen",
        lambda d: (d.commit("fire"), d.reveal("fire")),
    ),
    "commit after seeing a secret": (
        "VerifiableDrawCommitOver",
        lambda d: (d.commit("fire"), d.wait(), d.reveal("fire"), d.commit("urban")),
    ),
    "commit twice": ("VerifiableDrawAlreadyCommitted", lambda d: (d.commit("fire"), d.commit("fire", PLAN))),
    "commit to nothing": ("VerifiableDrawCommitmentMissing", lambda d: d.commit("fire", bytes(32))),
    "reveal another secret": (
        "VerifiableDrawOtherSecret",
        lambda d: (d.all_commit(), d.reveal("fire", PLAN)),
    ),
    "reveal without having committed": (
        "VerifiableDrawOtherSecret",
        lambda d: (d.commit("fire"), d.wait(), d.reveal("urban")),
    ),
    "copy another's commitment and its secret": (
        "VerifiableDrawOtherSecret",
        lambda d: (
            d.commit("fire"),
            d.commit("urban", d.commitment("fire")),
            d.wait(),
            d.reveal("fire"),
            d.reveal("urban", SECRETS["fire"]),
        ),
    ),
    "reveal twice": ("VerifiableDrawAlreadyRevealed", lambda d: (_revealed(d), d.reveal("fire"))),
    "reveal after the deadline": (
        "VerifiableDrawRevealOver",
        lambda d: (d.all_commit(), d.wait(2 * HOUR), d.reveal("fire")),
    ),
    "reveal after the draw": (
        "VerifiableDrawFinished",
        lambda d: (_revealed(d), d.wait(), d.finish(), d.reveal("urban")),
    ),
    "finish twice": ("VerifiableDrawFinished", lambda d: (_revealed(d), d.wait(), d.finish(), d.finish())),
    "finish before the deadline": ("VerifiableDrawRevealOpen", lambda d: (_revealed(d), d.finish())),
    "read the result before it is drawn": ("VerifiableDrawNotDrawn", lambda d: (_revealed(d), d.selection())),
    "commit for another department": (
        "VerifiableDrawUnauthorised",
        lambda d: d.commit("fire", sender=d.world.governors["urban"]),
    ),
    "reveal for another department": (
        "VerifiableDrawUnauthorised",
        lambda d: (d.all_commit(), d.reveal("fire", sender=d.world.stranger)),
    ),
    "commit without being a participant": ("VerifiableDrawNotParticipant", lambda d: d.commit("market")),
    "commit to a draw that is not there": ("VerifiableDrawUnknown", lambda d: d.commit("fire", draw=1)),
    "repeat a draw till it suits": ("VerifiableDrawPlanTaken", lambda d: d.open()),
    "open as another department": ("VerifiableDrawUnauthorised", lambda d: d.open(organiser="urban")),
    "draw nothing": ("VerifiableDrawCount", lambda d: d.open(planId=bytes(32), count=0)),
    "draw more than there are": ("VerifiableDrawCount", lambda d: d.open(planId=bytes(32), count=41)),
    "draw 129": ("VerifiableDrawCount", lambda d: d.open(planId=bytes(32), count=129, rosterSize=1000)),
    "leave no time to commit": ("VerifiableDrawTimes", lambda d: d.open(planId=bytes(32), commitBy=0)),
    "leave no time to reveal": ("VerifiableDrawTimes", lambda d: d.open(planId=bytes(32), revealBy=0)),
    "draw alone": ("VerifiableDrawParticipants", lambda d: d.open(planId=bytes(32), participants=[dept("market")])),
    "count a participant twice": (
        "VerifiableDrawParticipantTwice",
        lambda d: d.open(planId=bytes(32), participants=[dept("fire"), dept("fire")]),
    ),
    "invite a department that is not there": (
        "VerifiableDrawNotAdmitted",
        lambda d: d.open(planId=bytes(32), participants=[dept("fire"), dept("nobody")]),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nobody_can(attack, drawing, refused):
    error, steps = ATTACKS[attack]
    with refused(error):
        steps(drawing)


def test_a_suspended_department_takes_no_part(drawing, refused):
    drawing.world.vote(["health", "market", "urban"], "suspend", dept("fire"))
    with refused("VerifiableDrawNotAdmitted", dept("fire"), 2):
        drawing.commit("fire")
