"""The trust file: what a verifier must be told once, out of band (DESIGN section 4). UTF-8 JSON, at most 4 MiB.

    trust      = {"consortium": text, "chain": chain, "departments": [department …], "witnesses": [witness …],
                  "quorum": number, "tsa_roots": [PEM text …]}
    chain      = {"id": number, "engine": "embedded" | "clique" | "qbft",
                  "contracts": {"Consortium": address, "EvidenceLog": address, …},
                  "validators": {"threshold": number, "addresses": [address …]}}
    department = {"id": id, "name": {"zh": text, "en": text, …}, "log": log,
                  "keys": [key …], ["operator": text]}      operator: who runs the node that keeps the log
    log        = {"origin": text, "vkey": C2SP vkey, ["earlier": [logkey …]]}
    logkey     = {"vkey": C2SP vkey, "valid_from": time, "valid_to": time | null}    keys that the log had before `vkey`
    key        = {"kid": RFC 7638 thumbprint, "use": "statement" | "encryption" | "anchor", "jwk": RFC 7517 object,
                  "valid_from": time, "valid_to": time | null}
    witness    = {"name": text, "vkey": C2SP vkey, "required": boolean, "operator": text, ["earlier": [logkey …]]}
    id         = [a-z][a-z0-9-]{1,30}
    address    = "0x" and 40 hex digits, either case (EIP-55 check sums are not checked: they need Keccak)
    time       = RFC 3339 in UTC, whole seconds: 2026-01-31T08:00:00Z

`earlier` is left out where there is none. A checkpoint carries no time, so one by an earlier key is good as a
checkpoint; when it was signed, its witnesses and its anchor say. A cosignature carries its time, so one by a witness's
earlier key counts where it is dated before that key's end. `contracts` may name, as "EvidenceLog-1",
"EvidenceLog-2" … (oldest first), contracts that EvidenceLog carries on: anchors of their time stand there.

A key is valid from `valid_from` until just before `valid_to`; null is "not ended". Unknown members survive parsing and
serialising. Malformed means the shape is wrong; TrustRefused means the file is well formed but cannot decide anything.
A Trust that exists has passed both, however it was made. Whether it came from the right hands is not for code to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ledger.errors import KeyRefused, Malformed, TrustRefused
from ledger.formats import jwk as jwks
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.formats.strictjson import loads_object
from ledger.formats.texts import is_printable

MAX_TRUST_BYTES = 4 * 1024 * 1024
ENGINES = ("embedded", "clique", "qbft")
LANGUAGES = ("zh", "en")
CONTRACTS = ("Consortium", "EvidenceLog")

Use = Literal["statement", "encryption", "anchor"]
Engine = Literal["embedded", "clique", "qbft"]

_KINDS: dict[str, type[jwks.PublicKey]] = {
    "statement": Ed25519PublicKey,
    "encryption": X25519PublicKey,
    "anchor": EllipticCurvePublicKey,
}
_DEPARTMENT_ID = re.compile(r"[a-z][a-z0-9-]{1,30}")
_EARLIER_LOG = re.compile(r"EvidenceLog-[1-9][0-9]*")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """A department's key. `valid_from`, `valid_to` are seconds since 1970; `valid_to` None means not ended."""

    kid: str
    use: Use
    jwk: dict[str, Any]
    valid_from: int
    valid_to: int | None = None
    unknown: dict[str, Any] = field(default_factory=dict)
    public: jwks.PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", jwks.to_public_key(self.jwk))

    def valid_at(self, time: int) -> bool:
        """Whether `time`, in seconds since 1970, lies in the interval; its end does not belong to it."""
        return self.valid_from <= time and (self.valid_to is None or time < self.valid_to)


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key of a log or a witness from before the present one. Times as in `Key`."""

    vkey: str
    valid_from: int
    valid_to: int | None
    unknown: dict[str, Any] = field(default_factory=dict)
    key: VerifierKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", VerifierKey.parse(self.vkey))


@dataclass(frozen=True, slots=True)
class Log:
    """A department's log: the origin line of its checkpoints, the key that signs them, and those that did before."""

    origin: str
    vkey: str
    earlier: tuple[LogKey, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)
    key: VerifierKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", VerifierKey.parse(self.vkey))

    @property
    def vkeys(self) -> tuple[VerifierKey, ...]:
        """All its keys, the present one first."""
        return (self.key, *(earlier.key for earlier in self.earlier))

    def ended(self, key: VerifierKey) -> int | None:
        """When an earlier key ended, in seconds since 1970; None for the present one."""
        return next((earlier.valid_to for earlier in self.earlier if earlier.key == key), None)


