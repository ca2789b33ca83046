"""Steps 12 to 15 of the recipe: that the chain's validators sealed a block in which a checkpoint is anchored.

What it rests on: the trust file's validators, how many of them must have sealed, and that the contract at the trust
file's address is EvidenceLog. Which blocks the chain holds today, and whether validators broke their chain's rules
together, is not shown by any file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from ledger.crypto.secp256k1 import address_of, recover
from ledger.errors import AnchorInvalid, Malformed, SignatureInvalid, TrustRefused
from ledger.formats import jwk
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.evidence import AnchorClaim, AnchorEvidence
from ledger.formats.header import SEALINGS, Header
from ledger.formats.keccak import keccak256
from ledger.formats.receipt import AnchorHint
from ledger.formats.texts import is_printable
from ledger.formats.transaction import chain_id, parse_receipt, trie_key
from ledger.formats.trie import proven_value
from ledger.formats.trust import Chain, Department
from ledger.verify.facts import OnChain, Sealer
from ledger.verify.refusals import refusal

NO_TRANSACTION = "0x" + "00" * 32
"""What a receipt's anchor names where the node that made it did not know the transaction."""


class SealRule:
    """Who may seal blocks of the trust file's chain, and how many different ones must have."""

    def __init__(self, chain: Chain) -> None:
        """Reads the trust file's `validators`. Raises Malformed or TrustRefused for `names` and `keys` that do not fit
        its `addresses`; whether the rule can decide anything is asked when there is evidence."""
        validators = chain.validators
        names = _names(validators.unknown.get("names", {}))
        self.chain = chain
        self.threshold = validators.threshold
        self.sealers = {bytes.fromhex(a[2:]): Sealer(a.lower(), names.pop(a.lower(), "")) for a in validators.addresses}
        if names:
            raise TrustRefused(f"The trust file names {next(iter(names))}, which is not among its validators.")
        for key in _keys(validators.unknown.get("keys", [])):
            if address_of(key) not in self.sealers:
                address = "0x" + address_of(key).hex()
                raise TrustRefused(f"The trust file has a key of {address}, which is not among its validators.")

    def sealed(self, header: Header, parent: bytes | None) -> tuple[bytes, tuple[bytes, ...]]:
        """(the block's hash, the addresses of those who sealed it).

        Raises AnchorInvalid where the header does not follow the block with hash `parent` (None: it is the first), and
        for any seal that no validator of the trust file made: a damaged one looks the same as a stranger's.
        """
        with _reading("evidence-header"):
            sealing = SEALINGS[self.chain.engine](header)
        if parent is not None and header.parent_hash != parent:
            raise refusal("evidence-not-linked", block=str(header.number))
        addresses: dict[bytes, None] = {}
        for seal in sealing.seals:
            # one after the other: a seal costs milliseconds, and the same one may stand there hundreds of times
            address = self._address(sealing.digest, seal, header)
            if address in addresses:
                raise refusal("evidence-seal-twice", block=str(header.number))
            addresses[address] = None
        return sealing.block_hash, tuple(addresses)

    def _address(self, digest: bytes, seal: bytes, header: Header) -> bytes:
        try:
            address = address_of(recover(digest, seal))
        except SignatureInvalid as error:
            raise refusal("evidence-seal", block=str(header.number)) from error
        if address not in self.sealers:
            raise refusal("evidence-seal", block=str(header.number))
        return address


