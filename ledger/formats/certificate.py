"""Certificates (X.509, RFC 5280) as far as time stamps need them, the signatures on them, and chains of them.

    Certificate    = SEQUENCE { tbsCertificate, signatureAlgorithm, signature BIT STRING }
    tbsCertificate = SEQUENCE { version [0] OPTIONAL, serialNumber, signature, issuer, validity, subject,
                                subjectPublicKeyInfo, … }
    PSS parameters = SEQUENCE { hash [0], mask generation [1], salt length [2] DEFAULT 20, trailer [3] DEFAULT 1 }

Signatures that count: RSA (PKCS #1 v1.5, and PSS whose mask generation uses the same digest: RFC 4055) with keys of
2,048 to 8,192 bits, ECDSA on P-256, P-384 and P-521, Ed25519; digests SHA-256, SHA-384 and SHA-512. It is what browsers
verify as well (ledger/verify/page/x509.js does the same), so that no two verifiers differ. The library reads keys
and extensions; what is compared, shown or signed is taken from the bytes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ledger.errors import Malformed, NotProven
from ledger.formats.der import BIT_STRING, INTEGER, OID, SEQUENCE, SET, Value, context, read_der

MAX_CHAIN = 6
"""Certificates from the signer to the root, both counted."""
RSA_BITS = range(2_048, 8_192 + 1)

DIGESTS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}

_WHAT = "certificate"
_RSA, _PSS, _MGF1, _EC = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8", "1.2.840.10045.2.1"
_ED25519 = "1.3.101.112"
_ALGORITHMS: dict[str, tuple[str, str | None]] = {  # kind of signature and digest; two leave the digest to the format
    _RSA: ("rsa", None),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.10045.4.3.2": ("ec", "sha256"),
    "1.2.840.10045.4.3.3": ("ec", "sha384"),
    "1.2.840.10045.4.3.4": ("ec", "sha512"),
    _ED25519: ("ed25519", None),
}
_CURVES = {"1.2.840.10045.3.1.7": 32, "1.3.132.0.34": 48, "1.3.132.0.35": 66}  # bytes of a coordinate
_FITS = {"rsa": ("rsa", "pss"), "pss": ("pss",), "ec": ("ec",), "ed25519": ("ed25519",)}
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
_TEXTS = {  # the kinds of text in names: how they are decoded, and what they may hold
    0x0C: ("utf-8", re.compile(r".*", re.DOTALL)),
    0x13: ("ascii", re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")),
    0x14: ("latin-1", re.compile(r".*", re.DOTALL)),
    0x16: ("ascii", re.compile(r".*", re.DOTALL)),
    0x1E: ("utf-16-be", re.compile(r".*", re.DOTALL)),
}
_MAX_SALT = 512
_MAX_EXPONENT = 2**32
# what the library raises for a certificate that is none, at once or when a part of it is first looked at
_UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How something was signed. `kind`: rsa, pss, ec or ed25519; `digest` None: the format says elsewhere; `salt` in
    bytes, of PSS."""

    kind: str
    digest: str | None
    salt: int = 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, read and not verified. `issuer`, `subject` and `signed` are DER; `key_kind` None: a key that no
    signature here can be by; `algorithm` None: its own signature does not count."""

    encoded: bytes
    parsed: x509.Certificate
    name: str
    """The subject as RFC 4514 writes it."""
    serial: int
    issuer: bytes
    subject: bytes
    signed: bytes
    algorithm: Algorithm | None
    signature: bytes
    key_kind: str | None
    is_authority: bool

    @staticmethod
    def read(encoded: bytes) -> Certificate:
        """Raises Malformed for bytes that are no certificate, or one whose parts cannot be read."""
        whole = read_der(encoded, _WHAT).fields()
        signed, outer, signature = whole.take(SEQUENCE), whole.take(SEQUENCE), _bits(whole.take(BIT_STRING))
        whole.end()
        fields = signed.fields()
        fields.maybe(context(0))
        serial, inner, issuer = fields.take(INTEGER).integer(), fields.take(SEQUENCE), fields.take(SEQUENCE)
        fields.take(SEQUENCE)
        subject, key = fields.take(SEQUENCE), fields.take(SEQUENCE)
        try:
            parsed = x509.load_der_x509_certificate(encoded)
            kind, is_authority = _kind_of(key), _is_authority(parsed)
            if kind is not None:
                parsed.public_key()
        except _UNREADABLE as error:
            raise Malformed(_WHAT, "cannot be read") from error
        return Certificate(
            encoded=encoded,
            parsed=parsed,
            name=_name(subject),
            serial=serial,
            issuer=issuer.encoded,
            subject=subject.encoded,
            signed=signed.encoded,
            algorithm=_counting(outer) if outer.encoded == inner.encoded else None,
            signature=signature,
            key_kind=kind,
            is_authority=is_authority,
        )

    def verify(self, algorithm: Algorithm, digest: str, signature: bytes, data: bytes) -> None:
        """Raises InvalidSignature unless its key signed `data`; `digest` counts where the algorithm names none."""
        if self.key_kind is None or algorithm.kind not in _FITS[self.key_kind]:
            raise InvalidSignature
        key, used = self.parsed.public_key(), _HASHES[algorithm.digest or digest]()
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(used), algorithm.salt)
            key.verify(signature, data, pss if algorithm.kind == "pss" else padding.PKCS1v15(), used)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(used))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)


def read_algorithm(value: Value) -> Algorithm:
    """An AlgorithmIdentifier of a signature. Raises Malformed, in the name of the value's format, for others."""
    fields = value.fields()
    oid = fields.take(OID).oid()
    if oid == _PSS:
        return _pss(fields.take(SEQUENCE))
    if oid not in _ALGORITHMS:
        raise Malformed(value.what, f"is signed with an algorithm that is not accepted ({oid})")
    return Algorithm(*_ALGORITHMS[oid])


