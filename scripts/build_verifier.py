"""Builds the court's verifier and says its SHA-256, so that a court can compare it with what was published.

python scripts/build_verifier.py [TARGET]        default: dist/yunxi-verify.pyz
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ledger.verifier_zipapp import build_verifier

TARGET = Path(__file__).resolve().parent.parent / "dist" / "yunxi-verify.pyz"

if __name__ == "__main__":
    built = build_verifier(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
    print(f"{built}  {built.stat().st_size:,} bytes  SHA-256 {hashlib.sha256(built.read_bytes()).hexdigest()}")