def verify_evidence(
    rule: SealRule, data: bytes, department: Department, checkpoint: Checkpoint, hint: AnchorHint | None
) -> OnChain:
    """Steps 12 to 15: that `checkpoint`, a verified one of `department`, is anchored where the file `data` shows.

    With `hint`, the receipt's verified anchor, it must be that anchor. Raises Malformed for a file of another form,
    TrustRefused where the trust file has no rule, AnchorInvalid for everything in the file that does not hold.
    """
    # 12
    evidence = AnchorEvidence.parse(data)
    _check_rule(rule)
    _check_claim(rule.chain, evidence.claim, department, checkpoint)
    with _reading("evidence-header"):
        headers = [Header.parse(header) for header in evidence.headers]
    # 13
    block_hash, sealed_by = _sealed(rule, headers)
    _check_block(hint, headers[0], block_hash)
    # 14
    key = trie_key(evidence.index)
    with _reading("evidence-transaction"):
        transaction = proven_value(headers[0].transactions_root, key, evidence.transaction_proof)
        signed_for = chain_id(transaction)
    if signed_for != rule.chain.id:
        raise refusal("anchor-chain", found=str(signed_for), expected=str(rule.chain.id))
    tx_hash = "0x" + keccak256(transaction).hex()
    if hint is not None and hint.transaction not in (tx_hash, NO_TRANSACTION):
        raise refusal("evidence-other-transaction", found=tx_hash, expected=hint.transaction)
    # 15
    with _reading("evidence-receipt"):
        receipt = parse_receipt(proven_value(headers[0].receipts_root, key, evidence.receipt_proof))
    if not receipt.succeeded or not any(evidence.claim.stated_by(event) for event in receipt.events):
        raise refusal("evidence-event", contract="0x" + evidence.claim.contract.hex(), size=checkpoint.size)
    return OnChain(
        contract="0x" + evidence.claim.contract.hex(),
        block_number=headers[0].number,
        block_hash="0x" + block_hash.hex(),
        time=headers[0].time,
        transaction=tx_hash,
        sealed_by=tuple(sealer for address, sealer in rule.sealers.items() if address in sealed_by),
        threshold=rule.threshold,
        validators=len(rule.sealers),
    )


def log_id(department: Department) -> bytes:
    """A department's log on chain: its id in ASCII, zero bytes up to 32."""
    return department.id.encode("ascii").ljust(32, b"\x00")


def _check_rule(rule: SealRule) -> None:
    if rule.chain.engine not in SEALINGS:
        raise refusal("evidence-embedded")
    if rule.threshold == 0:
        raise refusal("evidence-no-rule")


def _check_claim(chain: Chain, claim: AnchorClaim, department: Department, checkpoint: Checkpoint) -> None:
    """Compares what the evidence is about with the trust file and the receipt. Its proofs must then lead there."""
    if claim.chain_id != chain.id:
        raise refusal("anchor-chain", found=str(claim.chain_id), expected=str(chain.id))
    if "0x" + claim.contract.hex() not in chain.evidence_logs:
        raise refusal("anchor-contract", found="0x" + claim.contract.hex(), expected=chain.evidence_logs[0])
    if claim.log_id != log_id(department):
        raise refusal("evidence-other-log", department=department)
    if (claim.size, claim.root) != (checkpoint.size, checkpoint.root):
        raise refusal("evidence-other-state", found=claim.size, expected=checkpoint.size)


def _sealed(rule: SealRule, headers: list[Header]) -> tuple[bytes, set[bytes]]:
    """(hash of the first block, addresses of those who sealed it or a block on top of it)."""
    first, together = rule.sealed(headers[0], None)
    last, sealed_by = first, set(together)
    for header in headers[1:]:
        last, together = rule.sealed(header, last)
        sealed_by |= set(together)
    if len(sealed_by) < rule.threshold:
        raise refusal("evidence-threshold", found=len(sealed_by), threshold=rule.threshold)
    return first, sealed_by


def _check_block(hint: AnchorHint | None, header: Header, block_hash: bytes) -> None:
    if hint is None:
        return
    found = (header.number, "0x" + block_hash.hex(), header.time)
    if found != (hint.block_number, hint.block_hash, hint.time):
        raise refusal("evidence-other-block", found=found[1], expected=hint.block_hash)


@contextmanager
def _reading(reason: str) -> Iterator[None]:
    """Whatever is wrong with a part of the evidence is said by one refusal; the technical cause rides along."""
    try:
        yield
    except (Malformed, AnchorInvalid) as error:
        raise refusal(reason) from error


def _names(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) and v and is_printable(v) for v in value.values()):
        raise Malformed("trust file", "names of the validators must map addresses to texts")
    names = {address.lower(): name for address, name in value.items()}
    if len(names) != len(value):
        raise TrustRefused("The trust file names a validator twice, so it cannot say who is meant.")
    return names


def _keys(value: Any) -> list[EllipticCurvePublicKey]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Malformed("trust file", "keys of the validators must be a list of JWKs")
    found = [jwk.to_public_key(item) for item in value]
    keys = [key for key in found if isinstance(key, EllipticCurvePublicKey)]
    if len(keys) != len(found):
        raise Malformed("trust file", "keys of the validators must be secp256k1 keys")
    return keys
