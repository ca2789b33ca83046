"""Enrolling terminals on a real chain: keys, votes, rotation beside them, and the files that people carry."""

from __future__ import annotations

import json
from datetime import date

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ledger.enrolment import Enrolment, Request, draw_code, parse_recipient, recipient_file
from ledger.errors import KeyRefused, Malformed, Refusal
from ledger.formats.encoding import b64url_encode
from ledger.governance import close_setup, key_rotation
from ledger.node import Node
from ledger.rotation import rotate_key
from ledger.terminals import enrol, find_request_key, read_terminals, revoke
from ledger.trust import export_trust
from tests.fixtures.matters import publish_matter

RECIPIENT = X25519PrivateKey.generate()


def request(name: str = "pda-01", department: str = "fire") -> tuple[Request, X25519PrivateKey]:
    keys = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
    transport = X25519PrivateKey.generate()
    return Request(department, name, *keys, transport.public_key().public_bytes_raw()), transport


def enrolled(node: Node, asked: Request, code: str) -> bytes:
    return enrol(node, asked, code, RECIPIENT.public_key(), "https://node.example", 10)


def test_a_terminal_is_registered_once_and_told_what_it_must_know(own_node: Node) -> None:
    (asked, transport), code = request(), draw_code()
    file = enrolled(own_node, asked, code)
    again = enrolled(own_node, asked, code)  # as after a crash, or a file that was lost
    for each in (file, again):
        found = Enrolment.open(each, asked, code, transport)
        assert (found.department, found.name, found.offline_s) == ("fire", "pda-01", 10 * 86_400)
        assert found.index_key == own_node.agent.index_key()
        assert found.recipient == RECIPIENT.public_key().public_bytes_raw()
        assert own_node.agent.index_key() not in each
        assert found.matters == {"version": 0, "periods": {}}
    publish_matter(own_node.database, own_node.intake, own_node.clock(), date(2024, 1, 1))
    found = Enrolment.open(enrolled(own_node, asked, code), asked, code, transport)
    assert found.matters == {"version": 1, "periods": {"330299-XF-001": [["2024-01-01", "9999-12-31"]]}}
    with own_node.database.reading() as connection:
        (terminal,) = read_terminals(connection)
        assert find_request_key(connection, terminal.request_kid) == terminal
        assert find_request_key(connection, terminal.kid) is None
    fire = next(department for department in export_trust(own_node).departments if department.id == "fire")
    key = next(key for key in fire.keys if key.kid == terminal.kid)
    assert (key.use, key.valid_from, key.valid_to) == ("statement", terminal.valid_from, None)


def test_by_its_own_governor_once_set_up_is_closed(own_node: Node) -> None:
    close_setup(own_node, 2)
    (asked, _), code = request(), draw_code()
    enrolled(own_node, asked, code)
    revoked = revoke(own_node, "fire", "pda-01")
    assert revoked.revoked_at is not None
    assert revoke(own_node, "fire", "pda-01").revoked_at == revoked.revoked_at
    fire = next(department for department in export_trust(own_node).departments if department.id == "fire")
    key = next(key for key in fire.keys if key.kid == revoked.kid)
    assert key.valid_to is not None
    # what was taken before the revocation, by a clock as far ahead as is taken, stays inside the interval
    assert key.valid_to > revoked.revoked_at + 300
    with pytest.raises(KeyRefused, match="was revoked"):
        enrolled(own_node, asked, code)


def test_who_cannot_be_enrolled(own_node: Node) -> None:
    (asked, _), code = request(), draw_code()
    enrolled(own_node, asked, code)
    with pytest.raises(Refusal, match="has had a terminal pda-01"):
        enrolled(own_node, request()[0], code)
    with pytest.raises(Refusal, match="no log of department"):
        enrolled(own_node, request(department="water")[0], code)
    with pytest.raises(KeyRefused, match="another recipient"):
        enrol(own_node, asked, code, X25519PrivateKey.generate().public_key(), "https://node.example", 10)
    with pytest.raises(Refusal, match="no terminal 'pda-02'"):
        revoke(own_node, "fire", "pda-02")


def test_the_departments_own_key_is_the_one_that_rotates(own_node: Node) -> None:
    own_node = Node.open(own_node.settings.directory)  # with keys of its own: the other's are every test's
    (asked, _), code = request(), draw_code()
    own = own_node.agent.statement_signer("fire").kid
    enrolled(own_node, asked, code)
    public = b64url_encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(Refusal, match="--old"):
        key_rotation(own_node, "fire", "statement", public, int(own_node.clock()) + 1_000)
    assert key_rotation(own_node, "fire", "statement", public, int(own_node.clock()) + 1_000, own)
    assert rotate_key(own_node, "fire", "statement").old == own
    own_node.close()


# ---- the files ---------------------------------------------------------------------------------------------------


def test_the_request_is_bound_to_the_code() -> None:
    asked, code = request()[0], draw_code()
    assert Request.parse(asked.serialize(code), code.lower().replace("-", " ")) == asked
    for other in (draw_code(), "0" * 20):
        with pytest.raises(KeyRefused, match="the code is not the one"):
            Request.parse(asked.serialize(code), other)
    with pytest.raises(Malformed):
        Request.parse(asked.serialize(code), "123")


@pytest.mark.parametrize("member", ["department", "name", "statement", "request", "enrolment"])
def test_a_swapped_request_is_noticed(member: str) -> None:
    asked, code = request()[0], draw_code()
    members = json.loads(asked.serialize(code))
    members[member] = json.loads(request("other", "health")[0].serialize(code))[member]
    with pytest.raises(KeyRefused):
        Request.parse(json.dumps(members).encode(), code)


def test_a_swapped_enrolment_is_noticed(own_node: Node) -> None:
    (asked, transport), code = request(), draw_code()
    file = enrolled(own_node, asked, code)
    # somebody who has the request file, but not the code, makes the terminal an enrolment with a recipient of their own
    evil = Enrolment("https://evil.example", "fire", "pda-01", bytes(32), bytes(32), {}, {}, 0, 1)
    evil_file = evil.seal(asked, draw_code())
    with pytest.raises(KeyRefused, match="not made for this terminal"):
        Enrolment.open(evil_file, asked, code, transport)
    with pytest.raises(KeyRefused):
        Enrolment.open(file, asked, code, X25519PrivateKey.generate())
    members = json.loads(file)
    members["sealed"] = members["sealed"][:-8] + "AAAAAAAA"
    with pytest.raises(KeyRefused):
        Enrolment.open(json.dumps(members).encode(), asked, code, transport)


BAD_FILES = {
    "nothing": b"",
    "another format": b'{"format": "yunxi-recipient", "v": 1}',
    "a later version": b'{"format": "yunxi-terminal-request", "v": 2}',
    "no keys": b'{"format": "yunxi-terminal-request", "v": 1, "department": "fire", "name": "a"}',
    "a department that is none": b'{"format": "yunxi-terminal-request", "v": 1, "department": "Fire!", "name": "a"}',
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_request(name: str) -> None:
    with pytest.raises(Malformed):
        Request.parse(BAD_FILES[name], draw_code())


def test_recipient_files() -> None:
    file = recipient_file("fire", RECIPIENT.public_key())
    assert parse_recipient(file, "fire").public_bytes_raw() == RECIPIENT.public_key().public_bytes_raw()
    with pytest.raises(KeyRefused):
        parse_recipient(file, "health")
    members = json.loads(file)
    members["kid"] = "A" * 43
    with pytest.raises(Malformed):
        parse_recipient(json.dumps(members).encode(), "fire")
