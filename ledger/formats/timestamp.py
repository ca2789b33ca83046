"""Time-stamp tokens (RFC 3161) in their CMS envelope (RFC 5652): a third party's word that data existed at a time.

    TimeStampResp  = SEQUENCE { status SEQUENCE { INTEGER, … }, timeStampToken ContentInfo OPTIONAL }
    ContentInfo    = SEQUENCE { id-signedData, [0] SignedData }
    SignedData     = SEQUENCE { version, digestAlgorithms SET, encapContentInfo, certificates [0] OPTIONAL,
                                crls [1] OPTIONAL, signerInfos SET }
    SignerInfo     = SEQUENCE { version, sid, digestAlgorithm, signedAttrs [0], signatureAlgorithm, signature OCTETS,
                                unsignedAttrs [1] OPTIONAL }
    TSTInfo        = SEQUENCE { version 1, policy OID, messageImprint, serialNumber, genTime, accuracy OPTIONAL,
                                ordering OPTIONAL, nonce OPTIONAL, tsa [0] OPTIONAL, extensions [1] OPTIONAL }

Verifying a token, given the data and the roots that are trusted:
    1. It parses, strictly: one signer, the content is a TSTInfo.
    2. The message imprint is the data's digest (SHA-256, -384 or -512).
    3. The signer's certificate is in the token, and the signed attributes name it (RFC 2634, RFC 5035).
    4. The signed attributes hold the content's digest and type.
    5. The certificate's key signed the attributes.
    6. The certificate is for time-stamping and nothing else, critically so (RFC 3161 section 2.3).
    7. A chain leads from it to a trusted root; every certificate in it was valid at the token's time.

Which signatures count, and what is not checked of certificates, `certificate` says. Not checked either: whether one
was revoked, which no file can tell for ever.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ledger.errors import Malformed, NotProven
from ledger.formats.certificate import Algorithm, Certificate, chain_of, read_algorithm, read_digest, readable
from ledger.formats.der import GENERALIZED_TIME, INTEGER, OCTETS, OID, SEQUENCE, SET, Fields, Value, context, read_der

MAX_TOKEN_BYTES = 64 * 1024
MAX_CERTIFICATES = 32
"""Of those that a token may carry."""

_WHAT = "time-stamp token"
_MAX_ACCURACY_BYTES = 6
_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_TIME = re.compile(rb"(\d{14})(?:\.(\d{1,6}))?Z")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A token that was verified. `time` is the authority's, in UTC; `authority` its certificate's subject (RFC 4514);
    `accuracy` in seconds, None where the authority does not say; `expires` is when the first certificate of its chain
    does: until then the token should be renewed."""

    time: datetime
    expires: datetime
    accuracy: float | None
    authority: str
    root: str
    policy: str
    serial: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was parsed; nothing of it is verified. `certificates` are DER, and need not be any: they are not
    signed, and only those count that lead from the signer to a root."""

    imprint: bytes
    imprint_digest: str
    time: datetime
    accuracy: float | None
    policy: str
    serial: int
    nonce: int | None
    content: bytes
    certificates: tuple[bytes, ...]
    signer: bytes
    attributes: dict[str, Value]
    attributes_encoded: bytes
    digest: str
    algorithm: Algorithm
    signature: bytes


def token_of(response: bytes) -> bytes:
    """The token in an authority's response (TimeStampResp). Raises Malformed, and NotProven when it was not granted."""
    fields = _read(response).fields()
    status = fields.take().fields().take(INTEGER).integer()
    token = fields.maybe(SEQUENCE)
    fields.end()
    if status not in (0, 1) or token is None:
        said = status if 0 <= status < 100 else "unknown"
        raise NotProven(f"the time-stamping authority did not grant a token (status {said})")
    return token.encoded


