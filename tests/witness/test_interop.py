"""Somebody else's log against our witness: Trillian Tessera's POSIX example (Apache-2.0) asks it for cosignatures.

Tessera refuses to publish a checkpoint without the quorum of its witness policy, and checks each cosignature itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.formats.checkpoint import open_checkpoint
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.encoding import b64encode
from ledger.formats.note import ED25519, VerifierKey
from ledger.witness.core import Witness
from tests.witness.simulation import NOW, MemoryStore, call, serving, signer

TOOL = "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot@v1.0.4"
ORIGIN = "tessera.example/log"


@pytest.fixture(scope="module")
def tessera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example program; installed with Go where that is at hand, or named by YUNXI_TEST_TESSERA."""
    if named := os.environ.get("YUNXI_TEST_TESSERA"):
        return Path(named)
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, and YUNXI_TEST_TESSERA does not name tessera's posix-oneshot")
    target = tmp_path_factory.mktemp("go")
    made = subprocess.run(
        [go, "install", TOOL],
        env=os.environ | {"GOBIN": str(target)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"tessera's posix-oneshot cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    return target / "posix-oneshot"


def log_key(directory: Path) -> VerifierKey:
    """Makes the log's key, in the form of Go's note package, and returns the public half."""
    seed = sha256(b"a log of somebody else").digest()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    key = VerifierKey.of(ORIGIN, ED25519, public)
    material = b64encode(bytes([ED25519]) + seed)
    (directory / "key").write_text(f"PRIVATE+KEY+{ORIGIN}+{key.key_id.hex()}+{material}")
    return key


@pytest.mark.slow
def test_tessera_publishes_with_the_cosignatures_of_two_of_our_witnesses(tessera: Path, tmp_path: Path) -> None:
    key = log_key(tmp_path)
    names = ("court.example/witness", "notary.example/witness")
    witnesses = [Witness(name, signer(name), {ORIGIN: (key,)}, MemoryStore(), lambda: NOW) for name in names]
    with serving(witnesses[0]) as one, serving(witnesses[1]) as two:
        lines = [f"witness w{n} {w.vkey} {s.url}" for n, w, s in zip("12", witnesses, (one, two), strict=True)]
        (tmp_path / "policy").write_text("\n".join([*lines, "group both all w1 w2", "quorum both", ""]))
        for size in (1, 3, 4, 300):
            add(tessera, tmp_path, size)
            note = (tmp_path / "log" / "checkpoint").read_bytes()
            assert open_checkpoint(note, key).size == size
            assert [verify_cosignature(note, witness.vkey) for witness in witnesses] == [NOW, NOW]
        status, _, monitored = call(one.url, "GET", f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
        assert status == 200
        assert open_checkpoint(monitored, key) == open_checkpoint(note, key)


def add(tessera: Path, directory: Path, size: int) -> None:
    """Makes the log grow to `size` entries."""
    entries = directory / f"entries-{size}"
    entries.mkdir()
    before = sum(1 for _ in directory.glob("entries-*/*"))
    for number in range(before, size):
        (entries / str(number)).write_text(f"entry {number}")
    words = ["--storage_dir", directory / "log", "--entries", entries / "*", "--private_key", directory / "key"]
    words += ["--witness_policy_file", directory / "policy"]
    done = subprocess.run([tessera, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
