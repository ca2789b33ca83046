"""How much a caller may ask: a token bucket each, in this process's memory."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict

from gateway.problems import Problem
from gateway.settings import GatewaySettings

MAX_CALLERS = 10_000


class Limits:
    """Buckets by caller. Several processes each have their own, with an equal share of the rate, so that whoever asks
    all of them has no more than one."""

    def __init__(self, settings: GatewaySettings, processes: int = 1) -> None:
        self._rate = settings.rate_per_second / processes
        self._burst = max(1.0, settings.rate_burst / processes)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """Takes one token. Raises Problem `rate-exceeded` where there is none."""
        self._look(caller, 1)

    def require(self, caller: str) -> None:
        """The same without taking it."""
        if caller in self._buckets:
            self._look(caller, 0)

    def _look(self, caller: str, wanted: int) -> None:
        now = time.monotonic()
        with self._lock:
            tokens, since = self._buckets.pop(caller, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            taken = tokens >= 1
            self._buckets[caller] = (tokens - wanted * taken, now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)  # the one that was idle longest has the fullest bucket
        if not taken:
            wait = max(1, math.ceil((1 - tokens) / self._rate))
            raise Problem("rate-exceeded", f"too many requests: go on in {wait} s", retry_after=wait)
