"""What a receipt says about its anchor: the `extra` data of a C2SP tlog-proof, signed by the log.

    extra     = {"anchor": anchor, "signature": base64(Ed25519 signature[64]), …}
    anchor    = {"chain_id": number, "contract": address, "block_number": number, "block_hash": hash,
                 "transaction": hash, "time": seconds since 1970, …}
    address   = "0x" and 40 lowercase hex digits          hash = "0x" and 64 lowercase hex digits
    signature = by the log's checkpoint key over
                "yunxi.anchor/v1" newline  origin newline  size newline  base64(root) newline  anchor newline
    anchor in the signed text, and extra itself: JSON with sorted members, ASCII, no white space

tlog-proof leaves `extra` unauthenticated, so it brings its own signature; a receipt without `extra` is not anchored
yet. The signed text is no checkpoint (its third line is a size, not 32 bytes in base64) and no cosignature message, so
one key can sign all of them. Unknown members of `anchor` are signed with it; unknown members beside it are kept by
whoever keeps the bytes, are not signed, and are ignored here. Whether the anchor stands on the chain only the chain can
say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, overload

from ledger.errors import AnchorInvalid, Malformed, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.note import Sign, VerifierKey, verify_ed25519
from ledger.formats.strictjson import loads_object

MAX_EXTRA_BYTES = 16 * 1024
DOMAIN = "yunxi.anchor/v1"

_WHAT = "anchor of the receipt"
_NUMBERS = ("chain_id", "block_number", "time")
_HEX = {
    "contract": re.compile(r"0x[0-9a-f]{40}"),
    "block_hash": re.compile(r"0x[0-9a-f]{64}"),
    "transaction": re.compile(r"0x[0-9a-f]{64}"),
}


@dataclass(frozen=True, slots=True)
class AnchorHint:
    """Where the department says its checkpoint is anchored; `time` is the block's, in seconds since 1970.

    Raises Malformed for negative numbers and for hex that is not lowercase or not 20, 32, 32 bytes long.
    """

    chain_id: int
    contract: str
    block_number: int
    block_hash: str
    transaction: str
    time: int
    unknown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise Malformed(_WHAT, f"{name} must be a whole number, not negative")
        for name, pattern in _HEX.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise Malformed(_WHAT, f"{name} must be 0x and lowercase hex of the right length")

    def members(self) -> dict[str, Any]:
        """The JSON members, unknown ones included."""
        names = (*_NUMBERS, *_HEX)
        return self.unknown | {name: getattr(self, name) for name in names}


def encode_extra(hint: AnchorHint, checkpoint: Checkpoint, sign: Sign) -> bytes:
    """The `extra` data for receipts of `checkpoint`; `sign` is the key that signed the checkpoint."""
    signature = sign(signed_text(hint, checkpoint))
    return _canonical({"anchor": hint.members(), "signature": b64encode(signature)})


@overload
def decode_extra(extra: bytes) -> tuple[AnchorHint, bytes]: ...
@overload
def decode_extra(extra: None) -> None: ...
def decode_extra(extra: bytes | None) -> tuple[AnchorHint, bytes] | None:
    """The hint and its signature of 64 bytes, not verified; None for a receipt that is not anchored yet.

    Raises Malformed unless `extra` is, byte for byte, the canonical JSON of its value.
    """
    if extra is None:
        return None
    value = loads_object(extra, what=_WHAT, max_bytes=MAX_EXTRA_BYTES)
    if _canonical(value) != extra:
        raise Malformed(_WHAT, "not canonical JSON: sorted members, ASCII, no white space")
    anchor, signature = value.get("anchor"), value.get("signature")
    if not isinstance(anchor, dict) or not isinstance(signature, str):
        raise Malformed(_WHAT, "must have an object anchor and a text signature")
    decoded = b64decode(signature, _WHAT)
    if len(decoded) != 64:
        raise Malformed(_WHAT, "an Ed25519 signature has 64 bytes")
    return _hint(anchor), decoded


def verify_anchor_hint(hint: AnchorHint, signature: bytes, checkpoint: Checkpoint, *keys: VerifierKey) -> None:
    """Checks that one of `keys`, the log's own, said that `checkpoint` is anchored where `hint` says: a receipt that is
    written after a rotation carries a checkpoint by the old key and a hint by the new one.

    Not checked: the chain id and contract against a trust file, and whether the anchor is really on the chain.
    Raises AnchorInvalid.
    """
    text, failed = signed_text(hint, checkpoint), None
    for key in keys:
        try:
            return verify_ed25519(key, signature, text)
        except SignatureInvalid as error:
            failed = error
    raise AnchorInvalid(
        f"The receipt's anchor is not what {checkpoint.origin} signed for this checkpoint; fetch the receipt again."
    ) from failed


def signed_text(hint: AnchorHint, checkpoint: Checkpoint) -> bytes:
    """What the log's key signs: see the module's text."""
    anchor = _canonical(hint.members()).decode("ascii")
    lines = (DOMAIN, checkpoint.origin, str(checkpoint.size), b64encode(checkpoint.root), anchor)
    return "".join(f"{line}\n" for line in lines).encode()


def _hint(anchor: dict[str, Any]) -> AnchorHint:
    known: dict[str, Any] = {name: anchor.get(name) for name in (*_NUMBERS, *_HEX)}
    unknown = {name: value for name, value in anchor.items() if name not in known}
    return AnchorHint(**known, unknown=unknown)


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii")
