"""C2SP tlog-cosignature, Ed25519: the signed bytes, several witnesses, and what must be refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import KeyRefused, Malformed, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint, add_signatures, sign_checkpoint
from ledger.formats.cosignature import MAX_TIME, cosign, verify_cosignature
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, Note, Signature, VerifierKey, sign

VECTORS = Path(__file__).parent.parent / "vectors" / "c2sp"

# from the top of tlog-cosignature; the keys are not given
EXAMPLE = (VECTORS / "cosigned-checkpoint.txt").read_bytes()
EXAMPLE_MESSAGE = b"""cosignature/v1
time 1679315147
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""

LOG = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
NOTE = sign_checkpoint("yunxi.example/fire", 42, bytes(32), LOG.public_key().public_bytes_raw(), LOG.sign)
TEXT = Note.parse(NOTE).text

WITNESS = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
PUBLIC = WITNESS.public_key().public_bytes_raw()
VKEY = VerifierKey.of("court.example/w1", COSIGNATURE_ED25519, PUBLIC)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_VKEY = VerifierKey.of("notary.example", COSIGNATURE_ED25519, OTHER.public_key().public_bytes_raw())

TIME = 1_679_315_147
LINE = cosign(TEXT, TIME, VKEY.name, PUBLIC, WITNESS.sign)


def with_lines(*lines: bytes) -> bytes:
    return add_signatures(NOTE, lines)


def test_the_specification_s_signed_message():
    signed: list[bytes] = []

    def listen(message: bytes) -> bytes:
        signed.append(message)
        return WITNESS.sign(message)

    cosign(Note.parse(EXAMPLE).text, 1_679_315_147, VKEY.name, PUBLIC, listen)
    assert signed == [EXAMPLE_MESSAGE]


def test_the_specification_s_line():
    log, witness = Note.parse(EXAMPLE).signatures
    assert witness.name == "witness.example.com/w1"
    assert len(witness.signature) == 8 + 64
    assert int.from_bytes(witness.signature[:8], "big") == 1_679_315_147
    assert verify_cosignature(EXAMPLE, VKEY) is None
    assert len(log.signature) == 64


def test_cosign_and_verify():
    assert verify_cosignature(with_lines(LINE), VKEY) == TIME
    # the bytes, built by hand
    signature = TIME.to_bytes(8, "big") + WITNESS.sign(b"cosignature/v1\ntime 1679315147\n" + TEXT)
    assert Signature(VKEY.name, VKEY.key_id, signature).line == LINE


def test_a_witness_that_did_not_sign():
    assert verify_cosignature(NOTE, VKEY) is None
    assert verify_cosignature(with_lines(LINE), OTHER_VKEY) is None


def test_each_witness_has_its_own_time():
    note = with_lines(LINE, cosign(TEXT, TIME + 5, OTHER_VKEY.name, OTHER_VKEY.public, OTHER.sign))
    assert (verify_cosignature(note, VKEY), verify_cosignature(note, OTHER_VKEY)) == (TIME, TIME + 5)


def test_of_several_cosignatures_the_earliest_time_counts():
    later = cosign(TEXT, TIME + 60, VKEY.name, PUBLIC, WITNESS.sign)
    assert verify_cosignature(with_lines(later, LINE), VKEY) == TIME


@pytest.mark.parametrize("time", [0, 1, MAX_TIME])
def test_times(time):
    assert verify_cosignature(with_lines(cosign(TEXT, time, VKEY.name, PUBLIC, WITNESS.sign)), VKEY) == time


def test_extension_lines_are_cosigned():
    text = Checkpoint("yunxi.example/fire", 42, bytes(32), ("extension",)).text
    log_line = sign(text, "yunxi.example/fire", LOG.sign, LOG.public_key().public_bytes_raw())
    line = cosign(text, TIME, VKEY.name, PUBLIC, WITNESS.sign)
    assert verify_cosignature(text + b"\n" + log_line + line, VKEY) == TIME
    with pytest.raises(SignatureInvalid):
        verify_cosignature(text + b"\n" + log_line + LINE, VKEY)


def test_lines_of_other_types_are_ignored():
    ml_dsa = Signature(VKEY.name, b"\x06\x06\x06\x06", bytes(8 + 2420)).line
    assert verify_cosignature(with_lines(ml_dsa, LINE), VKEY) == TIME


# -- what must be refused --


def forged(signature: bytes) -> bytes:
    return Signature(VKEY.name, VKEY.key_id, signature).line


STAMP = TIME.to_bytes(8, "big")
MESSAGE = b"cosignature/v1\ntime 1679315147\n" + TEXT

BAD_COSIGNATURES = {
    "by another key": forged(STAMP + OTHER.sign(MESSAGE)),
    "time moved": forged((TIME - 1).to_bytes(8, "big") + WITNESS.sign(MESSAGE)),
    "over the bare checkpoint": forged(STAMP + WITNESS.sign(TEXT)),
    "over another checkpoint": forged(STAMP + WITNESS.sign(MESSAGE.replace(b"42", b"43"))),
    "another header": forged(STAMP + WITNESS.sign(MESSAGE.replace(b"v1", b"v2"))),
    "no time": forged(WITNESS.sign(TEXT)),
    "a byte short": forged(STAMP + WITNESS.sign(MESSAGE)[:-1]),
    "a byte long": forged(STAMP + WITNESS.sign(MESSAGE) + b"\0"),
    "one byte": forged(b"\0"),
    "time above 2^63-1": forged(
        (2**63).to_bytes(8, "big") + WITNESS.sign(MESSAGE.replace(b"1679315147", b"9223372036854775808"))
    ),
    "a good one and a failing one": LINE + forged(STAMP + bytes(64)),
}


@pytest.mark.parametrize("lines", BAD_COSIGNATURES.values(), ids=BAD_COSIGNATURES.keys())
def test_cosignature_refused(lines):
    with pytest.raises(SignatureInvalid):
        verify_cosignature(with_lines(lines), VKEY)


def test_a_log_key_is_no_witness():
    with pytest.raises(KeyRefused, match="0x01"):
        verify_cosignature(with_lines(LINE), VerifierKey.of(VKEY.name, ED25519, PUBLIC))


def test_a_note_that_is_no_checkpoint():
    with pytest.raises(Malformed, match="checkpoint"):
        verify_cosignature(b"text\n\n" + LINE, VKEY)
    with pytest.raises(Malformed, match="checkpoint"):
        cosign(b"text\n", TIME, VKEY.name, PUBLIC, WITNESS.sign)


@pytest.mark.parametrize("time", [-1, 2**63])
def test_no_such_time(time):
    with pytest.raises(ValueError, match="time"):
        cosign(TEXT, time, VKEY.name, PUBLIC, WITNESS.sign)
