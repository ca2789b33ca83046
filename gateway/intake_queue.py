"""The front of intake: callers of any thread and of every department share its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.pool import Pool
from gateway.settings import GatewaySettings
from ledger.admission import MAX_BATCH
from ledger.errors import YunxiError
from ledger.intake import Intake
from ledger.submission import Outcome, Submission

Share = tuple[str, Sequence[Submission]]
"""What one caller hands in: a department and its submissions."""


class IntakeQueue:
    """Submissions of any thread, pooled into batches of one intake that only the pool's thread uses.

    A record is durable and in its log when its outcome says Acknowledged, as `Intake.submit` has it; what was not
    answered may be sent again under the same keys. Nothing is kept here that a crash could lose: it was not answered.
    """

    def __init__(self, intake: Intake, settings: GatewaySettings, observe: Callable[[int], None] | None = None) -> None:
        """`observe` is told the number of submissions of each batch."""
        self._intake = intake
        self._observe = observe
        self._pool: Pool[Share, list[Outcome] | YunxiError] = Pool(
            "yunxi-intake",
            self._work,
            batch=settings.pool_records,
            seconds=settings.pool_milliseconds / 1000,
            capacity=settings.pool_capacity,
            weigh=lambda share: len(share[1]),
        )

    @property
    def depth(self) -> int:
        """How many submissions wait."""
        return self._pool.depth

    def submit(self, department: str, submissions: Sequence[Submission]) -> list[Outcome]:
        """One outcome for each submission, in order; blocks until they are durable.

        Raises what `Intake.submit` raises, then nothing of them was taken; Problem `overloaded` when too much waits and
        `stopping` when the service ends. Not for the event loop: see `submit_async`.
        """
        return _settled(self._pool.put((department, submissions)).result())

    async def submit_async(self, department: str, submissions: Sequence[Submission]) -> list[Outcome]:
        """The same, for the event loop."""
        return _settled(await self._pool.ask((department, submissions)))

    def close(self) -> None:
        """Takes nothing more and returns when what waits is written and answered."""
        self._pool.close()

    def _work(self, shares: Sequence[Share]) -> list[list[Outcome] | YunxiError]:
        answers: list[list[Outcome] | YunxiError] = [[] for _ in shares]
        departments = dict.fromkeys(department for department, _ in shares)
        for department in departments:
            slots = [slot for slot, share in enumerate(shares) if share[0] == department]
            for slot, answer in zip(slots, self._of_department(department, [shares[s][1] for s in slots]), strict=True):
                answers[slot] = answer
        return answers

    def _of_department(self, department: str, parts: list[Sequence[Submission]]) -> list[list[Outcome] | YunxiError]:
        batch = [submission for part in parts for submission in part]
        if len(parts) > 1 and len(batch) > MAX_BATCH:
            return [answer for part in parts for answer in self._of_department(department, [part])]
        if self._observe is not None:
            self._observe(len(batch))
        try:
            outcomes = iter(self._intake.submit(department, batch))
        except YunxiError as error:
            return [error] * len(parts)
        return [[next(outcomes) for _ in part] for part in parts]


def _settled(answer: list[Outcome] | YunxiError) -> list[Outcome]:
    if isinstance(answer, YunxiError):
        raise answer
    return answer
