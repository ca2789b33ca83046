"""SharingGrants: only the owner grants and revokes, nothing is granted that is not named, history stays."""

from __future__ import annotations

import pytest

DAY = 86_400


def term(name: str) -> bytes:
    return name.encode("ascii").ljust(32, b"\0")


FIRE, URBAN, MARKET = term("fire"), term("urban"), term("market")


@pytest.fixture
def grants(world):
    return world.chain.deploy("SharingGrants", world.consortium.address)


def terms(world, **changes):
    now = world.chain.now()
    fields = {
        "grantee": URBAN,
        "validFrom": now,
        "validTo": now + 30 * DAY,
        "perDay": 50,
        "recordTypes": [term("inspection.finding"), term("licence.issued")],
        "units": [term("subject"), term("finding")],
        "purposes": [term("joint-inspection")],
        "caseKinds": [term("construction-waste")],
    }
    return tuple((fields | changes).values())


def give(world, grants, *, owner=FIRE, sender=None, **changes):
    return grants.send("grant", owner, terms(world, **changes), sender=sender or world.governors["fire"])


def request(world, **changes):
    fields = {
        "grantee": URBAN,
        "recordType": term("inspection.finding"),
        "unit": term("subject"),
        "purpose": term("joint-inspection"),
        "caseKind": term("construction-waste"),
        "time": world.chain.now(),
    }
    return tuple((fields | changes).values())


def test_a_grant_stands_as_it_was_given(world, grants):
    given = terms(world)
    sent = grants.send("grant", FIRE, given, sender=world.governors["fire"])
    grant = grants.read("grantAt", 0)
    assert (grant.owner, grant.grantedAt, grant.revokedAt) == (FIRE, world.chain.now(), 0)
    assert [list(x) if isinstance(x, tuple) else x for x in grant.terms] == list(given)
    name, event = sent.events[0]
    assert (name, event["id"], event["owner"], event["grantee"]) == ("Granted", 0, FIRE, URBAN)
    assert grants.read("grantsBy", FIRE) == grants.read("grantsTo", URBAN) == (0,)
    assert grants.read("grantCount") == 1


def test_a_departments_node_may_grant_with_its_anchor_account(world, grants):
    give(world, grants, sender=world.anchorers["fire"])


# What is asked instead of what was granted.
NOT_GRANTED = {
    "by another department": {"grantee": MARKET},
    "of another record type": {"recordType": term("decision.made")},
    "another unit": {"unit": term("officers")},
    "for another purpose": {"purpose": term("curiosity")},
    "in another kind of case": {"caseKind": term("noise")},
    "before it begins": {"time": 0},
    "after it ends": {"time": 2**63},
}


def test_a_grant_permits_what_it_names(world, grants):
    give(world, grants)
    assert grants.read("permits", 0, request(world))
    assert grants.read("permits", 0, request(world, recordType=term("licence.issued"), unit=term("finding")))


@pytest.mark.parametrize("case", NOT_GRANTED)
def test_a_grant_does_not_permit_what_is_asked(case, world, grants):
    give(world, grants)
    assert not grants.read("permits", 0, request(world, **NOT_GRANTED[case]))


def test_a_grant_ends_at_its_boundary(world, grants):
    start = world.chain.now()
    give(world, grants, validFrom=start, validTo=start + DAY)
    allowed = [grants.read("permits", 0, request(world, time=start + offset)) for offset in (-1, 0, DAY - 1, DAY)]
    assert allowed == [False, True, True, False]


def test_revoking_ends_a_grant_now_and_keeps_its_history(world, grants, refused):
    give(world, grants)
    before = world.chain.now()
    world.chain.warp(100)
    sent = grants.send("revoke", 0, sender=world.governors["fire"])
    revoked = world.chain.now()
    assert sent.events[0][0] == "Revoked"
    assert grants.read("grantAt", 0).revokedAt == revoked
    assert grants.read("permits", 0, request(world, time=before)), "what was extracted before stays allowed"
    assert not grants.read("permits", 0, request(world, time=revoked))
    with refused("SharingGrantsAlreadyRevoked", 0, revoked):
        grants.send("revoke", 0, sender=world.governors["fire"])


