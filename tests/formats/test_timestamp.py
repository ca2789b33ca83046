"""Time-stamp tokens of a real authority (OpenSSL's), and every way in which one must not verify."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Malformed, NotProven, YunxiError
from ledger.formats import timestamp
from ledger.formats.certificate import Algorithm, read_algorithm
from ledger.formats.der import MAX_VALUES, OCTETS, OID, read_der
from ledger.formats.timestamp import MAX_TOKEN_BYTES, parse_token, read_roots, token_of, verify_token
from tests.fixtures.tsa import Authority, make_authority

DATA = b"yunxi.example/fire\n345\nr00t\n"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "a")


@pytest.fixture(scope="session")
def token(authority: Authority) -> bytes:
    return token_of(authority.stamp(DATA))


# -- good ones --


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("ess", ["sha1", "sha256"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_real_authority_s_token(tmp_path_factory: pytest.TempPathFactory, kind: str, ess: str, digest: str) -> None:
    authority = make_authority(tmp_path_factory.mktemp("tsa") / "b", "District TSA", kind=kind, ess=ess, digest=digest)
    before = datetime.now(UTC).replace(microsecond=0)
    response = authority.stamp(DATA, digest)
    found = verify_token(token_of(response), DATA, [authority.root])
    assert before <= found.time <= datetime.now(UTC)
    assert (found.authority, found.root) == ("CN=District TSA", "CN=District TSA root")
    assert (found.policy, found.accuracy) == ("1.2.3.4.1", 1.5)
    assert authority.accepts(response, DATA)


def test_a_root_of_several(authority: Authority, token: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_authority(tmp_path_factory.mktemp("tsa") / "c", "Other")
    assert verify_token(token, DATA, read_roots([other.root_pem + authority.root_pem])).root == "CN=TSA root"


def test_the_signer_itself_may_be_trusted(authority: Authority, token: bytes) -> None:
    roots = read_roots([(authority.directory / "tsa.pem").read_text()])
    assert verify_token(token, DATA, roots).root == "CN=TSA"


# -- bad ones --


def test_an_accuracy_beyond_all_numbers() -> None:
    long = b"\x02\x81\xc8" + b"\x7f" * 200
    with pytest.raises(Malformed, match="no clock"):
        timestamp._accuracy(read_der(b"\x30\x81" + bytes([len(long)]) + long, "token"))


MADE_WRONG = {
    "a certificate for servers": ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "time-stamping"),
    "a certificate for time stamps and servers": (
        {"usages": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH)},
        "time-stamping alone",
    ),
    "a purpose that is not critical": ({"critical": False}, "time-stamping alone"),
    "a certificate without a purpose": ({"usages": ()}, "time-stamping"),
    "a chain that ended before": ({"starts": datetime(2020, 1, 1, tzinfo=UTC), "days": 30}, "not valid at the time"),
    "a chain that has not begun": ({"starts": datetime.now(UTC) + timedelta(days=2)}, "not valid at the time"),
}


@pytest.mark.parametrize("case", MADE_WRONG)
def test_an_authority_that_is_none(token: bytes, tmp_path_factory: pytest.TempPathFactory, case: str) -> None:
    options, sentence = MADE_WRONG[case]
    wrong = make_authority(tmp_path_factory.mktemp("tsa") / "d", **options)  # type: ignore[arg-type]
    with pytest.raises(NotProven, match=sentence):
        verify_token(wrong.sign(parse_token(token).content), DATA, [wrong.root])


def test_the_same_from_a_fit_one_is_good(token: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    fit = make_authority(tmp_path_factory.mktemp("tsa") / "d")
    verify_token(fit.sign(parse_token(token).content), DATA, [fit.root])


def test_a_key_that_is_too_short(token: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    weak = make_authority(tmp_path_factory.mktemp("tsa") / "d", kind="weak")
    with pytest.raises(NotProven, match="not accepted"):
        verify_token(weak.sign(parse_token(token).content), DATA, [weak.root])


def test_other_data(authority: Authority, token: bytes) -> None:
    with pytest.raises(NotProven, match="other data"):
        verify_token(token, DATA + b"\n", [authority.root])


def test_a_root_that_nobody_trusts(token: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    twin = make_authority(tmp_path_factory.mktemp("tsa") / "e")  # the same names, other keys
    for roots in ([], [twin.root]):
        with pytest.raises(NotProven, match="tsa_roots"):
            verify_token(token, DATA, roots)


def test_an_intermediate_is_not_a_root_by_being_offered(authority: Authority, token: bytes) -> None:
    with pytest.raises(NotProven, match="tsa_roots"):
        verify_token(token, DATA, [])
    assert len(parse_token(token).certificates) >= 2  # it offers its whole chain, root included


def test_a_refusal_is_no_token(authority: Authority) -> None:
    digest = ("-digest", "00" * 16, "-md5")  # an imprint that the authority does not take
    query = subprocess.run(["openssl", "ts", "-query", *digest], capture_output=True, check=True).stdout
    with pytest.raises(NotProven, match="did not grant"):
        token_of(authority.reply(query))


TAMPERED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda token: b"",
    "cut off": lambda token: token[:-1],
    "a byte after it": lambda token: token + b"\0",
    "an indefinite length": lambda token: token[:1] + b"\x80" + token[2:] + b"\0\0",
    "a length in more bytes than needed": lambda token: token[:1] + b"\x83\0" + token[2:],
    "too long": lambda token: b"\x30" + b"\x83\xff\xff\xff" + b"\0" * MAX_TOKEN_BYTES,
    "another content type": lambda token: token.replace(
        bytes.fromhex("2a864886f70d010702"), b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_is_no_token(authority: Authority, token: bytes, case: str) -> None:
    with pytest.raises(Malformed, match="time-stamp token"):
        verify_token(TAMPERED[case](token), DATA, [authority.root])


Parts = list[bytes]


def der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes(1 + (len(content) > 255), "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def edited(data: bytes, path: tuple[int, ...], change: Callable[[Parts], Parts]) -> bytes:
    """The DER value with the parts of the value at `path` changed, and every length around them put right."""
    value = read_der(data, "x")
    parts = [part.encoded for part in value.values()]
    if path:
        parts[path[0]] = edited(parts[path[0]], path[1:], change)
    return der(value.tag, b"".join(parts if path else change(parts)))


CONTENT, SIGNERS = (1, 0, 2, 1), (1, 0, 4)
SIGNER = (*SIGNERS, 0)
ATTRIBUTES = (*SIGNER, 3)


def of_content(change: Callable[[Parts], Parts]) -> Callable[[bytes], bytes]:
    return lambda token: edited(token, CONTENT, lambda _: [der(OCTETS, edited(parse_token(token).content, (), change))])


REBUILT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "two signers": (lambda token: edited(token, SIGNERS, lambda parts: parts * 2), "has 2 signers instead of one"),
    "no signer": (lambda token: edited(token, SIGNERS, lambda _: []), "has 0 signers instead of one"),
    "two bodies": (lambda token: edited(token, (1,), lambda parts: parts * 2), "several values where one belongs"),
    "two contents": (lambda token: edited(token, CONTENT, lambda parts: parts * 2), "several values where one belongs"),
    "something behind the body": (lambda token: edited(token, (), lambda parts: [*parts, parts[0]]), "1 more values"),
    "something behind the content": (
        lambda token: edited(token, CONTENT[:-1], lambda parts: [*parts, parts[0]]), "1 more values"
    ),
    "something behind the signers": (
        lambda token: edited(token, SIGNERS[:-1], lambda parts: [*parts, parts[-1]]), "1 more values"
    ),
    "something behind the signature": (
        lambda token: edited(token, SIGNER, lambda parts: [*parts, parts[0]]), "1 more values"
    ),
    "no signature": (lambda token: edited(token, SIGNER, lambda parts: parts[:-1]), "ends where another value belongs"),
    "an attribute twice": (
        lambda token: edited(token, ATTRIBUTES, lambda parts: [*parts, parts[0]]), "a signed attribute twice"
    ),
    "an attribute with two values": (
        lambda token: edited(token, (*ATTRIBUTES, 0, 1), lambda parts: parts * 2), "one with several values"
    ),
    "an attribute without a value": (
        lambda token: edited(token, (*ATTRIBUTES, 0, 1), lambda _: []), "one with several values"
    ),
    "something behind an attribute": (
        lambda token: edited(token, (*ATTRIBUTES, 0), lambda parts: [*parts, parts[0]]), "1 more values"
    ),
    "content of version 2": (of_content(lambda parts: [b"\x02\1\2", *parts[1:]]), "of another version than 1"),
    "content that ends early": (of_content(lambda parts: parts[:3]), "ends where another value belongs"),
    "content with something behind": (of_content(lambda parts: [*parts, parts[0], parts[0]]), "more values"),
}  # fmt: skip


@pytest.mark.parametrize("case", REBUILT)
def test_a_token_that_is_put_together_wrong(token: bytes, case: str) -> None:
    assert edited(token, (), lambda parts: parts) == token
    change, sentence = REBUILT[case]
    with pytest.raises(Malformed, match=sentence):
        parse_token(change(token))


def test_a_signature_that_does_not_name_its_certificate(authority: Authority, token: bytes) -> None:
    # without -cades the signed attributes hold no ESSCertID (RFC 3161 section 2.4.2 asks for it)
    command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256"]
    command += ["-econtent_type", "id-smime-ct-TSTInfo", "-signer", "tsa.pem", "-inkey", "tsa.key"]
    content = parse_token(token).content
    done = subprocess.run(command, cwd=authority.directory, input=content, capture_output=True, check=True)
    with pytest.raises(NotProven, match="does not name its signer's certificate"):
        verify_token(done.stdout, DATA, [authority.root])


def test_signed_data_of_another_kind_is_no_time_stamp(authority: Authority, token: bytes) -> None:
    # the token's own bytes, signed by the authority as something else: only the signed attribute says so
    command = ["openssl", "cms", "-sign", "-cades", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256"]
    command += ["-econtent_type", "pkcs7-data", "-signer", "tsa.pem", "-inkey", "tsa.key"]
    content = parse_token(token).content
    done = subprocess.run(command, cwd=authority.directory, input=content, capture_output=True, check=True)
    with pytest.raises(Malformed):
        parse_token(done.stdout)
    tst_info = der(OID, bytes.fromhex("2a864886f70d0109100104"))
    renamed = edited(done.stdout, (1, 0, 2), lambda parts: [tst_info, *parts[1:]])
    with pytest.raises(NotProven, match="do not name its content"):
        verify_token(renamed, DATA, [authority.root])


def with_attributes(token: bytes, change: Callable[[bytes], Parts]) -> bytes:
    """The signed attributes changed one by one."""
    return edited(token, ATTRIBUTES, lambda parts: [new for part in parts for new in change(part)])


MESSAGE_DIGEST, CONTENT_TYPE = (bytes.fromhex("06092a864886f70d01090" + end) for end in "43")


@pytest.mark.parametrize("kind", [MESSAGE_DIGEST, CONTENT_TYPE], ids=["digest", "type"])
def test_signed_attributes_that_do_not_name_the_content(authority: Authority, token: bytes, kind: bytes) -> None:
    without = with_attributes(token, lambda part: [] if kind in part else [part])
    assert without != token
    with pytest.raises(NotProven, match="do not name its content"):
        verify_token(without, DATA, [authority.root])


def test_what_fits_together_and_was_not_signed(authority: Authority, token: bytes) -> None:
    """Only the signature contradicts a time that is moved together with the digest that is signed."""
    content = edited(parse_token(token).content, (), lambda parts: [*parts[:4], TIMES[0], *parts[5:]])
    digest = der(OCTETS, hashlib.sha256(content).digest())
    moved = edited(token, CONTENT, lambda _: [der(OCTETS, content)])
    moved = with_attributes(
        moved, lambda part: [edited(part, (1,), lambda _: [digest]) if MESSAGE_DIGEST in part else part]
    )
    assert parse_token(moved).time == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(NotProven, match="not signed by its authority"):
        verify_token(moved, DATA, [authority.root])
    signature = parse_token(token).signature
    flipped = token.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))
    with pytest.raises(NotProven, match="not signed by its authority"):
        verify_token(flipped, DATA, [authority.root])


TIMES = [der(0x18, text) for text in (b"20260101000000Z", b"20260101000000.5Z", b"20260101000000.000001Z")]
NO_TIMES = {
    "a fraction that ends in zero": b"20260101000000.50Z",
    "a fraction of nothing": b"20260101000000.0Z",
    "a point alone": b"20260101000000.Z",
    "no seconds": b"202601010000Z",
    "an offset": b"20260101000000+0000",
    "no zone": b"20260101000000",
    "a line break": b"20260101000000Z\n",
    "the 30th of February": b"20260230000000Z",
    "second 60": b"20260101000060Z",
}


def test_times_with_and_without_a_fraction(token: bytes) -> None:
    found = [parse_token(of_content(lambda p, t=t: [*p[:4], t, *p[5:]])(token)).time.microsecond for t in TIMES]  # type: ignore[misc]
    assert found == [0, 500_000, 1]


@pytest.mark.parametrize("case", NO_TIMES)
def test_what_is_no_time(token: bytes, case: str) -> None:
    changed = of_content(lambda parts: [*parts[:4], der(0x18, NO_TIMES[case]), *parts[5:]])(token)
    with pytest.raises(Malformed, match="has a time that"):
        parse_token(changed)


def test_an_accuracy_or_an_imprint_of_more_parts_than_are_known(token: bytes) -> None:
    for place in (2, 5):
        content = edited(parse_token(token).content, (place,), lambda parts: [*parts, b"\x0c\0"])
        with pytest.raises(Malformed, match="1 more values"):
            parse_token(edited(token, CONTENT, lambda _, content=content: [der(OCTETS, content)]))  # type: ignore[misc]


def test_revocation_lists_and_what_is_not_signed_are_passed_over(authority: Authority, token: bytes) -> None:
    beside = edited(token, SIGNER, lambda parts: [*parts, der(0xA1, b"")])
    beside = edited(beside, SIGNERS[:-1], lambda parts: [*parts[:-1], der(0xA1, b""), parts[-1]])
    assert verify_token(beside, DATA, [authority.root]) == verify_token(token, DATA, [authority.root])


def test_a_grant_without_a_token_is_none() -> None:
    with pytest.raises(NotProven, match=r"did not grant a token .status 0."):
        token_of(bytes.fromhex("30053003020100"))


@pytest.mark.parametrize("part", ["time", "imprint", "policy", "serial"])
def test_a_changed_content_is_not_what_was_signed(authority: Authority, token: bytes, part: str) -> None:
    content = parse_token(token).content
    position = {
        "time": content.index(b"Z") - 1,
        "imprint": content.index(parse_token(token).imprint),
        "policy": content.index(bytes.fromhex("2a030401")) + 3,
        "serial": content.index(parse_token(token).imprint) + 32 + 2,
    }[part]
    place = token.index(content) + position
    changed = bytearray(token)
    changed[place] ^= 1
    with pytest.raises(NotProven):
        verify_token(bytes(changed), DATA, [authority.root])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_flipped_bit_changes_what_is_proven(authority: Authority, token: bytes, data: st.DataObject) -> None:
    good = verify_token(token, DATA, [authority.root])
    changed = bytearray(token)
    changed[data.draw(st.integers(0, len(token) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = verify_token(bytes(changed), DATA, [authority.root])
    except (Malformed, NotProven):
        return
    # what is neither signed nor used (a version, a set of digest names, a certificate that is only offered) may differ
    assert found == good


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_in_words(data: bytes) -> None:
    for read in (parse_token, token_of):
        with pytest.raises(YunxiError):
            read(data)


DER = {
    "nothing": "",
    "a tag alone": "30",
    "a tag of several bytes": "1f8100",
    "a length beyond the end": "0405aa",
    "an indefinite length": "3080",
    "a length of five bytes": "04850000000001aa",
    "a length with a leading zero": "048200ff" + "00" * 255,
    "a long form that the short one holds": "04817f" + "00" * 127,
    "two values": "04000400",
}


@pytest.mark.parametrize("case", DER)
def test_what_is_no_der(case: str) -> None:
    with pytest.raises(Malformed):
        read_der(bytes.fromhex(DER[case]), "x")


@pytest.mark.parametrize("encoded", ["0200", "02020001", "0202ff80", "0301ff"])
def test_what_is_no_number(encoded: str) -> None:
    with pytest.raises(Malformed):
        read_der(bytes.fromhex(encoded), "x").integer()


@pytest.mark.parametrize(("encoded", "number"), [("020100", 0), ("02017f", 127), ("02020080", 128), ("0201ff", -1)])
def test_numbers(encoded: str, number: int) -> None:
    assert read_der(bytes.fromhex(encoded), "x").integer() == number


@pytest.mark.parametrize(
    ("encoded", "dotted"),
    # X.690 section 8.19.5's example, and the arc above 2.39
    [("0603813403", "2.100.3"), ("06062a864886f70d", "1.2.840.113549"), ("06022a03", "1.2.3")],
)
def test_object_identifiers(encoded: str, dotted: str) -> None:
    assert read_der(bytes.fromhex(encoded), "x").oid() == dotted


@pytest.mark.parametrize("encoded", ["0600", "060180", "0602803a", "06032a8001", "0621" + "01" * 33])
def test_what_is_no_object_identifier(encoded: str) -> None:
    with pytest.raises(Malformed):
        read_der(bytes.fromhex(encoded), "x").oid()


def test_der_of_more_values_than_are_read() -> None:
    most = read_der(der(0x30, bytes.fromhex("0500") * MAX_VALUES), "x")
    assert len(most.values()) == 10_000
    with pytest.raises(Malformed, match="holds more than 10,000 values"):
        read_der(der(0x30, bytes.fromhex("0500") * (MAX_VALUES + 1)), "x").values()


_SHA256, _SHA384 = "300b0609608648016503040201", "300b0609608648016503040202"
_MGF1 = "06092a864886f70d010108"


def pss(*, mask: str = _MGF1 + _SHA256, salt: str = "020120", trailer: str = "") -> bytes:
    """An AlgorithmIdentifier of RSA-PSS (RFC 4055 section 3.1)."""
    mask = der(0x30, bytes.fromhex(mask)).hex()
    parts = [(0xA0, _SHA256), (0xA1, mask), (0xA2, salt), (0xA3, trailer)]
    inside = b"".join(der(tag, bytes.fromhex(part)) for tag, part in parts if part)
    return der(0x30, bytes.fromhex("06092a864886f70d01010a") + der(0x30, inside))


def test_pss_as_it_is_accepted() -> None:
    assert read_algorithm(read_der(pss(), "x")) == Algorithm("pss", "sha256", 32)
    assert read_algorithm(read_der(pss(salt="", trailer="020101"), "x")) == Algorithm("pss", "sha256", 20)
    assert read_algorithm(read_der(pss(salt="02020200"), "x")) == Algorithm("pss", "sha256", 512)


PSS = {
    "another mask generation": pss(mask="06092a864886f70d010109"),
    "another digest in the mask": pss(mask=_MGF1 + _SHA384),
    "a salt below nothing": pss(salt="0201ff"),
    "a salt of 513 bytes": pss(salt="02020201"),
    "another trailer": pss(trailer="020102"),
}


@pytest.mark.parametrize("case", PSS)
def test_pss_as_it_is_not_accepted(case: str) -> None:
    with pytest.raises(Malformed, match="RSA-PSS in a form that is not accepted"):
        read_algorithm(read_der(PSS[case], "x"))


def test_the_token_is_what_other_tools_find(authority: Authority, token: bytes) -> None:
    shown = subprocess.run(
        ["openssl", "ts", "-reply", "-token_in", "-in", "/dev/stdin", "-text"],
        input=token,
        capture_output=True,
        check=True,
    ).stdout.decode()
    found = parse_token(token)
    assert f"0x{found.serial:02X}" in shown
    assert base64.b16encode(found.imprint[:4]).decode().lower()[:4] in shown.replace(" ", "").lower()
