"""The court's verifier: pure, offline, without a clock; needs `cryptography` and the standard library only."""

from ledger.verify.facts import Attachment, Cosigned, Facts, Logged, OnChain, Sealer, Unit
from ledger.verify.verifier import Verifier, verify_attachment

__all__ = ["Attachment", "Cosigned", "Facts", "Logged", "OnChain", "Sealer", "Unit", "Verifier", "verify_attachment"]
