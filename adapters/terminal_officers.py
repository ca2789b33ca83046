"""The officers who confirm at a terminal, each with a PIN of their own, and how often one may be guessed."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from adapters.terminal_keys import TerminalKeys
from adapters.terminal_queue import Queue
from ledger.errors import KeyRefused, RecordRefused, Refusal
from ledger.formats.encoding import b64decode, b64encode
from ledger.record_types import RecordType

PIN_TRIES = 5
PIN_PAUSE_S = 300

_PIN_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


class Officers:
    """Kept in the terminal's keystore; the tries of a PIN are counted in its queue."""

    def __init__(self, keys: TerminalKeys, queue: Queue) -> None:
        self._keys = keys
        self._queue = queue

    def add(self, officer: str, name: str, pin: str) -> None:
        """Lets an officer confirm at this terminal, or gives a new PIN to one. Raises Refusal for a poor PIN."""
        if not (6 <= len(pin) <= 64) or len(set(pin)) < 3:
            raise Refusal("a PIN has 6 to 64 characters, at least three of them different")
        if not 0 < len(officer) <= 64 or not 0 < len(name) <= 100:
            raise Refusal("an officer has a certificate number of 1 to 64 characters, and a name")
        salt = os.urandom(16)
        kept = {"name": name, "salt": b64encode(salt), "pin": b64encode(_stretch_pin(pin, salt))}
        self._keys.add_officer(officer, kept)

    def names(self) -> dict[str, str]:
        """Who may confirm here: certificate numbers and names."""
        return {officer: kept["name"] for officer, kept in self._keys.officers.items()}

    def confirm(self, kind: RecordType, content: dict[str, Any], confirm: Mapping[str, str], now: float) -> list[str]:
        """Who has confirmed, once every PIN was right. Raises RecordRefused (`confirmation`), KeyRefused."""
        named = content.get("officers")
        acting = {o.get("id") for o in named if isinstance(o, dict)} if isinstance(named, list) else set()
        for officer in confirm:
            if officer not in acting:
                raise RecordRefused(
                    "confirmation", f"officer {officer[:64]} confirms, but the record does not name them"
                )
        needed = officers_needed(kind)
        if len(confirm) < needed:
            raise RecordRefused(
                "confirmation", f"a {kind.name} needs {needed} officers who each confirm with a PIN of their own"
            )
        for officer, pin in confirm.items():
            self._check_pin(officer, pin, now)
        return list(confirm)

    def _check_pin(self, officer: str, pin: str, now: float) -> None:
        kept = self._keys.officers.get(officer)
        if kept is None:
            raise KeyRefused(
                f"officer {officer[:64]} is not known at this terminal: `yunxi terminal officer` adds them"
            )
        fact = "pin/" + hashlib.sha256(officer.encode()).hexdigest()
        tries, until = self._queue.fact(fact) or (0, 0)
        if tries >= PIN_TRIES and now < until:
            raise KeyRefused(f"too many wrong PINs of officer {officer}: wait {int(until - now) + 1} seconds")
        # counted before it is compared: pulling the plug gives no further try
        pause = PIN_PAUSE_S * 2 ** min(10, max(0, tries + 1 - PIN_TRIES))
        self._queue.set_fact(fact, (tries + 1, now + pause))
        given = _stretch_pin(pin, b64decode(kept["salt"], "keystore"))
        if not hmac.compare_digest(given, b64decode(kept["pin"], "keystore")):
            raise KeyRefused(f"the PIN of officer {officer} is wrong")
        self._queue.set_fact(fact, (0, 0))


def officers_needed(kind: RecordType) -> int:
    """How many officers must confirm a record of a type: as many as it must name, where it must name any."""
    if "officers" not in kind.schema["required"]:
        return 0
    return int(kind.schema["properties"]["officers"].get("minItems", 0))


def _stretch_pin(pin: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_PIN_SCRYPT).derive(pin.encode())
