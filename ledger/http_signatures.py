"""Signed HTTP requests (RFC 9421) with their body's digest (RFC 9530): one strict form for terminals, systems, peers.

    Content-Digest: sha-256=:<base64>:                                     where there is a body
    Signature-Input: yunxi=("@method" "@authority" "@path" "@query" "content-digest");created=…;expires=…;nonce="…";
                     keyid="…";alg="ed25519";tag="yunxi"
    Signature: yunxi=:<base64 of 64 bytes>:

Exactly these components are covered, in any order, `content-digest` just where there is a body; exactly these
parameters are there. `@authority`, `@path` and `@query` rather than `@target-uri`, because a proxy that ends TLS
changes the scheme. Everything else RFC 9421 allows (other algorithms, several signatures, component parameters,
responses) is refused, so that a request has one reading. Interoperates with other implementations told to do so.

A request is verified in four steps, so that each may wait for what it needs: 1. `read_signature`   2. `check_time`
3. `check_key`, once the key was looked up   4. `check_body`, once the body has come. Left to the caller: that the
authority is its own, and replay: it refuses a (`keyid`, `nonce`) that it has seen, and keeps it until `expires` + skew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import RequestRefused
from ledger.keys import Signer

TAG = "yunxi"
LIFETIME_SECONDS = 60
MAX_LIFETIME_SECONDS = 300
SKEW_SECONDS = 60
MAX_FIELD_CHARS = 2_000
NO_BODY = hashlib.sha256(b"").digest()

ON_TARGET = ("@method", "@authority", "@path", "@query")
DIGEST = "content-digest"

_PARAMETERS = {"created", "expires", "nonce", "keyid", "alg", "tag"}
_LABEL = r"[a-z*][a-z0-9_.*-]{0,63}"
_COVERED = r'\((?:"[a-z@-]+"(?: "[a-z@-]+")*)?\)'
_INPUT = re.compile(rf'({_LABEL})=({_COVERED}((?:;[a-z]+=(?:[0-9]{{1,15}}|"[ !#-\[\]-~]*"))*))')
_PARAMETER = re.compile(r';([a-z]+)=(?:([0-9]+)|"([^"]*)")')
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{86}}==):")
_CONTENT_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for. `authority` is host[:port] in lower case without the scheme's own port, `path` the raw,
    percent-encoded path, `query` what stands after `?` (empty for none)."""

    method: str
    authority: str
    path: str
    query: str = ""

    @classmethod
    def of_url(cls, method: str, url: str) -> Target:
        """The target of a request to an absolute http(s) URL, as a client sends it."""
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")[2].lower()
        standard = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        return cls(method, authority.removesuffix(standard) if standard else authority, parts.path or "/", parts.query)


class RegisteredKey(Protocol):
    """What verification must know of a key: 32 raw bytes, and seconds since 1970 between which it is in force."""

    @property
    def public(self) -> bytes: ...
    @property
    def valid_from(self) -> float: ...
    @property
    def valid_to(self) -> float | None: ...


AnyKey = TypeVar("AnyKey", bound=RegisteredKey)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A well-formed signature of a request; nothing about it was checked. `body` is the SHA-256 it speaks of, or None
    for no body; `base` the bytes that were signed; times in seconds since 1970."""

    keyid: str
    nonce: str
    created: int
    expires: int
    body: bytes | None
    base: bytes
    signature: bytes


def sign_request(
    target: Target, body: bytes | None, signer: Signer, created: int, nonce: str, lifetime: int = LIFETIME_SECONDS
) -> dict[str, str]:
    """The header fields that sign a request. `body` None: it has none; b"" is a body too, and is digested.

    `created` is in seconds since 1970; `nonce` 16 to 64 characters of base64url, which must never repeat under a key:
    `secrets.token_urlsafe(16)`. Raises ValueError for another nonce.
    """
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce is 16 to 64 characters of base64url")
    fields: dict[str, str] = {}
    covered: tuple[str, ...] = ON_TARGET
    if body is not None:
        fields["Content-Digest"] = content_digest(hashlib.sha256(body).digest())
        covered = (*ON_TARGET, DIGEST)
    listed = " ".join(f'"{name}"' for name in covered)
    params = (
        f'({listed});created={created};expires={created + lifetime};nonce="{nonce}";keyid="{signer.kid}"'
        f';alg="ed25519";tag="{TAG}"'
    )
    lowered = {name.lower(): value for name, value in fields.items()}
    signature = signer.sign(signature_base(covered, params, target, lowered))
    fields["Signature-Input"] = f"{TAG}={params}"
    fields["Signature"] = f"{TAG}=:{base64.b64encode(signature).decode()}:"
    return fields


def read_signature(target: Target, headers: Iterable[tuple[str, str]]) -> SignedRequest:
    """The signature that header fields carry. Raises RequestRefused: `missing`, `malformed`."""
    fields = _fields_of(headers)
    if "signature-input" not in fields or "signature" not in fields:
        raise RequestRefused("missing", "the request is not signed: it needs Signature-Input and Signature (RFC 9421)")
    stated = _INPUT.fullmatch(fields["signature-input"])
    signed = _SIGNATURE.fullmatch(fields["signature"])
    if stated is None or signed is None or stated[1] != signed[1]:
        raise _malformed("Signature-Input and Signature must hold one Ed25519 signature under the same label")
    covered = re.findall(r'"([^"]*)"', stated[2].partition(")")[0])
    params = _parameters(stated[3])
    body = _check_coverage(covered, fields)
    return SignedRequest(
        keyid=str(params["keyid"]),
        nonce=str(params["nonce"]),
        created=int(params["created"]),
        expires=int(params["expires"]),
        body=body,
        base=signature_base(covered, stated[2], target, fields),
        signature=_b64(signed[2]),
    )


def check_time(found: SignedRequest, now: float, skew: int = SKEW_SECONDS) -> None:
    """Refuses a request of another time (`expired`) or of another clock (`clock-skew`)."""
    if not found.created < found.expires <= found.created + MAX_LIFETIME_SECONDS:
        raise _malformed(f"expires must be after created, by at most {MAX_LIFETIME_SECONDS} seconds")
    if found.created > now + skew:
        raise RequestRefused("clock-skew", "the request was signed in the future: set the caller's clock right")
    if found.expires + skew < now:
        raise RequestRefused("expired", "the signature has expired: sign again, and compare the caller's clock")


def check_body(found: SignedRequest, body: bytes | None) -> None:
    """Refuses a body other than the signed one (`digest-mismatch`). `body`: the SHA-256 of what came, None for none."""
    if (found.body or NO_BODY) != (body or NO_BODY):
        raise RequestRefused("digest-mismatch", "the body is not the one that was signed: send it as it was digested")


def check_key(found: SignedRequest, key: AnyKey | None, now: float) -> AnyKey:
    """The key that signed, where it is registered (`key` None: it is not), was in force when the request was signed and
    is now. Refuses others: `key-unknown`, `key-outside-validity`, `signature-invalid`."""
    if key is None:
        raise RequestRefused("key-unknown", f"no key {found.keyid!r} is registered for signing requests")
    for moment in (found.created, now):
        if moment < key.valid_from or (key.valid_to is not None and moment >= key.valid_to):
            raise RequestRefused("key-outside-validity", f"key {found.keyid} is not in force at that time")
    check_signature(found, key.public)
    return key


def check_signature(found: SignedRequest, public: bytes) -> None:
    """Refuses what was not signed by the Ed25519 key `public` (32 bytes; `signature-invalid`)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(found.signature, found.base)
    except (InvalidSignature, ValueError) as error:
        raise RequestRefused("signature-invalid", "the signature does not verify over this request") from error