@dataclass(frozen=True, slots=True)
class Department:
    """A department: its names by language, its one log, its keys of all times, and who runs the node that keeps log
    and keys (None: not said)."""

    id: str
    name: dict[str, str]
    log: Log
    keys: tuple[Key, ...]
    operator: str | None = None
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Validators:
    """Who makes the chain's blocks, and how many of them must agree."""

    threshold: int
    addresses: tuple[str, ...]
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain that anchors may stand on."""

    id: int
    engine: Engine
    contracts: dict[str, str]
    validators: Validators
    unknown: dict[str, Any] = field(default_factory=dict)

    @property
    def evidence_logs(self) -> tuple[str, ...]:
        """The addresses, in lower case, that an anchor may stand at: the present EvidenceLog's first."""
        present = [address for name, address in self.contracts.items() if name == "EvidenceLog"]
        earlier = [address for name, address in self.contracts.items() if _EARLIER_LOG.fullmatch(name)]
        return tuple(address.lower() for address in present + earlier)


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who cosigns checkpoints. A `required` one must have cosigned, whatever the quorum."""

    name: str
    vkey: str
    operator: str
    required: bool = False
    earlier: tuple[LogKey, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)
    key: VerifierKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", VerifierKey.parse(self.vkey))


@dataclass(frozen=True, slots=True)
class Trust:
    """A trust file that can decide. Making one raises TrustRefused where the module's text says so."""

    consortium: str
    chain: Chain
    departments: tuple[Department, ...]
    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0
    tsa_roots: tuple[str, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)
    _departments: dict[str, Department] = field(init=False, repr=False, compare=False)
    _keys: dict[str, tuple[Department, Key]] = field(init=False, repr=False, compare=False)
    _logs: dict[str, Department] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_departments(self.departments)
        _check_chain(self.chain)
        _check_witnesses(self.witnesses, self.quorum)
        _check_signers(self)
        keys = {key.kid: (department, key) for department in self.departments for key in department.keys}
        object.__setattr__(self, "_departments", {d.id: d for d in self.departments})
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "_logs", {d.log.origin: d for d in self.departments})

    def department(self, department_id: str) -> Department:
        """The department with this id. Raises TrustRefused when the file names no such department."""
        found = self._departments.get(department_id)
        if found is None:
            raise TrustRefused(f"The trust file names no department {department_id[:64]!r}; use the one it belongs to.")
        return found

    def statement_key(self, kid: str) -> tuple[Department, Key]:
        """The statement key with this thumbprint, and whose it is. Raises KeyRefused when it is unknown or has
        another use. Whether it was valid at some time is the caller's question to `Key.valid_at`."""
        found = self._keys.get(kid)
        if found is None:
            raise KeyRefused(f"The trust file has no key {kid[:64]!r}; check that it is the right trust file.")
        if found[1].use != "statement":
            raise KeyRefused(
                f"Key {kid} is registered for {found[1].use}, not for signing statements; do not accept it."
            )
        return found

    def log_by_origin(self, origin: str) -> Department:
        """The department whose log has this origin. Raises TrustRefused when the file names no such log."""
        found = self._logs.get(origin)
        if found is None:
            raise TrustRefused(f"The trust file names no log {origin[:64]!r}; check that it is the right trust file.")
        return found

    @staticmethod
    def parse(data: bytes) -> Trust:
        """The trust file that `data` holds. Raises Malformed for its shape and TrustRefused for its meaning."""
        return _trust(_Members(loads_object(data, what="trust file", max_bytes=MAX_TRUST_BYTES), "the file"))

    def serialize(self) -> bytes:
        """The file: members sorted, departments by id, keys by use, start and kid, witnesses by name. The same trust
        always gives the same bytes, whatever order it was built in."""
        return json.dumps(_trust_json(self), ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"


def parse_time(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time in UTC with whole seconds. Raises Malformed."""
    if not _TIME.fullmatch(text) or not text.isascii():
        raise Malformed("trust file", f"{text[:40]!r} is not a time like 2026-01-31T08:00:00Z")
    try:
        found = int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise Malformed("trust file", f"{text!r} is not a time that exists") from error
    if format_time(found) != text:  # newer versions of Python know an hour 24
        raise Malformed("trust file", f"{text!r} is not a time that exists")
    return found


def format_time(seconds: int) -> str:
    """The inverse of `parse_time`, for years 1 to 9999."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


# --- parsing: every member is taken out once; what is left is unknown and kept ---


class _Members:
    """An object of the file on its way in. `where` names it in errors."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise Malformed("trust file", f"{where} must be an object")
        self.rest: dict[str, Any] = dict(value)
        self.where = where

    def take(self, name: str, kind: type[T], says: str) -> T:
        value = self.rest.pop(name, None)
        # bool is an int in Python, but not in JSON
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Malformed("trust file", f"{name} of {self.where} must be {says}")
        return value

    def text(self, name: str) -> str:
        value = self.take(name, str, "a text")
        if not 0 < len(value) <= 500 or not is_printable(value):
            raise Malformed("trust file", f"{name} of {self.where} must be 1 to 500 printable characters")
        return value

    def number(self, name: str) -> int:
        value = self.take(name, int, "a whole number")
        if value < 0:
            raise Malformed("trust file", f"{name} of {self.where} must not be negative")
        return value

    def members(self, name: str) -> _Members:
        return _Members(self.rest.pop(name, None), f"{name} of {self.where}")

    def each(self, name: str, build: Callable[[_Members], T]) -> tuple[T, ...]:
        values = self.take(name, list, "a list")
        return tuple(build(_Members(v, f"entry {n} of {name} of {self.where}")) for n, v in enumerate(values, 1))

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list, "a list")
        if not all(isinstance(value, str) and value for value in values):
            raise Malformed("trust file", f"{name} of {self.where} must hold texts")
        return tuple(values)


def _trust(members: _Members) -> Trust:
    # quorum below zero is a file that contradicts itself, not one of another shape: left to _check_witnesses
    return Trust(
        consortium=members.text("consortium"),
        chain=_chain(members.members("chain")),
        departments=members.each("departments", _department),
        witnesses=members.each("witnesses", _witness),
        quorum=members.take("quorum", int, "a whole number"),
        tsa_roots=_pem(members.texts("tsa_roots")),
        unknown=members.rest,
    )


def _chain(members: _Members) -> Chain:
    engine = members.text("engine")
    if engine not in ENGINES:
        raise Malformed("trust file", f"engine of the chain must be one of {', '.join(ENGINES)}")
    contracts = members.take("contracts", dict, "an object")
    if not all(isinstance(address, str) for address in contracts.values()):
        raise Malformed("trust file", "contracts of the chain must map names to addresses")
    validators = members.members("validators")
    return Chain(
        id=members.number("id"),
        engine=cast(Engine, engine),
        contracts={name: _address(address) for name, address in contracts.items()},
        validators=Validators(
            threshold=validators.number("threshold"),
            addresses=tuple(_address(address) for address in validators.texts("addresses")),
            unknown=validators.rest,
        ),
        unknown=members.rest,
    )


def _department(members: _Members) -> Department:
    department_id = members.text("id")
    if not _DEPARTMENT_ID.fullmatch(department_id):
        raise Malformed("trust file", f"department id {department_id[:40]!r} must be 2 to 31 of a-z, 0-9 and -")
    log = members.members("log")
    return Department(
        id=department_id,
        name=_names(members.members("name")),
        log=Log(
            origin=log.text("origin"),
            vkey=log.text("vkey"),
            earlier=log.each("earlier", _log_key) if "earlier" in log.rest else (),
            unknown=log.rest,
        ),
        keys=members.each("keys", _key),
        operator=members.text("operator") if "operator" in members.rest else None,
        unknown=members.rest,
    )


def _names(members: _Members) -> dict[str, str]:
    for language in LANGUAGES:
        if language not in members.rest:
            raise Malformed("trust file", f"{members.where} must have {' and '.join(LANGUAGES)}")
    return {language: members.text(language) for language in list(members.rest)}


def _key(members: _Members) -> Key:
    use = members.text("use")
    if use not in _KINDS:
        raise Malformed("trust file", f"use of {members.where} must be one of {', '.join(_KINDS)}")
    return Key(
        kid=members.text("kid"),
        use=cast(Use, use),
        jwk=members.take("jwk", dict, "an object"),
        valid_from=parse_time(members.text("valid_from")),
        valid_to=_valid_to(members),
        unknown=members.rest,
    )


def _log_key(members: _Members) -> LogKey:
    return LogKey(
        vkey=members.text("vkey"),
        valid_from=parse_time(members.text("valid_from")),
        valid_to=_valid_to(members),
        unknown=members.rest,
    )


def _valid_to(members: _Members) -> int | None:
    if "valid_to" not in members.rest:
        raise Malformed("trust file", f"valid_to of {members.where} must be a time or null")
    if members.rest["valid_to"] is None:
        del members.rest["valid_to"]
        return None
    return parse_time(members.text("valid_to"))


def _witness(members: _Members) -> Witness:
    return Witness(
        name=members.text("name"),
        vkey=members.text("vkey"),
        operator=members.text("operator"),
        required=members.take("required", bool, "true or false"),
        earlier=members.each("earlier", _log_key) if "earlier" in members.rest else (),
        unknown=members.rest,
    )


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise Malformed("trust file", f"{text[:50]!r} is not an address of 0x and 40 hex digits")
    return text


def _pem(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not text.startswith("-----BEGIN CERTIFICATE-----"):
            raise Malformed("trust file", "tsa_roots must hold PEM certificates")
    return texts


# --- meaning: what a file must not leave open ---


def _check_departments(departments: tuple[Department, ...]) -> None:
    if not departments:
        raise TrustRefused("The trust file names no department, so nothing could ever be proven with it.")
    _refuse_twice((d.id for d in departments), "department id")
    _refuse_twice((d.log.origin for d in departments), "log origin")
    _refuse_twice((key.kid for d in departments for key in d.keys), "kid")
    for department in departments:
        if not any(key.use == "statement" for key in department.keys):
            raise TrustRefused(f"Department {department.id} has no statement key, so nothing of it could be proven.")
        for vkey in department.log.vkeys:
            if vkey.name != department.log.origin:
                raise TrustRefused(f"A log key of department {department.id} has another name than the log's origin.")
            if vkey.type != ED25519:
                raise TrustRefused(f"A log key of department {department.id} is not an Ed25519 note key.")
        if any(k.valid_to is not None and k.valid_to < k.valid_from for k in department.log.earlier):
            raise TrustRefused(f"A log key of department {department.id} ends before it begins.")
        for key in department.keys:
            _check_key(department.id, key)


def _check_key(department_id: str, key: Key) -> None:
    if not isinstance(key.public, _KINDS[key.use]):
        raise TrustRefused(f"Key {key.kid[:64]!r} of department {department_id} is no key for {key.use}.")
    if jwks.thumbprint(key.jwk) != key.kid:
        raise TrustRefused(f"The kid {key.kid[:64]!r} of department {department_id} is not the thumbprint of its key.")
    if "d" in key.jwk:
        raise TrustRefused(f"Key {key.kid} of department {department_id} holds its secret part: revoke it at once.")
    if key.valid_to is not None and key.valid_to < key.valid_from:
        raise TrustRefused(f"Key {key.kid} of department {department_id} ends before it begins.")


def _check_chain(chain: Chain) -> None:
    for name in CONTRACTS:
        if name not in chain.contracts:
            raise TrustRefused(f"The trust file gives no address of the contract {name}, so no anchor could be judged.")
    validators = [address.lower() for address in chain.validators.addresses]
    _refuse_twice(validators, "validator")
    if chain.validators.threshold > len(validators):
        raise TrustRefused(
            f"The threshold of {chain.validators.threshold} is more than the {len(validators)} validators named."
        )


def _check_witnesses(witnesses: tuple[Witness, ...], quorum: int) -> None:
    _refuse_twice((witness.name for witness in witnesses), "witness name")
    for witness in witnesses:
        for vkey in (witness.key, *(earlier.key for earlier in witness.earlier)):
            if vkey.type != COSIGNATURE_ED25519:
                raise TrustRefused(f"The key of witness {witness.name} is not an Ed25519 cosignature key.")
        if any(k.valid_to is not None and k.valid_to < k.valid_from for k in witness.earlier):
            raise TrustRefused(f"A key of witness {witness.name} ends before it begins.")
    if not 0 <= quorum <= len(witnesses):
        raise TrustRefused(f"A quorum of {quorum} cannot be met by the {len(witnesses)} witnesses named.")


def _check_signers(trust: Trust) -> None:
    # one key under two names would let one signer count twice, or a department witness itself
    vkeys = [vkey for d in trust.departments for vkey in d.log.vkeys]
    vkeys += [vkey for w in trust.witnesses for vkey in (w.key, *(earlier.key for earlier in w.earlier))]
    statements = [k.public for d in trust.departments for k in d.keys if isinstance(k.public, Ed25519PublicKey)]
    publics = [*(vkey.public for vkey in vkeys), *(public.public_bytes_raw() for public in statements)]
    _refuse_twice((public.hex() for public in publics), "signing key")


def _refuse_twice(values: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise TrustRefused(f"The trust file names the {what} {value[:64]!r} twice, so it cannot say who is meant.")
        seen.add(value)


# --- serialising ---


def _trust_json(trust: Trust) -> dict[str, Any]:
    return trust.unknown | {
        "consortium": trust.consortium,
        "chain": _chain_json(trust.chain),
        "departments": [_department_json(d) for d in sorted(trust.departments, key=lambda d: d.id)],
        "witnesses": [_witness_json(w) for w in sorted(trust.witnesses, key=lambda w: w.name)],
        "quorum": trust.quorum,
        "tsa_roots": list(trust.tsa_roots),
    }


def _chain_json(chain: Chain) -> dict[str, Any]:
    validators = {"threshold": chain.validators.threshold, "addresses": list(chain.validators.addresses)}
    return chain.unknown | {
        "id": chain.id,
        "engine": chain.engine,
        "contracts": chain.contracts,
        "validators": chain.validators.unknown | validators,
    }


def _department_json(department: Department) -> dict[str, Any]:
    keys = sorted(department.keys, key=lambda key: (key.use, key.valid_from, key.kid))
    members = department.unknown | {
        "id": department.id,
        "name": department.name,
        "log": _log_json(department.log),
        "keys": [_key_json(key) for key in keys],
    }
    return members if department.operator is None else members | {"operator": department.operator}


def _log_json(log: Log) -> dict[str, Any]:
    members = log.unknown | {"origin": log.origin, "vkey": log.vkey}
    if not log.earlier:
        return members
    return members | {"earlier": _earlier_json(log.earlier)}


def _earlier_json(earlier: tuple[LogKey, ...]) -> list[dict[str, Any]]:
    ordered = sorted(earlier, key=lambda key: (key.valid_from, key.vkey))
    return [key.unknown | {"vkey": key.vkey} | _interval_json(key) for key in ordered]


def _interval_json(key: Key | LogKey) -> dict[str, Any]:
    ends = None if key.valid_to is None else format_time(key.valid_to)
    return {"valid_from": format_time(key.valid_from), "valid_to": ends}


def _key_json(key: Key) -> dict[str, Any]:
    return key.unknown | {"kid": key.kid, "use": key.use, "jwk": key.jwk} | _interval_json(key)


def _witness_json(witness: Witness) -> dict[str, Any]:
    members = witness.unknown | {
        "name": witness.name,
        "vkey": witness.vkey,
        "required": witness.required,
        "operator": witness.operator,
    }
    return members | {"earlier": _earlier_json(witness.earlier)} if witness.earlier else members