def read_digest(value: Value) -> str:
    """An AlgorithmIdentifier of a digest. Raises Malformed, in the name of the value's format, for others."""
    found = value.fields().take(OID).oid()
    if found not in DIGESTS:
        raise Malformed(value.what, f"uses a digest that is not accepted ({found})")
    return DIGESTS[found]


def readable(encoded: Iterable[bytes]) -> list[Certificate]:
    """Those that can be read. What only may help to build a chain must not break one that stands without it."""
    found = []
    for each in encoded:
        try:
            found.append(Certificate.read(each))
        except Malformed:
            continue
    return found


def chain_of(
    signer: Certificate, offered: Sequence[Certificate], roots: Sequence[Certificate], time: datetime
) -> list[Certificate]:
    """The shortest chain from `signer` to one of `roots`, every certificate valid at `time`, those between authorities.

    Roots are tried first, then `offered`, each certificate once. Raises NotProven where there is none. Not checked:
    revocation, constraints of names, policies and lengths of paths.
    """
    trusted = {root.encoded for root in roots}
    candidates = [*roots, *(found for found in offered if found.is_authority)]
    seen, waiting, late = {signer.encoded}, [[signer]], False
    while waiting:
        chain = waiting.pop(0)
        if not chain[-1].parsed.not_valid_before_utc <= time <= chain[-1].parsed.not_valid_after_utc:
            late = True
        elif chain[-1].encoded in trusted:
            return chain
        elif len(chain) < MAX_CHAIN:
            issuers = [found for found in candidates if found.encoded not in seen and _issued(chain[-1], found)]
            seen.update(found.encoded for found in issuers)
            waiting += [[*chain, found] for found in issuers]
    if late:
        raise NotProven("a certificate behind the time stamp was not valid at the time that it states")
    raise NotProven("no chain leads from the time stamp to an authority that the trust file names (`tsa_roots`)")


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    if certificate.issuer != issuer.subject or certificate.algorithm is None:
        return False
    try:
        issuer.verify(certificate.algorithm, "sha256", certificate.signature, certificate.signed)
    except InvalidSignature:
        return False
    return True


def _is_authority(parsed: x509.Certificate) -> bool:
    try:
        return parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _counting(value: Value) -> Algorithm | None:
    try:
        found = read_algorithm(value)
    except Malformed:
        return None
    return None if found.digest is None and found.kind == "rsa" else found


def _kind_of(info: Value) -> str | None:
    """The kind of key in a SubjectPublicKeyInfo, None for one that does not count."""
    fields = info.fields()
    algorithm, key = fields.take(SEQUENCE).fields(), _bits(fields.take(BIT_STRING))
    fields.end()
    oid = algorithm.take(OID).oid()
    if oid in (_RSA, _PSS):
        return ("rsa" if oid == _RSA else "pss") if _is_large(key) else None
    if oid == _EC:
        width = _CURVES.get(algorithm.take(OID).oid())
        return "ec" if width is not None and len(key) == 1 + 2 * width and key[0] == 4 else None
    return "ed25519" if oid == _ED25519 else None


def _is_large(key: bytes) -> bool:
    fields = read_der(key, _WHAT).fields()
    modulus, exponent = fields.take(INTEGER).integer(), fields.take(INTEGER).integer()
    fields.end()
    return modulus > 0 and modulus.bit_length() in RSA_BITS and 3 <= exponent < _MAX_EXPONENT


def _pss(parameters: Value) -> Algorithm:
    fields = parameters.fields()
    digest = read_digest(_explicit(fields.take(context(0))))
    mask = _explicit(fields.take(context(1))).fields()
    same = mask.take(OID).oid() == _MGF1 and read_digest(mask.take(SEQUENCE)) == digest
    mask.end()
    salt, trailer = fields.maybe(context(2)), fields.maybe(context(3))
    fields.end()
    length = 20 if salt is None else _explicit(salt).integer()
    if not same or not 0 <= length <= _MAX_SALT or (trailer is not None and _explicit(trailer).integer() != 1):
        raise Malformed(parameters.what, "is signed with RSA-PSS in a form that is not accepted")
    return Algorithm("pss", digest, length)


def _name(name: Value) -> str:
    """A name as RFC 4514 writes it. Raises Malformed."""
    sets = [[_attribute(each) for each in part.of(SET).values()] for part in name.values()]
    return ",".join("+".join(part) for part in reversed(sets))


def _attribute(value: Value) -> str:
    fields = value.fields()
    kind, text = fields.take(OID).oid(), fields.take()
    fields.end()
    return f"{_SHORT_NAMES.get(kind, kind)}={_escaped(text)}"


def _escaped(value: Value) -> str:
    if value.tag not in _TEXTS:
        return "#" + value.content.hex()
    encoding, form = _TEXTS[value.tag]
    try:
        text = value.content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Malformed(_WHAT, "has a name that is no text") from error
    if not form.fullmatch(text):
        raise Malformed(_WHAT, "has a name that is no text")
    text = re.sub(r'[\\"+,;<>]', r"\\\g<0>", text).replace("\0", "\\00")
    text = re.sub(r"^(?:#| (?=.))", r"\\\g<0>", text, flags=re.DOTALL)
    return re.sub(r" \Z", r"\\ ", text)


def _explicit(value: Value) -> Value:
    inside = value.values()
    if len(inside) != 1:
        raise Malformed(value.what, "has several values where one belongs")
    return inside[0]


def _bits(value: Value) -> bytes:
    if value.content[:1] != b"\x00":
        raise Malformed(value.what, "has a string of bits that is not made of bytes")
    return value.content[1:]
