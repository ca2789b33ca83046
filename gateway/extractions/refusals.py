"""Refusals on record: one stands durably in the log before it is answered; a flood of the same one is counted.

The first of its kind is written at once. The same again within a minute is answered under that record and counted;
the first after the minute is written with the count. What a crash loses is at most a minute's count, never a kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from ledger.submission import Acknowledged, Outcome, Submission, draw_record_id

WINDOW_S = 60
MAX_KINDS = 10_000
"""Kinds of refusals that are remembered; past that, all are forgotten and each is written anew."""

Submit = Callable[[str, Sequence[Submission]], list[Outcome]]


class _Window:
    """A minute of one kind. `written` is done when its first refusal is on record, or failed."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.repeats = 0
        self.written: Future[None] = Future()


class RefusalBook:
    """Writes refusals into the logs of hosted departments. May be used from any thread."""

    def __init__(self, submit: Submit, clock: Callable[[], float]) -> None:
        self._submit = submit
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[Any, ...], _Window] = {}

    def record(self, department: str, role: str, code: str, detail: str, **context: Any) -> None:
        """Puts a refusal on record in the department's log, durable on return. `role`: `owner` or `requester`; `code`
        is stable, lower-case words joined by hyphens.

        `context`: members of `disclosure.refused`; those that are None are left out. Raises CouldNotRun when the log
        takes nothing: then the caller must be told that instead of the refusal.
        """
        members = {name: value for name, value in context.items() if value is not None}
        kind = (department, role, code, *sorted((name, str(value)) for name, value in members.items()))
        window, before = self._window(kind)
        if before is window:
            window.written.result()  # counted; the first of its kind may still be on its way into the log
            return
        try:
            self._write(department, {"role": role, "code": code, "detail": detail[:4000], **members}, before)
        except BaseException as error:
            with self._lock:
                self._windows.pop(kind, None)  # not on record, so the next one must be
            window.written.set_exception(error)
            raise
        window.written.set_result(None)

    def _window(self, kind: tuple[Any, ...]) -> tuple[_Window, _Window | None]:
        """The window that a refusal falls into and the one before it; twice the same where it is only counted."""
        now = self._clock()
        with self._lock:
            window = self._windows.get(kind)
            if window is not None and now - window.since < WINDOW_S:
                window.repeats += 1
                return window, window
            if len(self._windows) >= MAX_KINDS:
                self._windows.clear()
            fresh = self._windows[kind] = _Window(now)
            return fresh, window

    def _write(self, department: str, members: Mapping[str, Any], before: _Window | None) -> None:
        now = self._clock()
        record: dict[str, Any] = {"type": "disclosure.refused", "v": 1, "occurred_at": instant(now), **members}
        if before is not None and before.repeats:
            record |= {"repeats": min(before.repeats, 1_000_000), "since": instant(before.since)}
        take(self._submit(department, [Submission(f"refused/{draw_record_id(now)}", record, by_service=True)]))


def take(outcomes: Sequence[Outcome]) -> Acknowledged:
    """The acknowledgement of a record that the service itself wrote. Raises what refused it."""
    outcome = outcomes[0]
    if not isinstance(outcome, Acknowledged):
        raise outcome.error
    return outcome


def instant(now: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
