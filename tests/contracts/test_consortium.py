"""Consortium: set-up, departments, keys and modules. Votes are in test_votes.py."""

from __future__ import annotations

from hashlib import sha256

import pytest

FIRE = b"fire".ljust(32, b"\0")
URBAN = b"urban".ljust(32, b"\0")
NEW = b"water-affairs".ljust(32, b"\0")
KID = sha256(b"kid").digest()
KID2 = sha256(b"kid 2").digest()
ED25519 = sha256(b"a public key").digest()
ADMITTED, SUSPENDED = 1, 2
NOBODY = "0x" + "00" * 20


def admission(id_=NEW, origin="yunxi.example/water", governor="0x" + "77" * 20):
    return (id_, "水务局", origin, "https://water.example", governor)


def register(world, kid=KID, use=1, public_key=ED25519, valid_from=None, *, department=FIRE, sender=None):
    start = world.chain.now() if valid_from is None else valid_from
    account = sender or world.governors["fire"]
    return world.consortium.send("registerKey", department, kid, use, public_key, start, sender=account)


# ---- set-up ----


def test_the_deployer_admits_founders_and_closes_set_up(founding):
    consortium = founding.consortium
    assert consortium.read("setupOpen")
    assert consortium.read("deployer") == founding.deployer.lower()
    sent = consortium.send("admit", *admission(), sender=founding.deployer)
    assert sent.events[0][0] == "DepartmentAdmitted"
    department = consortium.read("department", NEW)
    assert (department.state, department.admittedAt) == (ADMITTED, founding.chain.now())
    assert (department.name, department.logOrigin) == ("水务局", "yunxi.example/water")
    assert consortium.read("departmentIds")[-1] == NEW
    assert consortium.read("admittedCount") == 5
    founding.close_setup(4)
    assert not consortium.read("setupOpen")
    assert consortium.read("votesNeeded") == 4


def test_the_deployer_may_suspend_and_reinstate_during_set_up(founding):
    founding.consortium.send("suspend", FIRE, sender=founding.deployer)
    assert founding.consortium.read("department", FIRE).state == SUSPENDED
    founding.consortium.send("reinstate", FIRE, sender=founding.deployer)
    assert founding.consortium.read("department", FIRE).state == ADMITTED


SETUP_CALLS = {
    "admit": admission(),
    "suspend": (FIRE,),
    "reinstate": (FIRE,),
    "setMinimumVotes": (2,),
    "closeSetup": (2,),
    "setModule": (b"EvidenceLog".ljust(32, b"\0"), "0x" + "77" * 20),
    "registerKey": (FIRE, KID, 1, ED25519, 2**40),
    "closeKey": (FIRE, KID, 2**40),
    "rotateKey": (FIRE, KID, KID2, ED25519, 2**40),
    "setNodeUrl": (FIRE, "https://evil.example"),
    "setGovernor": (FIRE, "0x" + "77" * 20),
}


@pytest.mark.parametrize("function", SETUP_CALLS)
def test_while_set_up_is_open_nobody_but_the_deployer_calls(function, founding, refused):
    for account in (founding.stranger, founding.governors["fire"], founding.anchorers["fire"]):
        with refused("ConsortiumUnauthorised", account.lower()):
            founding.consortium.send(function, *SETUP_CALLS[function], sender=account)


@pytest.mark.parametrize("function", SETUP_CALLS)
def test_once_set_up_is_closed_the_deployer_cannot_call(function, world, refused):
    with refused("ConsortiumUnauthorised", world.deployer.lower()):
        world.consortium.send(function, *SETUP_CALLS[function], sender=world.deployer)


VOTED_CALLS = ["admit", "suspend", "reinstate", "setMinimumVotes", "closeSetup", "setModule"]


@pytest.mark.parametrize("function", VOTED_CALLS)
def test_once_set_up_is_closed_no_single_department_can_call(function, world, refused):
    with refused("ConsortiumUnauthorised", world.governors["fire"].lower()):
        world.consortium.send(function, *SETUP_CALLS[function], sender=world.governors["fire"])


