"""Evidence made from the formats alone, with real keys: what sealing, the log and the anchorer would have produced.

Everything is deterministic: keys and salts come from names, times from `START`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ledger.formats import jwk
from ledger.formats.checkpoint import Checkpoint, add_signatures, open_checkpoint, sign_checkpoint
from ledger.formats.cosignature import cosign
from ledger.formats.encoding import b64url_encode
from ledger.formats.merkle import leaf_hash, node_hash, root_of, split
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.formats.receipt import AnchorHint, encode_extra
from ledger.formats.sdjwt import disclosure_digest, serialize_presentation
from ledger.formats.tlogproof import TlogProof
from ledger.formats.trust import Chain, Department, Key, Log, LogKey, Trust, Validators, Witness

START = 1_772_352_000
"""2026-03-01T08:00:00Z: sealing times lie a little after it, keys are valid from a day before."""
DAY = 86_400
CHAIN_ID = 20260301
EVIDENCE_LOG = "0x" + "5e" * 20
NAMES = {
    "fire": {"en": "Fire and Rescue Department", "zh": "消防救援大队"},
    "market": {"en": "Market Supervision Bureau", "zh": "市场监督管理局"},
}
WITNESSES = {"court.example/witness": "District People's Court", "notary.example/witness": "Notary Office"}

PHOTO = b"\x89PNG not really a photo, but bytes all the same\n" * 40
UNITS: dict[str, dict[str, Any]] = {
    "finding": {"result": "fail", "description": "安全出口被货物堵塞 / fire exit blocked by goods"},
    "officers": {"officers": [{"name": "Zhao Min", "number": "F-1024"}, {"name": "Qian Bo", "number": "F-1031"}]},
    "place": {"place": {"address": "18 Harbour Road", "datum": "WGS-84", "latitude": "41.94", "longitude": "-87.64"}},
    "occurred": {"occurred_at": "2026-03-01T15:20:00+08:00"},
    "attachment-1": {
        "name": "exit.png",
        "media_type": "image/png",
        "size": len(PHOTO),
        "sha256": sha256(PHOTO).hexdigest(),
    },
}


@cache
def signing_key(name: str) -> Ed25519PrivateKey:
    """The Ed25519 key that belongs to `name`, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def public_of(name: str) -> bytes:
    """Its 32 public bytes."""
    return signing_key(name).public_key().public_bytes_raw()


def key(department: str, use: str = "statement", **changes: Any) -> Key:
    """A key for the trust file."""
    seed = sha256(f"{department} {use}".encode()).digest()
    public: jwk.PublicKey = signing_key(f"{department} {use}").public_key()
    if use == "encryption":
        public = X25519PrivateKey.from_private_bytes(seed).public_key()
    if use == "anchor":
        public = derive_private_key(int.from_bytes(seed[:31], "big"), SECP256K1()).public_key()
    members = jwk.from_public_key(public)
    values = {"kid": jwk.thumbprint(members), "use": use, "jwk": members, "valid_from": START - DAY} | changes
    return Key(**values)


def department(name: str) -> Department:
    """A department for the trust file, with one key of each use."""
    origin = f"yunxi.example/{name}"
    return Department(
        id=name,
        name=NAMES[name],
        log=Log(origin, str(VerifierKey.of(origin, ED25519, public_of(f"{name} log")))),
        keys=(key(name), key(name, "encryption"), key(name, "anchor")),
    )


def witness(name: str, **changes: Any) -> Witness:
    """A witness for the trust file."""
    vkey = str(VerifierKey.of(name, COSIGNATURE_ED25519, public_of(name)))
    return Witness(name=name, vkey=vkey, operator=WITNESSES[name], **changes)


def trust_rotated(ended: int | None) -> Trust:
    """A trust file by which the court's witness has a new key, since its old one ended."""
    court, notary = (witness(name) for name in WITNESSES)
    new = VerifierKey.of(court.name, COSIGNATURE_ED25519, public_of(f"{court.name} 2"))
    earlier = LogKey(court.vkey, START - DAY, ended)
    return trust(witnesses=(replace(court, vkey=str(new), earlier=(earlier,)), notary))


def trust(**changes: Any) -> Trust:
    """Two departments, two witnesses, both needed; a chain of the kind that is not the embedded one."""
    values = {
        "consortium": "yunxi.example",
        "chain": Chain(
            id=CHAIN_ID,
            engine="qbft",
            contracts={"Consortium": "0x" + "c0" * 20, "EvidenceLog": EVIDENCE_LOG},
            validators=Validators(1, ("0x" + "a1" * 20, "0x" + "a2" * 20)),
        ),
        "departments": tuple(department(name) for name in NAMES),
        "witnesses": tuple(witness(name) for name in WITNESSES),
        "quorum": 2,
    } | changes
    return Trust(**values)


@dataclass(frozen=True)
class Sealed:
    """A statement and its disclosures by unit."""

    ascii: bytes
    disclosures: dict[str, str]

    def present(self, *units: str) -> bytes:
        """The presentation that shows `units`; all of them if none is named."""
        shown = self.disclosures if not units else {unit: self.disclosures[unit] for unit in units}
        return serialize_presentation(self.ascii, shown.values())


def record_id(number: int) -> str:
    """A UUIDv7 for the record with this number."""
    return f"019ca7d0-{number >> 16 & 0xFFFF:04x}-7000-8000-{number:012x}"


