"""Time stamps over a log's state: how a token (RFC 3161) and its renewals become a fact.

    1. Token. It is over the checkpoint's text, whole and signed, and leads to a root of the trust file's `tsa_roots`;
       its certificates were valid at the time that it states (ledger/formats/timestamp.py).
    2. Renewals, if handed in. Each covers the one before it and was made while that one's certificates were valid
       (ledger/formats/renewal.py).

No clock is read: a token whose certificates ended since holds; `good_until` says how far its certificates reach.
Used for single records (`bundle`) and for case files alike. The page's script must do the same
(ledger/verify/page): kinds `time` and `renewals` of the bundle, member `times` of a report's `log`.

Not checked: whether a certificate was revoked, and whether an authority's clock is right.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.x509 import Certificate

from ledger.errors import NotProven, TimestampInvalid
from ledger.formats.renewal import RenewalChain, verify_renewals
from ledger.formats.timestamp import verify_token
from ledger.verify.facts import Stamped


def verify_time(checkpoint: bytes, token: bytes, renewals: bytes | None, roots: Sequence[Certificate]) -> Stamped:
    """What a token says of a checkpoint.

    checkpoint   the text that was stamped: origin, size and root, each with its newline, without signatures
    token        DER, at most 64 KiB
    renewals     the JSON text of ledger/formats/renewal.py; None: it was not renewed
    roots        whom a token must lead to: `read_roots(trust.tsa_roots)`

    Raises Malformed for bytes that are no token or no renewals, TimestampInvalid where a step fails.
    """
    chain = None if renewals is None else RenewalChain.parse(renewals)
    try:
        # 1
        stamp = verify_token(token, checkpoint, roots)
        # 2
        renewed = () if chain is None else verify_renewals(token, stamp, chain, roots)
    except NotProven as error:
        raise TimestampInvalid(str(error)) from error
    last = renewed[-1] if renewed else stamp
    return Stamped(
        authority=stamp.authority,
        root=stamp.root,
        time=int(stamp.time.timestamp()),
        renewed=tuple(int(fresh.time.timestamp()) for fresh in renewed),
        good_until=int(last.expires.timestamp()),
    )
