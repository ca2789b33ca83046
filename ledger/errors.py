"""Every error of the ledger, one tree. The message is one sentence that says what to do; nothing else is shown.

YunxiError
├── CouldNotRun            exit 2: the machine, the node or the chain is not in a state to answer
│   ├── NodeMissing
│   ├── ChainUnreachable
│   └── StorageFailed
└── Refusal                exit 1: an answer, and the answer is no
    ├── Malformed          bytes that are not what their format says
    ├── RecordRefused      a record, a row or a batch that intake will not seal
    │   └── Conflict       same idempotency key, other content
    ├── MattersRefused     a list of matters with rows that are not right
    ├── RequestRefused     an HTTP request whose signature does not show who sent it, and that it is new
    ├── KeyRefused         a key that is unknown, of another use, or outside its validity
    │   └── SealedElsewhere    a terminal sealed the record for its department, whose key is not here
    ├── HistoryRefused     a log, a chain or a witness that would rewrite what was said before
    └── NotProven          evidence that does not verify
        ├── TrustRefused       the trust file is empty, contradictory or names nobody who could be trusted
        ├── SignatureInvalid
        ├── DisclosureInvalid
        ├── InclusionInvalid
        ├── ConsistencyInvalid
        ├── CheckpointInvalid
        ├── AnchorInvalid
        ├── TimestampInvalid
        └── PayloadInvalid

`code` is stable and documented in docs/errors.md; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class YunxiError(Exception):
    """The root. `str(error)` is the one sentence a user sees."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2
    reason: str = ""
    """Of some errors: why, as a stable word that is finer than the code."""


class CouldNotRun(YunxiError):
    """Nothing was decided; the same call may succeed once the cause is gone."""

    code = "could-not-run"


class NodeMissing(CouldNotRun):
    """No node directory stands where one was named. A node is made only by `yunxi init`."""

    code = "node-missing"


class ChainUnreachable(CouldNotRun):
    """The chain's JSON-RPC does not answer, or not in time. Records are still acknowledged."""

    code = "chain-unreachable"


class StorageFailed(CouldNotRun):
    """The database or the disk refused a write. Nothing of the batch was acknowledged."""

    code = "storage-failed"


class Refusal(YunxiError):
    """A decision that went against the input."""

    code = "refused"
    exit_code = 1


class Malformed(Refusal):
    """Bytes that do not follow their format. `what` names the format in the specification's words."""

    code = "malformed"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


class RecordRefused(Refusal):
    """A record that intake will not seal. `reason` is stable enough to group quarantined rows by."""

    code = "record-refused"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Conflict(RecordRefused):
    """The idempotency key is taken by a record with other content."""

    code = "conflict"


class MattersRefused(Refusal):
    """A list of matters that is not published. `faults`: one sentence for each row that is not right, at least one."""

    code = "matters-refused"

    def __init__(self, faults: Sequence[str]) -> None:
        count = f"{len(faults):,} rows are not right, the first" if len(faults) > 1 else "a row is not right"
        super().__init__(f"nothing of the list was published: {count}: {faults[0]}")
        self.faults = tuple(faults)


class RequestRefused(Refusal):
    """A signed HTTP request that is not believed. `reason` says at which step (see `ledger.http_signatures`)."""

    code = "request-refused"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class KeyRefused(Refusal):
    """A key that is unknown, registered for another use, or outside its validity."""

    code = "key-refused"


class SealedElsewhere(KeyRefused):
    """A terminal sealed the record for its department's own key, which no node holds."""

    code = "sealed-elsewhere"


class HistoryRefused(Refusal):
    """A log, a chain or a witness would have to contradict what it said before."""

    code = "history-refused"


class NotProven(Refusal):
    """Evidence that does not verify. Subclasses name the step that failed."""

    code = "not-proven"


class TrustRefused(NotProven):
    """The trust file cannot decide anything: empty, contradictory, or it names nobody."""

    code = "trust-refused"


class SignatureInvalid(NotProven):
    """A signature does not verify under the key that it names."""

    code = "signature-invalid"


class DisclosureInvalid(NotProven):
    """A disclosure's digest is not in the statement, or stands there twice."""

    code = "disclosure-invalid"


class InclusionInvalid(NotProven):
    """The inclusion path does not lead from the entry to the checkpoint's root."""

    code = "inclusion-invalid"


class ConsistencyInvalid(NotProven):
    """The consistency path does not lead from the old root to the new one."""

    code = "consistency-invalid"


class CheckpointInvalid(NotProven):
    """The checkpoint is not signed by the log's key, or too few witnesses cosigned it."""

    code = "checkpoint-invalid"


class AnchorInvalid(NotProven):
    """The receipt's anchor is not one the trust file's chain could hold, or its evidence does not show that it does."""

    code = "anchor-invalid"


class TimestampInvalid(NotProven):
    """A time stamp is not over this data, not by an authority that is trusted, or was not renewed in time."""

    code = "timestamp-invalid"


class PayloadInvalid(NotProven):
    """A stored ciphertext does not open, or opens to something else than the statement committed to."""

    code = "payload-invalid"


class CaseFileInvalid(NotProven):
    """A case file that is not what its department signed, or not made as case files are.

    `reason` says what is wrong (see `ledger.verify.refusals`); `path` is the file inside, None for the whole.
    """

    code = "case-file-invalid"

    def __init__(self, reason: str, detail: str, path: str | None = None) -> None:
        super().__init__(f"{path!a:.140}: {detail}" if path is not None else detail)
        self.reason = reason
        self.path = path