def disclose(salt_of: str, unit: str, members: Mapping[str, Any]) -> str:
    """A disclosure, its salt made from a name."""
    salt = b64url_encode(sha256(salt_of.encode()).digest()[:16])
    return b64url_encode(json.dumps([salt, unit, members], ensure_ascii=False).encode())


def jws(header: bytes, payload: bytes, signer: str) -> bytes:
    """A compact JWS by the key that belongs to `signer`, whatever header and payload are."""
    signing_input = f"{b64url_encode(header)}.{b64url_encode(payload)}".encode()
    return signing_input + b"." + b64url_encode(signing_key(signer).sign(signing_input)).encode()


def seal(
    issuer: str = "fire",
    number: int = 1,
    units: Mapping[str, Mapping[str, Any]] = UNITS,
    *,
    header: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    signer: str | None = None,
) -> Sealed:
    """A statement of department `issuer`; `header` and `payload` replace members, `signer` signs in its stead."""
    disclosures = {unit: disclose(f"{issuer} {number} {unit}", unit, members) for unit, members in units.items()}
    head = {"alg": "EdDSA", "typ": "yunxi+sd-jwt", "kid": key(issuer).kid} | dict(header or {})
    claims = {
        "iss": issuer,
        "jti": record_id(number),
        "iat": START + number,
        "type": "inspection.finding",
        "v": 1,
        "matter": "FIRE-0042",
        "subj": [],
        "_sd_alg": "sha-256",
        "_sd": sorted(disclosure_digest(text) for text in disclosures.values()),
    } | dict(payload or {})
    return Sealed(jws(_json(head), _json(claims), signer or f"{issuer} statement"), disclosures)


@dataclass(frozen=True)
class LogState:
    """A log of `entries`, its signed and cosigned checkpoint, and the anchor that receipts of it carry."""

    department: str
    entries: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None
    nodes: dict[tuple[int, int], bytes] = field(repr=False)

    def path(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path, by the definition in RFC 9162 section 2.1.3.1."""
        return tuple(_path(self, index, 0, len(self.entries)))

    def proof(self, index: int) -> TlogProof:
        """The receipt of an entry, taken apart."""
        return TlogProof(self.extra, index, self.path(index), self.checkpoint)

    def receipt(self, index: int) -> bytes:
        """The receipt of an entry."""
        return self.proof(index).serialize()


def log(
    entries: Sequence[bytes], *, of: str = "fire", witnesses: Sequence[str] = tuple(WITNESSES), anchored: bool = True
) -> LogState:
    """A log whose every entry is in the checkpoint; witness number n cosigned n + 3 seconds after the last sealing."""
    leaves = [leaf_hash(entry) for entry in entries]
    root = root_of(leaves)
    note = checkpoint_of(of, len(entries), root)
    note = add_signatures(note, [cosignature(note, name, n) for n, name in enumerate(witnesses)])
    extra = extra_of(of, note) if anchored else None
    state = LogState(of, tuple(entries), note, extra, {})
    _fill(state.nodes, leaves, 0, len(leaves))
    return state


def checkpoint_of(name: str, size: int, root: bytes) -> bytes:
    """A checkpoint of the department's log, signed by it alone."""
    origin = f"yunxi.example/{name}"
    return sign_checkpoint(origin, size, root, public_of(f"{name} log"), signing_key(f"{name} log").sign)


def cosignature(note: bytes, name: str, number: int = 0) -> bytes:
    """The line with which witness `name` cosigns."""
    text = note[: note.rindex(b"\n\n") + 1]
    return cosign(text, START + 100 + number, name, public_of(name), signing_key(name).sign)


def extra_of(name: str, note: bytes, signer: str | None = None, **changes: Any) -> bytes:
    """The extra data of receipts of this checkpoint; `changes` replace members of the anchor."""
    origin = f"yunxi.example/{name}"
    checkpoint = open_checkpoint(note, VerifierKey.of(origin, ED25519, public_of(f"{name} log")))
    return encode_extra(hint(**changes), checkpoint, signing_key(signer or f"{name} log").sign)


def hint(**changes: Any) -> AnchorHint:
    """Where the checkpoint is anchored."""
    plain = AnchorHint(
        chain_id=CHAIN_ID,
        contract=EVIDENCE_LOG,
        block_number=77,
        block_hash="0x" + "b1" * 32,
        transaction="0x" + "7a" * 32,
        time=START + 105,
    )
    return replace(plain, **changes)


def checkpoint(size: int = 20, origin: str = "yunxi.example/fire") -> Checkpoint:
    """A checkpoint's values, with a root of no tree."""
    return Checkpoint(origin, size, sha256(b"root").digest())


@cache
def evidence() -> tuple[Sealed, LogState]:
    """The evidence that most tests start from: record 5 of 11 in the log of the fire department."""
    records = [seal(number=n) for n in range(11)]
    return records[5], log([r.ascii for r in records])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _fill(nodes: dict[tuple[int, int], bytes], leaves: Sequence[bytes], start: int, end: int) -> bytes:
    if end - start == 1:
        nodes[start, end] = leaves[start]
    else:
        middle = start + split(end - start)
        nodes[start, end] = node_hash(_fill(nodes, leaves, start, middle), _fill(nodes, leaves, middle, end))
    return nodes[start, end]


def _path(state: LogState, index: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + split(end - start)
    if index < middle:
        return [*_path(state, index, start, middle), state.nodes[middle, end]]
    return [*_path(state, index, middle, end), state.nodes[start, middle]]