def parse_token(data: bytes) -> Token:
    """Step 1. Raises Malformed."""
    fields = _read(data).fields()
    _require_oid(fields.take(OID), _SIGNED_DATA, "signed data")
    signed = _explicit(fields.take(context(0))).fields()
    fields.end()
    signed.take(INTEGER)
    signed.take(SET)
    encapsulated = signed.take().fields()
    _require_oid(encapsulated.take(OID), _TST_INFO, "a TSTInfo")
    content = _explicit(encapsulated.take(context(0))).of(OCTETS).content
    encapsulated.end()
    certificates = signed.maybe(context(0))
    signed.maybe(context(1))
    signers = signed.take(SET).values()
    signed.end()
    if len(signers) != 1:
        raise Malformed(_WHAT, f"has {len(signers)} signers instead of one")
    offered = () if certificates is None else tuple(found.encoded for found in certificates.values())
    if len(offered) > MAX_CERTIFICATES:
        raise Malformed(_WHAT, f"carries more than {MAX_CERTIFICATES} certificates")
    return _token(content, offered, signers[0].fields())


def verify_token(data: bytes, stamped: bytes, roots: Sequence[x509.Certificate]) -> Timestamp:
    """The facts of a token over `stamped`, under one of the trusted `roots`.

    Raises Malformed for bytes that are no token, NotProven where a step fails; the sentence names it.
    """
    # 1
    token = parse_token(data)
    # 2
    if not hmac.compare_digest(hashlib.new(token.imprint_digest, stamped).digest(), token.imprint):
        raise NotProven("the time stamp is of other data: ask for the one that belongs to this checkpoint")
    try:
        # 3
        certificate = _signer_certificate(token)
        # 4
        _check_attributes(token)
        # 5
        _check_signature(token, certificate)
        # 6
        _check_purpose(certificate)
        # 7
        trusted = [Certificate.read(root.public_bytes(Encoding.DER)) for root in roots]
        chain = chain_of(certificate, readable(token.certificates), trusted, token.time)
    except Malformed as error:
        if error.what == _WHAT:
            raise
        raise Malformed(_WHAT, "holds a certificate that cannot be read") from error
    expires = min(link.parsed.not_valid_after_utc for link in chain)
    names = certificate.name, chain[-1].name
    return Timestamp(token.time, expires, token.accuracy, *names, token.policy, token.serial)


def read_roots(pems: Sequence[str]) -> list[x509.Certificate]:
    """Certificates in PEM, as the trust file's `tsa_roots` holds them. Raises Malformed."""
    try:
        found = [each for pem in pems for each in x509.load_pem_x509_certificates(pem.encode())]
        for each in found:
            Certificate.read(each.public_bytes(Encoding.DER))
        return found
    except (ValueError, Malformed) as error:
        raise Malformed("trust file", "tsa_roots holds what is no certificate") from error


def _read(data: bytes) -> Value:
    if len(data) > MAX_TOKEN_BYTES:
        raise Malformed(_WHAT, f"is longer than {MAX_TOKEN_BYTES:,} bytes")
    return read_der(data, _WHAT)


def _token(content: bytes, certificates: tuple[bytes, ...], signer: Fields) -> Token:
    signer.take(INTEGER)
    sid = signer.take()
    digest = read_digest(signer.take())
    attributes = signer.take(context(0))
    algorithm = read_algorithm(signer.take())
    signature = signer.take(OCTETS).content
    signer.maybe(context(1))
    signer.end()
    info = read_der(content, _WHAT).fields()
    if info.take(INTEGER).integer() != 1:
        raise Malformed(_WHAT, "has a TSTInfo of another version than 1")
    policy = info.take(OID).oid()
    imprint = info.take().fields()
    imprint_digest, imprinted = read_digest(imprint.take()), imprint.take(OCTETS).content
    imprint.end()
    serial = info.take(INTEGER).integer()
    time = _time(info.take(GENERALIZED_TIME).content)
    accuracy = _accuracy(info.maybe(SEQUENCE))
    info.maybe(0x01)
    nonce = info.maybe(INTEGER)
    info.maybe(context(0))
    info.maybe(context(1))
    info.end()
    return Token(
        imprint=imprinted,
        imprint_digest=imprint_digest,
        time=time,
        accuracy=accuracy,
        policy=policy,
        serial=serial,
        nonce=None if nonce is None else nonce.integer(),
        content=content,
        certificates=certificates,
        signer=sid.encoded,
        attributes=_attributes(attributes),
        # what is signed is the set with a set's own tag (RFC 5652 section 5.4)
        attributes_encoded=bytes([SET]) + attributes.encoded[1:],
        digest=digest,
        algorithm=algorithm,
        signature=signature,
    )