@pytest.mark.parametrize(("minimum", "departments"), [(0, 4), (1, 4), (5, 4), (65535, 4)])
def test_set_up_does_not_close_with_a_senseless_minimum(minimum, departments, founding, refused):
    with refused("ConsortiumMinimumVotes", minimum, departments):
        founding.close_setup(minimum)


def test_set_up_does_not_close_with_one_department(founding, refused):
    for name in ("health", "market", "urban"):
        founding.consortium.send("suspend", name.encode().ljust(32, b"\0"), sender=founding.deployer)
    with refused("ConsortiumMinimumVotes", 2, 1):
        founding.close_setup()


# ---- departments ----

BAD_IDS = {
    "empty": b"",
    "one letter": b"a",
    "a capital": b"Fire",
    "a digit first": b"1fire",
    "a hyphen first": b"-fire",
    "an underscore": b"fire_dept",
    "not ASCII": "消防".encode(),
    "a zero byte inside": b"fi\0re",
    "a trailing byte after the padding": b"fire".ljust(31, b"\0") + b"x",
    "thirty-two letters": b"a" * 32,
}
GOOD_IDS = {"two letters": b"ab", "thirty-one letters": b"a" * 31, "digits and hyphens": b"a-1-"}


@pytest.mark.parametrize("case", BAD_IDS)
def test_a_department_id_is_refused_that_is(case, founding, refused):
    id_ = BAD_IDS[case].ljust(32, b"\0")
    with refused("ConsortiumDepartmentIdMalformed", id_):
        founding.consortium.send("admit", *admission(id_), sender=founding.deployer)


@pytest.mark.parametrize("case", GOOD_IDS)
def test_a_department_id_may_be(case, founding):
    founding.consortium.send("admit", *admission(GOOD_IDS[case].ljust(32, b"\0")), sender=founding.deployer)


def test_what_belongs_to_one_department_is_not_given_to_another(founding, refused):
    deployer, taken = founding.deployer, founding.governors["urban"]
    with refused("ConsortiumDepartmentExists", FIRE):
        founding.consortium.send("admit", *admission(FIRE), sender=deployer)
    with refused("ConsortiumOriginTaken", "yunxi.example/fire"):
        founding.consortium.send("admit", *admission(origin="yunxi.example/fire"), sender=deployer)
    with refused("ConsortiumGovernorTaken", taken.lower(), URBAN):
        founding.consortium.send("admit", *admission(governor=taken), sender=deployer)


def test_a_department_is_not_admitted_without_origin_or_governor(founding, refused):
    with refused("ConsortiumOriginEmpty", NEW):
        founding.consortium.send("admit", *admission(origin=""), sender=founding.deployer)
    with refused("ConsortiumGovernorMissing", NEW):
        founding.consortium.send("admit", *admission(governor="0x" + "00" * 20), sender=founding.deployer)


def test_states_change_only_from_their_opposite(founding, refused):
    consortium, deployer = founding.consortium, founding.deployer
    with refused("ConsortiumDepartmentNotSuspended", FIRE, ADMITTED):
        consortium.send("reinstate", FIRE, sender=deployer)
    consortium.send("suspend", FIRE, sender=deployer)
    with refused("ConsortiumDepartmentNotAdmitted", FIRE, SUSPENDED):
        consortium.send("suspend", FIRE, sender=deployer)
    for function in ("suspend", "reinstate"):
        with refused("ConsortiumDepartmentUnknown", NEW):
            consortium.send(function, NEW, sender=deployer)
    with refused("ConsortiumDepartmentUnknown", NEW):
        consortium.read("department", NEW)


