"""What both verifiers are given: the attack tables, trust files, bundles, odd JSON, damage."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ledger.formats import jwk
from ledger.formats.checkpoint import add_signatures
from ledger.formats.cosignature import MAX_TIME, cosign
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.note import ED25519, Signature, VerifierKey
from ledger.formats.sdjwt import disclosure_digest
from ledger.formats.trust import Log, LogKey, Trust
from tests.attacks import test_verifier_attacks as attacks
from tests.formats import test_strictjson, test_texts, test_trust
from tests.verify import test_chain_evidence as chained
from tests.verify import test_timestamps as stamped
from tests.verify import timestamp_vectors
from tests.verify.factory import (
    DAY,
    PHOTO,
    START,
    Sealed,
    department,
    disclose,
    evidence,
    extra_of,
    key,
    log,
    public_of,
    seal,
    signing_key,
    trust,
    trust_rotated,
    witness,
)
from tests.verify.sealed import ENGINES, VALIDATORS, address, made, trust_of

FLIPS = 120


@dataclass(frozen=True)
class Vector:
    """One call of a verifier."""

    name: str
    files: dict[str, bytes]
    trust: bytes
    options: frozenset[str] = frozenset()
    """`--allow-unlogged`."""


def vectors() -> Iterator[Vector]:
    """All of them, with names that are unique."""
    yield from _attacks()
    yield from _chained()
    yield from _shown()
    yield from _curves()
    yield from _bundles()
    yield from _stamped()
    yield from _trust_files()
    yield from _json()
    yield from _damaged()


def _pair(name: str, given: tuple[bytes, bytes | None], trusted: Trust | bytes | None = None, **more: bytes) -> Vector:
    presentation, receipt = given
    files = {"a.sd-jwt": presentation} | ({} if receipt is None else {"a.tlog-proof": receipt}) | more
    data = trusted if isinstance(trusted, bytes) else (trusted or trust()).serialize()
    return Vector(name, files, data)


def good() -> dict[str, bytes]:
    """The good record, its receipt and its photo."""
    record, state = evidence()
    return {"a.sd-jwt": record.present(), "a.tlog-proof": state.receipt(5), "exit.png": PHOTO}


def good_on_chain(engine: str) -> dict[str, bytes]:
    """The same with anchor evidence."""
    anchor = {"a.tlog-proof": chained.good_receipt(engine), "x.anchor.json": chained.good_file(engine)}
    return good() | anchor


def _attacks() -> Iterator[Vector]:
    for attack in attacks.ATTACKS:
        yield _pair(f"attack: {attack.__name__}", attack())


def _chained() -> Iterator[Vector]:
    record, state = evidence()
    for engine in ENGINES:
        trusted = trust_of(engine)
        for name, attack in chained.ATTACKS.items():
            file, named = attack(engine)
            given = (record.present(), named.receipt_of(state, 5))
            yield _pair(f"{engine}: {name}", given, trusted, **{"x.anchor.json": file})
        for name, file in chained.GARBAGE.items():
            files = good_on_chain(engine) | {"x.anchor.json": file}
            yield Vector(f"{engine}: garbage, {name}", files, trusted.serialize())
        yield Vector(f"{engine}: good", good_on_chain(engine), trusted.serialize())
        for threshold in (0, 4):
            changed = trust_of(engine, threshold=threshold).serialize()
            yield Vector(f"{engine}: threshold {threshold}", good_on_chain(engine), changed)
        for name, unknown in chained.BAD_VALIDATORS.items():
            bad = trust_of(engine, unknown=unknown).serialize()
            yield Vector(f"{engine}: validators, {name}", good_on_chain(engine), bad)
    keys = trust_of("qbft", unknown={"keys": [chained.validator_jwk(n) for n in range(VALIDATORS)]})
    yield Vector("validators with keys", good_on_chain("qbft"), keys.serialize())
    yield Vector("embedded chain", good_on_chain("qbft"), trust_of("embedded").serialize())
    named = trust_of("qbft", unknown={"names": {address(n): f"法院{n}" for n in range(VALIDATORS)}})
    yield Vector("validators with names", good_on_chain("qbft"), named.serialize())
    other = made("qbft", log([seal(number=1).ascii])).file()
    yield Vector("evidence of another log", good_on_chain("qbft") | {"x.anchor.json": other}, named.serialize())


def _shown() -> Iterator[Vector]:
    record, state = evidence()
    for units in (("place",), ("place", "officers"), ("attachment-1",)):
        yield _pair(f"shown: {units}", (record.present(*units), state.receipt(5)))
    yield _pair("shown: nothing", (record.ascii + b"~", state.receipt(5)))
    bare = seal(units={})
    yield _pair("a record without units", (bare.present(), log([bare.ascii]).receipt(0)))
    yield _pair("not anchored", (record.present(), replace(state.proof(5), extra=None).serialize()))
    plain = trust(witnesses=(), quorum=0)
    yield _pair("no witnesses", (record.present(), state.receipt(5)), plain)
    yield _pair("without a receipt", (record.present(), None))
    yield Vector("without a receipt, allowed", good() | {"a.tlog-proof": b""}, trust().serialize(), _ALLOW)
    for name, trusted in _keys_over_time():
        yield _pair(f"keys: {name}", (record.present(), state.receipt(5)), trusted)
    rotated = extra_of("fire", state.checkpoint, signer="fire log 2")
    yield _pair("an anchor by the new key", (record.present(), replace(state, extra=rotated).receipt(5)), _rotated())
    for name, text in (test_texts.SHOWN | test_texts.NOT_SHOWN).items():
        if not any(0xD800 <= ord(c) < 0xE000 for c in text):
            document = json.loads(trust().serialize())
            document["departments"][0]["name"]["zh"] = document["departments"][0]["operator"] = text
            shown = seal(units={"finding": {"said": text}}, payload={"matter": text or "x"})
            given = (shown.present(), log([shown.ascii]).receipt(0))
            yield _pair(f"texts in the trust file: {name}", given, json.dumps(document).encode())
            yield _pair(f"texts in a record: {name}", given)
    for name, operator in _SAME_HANDS.items():
        own = (replace(witness("court.example/witness"), operator=operator), witness("notary.example/witness"))
        departments = (replace(department("fire"), operator="District Data Bureau"), department("market"))
        for quorum in (1, 2):
            trusted = trust(departments=departments, witnesses=own, quorum=quorum)
            yield _pair(f"operators: {name}, {quorum} needed", (record.present(), state.receipt(5)), trusted)
    for name, operators in (("same", ("fire", "fire")), ("apart", ("fire", "market")), ("unknown", (None, None))):
        departments = tuple(
            replace(department(d), operator=o) for d, o in zip(("fire", "market"), operators, strict=True)
        )
        own = (replace(witness("court.example/witness"), operator="fire"), witness("notary.example/witness"))
        trusted = trust(departments=departments, witnesses=own, quorum=1)
        yield _pair(f"operators: {name}", (record.present(), state.receipt(5)), trusted)
    for time in (0, START - DAY, 253_402_300_799, MAX_TIME):
        yield _pair(f"witness's clock {time}", (record.present(), _cosigned_at(time)), trust(quorum=1))
    lines = [Signature(f"future{n}.example", b"\x01\x02\x03\x04", bytes(n + 1)).line for n in range(20)]
    noted = replace(state.proof(5), checkpoint=add_signatures(state.checkpoint, lines)).serialize()
    yield _pair("unknown signature lines", (record.present(), noted))
    for name, members in _CONTENT.items():
        strange = seal(units={"finding": members})
        yield _pair(f"content: {name}", (strange.present(), log([strange.ascii]).receipt(0)))


_SAME_HANDS = {
    "in small letters": "district data bureau",
    "with more space": "District  Data Bureau ",
    "in wide letters": "Ｄistrict Data Bureau",
    "another one": "District Data Office",
    "both names, as the chain's registry has them": "消防救援大队 | Fire and Rescue Department",
}
_ALLOW = frozenset({"--allow-unlogged"})
_CONTENT: dict[str, dict[str, Any]] = {
    "numbers": {"a": 1, "b": -0.0, "c": 1e16, "d": 1.5e-7, "e": True, "f": None, "g": 2**53 - 1, "h": [[], {}]},
    "names that JavaScript knows": {"__proto__": "x", "constructor": {"toString": 1}, "10": "b", "9": "a"},
    "characters that move the cursor": {"a": "\x1b[31m\u202e\ufeff\x00", "\u2028": "\U0001f600"},
    "long": {"a": "云" * 5_000},
}


def _keys_over_time() -> Iterator[tuple[str, Trust]]:
    fire, market = department("fire"), department("market")
    for ended in (START + 5, START + 6, START + 50, START + 200):
        keys = (key("fire", valid_to=ended),)
        yield f"ended {ended}", trust(departments=(replace(fire, keys=keys), market))
        yield f"ended {ended}, unseen", trust(departments=(replace(fire, keys=keys), market), witnesses=(), quorum=0)
    yield "of another department", trust(departments=(replace(fire, keys=(key("fire"), key("market"))),))
    yield "of a stranger", trust(departments=(market,))
    yield "a log that was rotated", _rotated()
    yield "a log that was rotated early", _rotated(START + 50)
    required = (witness("court.example/witness"), witness("notary.example/witness", required=True))
    yield "a required witness", trust(witnesses=required, quorum=1)
    for ended in (None, START + 100, START + 101, START + 50):
        yield f"a witness that was rotated, ended {ended}", trust_rotated(ended)
        yield f"a witness that was rotated, not needed, ended {ended}", replace(trust_rotated(ended), quorum=1)


def _rotated(ended: int = START + 200) -> Trust:
    fire = department("fire")
    new = VerifierKey.of(fire.log.origin, ED25519, public_of("fire log 2"))
    rotated = Log(fire.log.origin, str(new), (LogKey(fire.log.vkey, START - DAY, ended),))
    return trust(departments=(replace(fire, log=rotated), department("market")))


def _cosigned_at(time: int) -> bytes:
    state = evidence()[1]
    name = "court.example/witness"
    text = state.checkpoint[: state.checkpoint.rindex(b"\n\n") + 1]
    alone = log(state.entries, witnesses=())
    line = cosign(text, time, name, public_of(name), signing_key(name).sign)
    return replace(alone.proof(5), checkpoint=add_signatures(alone.checkpoint, [line])).serialize()


def _curves() -> Iterator[Vector]:
    """Where libraries for the same curve are known to differ."""
    record, state = evidence()
    for name, public in (("no point", b"\x02" + bytes(31)), ("another point", public_of("mallory"))):
        members = {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(public)}
        stolen = replace(key("fire"), kid=jwk.thumbprint(members), jwk=members)
        trusted = trust(departments=(replace(department("fire"), keys=(stolen,)),))
        shown = logged_under(stolen.kid)
        yield _pair(f"Ed25519: a key that is {name}", shown, trusted)
    signed, _, signature = record.ascii.rpartition(b".")
    made = b64url_decode(signature.decode(), "it")
    more = (int.from_bytes(made[32:], "little") + ED25519_ORDER).to_bytes(32, "little")
    for name, bent in (("beyond the order", made[:32] + more), ("zero", bytes(64)), ("cut in half", made[:32] * 2)):
        text = signed + b"." + b64url_encode(bent).encode()
        yield _pair(f"Ed25519: s {name}", (Sealed(text, {}).present(), log([text]).receipt(0)))
    for x in (1, 1 + SECP256K1_FIELD, 5):
        members = {"kty": "EC", "crv": "secp256k1", "x": _coordinate(x), "y": _coordinate(_Y_OF_1)}
        document = json.loads(trust().serialize())
        anchor = next(k for k in document["departments"][0]["keys"] if k["use"] == "anchor")
        anchor.update(jwk=members, kid=jwk.thumbprint(members))
        yield _pair(f"secp256k1: x {x}", (record.present(), state.receipt(5)), json.dumps(document).encode())


ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SECP256K1_FIELD = 2**256 - 2**32 - 977
_Y_OF_1 = pow(8, (SECP256K1_FIELD + 1) // 4, SECP256K1_FIELD)


def _coordinate(value: int) -> str:
    return b64url_encode(value.to_bytes(32, "big"))


def logged_under(kid: str) -> tuple[bytes, bytes]:
    """A record that names this key, signed by another."""
    record = seal(header={"kid": kid})
    return record.present(), log([record.ascii]).receipt(0)


def _bundles() -> Iterator[Vector]:
    state, trusted = evidence()[1], trust_of("qbft").serialize()
    block = chained.block("qbft")
    many = {"x.anchor.json": block.file(), "exit.png": PHOTO, "y.png": PHOTO + b"\n", "empty": b""}
    for n in (5, 6, 7):
        many |= {f"{n}.sd-jwt": seal(number=n).present(), f"{n}.tlog-proof": block.receipt_of(state, n)}
    yield Vector("several records", many, trusted)
    yield Vector("several records, in another order", dict(reversed(many.items())), trusted)
    yield Vector(
        "two receipts missing", {n: d for n, d in many.items() if n not in ("5.tlog-proof", "6.tlog-proof")}, trusted
    )
    yield Vector("receipts alone", {n: d for n, d in many.items() if n.endswith("proof")}, trusted)
    yield Vector("evidence alone", {"x.anchor.json": block.file()}, trusted)
    yield Vector("one record with another's receipt", {"a": seal(number=5).present(), "b": state.receipt(6)}, trusted)
    third = replace(block.evidence(), index=3).serialize()
    yield Vector("bad evidence beside good", good_on_chain("qbft") | {"y.anchor.json": third}, trusted)
    yield Vector("bad evidence before good", {"y.anchor.json": third} | good_on_chain("qbft"), trusted)
    yield Vector("a record twice", good() | {"again": good()["a.sd-jwt"]}, trusted)
    yield Vector("a photo that was changed", good() | {"exit.png": PHOTO[:-1]}, trust().serialize())
    yield Vector("line breaks around", {n: b"\n\n" + d + b"\n" for n, d in good().items()}, trust().serialize())
    yield Vector("carriage return first", {n: b"\r\n" + d for n, d in good().items()}, trust().serialize())


def _stamped() -> Iterator[Vector]:
    with TemporaryDirectory() as scratch:
        base = Path(scratch)
        stamps = stamped.make_stamps(base)
        for name, (change, _) in [("good", (lambda *_: None, {})), *stamped.BAD.items()]:
            stamped.hand_in(base, stamps)
            change(base, stamps)
            given = {file: (base / file).read_bytes() for file in ("trust.json", *stamped.FILES)}
            trusted = given.pop("trust.json")
            yield Vector(f"time stamps: {name}", given, trusted)
            yield Vector(f"time stamps: {name}, in another order", dict(reversed(given.items())), trusted)
        stamped.hand_in(base, stamps)
        for files in stamped.ALONE:
            given = {file: (base / file).read_bytes() for file in files}
            yield Vector(f"time stamps alone: {' '.join(files)}", given, (base / "trust.json").read_bytes())
        shared = {name: (base / name).read_bytes() for name in (*stamped.FILES, "b.sd-jwt", "b.tlog-proof")}
        shared |= {"again.tst": stamps.token, "other.tst": stamped.of_another_log(stamps)}
        yield Vector("time stamps: of two records", shared, (base / "trust.json").read_bytes())
        for vector in timestamp_vectors.vectors(base):
            trusted = stamped.trust_of(vector.authority).serialize()
            yield Vector(f"time stamps: {vector.name}", good() | {"x.tst": vector.token}, trusted)
        alone = stamped.trust_of(stamps.first, witnesses=(), quorum=0).serialize()
        yield Vector("time stamps: without witnesses", shared, alone)


def _trust_files() -> Iterator[Vector]:
    for table in (test_trust.CANNOT_DECIDE, test_trust.OF_ANOTHER_SHAPE):
        for name, change in table.items():
            yield _changed_trust(name, test_trust.document(), change)
    for name, data in test_trust.BYTES.items():
        yield Vector(f"trust file: {name}", good(), data)
    yield Vector("trust file: of five million bytes", good(), b" " * 5_000_000)


def _changed_trust(name: str, document: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> Vector:
    change(document)
    return Vector(f"trust file: {name}", good(), json.dumps(document).encode())


def _json() -> Iterator[Vector]:
    for name, (data, _) in (test_strictjson.REFUSED | test_strictjson.TAKEN).items():
        whole = disclose("salt", "finding", {"x": 1})
        text = b64url_encode(b'["%s","finding",{"x":%s}]' % (whole[:22].encode(), data))
        if len(text) <= 4_000_000:
            given = attacks.logged(Sealed(seal(payload={"_sd": [disclosure_digest(text)]}).ascii, {"finding": text}))
            yield _pair(f"JSON: {name}", given)
        yield _pair(f"JSON in the extra line: {name}", _with_extra(b'{"anchor":%s,"signature":""}' % data[:9_000]))
        yield Vector(f"JSON as trust file: {name}", good(), data)


def _with_extra(extra: bytes) -> tuple[bytes, bytes]:
    record, state = evidence()
    return record.present(), replace(state.proof(5), extra=extra).serialize()


def _damaged() -> Iterator[Vector]:
    """Single bits, the same ones in every run."""
    chance = random.Random(6)
    for n in range(FLIPS):
        files, trusted = good_on_chain("qbft"), trust_of("qbft").serialize()
        name = chance.choice([*(name for name in files if name != "exit.png"), "trust"])
        data = bytearray(trusted if name == "trust" else files[name])
        bit = chance.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        if name == "trust":
            trusted = bytes(data)
        else:
            files[name] = bytes(data)
        yield Vector(f"flip {n}: bit {bit} of {name}", files, trusted)
    text = evidence()[1].receipt(5)
    for end in range(0, len(text), 97):
        yield Vector(f"receipt cut at {end}", good() | {"a.tlog-proof": text[:end]}, trust().serialize())
