"""C2SP tlog-proof: the specification's example, the exact bytes, and what must be refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import Malformed
from ledger.formats.checkpoint import sign_checkpoint
from ledger.formats.encoding import b64encode
from ledger.formats.merkle import MAX_SIZE
from ledger.formats.note import Signature
from ledger.formats.tlogproof import MAX_PROOF_BYTES, TlogProof

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NOTE = sign_checkpoint("yunxi.example/fire", 42, bytes(32), KEY.public_key().public_bytes_raw(), KEY.sign)

# tlog-proof's example; where that has "[...]" in its signature lines, these have signatures of no meaning
SIGNERS = ("example.com/fancylog", "witness1.example", "witness2.example", "witness3.example")
EXAMPLE = b"""c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

""" + b"".join(Signature(name, b"\0\0\0\0", bytes(64)).line for name in SIGNERS)

HASHES = (bytes(32), bytes(range(32)))
PROOF = TlogProof(b'{"anchor":{}}', 5, HASHES, NOTE)
DATA = PROOF.serialize()


def test_the_specification_s_example():
    proof = TlogProof.parse(EXAMPLE)
    assert proof.extra is not None
    assert proof.extra.startswith(b"age-v1.2.1-darwin-arm64.tar.gz")
    assert (proof.index, len(proof.path)) == (73_894, 5)
    assert proof.path[0].hex().startswith("8122b25e")
    assert proof.checkpoint.startswith(b"example.com/fancylog\n109482\n")
    assert proof.serialize() == EXAMPLE


def test_bytes():
    path = "".join(f"{b64encode(value)}\n" for value in HASHES)
    text = f"c2sp.org/tlog-proof@v1\nextra eyJhbmNob3IiOnt9fQ==\nindex 5\n{path}\n".encode()
    assert text + NOTE == DATA
    assert TlogProof.parse(DATA) == PROOF


GOOD_PROOFS = {
    "no extra, no path": TlogProof(None, 0, (), NOTE),
    "the last index": TlogProof(None, MAX_SIZE - 1, HASHES, NOTE),
    "a path of 64": TlogProof(None, 5, HASHES * 32, NOTE),
    "binary extra": TlogProof(bytes(range(256)), 5, HASHES, NOTE),
    "a checkpoint with extension lines": TlogProof(None, 5, HASHES, NOTE.replace(b"=\n\n", b"=\nextension\n\n")),
}


@pytest.mark.parametrize("proof", GOOD_PROOFS.values(), ids=GOOD_PROOFS.keys())
def test_round_trip(proof):
    assert TlogProof.parse(proof.serialize()) == proof


HASH_LINE = b64encode(HASHES[1]).encode() + b"\n"

BAD_PROOFS = {
    "nothing": b"",
    "the header alone": b"c2sp.org/tlog-proof@v1\n",
    "cut in the path": DATA[:120],
    "cut before the checkpoint": DATA[: -len(NOTE)],
    "cut in the checkpoint": DATA[:-40],
    "last newline missing": DATA[:-1],
    "another version": DATA.replace(b"@v1", b"@v2"),
    "a byte order mark": b"\xef\xbb\xbf" + DATA,
    "a line before the header": b"\n" + DATA,
    "carriage returns": DATA.replace(b"\n", b"\r\n"),
    "not UTF-8": DATA.replace(b"index", b"ind\xffx"),
    "no index": DATA.replace(b"index 5\n", b""),
    "two indexes": DATA.replace(b"index 5\n", b"index 5\nindex 5\n"),
    "index before extra": b"c2sp.org/tlog-proof@v1\nindex 5\nextra AA==\n\n" + NOTE,
    "two extras": DATA.replace(b"extra ", b"extra AA==\nextra "),
    "extra without data": DATA.replace(b"extra eyJhbmNob3IiOnt9fQ==", b"extra "),
    "extra without a space": DATA.replace(b"extra ", b"extra"),
    "extra that is not base64": DATA.replace(b"extra eyJ", b"extra {yJ"),
    "extra without its padding": DATA.replace(b"fQ==", b"fQ"),
    "extra with stray bits": DATA.replace(b"fQ==", b"fR=="),
    "index with a leading zero": DATA.replace(b"index 5", b"index 05"),
    "index with a sign": DATA.replace(b"index 5", b"index -5"),
    "index with two spaces": DATA.replace(b"index 5", b"index  5"),
    "index with a space after it": DATA.replace(b"index 5", b"index 5 "),
    "index 2^63": DATA.replace(b"index 5", b"index 9223372036854775808"),
    "index that no tree has": DATA.replace(b"index 5", b"index 9223372036854775807"),
    "no index number": DATA.replace(b"index 5", b"index "),
    "a hash of 31 bytes": DATA.replace(HASH_LINE, b64encode(bytes(31)).encode() + b"\n"),
    "a hash in hex": DATA.replace(HASH_LINE, HASHES[1].hex().encode() + b"\n"),
    "a hash with stray bits": DATA.replace(HASH_LINE, HASH_LINE[:-3] + b"9=\n"),
    "a path of 65": DATA.replace(HASH_LINE, HASH_LINE * 64),
    "an empty line in the path": DATA.replace(HASH_LINE, b"\n" + HASH_LINE),
    "two empty lines before the checkpoint": DATA.replace(HASH_LINE + b"\n", HASH_LINE + b"\n\n"),
    "a checkpoint that nobody signed": DATA[: DATA.rindex(b"\n\n") + 2],
    "a note that is no checkpoint": DATA.replace(b"\n42\n", b"\nforty-two\n"),
    "something after the checkpoint": DATA + b"\n",
    "more than 256 KiB": TlogProof(None, 5, HASHES, NOTE)
    .serialize()
    .replace(b"index", b"extra " + b"A" * 262_144 + b"\nindex"),
}


@pytest.mark.parametrize("data", BAD_PROOFS.values(), ids=BAD_PROOFS.keys())
def test_proof_refused(data):
    with pytest.raises(Malformed):
        TlogProof.parse(data)


BAD_VALUES = {
    "empty extra": (b"", 5, HASHES, NOTE),
    "negative index": (None, -1, HASHES, NOTE),
    "index that no tree has": (None, MAX_SIZE, HASHES, NOTE),
    "a short hash": (None, 5, (bytes(31),), NOTE),
    "a path of 65": (None, 5, HASHES[:1] * 65, NOTE),
    "no checkpoint": (None, 5, HASHES, b""),
}


@pytest.mark.parametrize("values", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_no_such_proof(values):
    with pytest.raises(Malformed):
        TlogProof(*values)


def test_256_kib_and_not_a_byte_more():
    bare = len(TlogProof(None, 5, HASHES, NOTE).serialize()) + len("extra \n")
    # base64 comes in fours: the largest proof with this checkpoint is up to three bytes below the bound
    room = MAX_PROOF_BYTES - bare
    proof = TlogProof(bytes(room // 4 * 3), 5, HASHES, NOTE)
    assert MAX_PROOF_BYTES - 4 < len(proof.serialize()) <= MAX_PROOF_BYTES
    assert TlogProof.parse(proof.serialize()) == proof
    with pytest.raises(Malformed, match="more than"):
        TlogProof(bytes(room // 4 * 3 + 3), 5, HASHES, NOTE).serialize()
