"""Builds the court's verifier and says its SHA-256, so that a court can compare it with what was published.

python scripts/build_verifier.py [TARGET]        a page if TARGET ends in .html; default: dist/yunxi-verify.{pyz,html}
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ledger.verifier_html import build_page
from ledger.verifier_zipapp import build_verifier

DIST = Path(__file__).resolve().parent.parent / "dist"
TARGETS = (DIST / "yunxi-verify.pyz", DIST / "yunxi-verify.html")

if __name__ == "__main__":
    for target in [Path(name) for name in sys.argv[1:]] or TARGETS:
        built = build_page(target) if target.suffix == ".html" else build_verifier(target)
        print(f"{built}  {built.stat().st_size:,} bytes  SHA-256 {hashlib.sha256(built.read_bytes()).hexdigest()}")
