"""Sealed intake: what a node takes from a terminal without reading it, and what it refuses, by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from ledger.crypto.envelope import open_payload
from ledger.errors import Conflict, HistoryRefused, Malformed, RecordRefused
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.sealed_format import (
    MAX_RECORDS,
    SealedBatch,
    SealedBlob,
    SealedKek,
    SealedSubmission,
    decode_batch,
    decode_outcomes,
    encode_batch,
    encode_outcomes,
)
from ledger.store.models import keks, terminals
from ledger.submission import Acknowledged, Outcome, Refused
from tests.fixtures.matters import publish_matter
from tests.fixtures.parts import Parts
from tests.fixtures.sealing import opened, signed
from tests.fixtures.terminals import NOW, Field, TerminalTemplate, finding, make_field

Change = Callable[[Field, SealedSubmission], SealedSubmission]


@pytest.fixture
def out(parts: Parts, tmp_path: Path, terminal_template: TerminalTemplate) -> Iterator[Field]:
    made = make_field(parts, tmp_path / "terminal", terminal_template)
    made.terminal.officers._check_pin = lambda *_: None  # type: ignore[method-assign]  # stretching takes longer than the rest
    yield made
    made.terminal.close()


def sealed(out: Field, number: int = 1) -> SealedSubmission:
    """A genuine submission of the terminal's."""
    out.seal(number)
    return out.terminal._queue.submission(out.terminal._queue.items("waiting")[-1].seq)


def refused(outcome: Outcome) -> RecordRefused:
    assert isinstance(outcome, Refused), outcome
    return outcome.error


def resigned(
    out: Field,
    submission: SealedSubmission,
    *,
    header: dict[str, Any] | None = None,
    secret: Ed25519PrivateKey | None = None,
    **claims: Any,
) -> SealedSubmission:
    """The same with other claims (None: left out), signed by the terminal's own key unless another is given."""
    old_header, payload = opened(submission.statement)
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    key = secret or Ed25519PrivateKey.from_private_bytes(out.terminal.keys.secret("statement"))
    return replace(submission, statement=signed({**old_header, **(header or {})}, payload, key))


def own_key(out: Field, submission: SealedSubmission) -> SealedSubmission:
    signer = out.parts.agent.statement_signer("fire")
    secret = out.parts.agent.held("fire", "statement")[-1].secret
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return resigned(out, submission, header={"kid": signer.kid}, secret=key)


def row(out: Field, submission: SealedSubmission, **values: Any) -> SealedSubmission:
    """Not the submission is changed, but what the node knows of the terminal."""
    with out.parts.database.writing() as connection:
        connection.execute(update(terminals).values(**values))
    return submission


def flipped(data: bytes, byte: int) -> bytes:
    changed = bytearray(data)
    changed[byte] ^= 1
    return bytes(changed)


