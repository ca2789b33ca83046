"""The OpenWallet Foundation's library, npm `@sd-jwt/core`, verifies what this ledger presents, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ledger.formats.encoding import b64url_encode
from tests.verify.factory import disclose, jws, key, seal

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules" / "@sd-jwt" / "core").is_dir(),
    reason="the npm packages are not there: run npm ci",
)


def verified(presentation: bytes, department: str = "fire") -> dict[str, Any] | None:
    """The claims that the library gives out; None where it refuses."""
    given = json.dumps({"presentation": presentation.decode("ascii"), "jwk": key(department).jwk})
    command = ["node", str(HERE / "sd_jwt_core.mjs")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    claims: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return claims


def test_what_is_shown_and_what_is_not() -> None:
    record = seal(number=3)
    whole = verified(record.present())
    assert whole is not None
    assert whole["finding"]["result"] == "fail" and whole["officers"] and whole["iss"] == "fire"
    masked = verified(record.present("place"))
    assert masked is not None
    assert masked["place"] == whole["place"] and "officers" not in masked
    assert verified(record.ascii + b"~") is not None


GOOD = seal(number=3)
_HEAD, _PAYLOAD, _SIGNATURE = GOOD.ascii.split(b".")


BAD = {
    "a changed disclosure": GOOD.present().replace(GOOD.disclosures["place"][10:14].encode(), b"AAAA"),
    "a changed payload": GOOD.present().replace(_PAYLOAD, b64url_encode(b'{"iss":"fire","_sd":[]}').encode()),
    "a signature of another record": GOOD.present().replace(_SIGNATURE, seal(number=4).ascii.split(b".")[2]),
    "another department's signature": seal(number=3, signer="market statement").present(),
    "no signature": jws(b'{"alg":"none"}', b"{}", "fire statement").rpartition(b".")[0] + b".~",
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_verify(case: str) -> None:
    assert BAD[case] != GOOD.present()
    assert verified(BAD[case]) is None


FOREIGN = {
    "a disclosure that was never sealed": disclose("another", "fine", {"fine": 1}),
    "a disclosure twice": GOOD.disclosures["place"],
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_was_never_sealed_is_not_shown(case: str) -> None:
    # RFC 9901 section 7.1 asks to refuse it; this library leaves it out
    assert verified(GOOD.present() + FOREIGN[case].encode() + b"~") == verified(GOOD.present())


def test_with_another_departments_key() -> None:
    assert verified(GOOD.present(), "market") is None
