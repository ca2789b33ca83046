"""Exchanges as ASiC-E with CAdES: `openssl cms` and the manifest's digests say yes, and no to each tampering."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.errors import Refusal, YunxiError
from ledger.formats.jwk import kid_of
from ledger.formats.timestamp import token_of, verify_token
from ledger.interchange.asic import MANIFEST, MIMETYPE, SIGNATURE, asic_container
from ledger.interchange.cades import Authority, sign_detached
from ledger.interchange.exchanges import authority_of, export_exchange
from ledger.keys import Signer
from ledger.timestamps.settings import AuthoritySettings, TimestampSettings
from ledger.trust import export_trust
from ledger.verify import Verifier
from tests.fixtures.exchange import LEAD, OWNER, Exchange, exchange, until
from tests.fixtures.tsa import Authority as Tsa
from tests.fixtures.tsa import make_authority, serving

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
FILES = {"a.txt": ("text/plain", b"one"), "b.json": ("application/json", b"{}")}


def authority(seed: bytes = b"\1" * 32, name: str = "Fire and Rescue") -> Authority:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key()
    return Authority(Signer(kid_of(public), public.public_bytes_raw(), key.sign), name, "test.example", 1_767_225_600)


def entries(container: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(container)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def openssl_accepts(files: dict[str, bytes], root: x509.Certificate, scratch: Path) -> bool:
    for name in (MANIFEST, SIGNATURE):
        (scratch / Path(name).name).write_bytes(files[name])
    (scratch / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    command = ["openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", Path(SIGNATURE).name]
    command += ["-content", Path(MANIFEST).name, "-CAfile", "root.pem", "-out", "signed"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, check=False)
    return done.returncode == 0 and (scratch / "signed").read_bytes() == files[MANIFEST]


def digests_fit(files: dict[str, bytes]) -> bool:
    """What ETSI EN 319 162-1 asks of the manifest: each file named with its digest, and none without."""
    root = ElementTree.fromstring(files[MANIFEST])
    asic, ds = "{http://uri.etsi.org/02918/v1.2.1#}", "{http://www.w3.org/2000/09/xmldsig#}"
    assert root.tag == f"{asic}ASiCManifest"
    assert root[0].tag == f"{asic}SigReference" and root[0].get("URI") == SIGNATURE
    named = {}
    for reference in root[1:]:
        assert reference.find(f"{ds}DigestMethod").get("Algorithm") == "http://www.w3.org/2001/04/xmlenc#sha256"  # type: ignore[union-attr]
        named[reference.get("URI")] = base64.b64decode(reference.findtext(f"{ds}DigestValue") or "")
    there = {name: content for name, content in files.items() if name not in ("mimetype", MANIFEST, SIGNATURE)}
    return named == {name: hashlib.sha256(content).digest() for name, content in there.items()}


def accepted(container: bytes, root: x509.Certificate, scratch: Path) -> bool:
    files = entries(container)
    return digests_fit(files) and openssl_accepts(files, root, scratch)


# --- the container ---


@pytest.fixture(scope="module")
def container() -> bytes:
    return asic_container(FILES, lambda manifest: sign_detached(manifest, authority(), AT))


def test_a_container(container: bytes, tmp_path: Path) -> None:
    assert accepted(container, authority().certificate(), tmp_path)
    with zipfile.ZipFile(io.BytesIO(container)) as opened:
        first = opened.infolist()[0]
        assert (first.filename, first.compress_type, first.extra) == ("mimetype", zipfile.ZIP_STORED, b"")
    assert container[30:38] == b"mimetype" and container[38 : 38 + len(MIMETYPE)] == MIMETYPE.encode()


def test_the_authority_is_the_statement_key_and_always_the_same(tmp_path: Path) -> None:
    own = authority().certificate()
    assert own == authority().certificate()
    assert own.public_key().public_bytes_raw() == authority().signer.public  # type: ignore[union-attr]
    own.verify_directly_issued_by(own)
    assert own.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def repacked(container: bytes, **changes: bytes | None) -> bytes:
    files = entries(container) | {name.replace("__", "/"): content for name, content in changes.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in files.items():
            if content is not None:
                opened.writestr(name, content)
    return packed.getvalue()


def with_manifest(container: bytes, change: Callable[[bytes], bytes], **files: bytes) -> bytes:
    return repacked(container, **{MANIFEST.replace("/", "__"): change(entries(container)[MANIFEST])}, **files)


def signature_of(container: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return repacked(container, **{SIGNATURE.replace("/", "__"): change(entries(container)[SIGNATURE])})


def flip(data: bytes, at: int) -> bytes:
    place = at % len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def digest(content: bytes) -> bytes:
    return base64.b64encode(hashlib.sha256(content).digest())


TAMPERED: dict[str, Callable[[bytes], bytes]] = {
    "a file's content": lambda c: repacked(c, **{"a.txt": b"two"}),
    "a file taken out": lambda c: repacked(c, **{"a.txt": None}),
    "a file put in": lambda c: repacked(c, **{"c.txt": b"three"}),
    "a file and its digest": lambda c: with_manifest(
        c, lambda m: m.replace(digest(b"one"), digest(b"two")), **{"a.txt": b"two"}
    ),
    "a name": lambda c: with_manifest(c, lambda m: m.replace(b"a.txt", b"z.txt")),
    "a bit of the signature": lambda c: signature_of(c, lambda s: flip(s, -3)),
    "a bit of a certificate": lambda c: signature_of(c, lambda s: flip(s, s.index(b"(export)") + 2)),
    "another container's signature": lambda c: signature_of(c, lambda _: sign_detached(b"other", authority(), AT)),
    "another department's signature": lambda c: signature_of(
        c, lambda _: sign_detached(entries(c)[MANIFEST], authority(b"\2" * 32), AT)
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_container(container: bytes, tmp_path: Path, case: str) -> None:
    assert not accepted(TAMPERED[case](container), authority().certificate(), tmp_path)


@pytest.mark.parametrize("files", [{}, {"../x": ("a/b", b"")}, {"mimetype": ("a/b", b"")}, {"": ("a/b", b"")}])
def test_names_that_no_container_has(files: dict[str, tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="names"):
        asic_container(files, lambda manifest: manifest)


def test_dates_after_2049_and_long_names(tmp_path: Path) -> None:
    own = authority(name="A department with a name that is longer than the 64 characters of X.520 " * 2)
    signed = asic_container(FILES, lambda manifest: sign_detached(manifest, own, AT + timedelta(days=30 * 365)))
    assert len(own.certificate().subject.rfc4514_string()) < 100
    assert digests_fit(entries(signed))


# --- an exchange ---


@dataclass(frozen=True)
class Exchanged:
    world: Exchange
    tsa: Tsa
    received: str
    made: str


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchanged]:
    base = tmp_path_factory.mktemp("asic")
    tsa = make_authority(base / "tsa", kind="ec")
    with serving(tsa) as url, exchange(base / "node", automatic=True) as world:
        named = AuthoritySettings("tsa", url, tsa.root_pem)
        nobody = AuthoritySettings("down", "http://127.0.0.1:9/", tsa.root_pem)
        node = world.site.node
        node.settings = replace(node.settings, timestamps=TimestampSettings(authorities=(nobody, named)))
        world.submit(3)
        world.grant()
        world.inspect()
        received = until(lambda: world.records(LEAD, "disclosure.received"))[0]["id"]
        yield Exchanged(world, tsa, received, world.records(OWNER, "disclosure.made")[0]["id"])


def test_an_exchange(exchanged: Exchanged, tmp_path: Path) -> None:
    node = exchanged.world.site.node
    files = entries(made := export_exchange(node, exchanged.received))
    assert list(files) == [
        "mimetype", "record.sd-jwt", "record.tlog-proof", "presentations.txt", "receipts.json", "trust.json",
        MANIFEST, SIGNATURE,
    ]  # fmt: skip
    trust = export_trust(node)
    root = authority_of(node, trust.department(LEAD), trust, node.clock()).certificate()
    assert accepted(made, root, tmp_path)
    # the certificate's key is the one that the trust file names
    keys = [key.public for key in trust.department(LEAD).keys if key.use == "statement"]
    assert root.public_key() in keys
    facts = Verifier(trust).verify(files["record.sd-jwt"], files["record.tlog-proof"])
    (shown,) = (unit.members["sha256"] for unit in facts.units if unit.name == "digest")
    assert shown == hashlib.sha256(files["presentations.txt"]).hexdigest()


def test_at_the_owner_s(exchanged: Exchanged) -> None:
    files = entries(export_exchange(exchanged.world.site.node, exchanged.made))
    assert "presentations.txt" not in files and "record.sd-jwt" in files


def test_the_signature_is_stamped_by_the_first_that_answers(exchanged: Exchanged) -> None:
    asked: list[bytes] = []

    def stamp(signature: bytes) -> bytes:
        asked.append(token_of(exchanged.tsa.stamp(signature)))
        verify_token(asked[0], signature, [exchanged.tsa.root])
        return asked[0]

    signed = sign_detached(b"manifest", authority(), AT, stamp)
    assert asked[0] in signed
    stamped = entries(export_exchange(exchanged.world.site.node, exchanged.made))[SIGNATURE]
    assert bytes.fromhex("060b2a864886f70d010910020e") in stamped


def test_what_is_no_exchange(exchanged: Exchanged) -> None:
    node = exchanged.world.site.node
    report = exchanged.world.records(OWNER, "inspection.report")[0]["id"]
    with pytest.raises(Refusal, match=r"exchanges are"):
        export_exchange(node, report)
    settings = node.settings
    down = TimestampSettings(authorities=settings.timestamps.authorities[:1])
    node.settings = replace(settings, timestamps=down)
    try:
        with pytest.raises(YunxiError, match="does not answer"):
            export_exchange(node, exchanged.made)
    finally:
        node.settings = settings