REFUSALS: dict[str, tuple[Change, str, str]] = {
    "an empty key": (lambda o, s: replace(s, key=""), "bad-key", "printable"),
    "a key of 201 characters": (lambda o, s: replace(s, key="k" * 201), "bad-key", "200"),
    "a key of the service": (lambda o, s: replace(s, key="yunxi:read/1"), "bad-key", "service's own"),
    "no statement": (lambda o, s: replace(s, statement=b"x"), "statement", "three parts"),
    "a statement of another kind": (lambda o, s: resigned(o, s, header={"typ": "JWT"}), "statement", "typ must be"),
    "a header that holds more": (lambda o, s: resigned(o, s, header={"note": "甲"}), "statement", "members"),
    "a claim that holds more": (lambda o, s: resigned(o, s, officers="甲一"), "statement", "members"),
    "another digest": (lambda o, s: resigned(o, s, _sd_alg="md5"), "statement", "sha-256"),
    "no digests": (lambda o, s: resigned(o, s, _sd=[]), "statement", "parts"),
    "too many digests": (
        lambda o, s: resigned(o, s, _sd=sorted(b64url_encode(os.urandom(32)) for _ in range(99))),
        "statement",
        "parts",
    ),
    "digests out of order": (
        lambda o, s: resigned(o, s, _sd=opened(s.statement)[1]["_sd"][::-1]),
        "statement",
        "sorted",
    ),
    "a subject in clear": (lambda o, s: resigned(o, s, subj=["91350100M000100Y43"]), "statement", "blind indexes"),
    "a subject twice": (lambda o, s: resigned(o, s, subj=["A" * 22, "A" * 22]), "statement", "each once"),
    "too many subjects": (
        lambda o, s: resigned(o, s, subj=sorted(b64url_encode(os.urandom(16)) for _ in range(51))),
        "statement",
        "at most 50",
    ),
    "another department": (lambda o, s: resigned(o, s, iss="health"), "department", "'health'"),
    "a key that nobody enrolled": (
        lambda o, s: resigned(o, s, header={"kid": "A" * 43}, secret=Ed25519PrivateKey.generate()),
        "unknown-terminal",
        "enrol it",
    ),
    "the node's own key": (own_key, "not-a-terminal", "own key"),
    "a revoked terminal": (lambda o, s: row(o, s, revoked_at=int(NOW)), "revoked", "pda-07 was revoked"),
    "another's signature": (lambda o, s: resigned(o, s, secret=Ed25519PrivateKey.generate()), "signature", "wrong"),
    "a changed statement": (
        lambda o, s: replace(s, statement=s.statement[:-86] + resigned(o, s, iat=int(NOW) - 1).statement[-86:]),
        "signature",
        "wrong",
    ),
    "a date in the future": (lambda o, s: resigned(o, s, iat=int(NOW) + 301), "sealed-ahead", "again later"),
    "a date before its enrolment": (lambda o, s: resigned(o, s, iat=int(NOW) - 271), "key-not-valid", "enrolled"),
    "a date too long ago": (lambda o, s: row(o, s, valid_from=0, offline_s=-1), "sealed-too-long-ago", "days ago"),
    "an unknown type": (lambda o, s: resigned(o, s, type="weather.report"), "unknown-type", "weather.report"),
    "an unknown version": (lambda o, s: resigned(o, s, v=9), "unknown-type", "version 9"),
    "no matter, where the type asks for one": (lambda o, s: resigned(o, s, matter=None), "schema", "'matter'"),
    "a matter that is none": (lambda o, s: resigned(o, s, matter="A 1"), "schema", "$.matter must be a matter code"),
    "an amended record that is none": (lambda o, s: resigned(o, s, amends="12"), "schema", "$.amends"),
    "a record of the service's own": (
        lambda o, s: resigned(o, s, type="record.read"),
        "reserved-type",
        "only the service",
    ),
    "a decision, whose case only the node sees whole": (
        lambda o, s: resigned(o, s, type="decision.made", case="望消立〔2026〕1号"),
        "manifest",
        "at the node",
    ),
    "a case of two lines": (lambda o, s: resigned(o, s, case="a\nb"), "schema", "$.case"),
    "no payload": (lambda o, s: replace(s, payload=b""), "payload", "not an AES-256-GCM payload"),
    "a payload of an unknown suite": (lambda o, s: replace(s, payload=flipped(s.payload, 3)), "payload", "not an"),
    "a payload that is too large": (lambda o, s: replace(s, payload=s.payload + bytes(4 << 20)), "payload", "at most"),
    "a short data key": (lambda o, s: replace(s, wrapped_key=s.wrapped_key[:-1]), "wrapped-key", "40 bytes"),
    "a short mark": (lambda o, s: replace(s, mark=b""), "wrapped-key", "16"),
    "another recipient": (
        lambda o, s: replace(s, kek=replace(s.kek, recipient="A" * 43)),
        "recipient",
        "another key",
    ),
    "a short KEK": (lambda o, s: replace(s, kek=replace(s.kek, wrapped=b"x")), "kek", "80 bytes"),
    "an attachment that was not uploaded": (
        lambda o, s: replace(s, blobs=(SealedBlob("0" * 32, "00" * 32, 9),)),
        "unknown-upload",
        "not whole",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_is_refused(out: Field, name: str) -> None:
    change, reason, words = REFUSALS[name]
    good, bad = sealed(out, 1), change(out, sealed(out, 2))
    if reason not in ("revoked", "sealed-too-long-ago"):  # those are about the terminal, not about one record
        first, second = out.intake.submit("fire", [bad, good])
        assert isinstance(second, Acknowledged)
        out.parts.check_log(1)
    else:
        (first,) = out.intake.submit("fire", [bad])
        out.parts.check_log(0)
    assert refused(first).reason == reason
    assert words in str(refused(first))


def test_every_reason_is_explained() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")
    for _, reason, _ in REFUSALS.values():
        assert f"`{reason}`" in documented, reason


def test_the_matter_must_have_been_held_by_the_time_of_sealing(out: Field) -> None:
    begins = datetime.fromtimestamp(NOW, UTC).date() + timedelta(days=1)
    old, new, unlisted = sealed(out, 1), sealed(out, 2), sealed(out, 3)
    one = out.intake
    publish_matter(out.parts.database, out.parts.intake, NOW, begins + timedelta(days=1))
    error = refused(one.submit("fire", [old])[0])
    assert error.reason == "matter-not-held"
    assert "did not hold matter 330299-XF-001 on" in str(error)
    # published while the intake runs; a day begins in the east first, and an ended matter may be the event's own
    publish_matter(out.parts.database, out.parts.intake, NOW, begins, begins)
    assert isinstance(one.submit("fire", [new])[0], Acknowledged)
    assert refused(one.submit("fire", [resigned(out, unlisted, matter="M-2")])[0]).reason == "matter-not-held"


# ---- once in, once stored ----------------------------------------------------------------------------------------


def test_a_batch_comes_in_in_order_and_again_is_known(out: Field) -> None:
    batch = [sealed(out, number) for number in range(300)]
    first = out.intake.submit("fire", batch)
    assert [(o.index, o.new) for o in first if isinstance(o, Acknowledged)] == [(n, True) for n in range(300)]
    again = out.intake.submit("fire", batch)
    assert [(o.index, o.new) for o in again if isinstance(o, Acknowledged)] == [(n, False) for n in range(300)]
    out.parts.check_log(300)
    with out.parts.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(keks).where(keks.c.terminal.is_not(None))) == 1
    assert out.parts.audit().sealed_elsewhere == 300


def test_a_record_twice_in_a_batch(out: Field) -> None:
    one = sealed(out)
    first, second = out.intake.submit("fire", [one, one])
    assert (first.index, second.index) == (0, 0)  # type: ignore[union-attr]
    out.parts.check_log(1)


def test_the_same_key_with_another_mark_is_a_conflict(out: Field) -> None:
    one = sealed(out)
    out.intake.submit("fire", [one])
    (again,) = out.intake.submit("fire", [replace(one, mark=flipped(one.mark, 0))])
    assert isinstance(refused(again), Conflict)


def test_a_taken_id_is_a_conflict(out: Field) -> None:
    one = sealed(out)
    out.intake.submit("fire", [one])
    (again,) = out.intake.submit("fire", [replace(one, key="another")])
    assert isinstance(refused(again), Conflict)
    two = sealed(out, 2)
    first, second = out.intake.submit("fire", [replace(two, key=key) for key in ("a", "b")])
    assert isinstance(first, Acknowledged)
    assert isinstance(refused(second), Conflict)


def test_one_name_for_two_keks_is_refused(out: Field) -> None:
    one, two = sealed(out, 1), sealed(out, 2)
    other = replace(two, kek=replace(two.kek, wrapped=flipped(two.kek.wrapped, 70)))
    first, second = out.intake.submit("fire", [one, other])
    assert isinstance(first, Acknowledged)
    assert refused(second).reason == "kek"
    (later,) = out.intake.submit("fire", [other])
    assert refused(later).reason == "kek"


def test_it_shares_the_log_with_the_nodes_own_intake(out: Field) -> None:
    from tests.fixtures.records import submissions

    own = out.parts.again(out.node_clock)
    own.take(submissions(0, 3))
    out.intake.submit("fire", [sealed(out, 1)])
    own.take(submissions(3, 3))
    out.intake.submit("fire", [sealed(out, 2)])
    own.check_log(8)
    assert own.audit().good
    own.close()


def test_a_tampered_payload_is_named_once_the_department_looks(out: Field) -> None:
    from ledger.audit import LogAudit
    from ledger.keks import KekRing
    from ledger.store.models import vault

    one = sealed(out)
    out.intake.submit("fire", [one])
    with out.parts.database.writing() as connection:
        connection.execute(update(vault).values(payload=flipped(one.payload, -1)))
    assert out.parts.audit().good  # its form is right, and the node has no key to see more
    with out.parts.database.reading() as connection:
        ring = KekRing(out.parts.agent, out.recipient)
        log = out.parts.log()
        found = LogAudit(connection, log, out.parts.agent, ring, out.parts.blobs, None).run()
    assert dict(found.counts) == {"payload-changed": 1}
    assert found.findings[0].record_id == opened(one.statement)[1]["jti"]
    with out.parts.database.writing() as connection:
        connection.execute(update(vault).values(payload=b"gone"))
    assert dict(out.parts.audit().counts) == {"payload-changed": 1}


def test_the_audit_opens_everything_with_the_lent_key(out: Field) -> None:
    from ledger.audit import LogAudit
    from ledger.keks import KekRing

    out.intake.submit("fire", [sealed(out, number) for number in range(5)])
    with out.parts.database.reading() as connection:
        ring = KekRing(out.parts.agent, out.recipient)
        found = LogAudit(connection, out.parts.log(), out.parts.agent, ring, out.parts.blobs, None).run()
    assert (found.good, found.payloads, found.sealed_elsewhere) == (True, 5, 0)


def test_an_unknown_log_and_a_halted_one(out: Field) -> None:
    with pytest.raises(HistoryRefused):
        out.intake.submit("nobody", [sealed(out)])


def test_an_upload_serves_one_record_only_and_must_be_the_one_named(out: Field) -> None:
    uploads = out.transport._uploads
    data = b"YXS" + os.urandom(997)
    upload = uploads.begin("fire", len(data), sealed=True)
    done = uploads.append("fire", upload.id, 0, [data])
    blob = SealedBlob(upload.id, str(done.sha256), 1_000)
    wrong, right, late = (sealed(out, number) for number in (1, 2, 3))
    batch = [
        replace(wrong, blobs=(replace(blob, sha256="00" * 32),)),
        replace(right, blobs=(blob,)),
        replace(late, blobs=(blob,)),
    ]
    first, second, third = out.intake.submit("fire", batch)
    assert refused(first).reason == "upload-digest"
    assert isinstance(second, Acknowledged)
    assert refused(third).reason == "unknown-upload"


def test_an_upload_that_the_node_sealed_itself_is_not_taken(out: Field) -> None:
    uploads = out.transport._uploads
    upload = uploads.begin("fire", 3)
    done = uploads.append("fire", upload.id, 0, [b"abc"])
    (first,) = out.intake.submit("fire", [replace(sealed(out), blobs=(SealedBlob(upload.id, str(done.sha256), 3),))])
    assert refused(first).reason == "unknown-upload"


# ---- the JSON between them ---------------------------------------------------------------------------------------


def test_a_batch_survives_the_wire(out: Field) -> None:
    batch = SealedBatch("fire", (sealed(out, 1), replace(sealed(out, 2), blobs=(SealedBlob("ab", "00" * 32, 7),))))
    assert decode_batch(encode_batch(batch)) == batch


def test_outcomes_survive_the_wire() -> None:
    outcomes: list[Outcome] = [
        Acknowledged("a", "0193510b-8c00-7abc-8def-0123456789ab", 3, new=True),
        Refused("b", RecordRefused("revoked", "终端")),
        Refused("c", Conflict("conflict", "taken")),
    ]
    found = decode_outcomes(encode_outcomes(outcomes), 3)
    assert found[0] == outcomes[0]
    assert [(type(o.error), o.error.reason, str(o.error)) for o in found[1:] if isinstance(o, Refused)] == [
        (RecordRefused, "revoked", "终端"),
        (Conflict, "conflict", "taken"),
    ]
    with pytest.raises(Malformed):
        decode_outcomes(encode_outcomes(outcomes), 2)


SAMPLE = SealedSubmission("k", bytes(16), b"a.b.c", bytes(40), bytes(40), SealedKek(bytes(16), "r" * 43, bytes(80)))


def bent(change: Callable[[dict[str, Any]], Any]) -> bytes:
    members = json.loads(encode_batch(SealedBatch("fire", (replace(SAMPLE, blobs=(SealedBlob("u", "00" * 32, 1),)),))))
    change(members)
    return json.dumps(members).encode()


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(members: Any) -> None:
        for step in path[:-1]:
            members = members[step]
        if value is None:
            del members[path[-1]]
        else:
            members[path[-1]] = value

    return change


BENT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no department": at("department", value=None),
    "another member": at("more", value=1),
    "records that are no list": at("records", value={}),
    "too many records": lambda members: members.update(records=members["records"] * (MAX_RECORDS + 1)),
    "a record that is no object": at("records", 0, value=3),
    "a record without a mark": at("records", 0, "mark", value=None),
    "a member more in a record": at("records", 0, "plaintext", value="x"),
    "a statement that is a number": at("records", 0, "statement", value=1),
    "a statement that is not ASCII": at("records", 0, "statement", value="é"),
    "a payload that is not base64url": at("records", 0, "payload", value="+/=="),
    "a payload that is too long": at("records", 0, "payload", value="A" * 6_000_000),
    "a short mark": at("records", 0, "mark", value="AA"),
    "a long data key": at("records", 0, "wrapped_key", value="A" * 56),
    "a kek without a name": at("records", 0, "kek", "name", value=None),
    "a blob of a negative size": at("records", 0, "blobs", 0, "size", value=-1),
    "a blob's size that is true": at("records", 0, "blobs", 0, "size", value=True),
    "a blob's digest in upper case": at("records", 0, "blobs", 0, "sha256", value="AA" * 32),
    "too many blobs": lambda members: members["records"][0].update(blobs=members["records"][0]["blobs"] * 51),
}


@pytest.mark.parametrize("name", BENT)
def test_a_batch_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        decode_batch(bent(BENT[name]))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        decode_batch(data)


def test_the_department_opens_what_the_submission_holds(out: Field) -> None:
    from ledger.crypto.envelope import terminal_kek_info, unwrap_data_key, unwrap_kek

    one = sealed(out)
    kid = opened(one.statement)[0]["kid"]
    kek = unwrap_kek(one.kek.wrapped, out.recipient, terminal_kek_info("fire", kid, one.kek.name))
    joined = open_payload(unwrap_data_key(kek, one.wrapped_key), one.payload, one.statement)
    units = {json.loads(b64url_decode(text, "x"))[1] for text in joined.decode().split("~")[:-1]}
    assert {"capture", "officers", "result"} <= units
    assert finding()["observation"].encode() not in one.payload