def test_a_department_moves_its_node_and_its_governor(world, refused):
    old, new = world.governors["fire"], world.stranger
    sent = world.consortium.send("setNodeUrl", FIRE, "https://two.example", sender=old)
    assert sent.events == [("NodeUrlChanged", {"id": FIRE, "nodeUrl": "https://two.example", "by": old.lower()})]
    world.consortium.send("setGovernor", FIRE, new, sender=old)
    assert world.consortium.read("department", FIRE).governor == new.lower()
    assert world.consortium.read("departmentOfGovernor", old) == bytes(32)
    assert world.consortium.read("departmentOfGovernor", new) == FIRE
    with refused("ConsortiumUnauthorised", old.lower()):
        world.consortium.send("setNodeUrl", FIRE, "https://three.example", sender=old)
    with refused("ConsortiumGovernorTaken", world.governors["urban"].lower(), URBAN):
        world.consortium.send("setGovernor", FIRE, world.governors["urban"], sender=new)


def test_a_department_cannot_act_for_another(world, refused):
    urban = world.governors["urban"]
    for function in ("setNodeUrl", "setGovernor", "registerKey", "closeKey", "rotateKey"):
        with refused("ConsortiumUnauthorised", urban.lower()):
            world.consortium.send(function, *SETUP_CALLS[function], sender=urban)


def test_an_anchor_account_cannot_act_for_its_department(world, refused):
    with refused("ConsortiumUnauthorised"):
        register(world, sender=world.anchorers["fire"])


# ---- keys ----


def test_a_key_is_kept_with_its_interval(world, key_use):
    start = world.chain.now()
    sent = register(world)
    key = world.consortium.read("key", KID)
    assert (key.department, key.use, key.validFrom, key.validTo, key.publicKey) == (FIRE, 1, start, 0, ED25519)
    assert sent.events[0][1]["by"] == world.governors["fire"].lower()
    assert world.consortium.read("keyIds", FIRE)[-1] == KID


def test_a_request_key_is_the_seventh_use_and_valid_for_no_other(world, key_use):
    register(world, use=key_use["Request"])
    now = world.consortium.read("key", KID).validFrom
    uses = [use for use in range(8) if world.consortium.read("isKeyValidAt", FIRE, KID, use, now)]
    assert uses == [key_use["Request"]] == [7]


def test_rotation_closes_one_interval_and_opens_the_next_at_one_instant(world):
    register(world)
    start = world.consortium.read("key", KID).validFrom
    change = world.chain.now() + 100
    arguments = (FIRE, KID, KID2, sha256(ED25519).digest(), change)
    world.consortium.send("rotateKey", *arguments, sender=world.governors["fire"])
    old, new = world.consortium.read("key", KID), world.consortium.read("key", KID2)
    assert (old.validTo, new.validFrom, new.validTo, new.use) == (change, change, 0, 1)

    def valid(kid, time):
        return world.consortium.read("isKeyValidAt", FIRE, kid, 1, time)

    assert [valid(KID, time) for time in (start - 1, start, change - 1, change, 2**63)] == [0, 1, 1, 0, 0]
    assert [valid(KID2, time) for time in (change - 1, change, 2**63)] == [0, 1, 1]
    assert list(world.consortium.read("keyIds", FIRE)[-2:]) == [KID, KID2], "the old interval is kept for ever"


def test_a_key_is_valid_for_its_own_department_and_use_only(world):
    register(world)
    now = world.chain.now()
    asked = [(FIRE, KID, 1), (URBAN, KID, 1), (FIRE, KID, 2), (FIRE, KID2, 1), (FIRE, KID, 0), (FIRE, bytes(32), 0)]
    assert [world.consortium.read("isKeyValidAt", *case, now) for case in asked] == [1, 0, 0, 0, 0, 0]


