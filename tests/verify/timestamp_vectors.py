"""Time stamps by name, and what both verifiers must say of each: ways to sign, and certificates that come along.

The certificates in a token are not signed: whoever passes it on can add to them, damage them, or put them in another
order. What is needed must be there; what is not must change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.formats.der import INTEGER, SEQUENCE, SET, context, read_der
from ledger.formats.note import Note
from ledger.formats.timestamp import parse_token, token_of
from tests.fixtures.tsa import Authority, make_authority
from tests.verify.factory import evidence

Verdict = Literal["good", "malformed", "timestamp-invalid"]


@dataclass(frozen=True)
class StampVector:
    """A token over the good receipt's checkpoint, and the authority that the trust file names."""

    name: str
    token: bytes
    authority: Authority
    verdict: Verdict


def text() -> bytes:
    """What is stamped."""
    return Note.parse(evidence()[1].checkpoint).text


def vectors(base: Path) -> Iterator[StampVector]:
    """All of them; authorities are made below `base`."""
    plain = make_authority(base / "plain", "Plain", kind="ec")
    token = token_of(plain.stamp(text()))
    content = parse_token(token).content
    yield from _signed(base, content)
    yield from _offered(plain, token)


def _pss(digest: hashes.HashAlgorithm, salt: int, mask: hashes.HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(mask or digest), salt)


def _signed(base: Path, content: bytes) -> Iterator[StampVector]:
    pss = make_authority(base / "pss", "PSS", padded=_pss(hashes.SHA256(), 32))
    yield StampVector("certificates signed with PSS", token_of(pss.stamp(text())), pss, "good")
    options: dict[str, tuple[Verdict, tuple[str, ...]]] = {
        "longest salt": ("good", ()),
        "salt as long as the digest": ("good", ("rsa_pss_saltlen:digest",)),
        "no salt": ("good", ("rsa_pss_saltlen:0",)),
        "another digest for the mask": ("malformed", ("rsa_mgf1_md:sha384",)),
        "SHA-1 for the mask": ("malformed", ("rsa_mgf1_md:sha1",)),
    }
    for name, (verdict, how) in options.items():
        token = pss.sign(content, "rsa_padding_mode:pss", *how)
        yield StampVector(f"PSS: {name}", token, pss, verdict)
    token = pss.sign(content, "rsa_padding_mode:pss")
    salt = token.rindex(bytes.fromhex("a204020200de"))
    yield StampVector("PSS: another salt than it says", _flipped(token, salt + 5), pss, "timestamp-invalid")
    yield StampVector("PSS: a bit of the signature", _flipped(token, len(token) - 9), pss, "timestamp-invalid")
    mixed = make_authority(base / "mixed", "Mixed", padded=_pss(hashes.SHA256(), 32, hashes.SHA512()))
    yield StampVector("certificates with PSS of two digests", mixed.sign(content), mixed, "timestamp-invalid")
    kinds: dict[str, Verdict] = {"p521": "good", "secp256k1": "timestamp-invalid"}
    for kind, verdict in kinds.items():
        made = make_authority(base / kind, kind, kind=kind)
        yield StampVector(f"a key on {kind}", made.sign(content), made, verdict)


def _offered(plain: Authority, token: bytes) -> Iterator[StampVector]:
    signer, *others = parse_token(token).certificates
    middle = next(each for each in others if b"Plain issuing" in _subject(each))
    root = next(each for each in others if each != middle)
    bit = middle.index(bytes.fromhex("0603551d13")) + 14  # inside the extension that makes it an authority
    worn = _flipped(root, len(root) - 3)
    for name, certificates, verdict in (
        ("only what is needed", [signer, middle], "good"),
        ("in another order", [root, middle, signer], "good"),
        ("each twice", [signer, signer, middle, middle], "good"),
        ("something that is no certificate", [b"\x30\x03\x02\x01\x05", signer, middle], "good"),
        ("something of another kind", [b"\xa1\x03\x02\x01\x05", signer, middle], "good"),
        ("the root with a bit flipped", [signer, middle, worn], "good"),
        ("a damaged copy before what is needed", [signer, _flipped(middle, bit), middle], "good"),
        ("a false authority with the true name", [_false(middle, same_key=False), signer, middle], "good"),
        ("a false authority with the true name and key", [_false(middle, same_key=True), signer, middle], "good"),
        ("one that has ended before the true one", [_false(middle, same_key=True, ended=True), signer, middle], "good"),
        ("what is needed left out", [signer], "timestamp-invalid"),
        ("what is needed damaged", [signer, _flipped(middle, bit)], "timestamp-invalid"),
        ("a false authority instead", [signer, _false(middle, same_key=True)], "timestamp-invalid"),
        ("the signer left out", [middle, root], "timestamp-invalid"),
        ("the signer damaged", [_flipped(signer, len(signer) - 3), middle], "timestamp-invalid"),
        ("as many as may be", [signer, middle, *[root] * 30], "good"),
        ("one more than may be", [signer, middle, *[root] * 31], "malformed"),
    ):
        yield StampVector(f"certificates: {name}", _carrying(token, certificates), plain, verdict)  # type: ignore[arg-type]


def _subject(encoded: bytes) -> bytes:
    return x509.load_der_x509_certificate(encoded).subject.public_bytes()


def _false(true: bytes, *, same_key: bool, ended: bool = False) -> bytes:
    """An authority by the name of `true`, signed by nobody's key."""
    found, stranger = x509.load_der_x509_certificate(true), ec.generate_private_key(ec.SECP256R1())
    end = datetime.now(UTC) - timedelta(days=10 if ended else -10)
    builder = x509.CertificateBuilder(issuer_name=found.issuer, subject_name=found.subject)
    builder = builder.public_key(found.public_key() if same_key else stranger.public_key())  # type: ignore[arg-type]
    builder = builder.serial_number(7).not_valid_before(end - timedelta(days=100)).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(stranger, hashes.SHA256()).public_bytes(Encoding.DER)


def _carrying(token: bytes, certificates: list[bytes]) -> bytes:
    """The token with these certificates in place of its own."""
    kind, outer = read_der(token, "token").values()
    (signed,) = outer.values()
    parts = [b"".join(certificates) if part.tag == context(0) else part.content for part in signed.values()]
    tags = [part.tag for part in signed.values()]
    assert tags == [INTEGER, SET, SEQUENCE, context(0), SET]
    inside = b"".join(_der(tag, part) for tag, part in zip(tags, parts, strict=True))
    return _der(SEQUENCE, kind.encoded + _der(context(0), _der(SEQUENCE, inside)))


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
