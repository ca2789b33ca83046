"""Signed requests: the RFC's vector, another implementation in both directions, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ED25519
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import RequestRefused
from ledger.formats.encoding import b64decode
from ledger.formats.jwk import kid_of
from ledger.http_signatures import (
    DIGEST,
    ON_TARGET,
    TAG,
    SignedRequest,
    Target,
    check_body,
    check_key,
    check_signature,
    check_time,
    content_digest,
    parse_content_digest,
    read_signature,
    sign_request,
    signature_base,
)
from ledger.keys import Signer

NOW = 1_780_000_000
NONCE = "AAAAAAAAAAAAAAAAAAAAAA"
BODY = b'{"hello": "world"}'
URL = "https://health.example:8443/v1/extractions?after=3&q=%E4%BA%91"


@dataclass(frozen=True, slots=True)
class Key:
    public: bytes
    valid_from: float = 0
    valid_to: float | None = None


def new_signer() -> Signer:
    key = Ed25519PrivateKey.generate()
    return Signer(kid_of(key.public_key()), key.public_key().public_bytes_raw(), key.sign)


SIGNER = new_signer()
TARGET = Target.of_url("POST", URL)


def signed(body: bytes | None = BODY, target: Target = TARGET, signer: Signer = SIGNER) -> list[tuple[str, str]]:
    return list(sign_request(target, body, signer, NOW, NONCE).items())


def resolve(kid: str) -> Key | None:
    return Key(SIGNER.public) if kid == SIGNER.kid else None


def digest(body: bytes | None) -> bytes | None:
    return None if body is None else hashlib.sha256(body).digest()


def verified(
    target: Target,
    headers: Iterable[tuple[str, str]],
    body: bytes | None,
    find: Callable[[str], Key | None],
    now: float,
) -> SignedRequest:
    """All four steps, in the order in which a node takes them."""
    found = read_signature(target, headers)
    check_time(found, now)
    check_key(found, find(found.keyid), now)
    check_body(found, body)
    return found


# ---- what verifies -----------------------------------------------------------------------------------------------

# RFC 9421 appendix B.1.4 and B.2.6; B.2's request
RFC_KEY = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"  # a published test key, PKCS #8
RFC_FIELDS = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "content-type": "application/json",
    "content-length": "18",
}
RFC_COVERED = ("date", "@method", "@path", "@authority", "content-type", "content-length")
RFC_PARAMS = (
    '("date" "@method" "@path" "@authority" "content-type" "content-length")'
    ';created=1618884473;keyid="test-key-ed25519"'
)
RFC_SIGNATURE = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="


def test_the_vector_of_rfc_9421_b_2_6() -> None:
    target = Target("POST", "example.com", "/foo", "param=Value&Pet=dog")
    base = signature_base(RFC_COVERED, RFC_PARAMS, target, RFC_FIELDS)
    key = load_der_private_key(base64.b64decode(RFC_KEY), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.sign(base) == b64decode(RFC_SIGNATURE, "vector")
    found = replace(read_signature(TARGET, signed()), base=base, signature=b64decode(RFC_SIGNATURE, "vector"))
    check_signature(found, key.public_key().public_bytes_raw())


def test_the_digest_of_rfc_9530() -> None:
    # RFC 9530 appendix D: {"hello": "world"} with a line feed
    text = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert content_digest(hashlib.sha256(b'{"hello": "world"}\n').digest()) == text
    assert parse_content_digest(text) == hashlib.sha256(b'{"hello": "world"}\n').digest()


@pytest.mark.parametrize("body", [None, b"", BODY, bytes(100_000)])
def test_what_is_signed_verifies(body: bytes | None) -> None:
    found = verified(TARGET, signed(body), digest(body), resolve, NOW)
    assert (found.keyid, found.nonce, found.created, found.expires) == (SIGNER.kid, NONCE, NOW, NOW + 60)


def test_the_base_is_what_the_rfc_says() -> None:
    found = read_signature(TARGET, signed())
    lines = found.base.decode().split("\n")
    assert lines[:5] == [
        '"@method": POST',
        '"@authority": health.example:8443',
        '"@path": /v1/extractions',
        '"@query": ?after=3&q=%E4%BA%91',
        f'"content-digest": {content_digest(hashlib.sha256(BODY).digest())}',
    ]
    assert lines[5].startswith(
        '"@signature-params": ("@method" "@authority" "@path" "@query" "content-digest");created='
    )


TARGETS = {
    "https://Health.Example": Target("GET", "health.example", "/", ""),
    "https://health.example:443/a": Target("GET", "health.example", "/a", ""),
    "http://health.example:80/a?": Target("GET", "health.example", "/a", ""),
    "http://health.example:443/a": Target("GET", "health.example:443", "/a", ""),
    "http://[::1]:8700/%2F": Target("GET", "[::1]:8700", "/%2F", ""),
    "http://x:1/a?b=c&d": Target("GET", "x:1", "/a", "b=c&d"),
}


@pytest.mark.parametrize("url", TARGETS)
def test_the_target_of_a_url(url: str) -> None:
    assert Target.of_url("GET", url) == TARGETS[url]


@pytest.mark.parametrize("nonce", ["", "short", "A" * 65, "A" * 15 + '"', "A" * 15 + " "])
def test_a_poor_nonce_is_not_signed(nonce: str) -> None:
    with pytest.raises(ValueError, match="nonce"):
        sign_request(TARGET, BODY, SIGNER, NOW, nonce)


def test_field_names_are_taken_in_any_case_and_with_spaces_around() -> None:
    headers = [(name.upper(), f" \t{value} ") for name, value in signed()]
    verified(TARGET, [("accept", "*/*"), *headers], digest(BODY), resolve, NOW)


# ---- another implementation --------------------------------------------------------------------------------------


def test_another_implementation_verifies_ours() -> None:
    fields = sign_request(TARGET, BODY, SIGNER, int(time.time()), NONCE)  # it has no clock but the machine's
    request = httpx.Request("POST", URL, content=BODY, headers=fields)
    public = Ed25519PublicKey.from_public_bytes(SIGNER.public)
    keys = MappingKeyResolver(public_keys={SIGNER.kid: public}, private_keys={})
    (result,) = HTTPMessageVerifier(signature_algorithm=ED25519, key_resolver=keys).verify(request)
    assert result.parameters["tag"] == TAG
    assert {name.strip('"') for name in result.covered_components} == {*ON_TARGET, DIGEST, "@signature-params"}


def test_ours_verifies_another_implementation() -> None:
    key = Ed25519PrivateKey.generate()
    request = httpx.Request("POST", URL, content=BODY)
    keys = MappingKeyResolver(public_keys={}, private_keys={"their-key": key})
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).sign(
        request,
        key_id="their-key",
        created=datetime.fromtimestamp(NOW, UTC),
        expires=datetime.fromtimestamp(NOW + 60, UTC),
        nonce=NONCE,
        tag=TAG,
        label="theirs",
        covered_component_ids=ON_TARGET,
        body=BODY,
    )
    public = Key(key.public_key().public_bytes_raw())
    found = verified(TARGET, request.headers.items(), digest(BODY), {"their-key": public}.get, NOW)
    assert found.keyid == "their-key"


# ---- what is refused ---------------------------------------------------------------------------------------------


def changed(name: str, old: str, new: str) -> list[tuple[str, str]]:
    headers = dict(signed())
    assert re.search(old, headers[name])
    return list((headers | {name: re.sub(old, new, headers[name], count=1)}).items())


def without(*names: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in signed() if name not in names]


Headers = Callable[[], list[tuple[str, str]]]
INPUT, SIGNATURE, CONTENT = "Signature-Input", "Signature", "Content-Digest"

REFUSED_HEADERS: dict[str, tuple[Headers, str]] = {
    "not signed": (lambda: [], "missing"),
    "signature without its input": (lambda: without(INPUT), "missing"),
    "input without its signature": (lambda: without(SIGNATURE), "missing"),
    "digest field taken away": (lambda: without(CONTENT), "malformed"),
    "input twice": (lambda: [*signed(), (INPUT.lower(), dict(signed())[INPUT])], "malformed"),
    "signature twice": (lambda: [*signed(), (SIGNATURE, dict(signed())[SIGNATURE])], "malformed"),
    "digest twice": (lambda: [*signed(), (CONTENT, dict(signed())[CONTENT])], "malformed"),
    "two signatures in one field": (lambda: changed(INPUT, "$", ', b=("@method");created=1'), "malformed"),
    "another label": (lambda: changed(SIGNATURE, "^yunxi", "other"), "malformed"),
    "method not covered": (lambda: changed(INPUT, '"@method" ', ""), "malformed"),
    "authority not covered": (lambda: changed(INPUT, '"@authority" ', ""), "malformed"),
    "path not covered": (lambda: changed(INPUT, '"@path" ', ""), "malformed"),
    "query not covered": (lambda: changed(INPUT, '"@query" ', ""), "malformed"),
    "digest not covered": (lambda: changed(INPUT, ' "content-digest"', ""), "malformed"),
    "a component twice": (lambda: changed(INPUT, '"@path"', '"@path" "@path"'), "malformed"),
    "another component": (lambda: changed(INPUT, '"@path"', '"@path" "date"'), "malformed"),
    "an unknown derived component": (lambda: changed(INPUT, '"@path"', '"@status"'), "malformed"),
    "a component with a parameter": (lambda: changed(INPUT, '"@path"', '"@path";req'), "malformed"),
    "covering nothing": (lambda: changed(INPUT, r"\(.*?\)", "()"), "malformed"),
    "no nonce": (lambda: changed(INPUT, ';nonce="[^"]*"', ""), "malformed"),
    "a short nonce": (lambda: changed(INPUT, ';nonce="[^"]*"', ';nonce="short"'), "malformed"),
    "no expiry": (lambda: changed(INPUT, ";expires=[0-9]+", ""), "malformed"),
    "no creation": (lambda: changed(INPUT, ";created=[0-9]+", ""), "malformed"),
    "creation as text": (lambda: changed(INPUT, ";created=([0-9]+)", r';created="\1"'), "malformed"),
    "creation in tenths": (lambda: changed(INPUT, ";created=([0-9]+)", r";created=\1.5"), "malformed"),
    "no key id": (lambda: changed(INPUT, ';keyid="[^"]*"', ""), "malformed"),
    "key id of spaces": (lambda: changed(INPUT, ';keyid="[^"]*"', ';keyid="a b"'), "malformed"),
    "no tag": (lambda: changed(INPUT, ';tag="yunxi"', ""), "malformed"),
    "another tag": (lambda: changed(INPUT, ';tag="yunxi"', ';tag="other"'), "malformed"),
    "another algorithm": (lambda: changed(INPUT, "ed25519", "hmac-sha256"), "malformed"),
    "a parameter more": (lambda: changed(INPUT, "$", ";extra=1"), "malformed"),
    "a parameter twice": (lambda: changed(INPUT, "$", ";created=1"), "malformed"),
    "ten years of validity": (lambda: changed(INPUT, "expires=[0-9]+", f"expires={NOW + 315_360_000}"), "malformed"),
    "expiry before creation": (lambda: changed(INPUT, "expires=[0-9]+", f"expires={NOW - 1}"), "malformed"),
    "a signature that is too short": (lambda: changed(SIGNATURE, ":.{4}", ":"), "malformed"),
    "a signature with spare bits set": (lambda: changed(SIGNATURE, ".==:$", "B==:"), "malformed"),
    "a digest of another kind": (lambda: changed(CONTENT, "sha-256", "sha-512"), "malformed"),
    "a digest as hex": (lambda: changed(CONTENT, ":.*:", ":" + "00" * 32 + ":"), "malformed"),
    "a field of megabytes": (lambda: changed(INPUT, "$", " " * 100_000 + "x"), "malformed"),
    "Chinese in the label": (lambda: changed(INPUT, "^yunxi", "云玺"), "malformed"),
    "a line break": (lambda: changed(INPUT, "$", "\n"), "malformed"),
    "another nonce": (lambda: changed(INPUT, NONCE, "B" * 22), "signature-invalid"),
    "a longer life": (lambda: changed(INPUT, "expires=[0-9]+", f"expires={NOW + 61}"), "signature-invalid"),
    "another key's id": (lambda: changed(INPUT, 'keyid="[^"]*"', 'keyid="unknown"'), "key-unknown"),
    "a digest that is not the body's": (
        lambda: [*without(CONTENT), (CONTENT, content_digest(bytes(32)))],
        "signature-invalid",
    ),
}


@pytest.mark.parametrize("case", REFUSED_HEADERS)
def test_headers_that_are_refused(case: str) -> None:
    make, reason = REFUSED_HEADERS[case]
    with pytest.raises(RequestRefused) as refusal:
        verified(TARGET, make(), digest(BODY), resolve, NOW)
    assert refusal.value.reason == reason


REFUSED_TARGETS = {
    "another method": replace(TARGET, method="PUT"),
    "the method in lower case": replace(TARGET, method="post"),
    "another host": replace(TARGET, authority="fire.example:8443"),
    "another port": replace(TARGET, authority="health.example"),
    "another path": replace(TARGET, path="/v1/extraction"),
    "a path that decodes to the same": replace(TARGET, path="/v1/%65xtractions"),
    "another query": replace(TARGET, query="after=4&q=%E4%BA%91"),
    "no query": replace(TARGET, query=""),
    "the query in another order": replace(TARGET, query="q=%E4%BA%91&after=3"),
    "a target that is not ASCII": replace(TARGET, query="q=云"),
}


@pytest.mark.parametrize("case", REFUSED_TARGETS)
def test_another_request_is_refused(case: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        verified(REFUSED_TARGETS[case], signed(), digest(BODY), resolve, NOW)
    assert refusal.value.reason == ("malformed" if "ASCII" in case else "signature-invalid")


@pytest.mark.parametrize(("was", "comes"), [(BODY, b""), (BODY, None), (BODY, BODY + b" "), (None, BODY), (b"", b"x")])
def test_another_body_is_refused(was: bytes | None, comes: bytes | None) -> None:
    with pytest.raises(RequestRefused) as refusal:
        verified(TARGET, signed(was), digest(comes), resolve, NOW)
    assert refusal.value.reason == "digest-mismatch"


MOMENTS = {
    NOW - 61: "clock-skew",
    NOW - 60: None,
    NOW: None,
    NOW + 60: None,
    NOW + 120: None,
    NOW + 121: "expired",
    NOW + 10_000_000: "expired",
}


@pytest.mark.parametrize("now", MOMENTS)
def test_the_moment_decides(now: int) -> None:
    if MOMENTS[now] is None:
        verified(TARGET, signed(), digest(BODY), resolve, now)
        return
    with pytest.raises(RequestRefused) as refusal:
        verified(TARGET, signed(), digest(BODY), resolve, now)
    assert refusal.value.reason == MOMENTS[now]


VALIDITIES: dict[str, tuple[float, float | None, bool]] = {
    "open": (0, None, True),
    "from this second": (NOW, None, True),
    "from the next": (NOW + 1, None, False),
    "until this second": (0, NOW, False),
    "until after both": (0, NOW + 6, True),
    "signed in time, comes too late": (0, NOW + 5, False),
}


@pytest.mark.parametrize("case", VALIDITIES)
def test_a_key_outside_its_validity_is_refused(case: str) -> None:
    since, until, good = VALIDITIES[case]

    def verify() -> None:
        verified(TARGET, signed(), digest(BODY), lambda _: Key(SIGNER.public, since, until), NOW + 5)

    if good:
        verify()
        return
    with pytest.raises(RequestRefused) as refusal:
        verify()
    assert refusal.value.reason == "key-outside-validity"


OTHER_KEYS = {"another": new_signer().public, "all zeros": bytes(32), "empty": b"", "31 bytes": bytes(31)}


@pytest.mark.parametrize("public", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_another_key_is_refused(public: bytes) -> None:
    with pytest.raises(RequestRefused) as refusal:
        verified(TARGET, signed(), digest(BODY), lambda _: Key(public), NOW)
    assert refusal.value.reason == "signature-invalid"


@given(st.integers(0, 511))
def test_one_flipped_bit_of_the_signature_is_refused(bit: int) -> None:
    found = read_signature(TARGET, signed())
    flipped = bytearray(found.signature)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RequestRefused):
        check_signature(replace(found, signature=bytes(flipped)), SIGNER.public)


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=100))
def test_odd_fields_are_refused_and_nothing_else(given_input: str, given_signature: str, given_digest: str) -> None:
    headers = [(INPUT, given_input), (SIGNATURE, given_signature), (CONTENT, given_digest)]
    with pytest.raises(RequestRefused) as refusal:
        verified(TARGET, headers, digest(BODY), resolve, NOW)
    assert refusal.value.reason == "malformed"
