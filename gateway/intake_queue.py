"""The front of intake: callers of any thread and of every department share its batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.nonces import Nonce, Nonces, Replayed, replayed
from gateway.pool import Pool
from gateway.settings import GatewaySettings
from ledger.admission import MAX_BATCH
from ledger.errors import YunxiError
from ledger.intake import Intake
from ledger.submission import Acknowledged, Outcome, Submission


@dataclass(frozen=True, slots=True)
class Share:
    """What one caller hands in: a department and its submissions, and the nonce of the request if it is still to be
    taken."""

    department: str
    submissions: Sequence[Submission]
    nonce: Nonce | None = None


Answer = list[Outcome] | YunxiError


class IntakeQueue:
    """Submissions of any thread, pooled into batches of one intake that only the pool's thread uses.

    A record is durable and in its log when its outcome says Acknowledged, as `Intake.submit` has it; what was not
    answered may be sent again under the same keys. Nothing is kept here that a crash could lose: it was not answered.
    """

    def __init__(
        self,
        intake: Intake,
        settings: GatewaySettings,
        observe: Callable[[int], None] | None = None,
        nonces: Nonces | None = None,
    ) -> None:
        """`observe` is told the number of submissions of each batch; `nonces` takes those that come along."""
        self._intake = intake
        self._observe = observe
        self._nonces = nonces
        self._pool: Pool[Share, Answer] = Pool(
            "yunxi-intake",
            self._work,
            batch=settings.pool_records,
            seconds=settings.pool_milliseconds / 1000,
            capacity=settings.pool_capacity,
            weigh=lambda share: len(share.submissions),
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
        return _settled(self._pool.put(Share(department, submissions)).result())

    async def submit_async(
        self, department: str, submissions: Sequence[Submission], nonce: Nonce | None = None
    ) -> list[Outcome]:
        """The same, for the event loop. `nonce` is taken in the transaction that makes the records durable, or before
        the answer where there is nothing new; raises RequestRefused `replayed`, then nothing was taken."""
        return _settled(await self._pool.ask(Share(department, submissions, nonce)))

    def close(self) -> None:
        """Takes nothing more and returns when what waits is written and answered."""
        self._pool.close()

    def _work(self, shares: Sequence[Share]) -> list[Answer]:
        answers: list[Answer] = [[] for _ in shares]
        for department in dict.fromkeys(share.department for share in shares):
            slots = [slot for slot, share in enumerate(shares) if share.department == department]
            for slot, answer in zip(slots, self._of_department(department, [shares[s] for s in slots]), strict=True):
                answers[slot] = answer
        return answers

    def _of_department(self, department: str, shares: list[Share]) -> list[Answer]:
        count = sum(len(share.submissions) for share in shares)
        if len(shares) > 1 and count > MAX_BATCH:
            return [answer for share in shares for answer in self._of_department(department, [share])]
        if self._observe is not None:
            self._observe(count)
        nonces = [share.nonce for share in shares if share.nonce is not None]
        if not nonces:
            return self._submit(department, shares)
        if len(set(nonces)) < len(nonces):
            return self._one_by_one(department, shares)
        try:
            answers = self._submit(department, shares, functools.partial(self._book.take_with, nonces=nonces))
        except Replayed:
            return self._one_by_one(department, shares)
        written = any(isinstance(answer, list) and any(map(_is_new, answer)) for answer in answers)
        if written or isinstance(answers[0], YunxiError):
            return answers  # what was written has the nonces with it; where all failed, they may come again
        return self._after_nonces(shares, lambda fresh: [answers[slot] for slot in fresh])

    def _one_by_one(self, department: str, shares: list[Share]) -> list[Answer]:
        """The nonces first and by themselves, because one of them came before; then what the others handed in."""
        return self._after_nonces(shares, lambda fresh: self._submit(department, [shares[slot] for slot in fresh]))

    def _after_nonces(self, shares: list[Share], answer: Callable[[list[int]], list[Answer]]) -> list[Answer]:
        """Takes every nonce, durable; then `answer` gives the answers of those slots whose nonce was fresh."""
        given = [(slot, share.nonce) for slot, share in enumerate(shares) if share.nonce is not None]
        taken = self._book.take_all([nonce for _, nonce in given])
        refused: dict[int, Answer] = {
            slot: replayed() if each is False else each
            for (slot, _), each in zip(given, taken, strict=True)
            if each is not True
        }
        fresh = [slot for slot in range(len(shares)) if slot not in refused]
        answers = refused | dict(zip(fresh, answer(fresh), strict=True))
        return [answers[slot] for slot in range(len(shares))]

    def _submit(
        self, department: str, shares: Sequence[Share], beside: Callable[[Connection], None] | None = None
    ) -> list[Answer]:
        batch = [submission for share in shares for submission in share.submissions]
        try:
            outcomes = iter(self._intake.submit(department, batch, beside=beside))
        except YunxiError as error:
            return [error] * len(shares)
        return [[next(outcomes) for _ in share.submissions] for share in shares]

    @property
    def _book(self) -> Nonces:
        assert self._nonces is not None, "who hands in nonces gives the queue their book"
        return self._nonces


def _is_new(outcome: Outcome) -> bool:
    return isinstance(outcome, Acknowledged) and outcome.new


def _settled(answer: Answer) -> list[Outcome]:
    if isinstance(answer, YunxiError):
        raise answer
    return answer