KEY_ATTACKS = {
    "register a key that begins an hour ago": (
        "ConsortiumKeyBackdated",
        lambda world: register(world, valid_from=world.chain.now() - 3600),
    ),
    "register a key that begins in 1970": ("ConsortiumKeyBackdated", lambda world: register(world, valid_from=0)),
    "bind a kid to another key": (
        "ConsortiumKeyExists",
        lambda world: (register(world), register(world, public_key=sha256(ED25519).digest())),
    ),
    "bind another department's kid": (
        "ConsortiumKeyExists",
        lambda world: (
            register(world),
            register(world, department=URBAN, sender=world.governors["urban"]),
        ),
    ),
    "bind a kid again after closing it": (
        "ConsortiumKeyExists",
        lambda world: (register(world), close(world, 1), world.chain.warp(100), register(world)),
    ),
    "close a key in the past": ("ConsortiumKeyClosedInThePast", lambda world: (register(world), close(world, -10))),
    "close a key at 0, as if it were open": (
        "ConsortiumKeyClosedInThePast",
        lambda world: (register(world), close(world, -world.chain.now())),
    ),
    "close a key before it opens": (
        "ConsortiumKeyClosedInThePast",
        lambda world: (register(world, valid_from=world.chain.now() + 1000), close(world, 500)),
    ),
    "lengthen a closed key": (
        "ConsortiumKeyAlreadyClosed",
        lambda world: (register(world), close(world, 100), close(world, 200)),
    ),
    "shorten a key that has ended": (
        "ConsortiumKeyClosedInThePast",
        lambda world: (register(world), close(world, 100), world.chain.warp(200), close(world, -150)),
    ),
    "revive a key that has ended": (
        "ConsortiumKeyAlreadyClosed",
        lambda world: (register(world), close(world, 100), world.chain.warp(200), close(world, 50)),
    ),
    "close another department's key": (
        "ConsortiumKeyUnknown",
        lambda world: (register(world), close(world, 100, URBAN, world.governors["urban"])),
    ),
    "close a key that is not there": ("ConsortiumKeyUnknown", lambda world: close(world, 100)),
    "rotate into a kid that is taken": (
        "ConsortiumKeyExists",
        lambda world: (register(world), register(world, kid=KID2), rotate(world)),
    ),
    "rotate in the past": ("ConsortiumKeyClosedInThePast", lambda world: (register(world), rotate(world, -10))),
    "register without a kid": ("ConsortiumKeyIdMissing", lambda world: register(world, kid=bytes(32))),
    "register without a use": ("ConsortiumKeyUseUnknown", lambda world: register(world, use=0)),
    "register an empty key": ("ConsortiumPublicKeyLength", lambda world: register(world, public_key=b"")),
    "register 4,097 bytes": ("ConsortiumPublicKeyLength", lambda world: register(world, public_key=bytes(4097))),
    "register a compressed anchor key": (
        "ConsortiumPublicKeyLength",
        lambda world: register(world, use=4, public_key=bytes(33)),
    ),
    "register another department's anchor account": (
        "ConsortiumAnchorAccountTaken",
        lambda world: register(world, use=4, public_key=world.chain.public_keys[world.anchorers["urban"]]),
    ),
}


def close(world, after, department=FIRE, sender=None):
    account = sender or world.governors["fire"]
    return world.consortium.send("closeKey", department, KID, world.chain.now() + after, sender=account)


def rotate(world, after=100):
    arguments = (FIRE, KID, KID2, sha256(ED25519).digest(), world.chain.now() + after)
    return world.consortium.send("rotateKey", *arguments, sender=world.governors["fire"])


@pytest.mark.parametrize("attack", KEY_ATTACKS)
def test_a_department_cannot(attack, world, refused):
    error, steps = KEY_ATTACKS[attack]
    with refused(error):
        steps(world)


def test_the_deployer_cannot_backdate_either(founding, refused):
    with refused("ConsortiumKeyBackdated"):
        register(founding, valid_from=founding.chain.now() - 3600, sender=founding.deployer)


def test_clocks_may_differ_by_minutes(world):
    register(world, valid_from=world.chain.now() - 290)


def test_a_closing_key_can_be_closed_sooner(world):
    register(world)
    close(world, 1000)
    close(world, 10)
    assert world.consortium.read("key", KID).validTo <= world.chain.now() + 10