def _attributes(attributes: Value) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for attribute in attributes.values():
        fields = attribute.fields()
        name, values = fields.take(OID).oid(), fields.take(SET).values()
        fields.end()
        if name in found or len(values) != 1:
            raise Malformed(_WHAT, "has a signed attribute twice, or one with several values")
        found[name] = values[0]
    return found


def _signer_certificate(token: Token) -> Certificate:
    named = token.attributes.get(_SIGNING_CERTIFICATE_V2) or token.attributes.get(_SIGNING_CERTIFICATE)
    if named is None:
        raise NotProven("the time stamp does not name its signer's certificate among what is signed")
    first = named.fields().take().fields().take().fields()  # certs, the first ESSCertID
    if _SIGNING_CERTIFICATE_V2 in token.attributes:
        algorithm = first.maybe(SEQUENCE)
        digest = "sha256" if algorithm is None else read_digest(algorithm)
    else:
        digest = "sha1"  # what RFC 2634 fixes; the certificate must also be the one that the signer id names
    wanted = first.take(OCTETS).content
    for encoded in token.certificates:
        if hashlib.new(digest, encoded, usedforsecurity=digest != "sha1").digest() == wanted:
            certificate = Certificate.read(encoded)
            if _is_signer(token.signer, certificate):
                return certificate
    raise NotProven("the time stamp does not carry the certificate of its signer")


def _is_signer(sid: bytes, certificate: Certificate) -> bool:
    value = read_der(sid, _WHAT)
    if value.tag == 0x80:  # [0] subject key identifier
        try:
            found = certificate.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return False
        return found.value.digest == value.content
    fields = value.fields()
    issuer, serial = fields.take(SEQUENCE).encoded, fields.take(INTEGER).integer()
    return (issuer, serial) == (certificate.issuer, certificate.serial)


def _check_attributes(token: Token) -> None:
    kind, digest = token.attributes.get(_CONTENT_TYPE), token.attributes.get(_MESSAGE_DIGEST)
    if kind is None or kind.oid() != _TST_INFO or digest is None:
        raise NotProven("the time stamp's signed attributes do not name its content")
    if not hmac.compare_digest(digest.of(OCTETS).content, hashlib.new(token.digest, token.content).digest()):
        raise NotProven("the time stamp's content is not what its authority signed")


def _check_signature(token: Token, certificate: Certificate) -> None:
    if certificate.key_kind is None:
        raise NotProven("the time stamp's signer has a key of a kind that is not accepted (RSA from 2048 bits, EC)")
    try:
        certificate.verify(token.algorithm, token.digest, token.signature, token.attributes_encoded)
    except InvalidSignature as error:
        raise NotProven("the time stamp is not signed by its authority: it was changed") from error


def _check_purpose(certificate: Certificate) -> None:
    try:
        usage = certificate.parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as error:
        raise NotProven("the time stamp's certificate is not one for time-stamping") from error
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise NotProven("the time stamp's certificate is not one for time-stamping alone")


def _time(text: bytes) -> datetime:
    match = _TIME.fullmatch(text)
    if match is None or (match[2] or b"1").endswith(b"0"):
        raise Malformed(_WHAT, "has a time that is not written as RFC 3161 section 2.4.2 asks")
    try:
        whole = datetime.strptime(match[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise Malformed(_WHAT, "has a time that does not exist") from error
    return whole.replace(microsecond=int((match[2] or b"").ljust(6, b"0")))


def _accuracy(value: Value | None) -> float | None:
    if value is None:
        return None
    fields, total = value.fields(), 0.0
    for tag, unit in ((INTEGER, 1.0), (0x80, 1e-3), (0x81, 1e-6)):
        if (found := fields.maybe(tag)) is not None:
            if len(found.content) > _MAX_ACCURACY_BYTES:
                raise Malformed(_WHAT, "states an accuracy that no clock has")
            total += int.from_bytes(found.content, "big") * unit
    fields.end()
    return total


def _explicit(value: Value) -> Value:
    inside = value.values()
    if len(inside) != 1:
        raise Malformed(_WHAT, "has several values where one belongs")
    return inside[0]


def _require_oid(value: Value, wanted: str, name: str) -> None:
    if value.oid() != wanted:
        raise Malformed(_WHAT, f"is not {name}")
