"""C2SP tlog-checkpoint: the specification's example, signing, opening, and what must be refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import CheckpointInvalid, KeyRefused, Malformed
from ledger.formats.checkpoint import (
    Checkpoint,
    add_signatures,
    open_checkpoint,
    open_checkpoint_by,
    parse_decimal,
    sign_checkpoint,
)
from ledger.formats.encoding import b64encode
from ledger.formats.merkle import EMPTY_ROOT, MAX_SIZE
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, MAX_SIGNATURES, Note, Signature, VerifierKey, sign

VECTORS = Path(__file__).parent.parent / "vectors" / "c2sp"

# from the top of tlog-checkpoint; its key is not given
EXAMPLE = (VECTORS / "checkpoint.txt").read_bytes()

# the Go checksum database's key and its signed head at 6,476,701 entries, as sum.golang.org published them
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB = (VECTORS / "sumdb-checkpoint.txt").read_bytes()

ORIGIN = "yunxi.example/fire"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
VKEY = VerifierKey.of(ORIGIN, ED25519, PUBLIC)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_PUBLIC = OTHER.public_key().public_bytes_raw()

ROOT = bytes(range(32))
NOTE = sign_checkpoint(ORIGIN, 42, ROOT, PUBLIC, KEY.sign)


def test_the_specification_s_example():
    checkpoint = Checkpoint.parse(Note.parse(EXAMPLE).text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert checkpoint.extensions == ()
    assert checkpoint.text == Note.parse(EXAMPLE).text


def test_signed_bytes():
    text = f"{ORIGIN}\n42\n{b64encode(ROOT)}\n".encode()
    assert text + b"\n" + sign(text, ORIGIN, KEY.sign, PUBLIC) == NOTE


def test_open():
    assert open_checkpoint(NOTE, VKEY) == Checkpoint(ORIGIN, 42, ROOT)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, MAX_SIZE])
def test_sizes(size):
    note = sign_checkpoint(ORIGIN, size, EMPTY_ROOT, PUBLIC, KEY.sign)
    assert open_checkpoint(note, VKEY).size == size


def test_extension_lines_survive_and_are_signed():
    text = Checkpoint(ORIGIN, 42, ROOT, ("first", "第二行 ")).text
    note = text + b"\n" + sign(text, ORIGIN, KEY.sign, PUBLIC)
    assert open_checkpoint(note, VKEY).extensions == ("first", "第二行 ")
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(note.replace(b"first\n", b""), VKEY)


# -- the wrong log, the wrong key --


def test_a_key_whose_name_is_not_the_origin():
    # correctly signed, as the Go checksum database names its key otherwise than its tree; our logs never do
    Note.parse(SUMDB).verify(VerifierKey.parse(SUMDB_KEY))
    with pytest.raises(CheckpointInvalid, match=r"of go\.sum database tree, not of sum\.golang\.org"):
        open_checkpoint(SUMDB, VerifierKey.parse(SUMDB_KEY))


OTHER_VKEY = VerifierKey.of(ORIGIN, ED25519, OTHER_PUBLIC)


def test_a_log_that_has_had_two_keys():
    expected = Checkpoint(ORIGIN, 42, ROOT)
    new = sign_checkpoint(ORIGIN, 42, ROOT, OTHER_PUBLIC, OTHER.sign)
    assert open_checkpoint_by(NOTE, [VKEY, OTHER_VKEY]) == (expected, VKEY)
    assert open_checkpoint_by(new, [VKEY, OTHER_VKEY]) == (expected, OTHER_VKEY)
    both = add_signatures(NOTE, [sign(expected.text, ORIGIN, OTHER.sign, OTHER_PUBLIC)])
    assert open_checkpoint_by(both, [OTHER_VKEY, VKEY]) == (expected, OTHER_VKEY)
    with pytest.raises(CheckpointInvalid, match="not one of"):
        open_checkpoint_by(NOTE, [OTHER_VKEY])
    # a line that names a key and is not by it refuses the whole, whoever else signed
    false = Signature(ORIGIN, OTHER_VKEY.key_id, bytes(64)).line
    with pytest.raises(CheckpointInvalid, match="not one of"):
        open_checkpoint_by(add_signatures(NOTE, [false]), [VKEY, OTHER_VKEY])


REFUSED = {
    "another log's key": (NOTE, VerifierKey.of("yunxi.example/water", ED25519, PUBLIC)),
    "another key under the log's name": (NOTE, VerifierKey.of(ORIGIN, ED25519, OTHER_PUBLIC)),
    "signed by another key": (sign_checkpoint(ORIGIN, 42, ROOT, OTHER_PUBLIC, OTHER.sign), VKEY),
    "signed by another key in this one's name": (sign_checkpoint(ORIGIN, 42, ROOT, PUBLIC, OTHER.sign), VKEY),
    "size changed": (NOTE.replace(b"\n42\n", b"\n43\n"), VKEY),
    "root changed": (NOTE.replace(b"\nAAEC", b"\nBAEC"), VKEY),
    "origin changed": (NOTE.replace(b"fire\n42", b"firm\n42"), VKEY),
    "extension added": (NOTE.replace(b"=\n\n", b"=\nextension\n\n"), VKEY),
    "good and failing signature": (add_signatures(NOTE, [Signature(ORIGIN, VKEY.key_id, bytes(64)).line]), VKEY),
}


@pytest.mark.parametrize(("note", "vkey"), REFUSED.values(), ids=REFUSED.keys())
def test_checkpoint_refused(note, vkey):
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(note, vkey)


def test_a_witness_key_does_not_open_a_checkpoint():
    with pytest.raises(KeyRefused):
        open_checkpoint(NOTE, VerifierKey.of(ORIGIN, COSIGNATURE_ED25519, PUBLIC))


# -- texts that are no checkpoint --

B64 = b64encode(ROOT).encode()

BAD_TEXTS = {
    "nothing": b"",
    "two lines": b"origin\n42\n",
    "no newline at the end": b"origin\n42\n" + B64,
    "empty origin": b"\n42\n" + B64 + b"\n",
    "empty line at the end": b"origin\n42\n" + B64 + b"\n\n",
    "empty extension": b"origin\n42\n" + B64 + b"\n\nextension\n",
    "size with a leading zero": b"origin\n042\n" + B64 + b"\n",
    "size with a sign": b"origin\n+42\n" + B64 + b"\n",
    "negative size": b"origin\n-42\n" + B64 + b"\n",
    "size with a separator": b"origin\n4_2\n" + B64 + b"\n",
    "size with a space": b"origin\n42 \n" + B64 + b"\n",
    "size in other digits": "origin\n٤٢\n".encode() + B64 + b"\n",
    "size 2^63": b"origin\n9223372036854775808\n" + B64 + b"\n",
    "size of twenty digits": b"origin\n10000000000000000000\n" + B64 + b"\n",
    "empty size": b"origin\n\n" + B64 + b"\n",
    "root of 31 bytes": b"origin\n42\n" + b64encode(ROOT[:31]).encode() + b"\n",
    "root of 33 bytes": b"origin\n42\n" + b64encode(ROOT + b"\0").encode() + b"\n",
    "root in hex": b"origin\n42\n" + ROOT.hex().encode() + b"\n",
    "root without its padding": b"origin\n42\n" + B64.rstrip(b"=") + b"\n",
    "root with stray bits": b"origin\n42\n" + B64[:-2] + b"9=\n",
    "lines in another order": b"42\norigin\n" + B64 + b"\n",
    "carriage returns": b"origin\r\n42\r\n" + B64 + b"\r\n",
    "not UTF-8": b"\xff\n42\n" + B64 + b"\n",
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_text_refused(text):
    Checkpoint.parse(b"origin\n42\n" + B64 + b"\n")
    with pytest.raises(Malformed):
        Checkpoint.parse(text)


def test_a_signed_text_that_is_no_checkpoint():
    text = b"just a note\n"
    note = text + b"\n" + sign(text, ORIGIN, KEY.sign, PUBLIC)
    with pytest.raises(Malformed, match="three lines"):
        open_checkpoint(note, VKEY)


BAD_VALUES = {
    "empty origin": ("", 42, ROOT),
    "a newline in the origin": ("yunxi.example\nfire", 42, ROOT),
    "a space in the origin": ("yunxi example", 42, ROOT),
    "a plus in the origin": ("yunxi+example", 42, ROOT),
    "a lone surrogate in the origin": ("\udc80", 42, ROOT),
    "negative size": (ORIGIN, -1, ROOT),
    "size 2^63": (ORIGIN, 2**63, ROOT),
    "root of 31 bytes": (ORIGIN, 42, ROOT[:31]),
}


@pytest.mark.parametrize("values", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_not_signed(values):
    with pytest.raises(Malformed):
        sign_checkpoint(*values, PUBLIC, KEY.sign)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("7", 7), ("9223372036854775807", MAX_SIZE)])
def test_decimal(text, number):
    assert parse_decimal(text, "number") == number


@pytest.mark.parametrize("text", ["", "00", "01", "-1", "1 ", "1\n", "१", "1e3", "9223372036854775808", "9" * 5_000])
def test_no_decimal(text):
    with pytest.raises(Malformed, match="number"):
        parse_decimal(text, "number")


# -- more signatures --

FIRST = Signature("first.example", b"\0\0\0\1", b"one").line
SECOND = Signature("second.example", b"\0\0\0\2", b"two").line


def test_added_signatures_come_last_and_once():
    note = add_signatures(NOTE, [FIRST, SECOND])
    assert note == NOTE + FIRST + SECOND == add_signatures(NOTE, [FIRST + SECOND])
    assert add_signatures(note, [SECOND, FIRST]) == note
    assert open_checkpoint(note, VKEY).size == 42


BAD_LINES = {
    "nothing": b"",
    "an empty line": b"\n",
    "a new text": b"\nyunxi.example/fire\n43\n" + B64 + b"\n\n" + FIRST,
    "an empty line between": FIRST + b"\n" + SECOND,
    "no newline": FIRST[:-1],
    "an error page": b"<html>502 Bad Gateway</html>\n",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_line_not_added(line):
    with pytest.raises(Malformed):
        add_signatures(NOTE, [line])


def test_no_more_than_64_signatures():
    lines = [Signature("w.example", number.to_bytes(4, "big"), b"s").line for number in range(MAX_SIGNATURES)]
    assert len(Note.parse(add_signatures(NOTE, lines[:-1])).signatures) == MAX_SIGNATURES
    with pytest.raises(Malformed, match="65 signatures"):
        add_signatures(NOTE, lines)
