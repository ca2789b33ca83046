"""Time-stamp tokens of a real authority (OpenSSL's), and every way in which one must not verify."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Malformed, NotProven, YunxiError
from ledger.formats import timestamp
from ledger.formats.der import read_der
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
