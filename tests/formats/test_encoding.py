"""One text for every byte string: decoders take what the encoders make, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed
from ledger.formats.encoding import b64decode, b64encode, b64url_decode, b64url_encode, hex_decode

# RFC 4648 section 10
RFC4648 = {b"": "", b"f": "Zg==", b"fo": "Zm8=", b"foo": "Zm9v", b"foob": "Zm9vYg==", b"fooba": "Zm9vYmE=",
           b"foobar": "Zm9vYmFy"}  # fmt: skip


@pytest.mark.parametrize("data", RFC4648)
def test_rfc4648_section_10(data: bytes) -> None:
    assert b64encode(data) == RFC4648[data]
    assert b64decode(RFC4648[data], "it") == data
    assert b64url_encode(data) == RFC4648[data].rstrip("=")
    assert b64url_decode(RFC4648[data].rstrip("="), "it") == data


def test_alphabets_differ_in_two_characters() -> None:
    assert b64encode(b"\xfb\xff\xbf") == "+/+/"
    assert b64url_encode(b"\xfb\xff\xbf") == "-_-_"


def test_rfc7515_appendix_c() -> None:
    assert b64url_encode(bytes([3, 236, 255, 224, 193])) == "A-z_4ME"


REFUSED: dict[str, tuple[Callable[[str, str], bytes], str]] = {
    "base64 without its padding": (b64decode, "Zg"),
    "base64 with half its padding": (b64decode, "Zg="),
    "base64 with too much padding": (b64decode, "Zm9v="),
    "base64 with a line break": (b64decode, "Zm9v\nZm9v"),
    "base64 with a line break at its end": (b64decode, "Zm9v\n"),
    "base64 with a space": (b64decode, "Zm9v Zm9v"),
    "base64 with stray bits": (b64decode, "Zh=="),
    "base64 in the other alphabet": (b64decode, "-_-_"),
    "base64 of one character": (b64decode, "Z"),
    "base64 with padding inside": (b64decode, "Zg==Zm9v"),
    "base64 with a letter that is not ASCII": (b64decode, "Zm9é"),
    "base64 in full-width letters": (b64decode, "Ｚｍ９ｖ"),
    "base64url with padding": (b64url_decode, "Zg=="),
    "base64url in the other alphabet": (b64url_decode, "+/+/"),
    "base64url with stray bits": (b64url_decode, "Zh"),
    "base64url of one character": (b64url_decode, "Z"),
    "base64url with a line break": (b64url_decode, "Zm9v\n"),
    "base64url with a NUL": (b64url_decode, "Zm9v\x00"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_texts_are_refused(name: str) -> None:
    decode, text = REFUSED[name]
    with pytest.raises(Malformed, match=r"^the letter: "):
        decode(text, "the letter")


@pytest.mark.parametrize("text", ["0A", "0 a", "0a ", "0a0b", "0", "", "0x0a", "zz", "０a", "0a\n"])
def test_hex_is_lower_case_and_of_its_size(text: str) -> None:
    with pytest.raises(Malformed):
        hex_decode(text, 1, "hash")


def test_hex() -> None:
    assert hex_decode("00ff", 2, "hash") == b"\x00\xff"


@given(st.binary(max_size=200))
def test_there_and_back(data: bytes) -> None:
    assert b64decode(b64encode(data), "it") == data
    assert b64url_decode(b64url_encode(data), "it") == data
    assert hex_decode(data.hex(), len(data), "it") == data


@given(st.text(alphabet="ABab01+/-_=\n é", max_size=12))
def test_what_decodes_is_the_one_text(text: str) -> None:
    for decode, encode in ((b64decode, b64encode), (b64url_decode, b64url_encode)):
        try:
            data = decode(text, "it")
        except Malformed:
            continue
        assert encode(data) == text
