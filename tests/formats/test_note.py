"""C2SP signed-note: the specification's example, real notes, and everything a reader must refuse."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import KeyRefused, Malformed, SignatureInvalid
from ledger.formats.encoding import b64encode
from ledger.formats.note import (
    COSIGNATURE_ED25519,
    ED25519,
    MAX_NOTE_BYTES,
    Note,
    Signature,
    VerifierKey,
    key_id,
    parse_signatures,
    sign,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "c2sp"

# from the section "Example" of signed-note
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (VECTORS / "note-example.txt").read_bytes()

# the Go checksum database's key and its signed head at 6,476,701 entries, as sum.golang.org published them
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB = (VECTORS / "sumdb-checkpoint.txt").read_bytes()

# the first example of signed-note: text with an empty line in it, key not given
POEM = (VECTORS / "note-poem.txt").read_bytes()

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
VKEY = VerifierKey.of("log.example", ED25519, PUBLIC)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_PUBLIC = OTHER.public_key().public_bytes_raw()

TEXT = "第一行\n\nlast line\n".encode()
LINE = sign(TEXT, "log.example", KEY.sign, PUBLIC)
NOTE = TEXT + b"\n" + LINE


# -- published notes --


@pytest.mark.parametrize(("note", "vkey"), [(EXAMPLE, EXAMPLE_KEY), (SUMDB, SUMDB_KEY)], ids=["example", "sumdb"])
def test_published_note(note, vkey):
    opened = Note.parse(note)
    opened.verify(VerifierKey.parse(vkey))
    assert opened.serialize() == note
    assert str(VerifierKey.parse(vkey)) == vkey


def test_text_may_have_empty_lines():
    note = Note.parse(POEM)
    assert note.text.endswith("sole:\n\ned è subito sera.\n".encode())
    assert [signature.name for signature in note.signatures] == ["quasimodo.example/salvatore"]
    assert note.serialize() == POEM


# -- signing and verifying --


def test_sign_and_verify():
    note = Note.parse(NOTE)
    note.verify(VKEY)
    assert note == Note(TEXT, parse_signatures(LINE))
    assert note.signatures[0].key_id == key_id("log.example", ED25519, PUBLIC) == VKEY.key_id


def test_signatures_of_unknown_keys_are_ignored():
    same_name = sign(TEXT, "log.example", OTHER.sign, OTHER_PUBLIC)
    same_id = Signature("elsewhere.example", VKEY.key_id, b"anything").line
    other_type = Signature("log.example", b"\x00\x00\x00\x06", b"\xff" * 2428).line
    note = Note.parse(TEXT + b"\n" + same_name + same_id + LINE + other_type)
    note.verify(VKEY)
    assert len(note.signatures) == 4


def test_one_failing_signature_of_a_known_key_rejects_the_note():
    failing = Signature("log.example", VKEY.key_id, OTHER.sign(TEXT)).line
    for note in (NOTE + failing, TEXT + b"\n" + failing + LINE):
        with pytest.raises(SignatureInvalid, match="does not verify"):
            Note.parse(note).verify(VKEY)


@pytest.mark.parametrize("size", [1, 63, 65, 4096])
def test_a_signature_of_the_wrong_length_does_not_verify(size):
    line = Signature("log.example", VKEY.key_id, b"\x01" * size).line
    with pytest.raises(SignatureInvalid, match="does not verify"):
        Note.parse(TEXT + b"\n" + line).verify(VKEY)


def test_a_note_that_nobody_known_signed():
    with pytest.raises(SignatureInvalid, match=r"not signed by other\.example"):
        Note.parse(NOTE).verify(VerifierKey.of("other.example", ED25519, PUBLIC))


def test_a_signature_does_not_move_to_another_text():
    with pytest.raises(SignatureInvalid, match="does not verify"):
        Note.parse(b"other\n\n" + LINE).verify(VKEY)


def test_a_cosignature_key_does_not_verify_plain_notes():
    with pytest.raises(KeyRefused, match="0x04"):
        Note.parse(NOTE).verify(VerifierKey.of("log.example", COSIGNATURE_ED25519, PUBLIC))


@pytest.mark.parametrize("text", [b"", b"no newline", b"tab\there\n", b"\xff\n"])
def test_a_text_that_no_note_can_have_is_not_signed(text):
    with pytest.raises(Malformed, match="note"):
        sign(text, "log.example", KEY.sign, PUBLIC)


# -- what parses and what does not --

SIXTY_FOUR = TEXT + b"\n" + LINE * 64

GOOD_NOTES = {
    "a text of one empty line": b"\n\n" + LINE,
    "a text that ends in an empty line": b"text\n\n\n" + LINE,
    "a text that looks like a signature": LINE + b"\n" + LINE,
    "line separators that are not newlines": "a\u2028b\u0085c\x7f\n\n".encode() + LINE,
    "64 signatures": SIXTY_FOUR,
}


@pytest.mark.parametrize("data", GOOD_NOTES.values(), ids=GOOD_NOTES.keys())
def test_round_trip(data):
    assert Note.parse(data).serialize() == data


def line(name: str, data: bytes = b"\0" * 68) -> bytes:
    return f"— {name} {b64encode(data)}\n".encode()


BAD_NOTES = {
    "nothing": b"",
    "no signature": TEXT + b"\n",
    "no blank line": b"text\n" + LINE,
    "no text": b"\n" + LINE,
    "two blank lines at the end": NOTE + b"\n",
    "no newline at the end": NOTE[:-1],
    "text after the signatures": NOTE + b"more\n",
    "carriage returns": NOTE.replace(b"\n", b"\r\n"),
    "a tab": b"a\tb\n\n" + LINE,
    "a null byte": b"a\x00b\n\n" + LINE,
    "an escape sequence": b"\x1b[2J\n\n" + LINE,
    "not UTF-8": b"\xff\xfe\n\n" + LINE,
    "an overlong UTF-8 form": b"\xc0\xaf\n\n" + LINE,
    "a surrogate in UTF-8": b"\xed\xa0\x80\n\n" + LINE,
    "a hyphen for the dash": TEXT + b"\n" + LINE.replace("—".encode(), b"-"),
    "no dash": TEXT + b"\n" + LINE[4:],
    "two spaces": TEXT + b"\n" + LINE.replace(b" log", b"  log"),
    "a space at the end": TEXT + b"\n" + LINE[:-1] + b" \n",
    "no name": TEXT + b"\n" + line(""),
    "a plus in the name": TEXT + b"\n" + line("log+example"),
    "an ideographic space in the name": TEXT + b"\n" + line("log\u3000example"),
    "a no-break space in the name": TEXT + b"\n" + line("log\u00a0example"),
    "a next-line character in the name": TEXT + b"\n" + line("log\u0085example"),
    "a signature of nothing but a key id": TEXT + b"\n" + line("log.example", b"\0" * 4),
    "half a key id": TEXT + b"\n" + line("log.example", b"\0" * 2),
    "no signature after the name": TEXT + "\n— log.example \n".encode(),
    "a signature that is not base64": TEXT + b"\n" + LINE[:-5] + b"*" + LINE[-4:],
    "a signature in base64url": TEXT + b"\n" + line("log.example", b"\xfb\xff" * 34).replace(b"/", b"_"),
    "base64 without its padding": TEXT + b"\n" + line("log.example", b"\0" * 67).replace(b"=", b""),
    "base64 with stray bits": TEXT + b"\n" + line("log.example", b"\0" * 68).replace(b"A=\n", b"B=\n"),
    "65 signatures": SIXTY_FOUR + LINE,
    "a byte more than 64 KiB": b"x" * (MAX_NOTE_BYTES - len(LINE) - 1) + b"\n\n" + LINE,
}


@pytest.mark.parametrize("data", BAD_NOTES.values(), ids=BAD_NOTES.keys())
def test_note_refused(data):
    with pytest.raises(Malformed, match="note"):
        Note.parse(data)


@pytest.mark.parametrize(
    "values", [("a", b"123", b"s"), ("a", b"12345", b"s"), ("a", b"1234", b""), ("", b"1234", b"s")]
)
def test_no_such_signature_line(values):
    with pytest.raises(Malformed, match="note signature"):
        Signature(*values)


def test_a_note_of_64_kib_is_read():
    data = b"x" * (MAX_NOTE_BYTES - len(LINE) - 2) + b"\n\n" + LINE
    assert len(data) == MAX_NOTE_BYTES
    assert Note.parse(data).serialize() == data


# -- verifier keys --


def test_keys_of_other_types_are_carried_along():
    vkey = VerifierKey("pq.example", b"\x01\x02\x03\x04", 0x06, b"\x07" * 1312)
    assert VerifierKey.parse(str(vkey)) == vkey


def test_parts_that_make_no_key_of_an_unknown_kind_either():
    for id_, type_, public in (
        (b"\1\2\3", 6, b"k"),
        (bytes(5), 6, b"k"),
        (bytes(4), 256, b"k"),
        (bytes(4), -1, b"k"),
        (bytes(4), 6, b""),
    ):
        with pytest.raises(Malformed, match="a key id of 4 bytes, a type of one byte and a public key"):
            VerifierKey("pq.example", id_, type_, public)


@pytest.mark.parametrize("public", [PUBLIC[:31], PUBLIC + b"\0", PUBLIC * 2], ids=len)
def test_ed25519_keys_are_32_bytes(public):
    # the id is the right one of these bytes, so nothing but their number is wrong
    with pytest.raises(Malformed, match=f"is 32 bytes, not {len(public)}"):
        VerifierKey.of("log.example", ED25519, public)


def test_key_id_depends_on_name_type_and_key():
    ids = {
        key_id("log.example", ED25519, PUBLIC),
        key_id("log.example", COSIGNATURE_ED25519, PUBLIC),
        key_id("log.exampl", ED25519, PUBLIC),
        key_id("log.example", ED25519, OTHER_PUBLIC),
    }
    assert len(ids) == 4


MATERIAL = b64encode(b"\x01" + PUBLIC)
HEX_ID = VKEY.key_id.hex()

BAD_KEYS = {
    "nothing": "",
    "a name alone": "log.example",
    "two parts": f"log.example+{HEX_ID}",
    "no name": f"+{HEX_ID}+{MATERIAL}",
    "a space in the name": f"log example+{HEX_ID}+{MATERIAL}",
    "a newline in the name": f"log\nexample+{HEX_ID}+{MATERIAL}",
    "another name": f"log.exemple+{HEX_ID}+{MATERIAL}",
    "another id": f"log.example+00000000+{MATERIAL}",
    "an id in capitals": f"log.example+{HEX_ID.upper()}+{MATERIAL}",
    "an id of three bytes": f"log.example+{HEX_ID[:6]}+{MATERIAL}",
    "an id that is not hex": f"log.example+{HEX_ID[:7]}g+{MATERIAL}",
    "no key": f"log.example+{HEX_ID}+",
    "a type alone": f"log.example+{HEX_ID}+AQ==",
    "another type": f"log.example+{HEX_ID}+{b64encode(bytes([4]) + PUBLIC)}",
    "a key of 31 bytes": str(VKEY).replace(MATERIAL, b64encode(b"\x01" + PUBLIC[:31])),
    "base64 with padding that it does not need": f"{VKEY}====",
    "a newline at the end": f"{VKEY}\n",
    "a space at the end": f"{VKEY} ",
}
assert HEX_ID.upper() != HEX_ID


@pytest.mark.parametrize("text", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_key_refused(text):
    assert VerifierKey.parse(str(VKEY)) == VKEY
    with pytest.raises(Malformed):
        VerifierKey.parse(text)


def doubled(y: int) -> int:
    """The y coordinate of twice the point with `y` on edwards25519 (RFC 8032 section 5.1): it needs no x."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, p)
    return (y * y + x2) * pow(1 - d * x2 * y * y, -1, p) % p


P = 2**255 - 19
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL_ORDER = {
    "the neutral point": 1,
    "the neutral point, not reduced": P + 1,
    "the point of order 2": P - 1,
    "a point of order 4": 0,
    "a point of order 4, not reduced": P,
    "a point of order 8": ORDER_8,
    "the other point of order 8": P - ORDER_8,
}


@pytest.mark.parametrize("sign_bit", [0, 1])
@pytest.mark.parametrize("y", SMALL_ORDER.values(), ids=SMALL_ORDER.keys())
def test_a_key_under_which_anyone_can_sign_is_refused(y, sign_bit):
    assert doubled(doubled(doubled(y))) == 1
    public = (y + sign_bit * 2**255).to_bytes(32, "little")
    with pytest.raises(Malformed, match="small order"):
        VerifierKey.of("log.example", ED25519, public)


def test_why_a_key_of_small_order_is_refused():
    # neutral point for the key and for R, zero for S: "signs" every message, as the library sees it
    neutral = (1).to_bytes(32, "little")
    for message in (b"this", b"that"):
        Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), message)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_no_key_has_this_name(name):
    with pytest.raises(Malformed, match="verifier key"):
        VerifierKey.of(name, ED25519, PUBLIC)