def test_a_key_that_never_opened_can_be_cancelled(world):
    opens = world.chain.now() + 1000
    register(world, valid_from=opens)
    world.consortium.send("closeKey", FIRE, KID, opens, sender=world.governors["fire"])
    assert not world.consortium.read("isKeyValidAt", FIRE, KID, 1, opens)


def test_a_suspended_department_closes_keys_but_opens_none(world, refused):
    register(world)
    world.vote(["health", "market", "urban"], "suspend", FIRE)
    with refused("ConsortiumDepartmentNotAdmitted", FIRE, SUSPENDED):
        register(world, kid=KID2)
    with refused("ConsortiumDepartmentNotAdmitted", FIRE, SUSPENDED):
        rotate(world)
    close(world, 10)
    assert world.consortium.read("key", KID).validTo != 0


def test_unknown_keys_are_refused_not_answered(world, refused):
    with refused("ConsortiumKeyUnknown"):
        world.consortium.read("key", KID)


# ---- anchoring accounts and modules ----


def test_who_anchors_for_whom(world):
    fire, urban = world.anchorers["fire"], world.anchorers["urban"]
    read = world.consortium.read
    assert read("isAnchorer", FIRE, fire)
    assert not read("isAnchorer", FIRE, urban)
    assert not read("isAnchorer", FIRE, world.governors["fire"])
    assert not read("isAnchorer", NEW, fire)
    assert read("standing", FIRE, fire) == (ADMITTED, True)
    assert read("standing", NEW, fire) == (0, False)


def test_modules_are_contracts_and_change_by_event(founding, refused):
    name = b"SharingGrants".ljust(32, b"\0")
    log, deployer = founding.log.address.lower(), founding.deployer
    assert founding.consortium.read("module", name) == NOBODY
    with refused("ConsortiumModuleWithoutCode", name, founding.stranger.lower()):
        founding.consortium.send("setModule", name, founding.stranger, sender=deployer)
    sent = founding.consortium.send("setModule", name, log, sender=deployer)
    assert sent.events == [("ModuleChanged", {"name": name, "previous": NOBODY, "module": log})]
    assert founding.consortium.read("module", name) == log


# How a new EvidenceLog could lose the history of the one that stands: what the contract put forward is.
HISTORIES_LOST = {
    "an EvidenceLog without a predecessor": lambda w: w.chain.deploy("EvidenceLog", w.consortium.address, NOBODY),
    "an EvidenceLog that carries on another": lambda w: w.chain.deploy(
        "EvidenceLog", w.consortium.address, w.succeed(name_it=False).address
    ),
    "a contract that knows of no predecessor": lambda w: w.chain.deploy("SharingGrants", w.consortium.address),
}


@pytest.mark.parametrize("attack", HISTORIES_LOST)
def test_no_vote_replaces_the_evidence_log_by(attack, world, refused):
    name, other = b"EvidenceLog".ljust(32, b"\0"), HISTORIES_LOST[attack](world)
    with refused("ConsortiumNotSuccessor"):
        world.vote(list(world.governors), "setModule", name, other.address)
    assert world.consortium.read("module", name) == world.log.address.lower()


def test_the_deployer_does_not_replace_it_by_a_stranger_either(founding, refused):
    other = founding.chain.deploy("EvidenceLog", founding.consortium.address, NOBODY)
    current = founding.log.address.lower()
    with refused("ConsortiumNotSuccessor", other.address.lower(), current, NOBODY):
        founding.consortium.send("setModule", b"EvidenceLog".ljust(32, b"\0"), other.address, sender=founding.deployer)


def test_a_vote_does_not_go_back_to_the_predecessor(world, refused):
    first = world.log.address
    world.succeed()
    with refused("ConsortiumNotSuccessor"):
        world.vote(["fire", "health", "market"], "setModule", b"EvidenceLog".ljust(32, b"\0"), first)
