"""Detached CAdES signatures (ETSI EN 319 122-1) that an X.509 world can check, by a department whose key is Ed25519.

Few tools verify Ed25519 in CMS (RFC 8419; OpenSSL 3.0 refuses it), but all verify certificates that Ed25519 signed. So
the department's statement key is a certificate authority for one certificate each time: of a P-256 key that is drawn,
signs once, and is forgotten.

    authority    self-signed, Ed25519: the statement key itself. The same bytes each time, so that it can be pinned;
                 its public key is the one that the trust file names
    signer       P-256, issued by it for this signature alone
    signature    SignedData (RFC 5652), ECDSA with SHA-256 over content type, message digest, signing time and
                 signing-certificate-v2 (RFC 5035): CAdES-B; with a token over the signature (RFC 3161): CAdES-T

Certificates end on 9999-12-31, "no well-defined expiration" (RFC 5280 section 4.1.2.5): the authority's interval is the
trust file's to say, and the signer's key is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from ledger.keys import Signer

CLOCK_SKEW = timedelta(minutes=5)
NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_SIGNED_DATA, _DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_TIME, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.5", "1.2.840.113549.1.9.16.2.47"
_SIGNATURE_TIME_STAMP = "1.2.840.113549.1.9.16.2.14"
_SHA256, _ECDSA_SHA256, _ED25519 = "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2", "1.3.101.112"

_NO_REVOCATION = ObjectIdentifier("2.5.29.56")

Stamp = Callable[[bytes], bytes]
"""Makes a time-stamp token (DER) over the bytes that it is given."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A department as a certificate authority. `signer` holds its statement key, in force since `since` (seconds since
    1970); `name` and `consortium` are what certificates call it."""

    signer: Signer
    name: str
    consortium: str
    since: int

    def certificate(self) -> x509.Certificate:
        """The self-signed certificate; the same bytes each time."""
        public = Ed25519PublicKey.from_public_bytes(self.signer.public)
        # the serial number is made from the key, because a random one would make another certificate each time
        serial = int.from_bytes(hashlib.sha256(self.signer.public).digest()[:16], "big") >> 1 or 1
        builder = self._builder(self._subject(self.name), serial, datetime.fromtimestamp(self.since, UTC))
        builder = builder.public_key(public)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        return self._signed(builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False))

    def issue(self, key: ec.EllipticCurvePublicKey, at: datetime) -> x509.Certificate:
        """A certificate of `key` in the department's name, from a little before `at`: others' clocks may be behind."""
        own = Ed25519PublicKey.from_public_bytes(self.signer.public)
        builder = self._builder(self._subject(f"{self.name} (export)"), x509.random_serial_number(), at - CLOCK_SKEW)
        builder = builder.public_key(key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(own)
        builder = builder.add_extension(issuer, critical=False)
        # a key that signs once cannot be revoked: validators are told not to look for it (RFC 9608)
        return self._signed(
            builder.add_extension(x509.UnrecognizedExtension(_NO_REVOCATION, b"\x05\x00"), critical=False)
        )

    def _subject(self, name: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.consortium[:64])
        return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])

    def _builder(self, subject: x509.Name, serial: int, starts: datetime) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject(self.name))
        return builder.serial_number(serial).not_valid_before(starts).not_valid_after(NO_END)

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        # the library signs with keys that it holds; the agent's key signs what it has laid out for a stand-in
        laid_out = builder.sign(Ed25519PrivateKey.generate(), None).tbs_certificate_bytes
        signature = self.signer.sign(laid_out)
        encoded = _sequence(laid_out, _sequence(_oid(_ED25519)), _der(0x03, b"\x00" + signature))
        return x509.load_der_x509_certificate(encoded)


def sign_detached(content: bytes, authority: Authority, at: datetime, stamp: Stamp | None = None) -> bytes:
    """A detached signature (DER) over `content`, dated `at` by the department's clock, and by `stamp` if there is one.

    Raises what `stamp` raises.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    own, certificate = authority.certificate(), authority.issue(key.public_key(), at)
    encoded = certificate.public_bytes(Encoding.DER)
    attributes = [
        _attribute(_CONTENT_TYPE, _oid(_DATA)),
        _attribute(_SIGNING_TIME, _time(at)),
        _attribute(_MESSAGE_DIGEST, _octets(hashlib.sha256(content).digest())),
        _attribute(_SIGNING_CERTIFICATE_V2, _signing_certificate(encoded)),
    ]
    # what is signed is the set with a set's own tag (RFC 5652 section 5.4)
    signature = key.sign(_set(attributes), ec.ECDSA(hashes.SHA256()))
    issuer_and_serial = _sequence(certificate.issuer.public_bytes(), _integer(certificate.serial_number))
    signer = [
        _integer(1),
        issuer_and_serial,
        _sequence(_oid(_SHA256)),
        _der(0xA0, _set(attributes, bare=True)),
        _sequence(_oid(_ECDSA_SHA256)),
        _octets(signature),
    ]
    if stamp is not None:
        signer.append(_der(0xA1, _attribute(_SIGNATURE_TIME_STAMP, stamp(signature))))
    signed = _sequence(
        _integer(1),
        _set([_sequence(_oid(_SHA256))]),
        _sequence(_oid(_DATA)),
        _der(0xA0, _set([encoded, own.public_bytes(Encoding.DER)], bare=True)),
        _set([_sequence(*signer)]),
    )
    return _sequence(_oid(_SIGNED_DATA), _der(0xA0, signed))


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signing_certificate(certificate: bytes) -> bytes:
    # SigningCertificateV2 { certs { ESSCertIDv2 { certHash } } }; SHA-256 is the default and left out
    return _sequence(_sequence(_sequence(_octets(hashlib.sha256(certificate).digest()))))


def _time(at: datetime) -> bytes:
    # RFC 5652 section 11.3: UTCTime up to 2049
    utc = at.astimezone(UTC)
    if utc.year < 2050:
        return _der(0x17, utc.strftime("%y%m%d%H%M%SZ").encode())
    return _der(0x18, utc.strftime("%Y%m%d%H%M%SZ").encode())


def _attribute(name: str, value: bytes) -> bytes:
    return _sequence(_oid(name), _set([value]))


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _set(values: list[bytes], *, bare: bool = False) -> bytes:
    joined = b"".join(sorted(values))  # X.690 section 11.6
    return joined if bare else _der(0x31, joined)


def _octets(value: bytes) -> bytes:
    return _der(0x04, value)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, ObjectIdentifier(dotted).dotted_string.split("."))
    out = b""
    for number in (40 * first + second, *rest):
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(number & 0x7F | 0x80)
        out += bytes(reversed(digits))
    return _der(0x06, out)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