def signature_base(covered: Iterable[str], params: str, target: Target, fields: Mapping[str, str]) -> bytes:
    """The bytes that are signed (RFC 9421 section 2.5): a line a component, and the parameters last, no line end.

    `fields` by lower-case name, several lines of a field joined by `, `. Raises RequestRefused for one that is absent.
    """
    derived = {
        "@method": target.method,
        "@authority": target.authority,
        "@path": target.path,
        "@query": "?" + target.query,
    }
    lines = []
    for name in covered:
        value = derived.get(name) if name.startswith("@") else fields.get(name)
        if value is None:
            raise _malformed(f"the signature covers {name}, which this request does not have")
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {params}')
    try:
        return "\n".join(lines).encode("ascii")
    except UnicodeEncodeError as error:
        raise _malformed("what is signed must be ASCII") from error


def content_digest(sha256: bytes) -> str:
    """The Content-Digest field (RFC 9530) of a body whose SHA-256 is given."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def parse_content_digest(text: str) -> bytes:
    """The SHA-256 of a Content-Digest field, 32 bytes. Raises RequestRefused for other digests or several."""
    found = _CONTENT_DIGEST.fullmatch(text)
    if found is None:
        raise _malformed("Content-Digest must be one sha-256 digest (RFC 9530)")
    return _b64(found[1])


def _fields_of(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in ("signature-input", "signature", DIGEST):
            if lowered in fields:
                raise _malformed(f"{lowered} stands there twice")
            if len(value) > MAX_FIELD_CHARS:
                raise _malformed(f"{lowered} is too long")
            fields[lowered] = value.strip(" \t")
    return fields


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, number, words in _PARAMETER.findall(text):
        if name in found or (name in ("created", "expires")) != bool(number):
            raise _malformed(f"parameter {name} stands there twice or is of another type")
        found[name] = number or words
    if set(found) != _PARAMETERS:
        raise _malformed(f"the parameters must be {', '.join(sorted(_PARAMETERS))}, and no others")
    if found["alg"] != "ed25519" or found["tag"] != TAG:
        raise _malformed(f'the parameters must say alg="ed25519" and tag="{TAG}"')
    if not _NONCE.fullmatch(found["nonce"]) or not _KEY_ID.fullmatch(found["keyid"]):
        raise _malformed("nonce must be 16 to 64 characters of base64url, keyid the id of a key")
    return found


def _check_coverage(covered: list[str], fields: Mapping[str, str]) -> bytes | None:
    expected = {*ON_TARGET, DIGEST} if DIGEST in fields else set(ON_TARGET)
    if set(covered) != expected or len(covered) != len(expected):
        raise _malformed(f"the signature must cover {', '.join(sorted(expected))}, each once, and nothing else")
    return parse_content_digest(fields[DIGEST]) if DIGEST in fields else None


def _b64(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _malformed("a value is not base64") from error
    if base64.b64encode(decoded).decode() != text:
        raise _malformed("a value is not canonical base64")
    return decoded


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused("malformed", detail)