def test_suspension_stops_grants_on_either_side_and_revoking_stays_possible(world, grants, refused):
    give(world, grants)
    world.vote(["health", "market", "urban"], "suspend", FIRE)
    assert not grants.read("permits", 0, request(world))
    with refused("SharingGrantsNotAdmitted", FIRE, 2):
        give(world, grants)
    with refused("SharingGrantsNotAdmitted", FIRE, 2):
        give(world, grants, owner=MARKET, sender=world.governors["market"], grantee=FIRE)
    grants.send("revoke", 0, sender=world.governors["fire"])


def test_a_suspended_grantee_is_permitted_nothing_by_a_standing_grant(world, grants):
    give(world, grants)
    assert grants.read("permits", 0, request(world))
    world.vote(["fire", "health", "market"], "suspend", URBAN)
    assert not grants.read("permits", 0, request(world))


ATTACKS = {
    "a stranger grants": ("SharingGrantsUnauthorised", lambda w, g: give(w, g, sender=w.stranger)),
    "the deployer grants": ("SharingGrantsUnauthorised", lambda w, g: give(w, g, sender=w.deployer)),
    "the grantee grants to itself": ("SharingGrantsUnauthorised", lambda w, g: give(w, g, sender=w.governors["urban"])),
    "the grantee revokes": (
        "SharingGrantsUnauthorised",
        lambda w, g: (give(w, g), g.send("revoke", 0, sender=w.governors["urban"])),
    ),
    "an owner that is not there": ("SharingGrantsUnauthorised", lambda w, g: give(w, g, owner=term("nobody"))),
    "the empty owner": ("SharingGrantsUnauthorised", lambda w, g: give(w, g, owner=bytes(32))),
    "a grantee that is not there": ("SharingGrantsNotAdmitted", lambda w, g: give(w, g, grantee=term("nobody"))),
    "oneself": ("SharingGrantsToItself", lambda w, g: give(w, g, grantee=FIRE)),
    "no record type": ("SharingGrantsNothingNamed", lambda w, g: give(w, g, recordTypes=[])),
    "no unit": ("SharingGrantsNothingNamed", lambda w, g: give(w, g, units=[])),
    "no purpose": ("SharingGrantsNothingNamed", lambda w, g: give(w, g, purposes=[])),
    "no kind of case": ("SharingGrantsNothingNamed", lambda w, g: give(w, g, caseKinds=[])),
    "none a day": ("SharingGrantsNothingNamed", lambda w, g: give(w, g, perDay=0)),
    "an empty purpose": ("SharingGrantsTermEmpty", lambda w, g: give(w, g, purposes=[term("x"), bytes(32)])),
    "sixty-five units": ("SharingGrantsTooManyTerms", lambda w, g: give(w, g, units=[term("x")] * 65)),
    "since yesterday": ("SharingGrantsBackdated", lambda w, g: give(w, g, validFrom=w.chain.now() - DAY)),
    "for ever": ("SharingGrantsValidity", lambda w, g: give(w, g, validTo=0)),
    "for no time": ("SharingGrantsValidity", lambda w, g: give(w, g, validTo=w.chain.now())),
    "for no time in the future": (
        "SharingGrantsValidity",
        lambda w, g: give(w, g, validFrom=w.chain.now() + DAY, validTo=w.chain.now() + DAY),
    ),
    "for a time already over": (
        "SharingGrantsValidity",
        lambda w, g: give(w, g, validFrom=w.chain.now() - 100, validTo=w.chain.now() - 50),
    ),
    "a grant that is not there": ("SharingGrantsUnknown", lambda w, g: g.send("revoke", 0, sender=w.governors["fire"])),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_refused_is(attack, world, grants, refused):
    error, steps = ATTACKS[attack]
    with refused(error):
        steps(world, grants)
