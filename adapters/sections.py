"""Strict reading of TOML tables: every member is asked for by name and type, and what nobody asked for is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from ledger.errors import Malformed

T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "text",
    int: "an integer",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    float: "a number",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the known one it resembles, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""


class Section:
    """One table of a mapping file. `what` names the file, `path` the table in it, for the sentences of refusals."""

    def __init__(self, what: str, path: str, data: Any) -> None:
        self._what = what
        self._path = path
        if not isinstance(data, dict):
            self.refuse(f"{path} must be a table")
        self._data: Mapping[str, Any] = data
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def refuse(self, reason: str) -> NoReturn:
        """Raises Malformed with the file's name and `reason`."""
        raise Malformed(self._what, reason)

    def where(self, key: str) -> str:
        """`key` as a person finds it in the file."""
        return f"{self._path}.{key}" if self._path else key

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The member, which must be a `kind`; `default` where it is absent."""
        self._asked.add(key)
        return self._typed(key, kind) if key in self._data else default

    def optional(self, key: str, kind: type[T]) -> T | None:
        """The member, which must be a `kind`; None where it is absent."""
        self._asked.add(key)
        return self._typed(key, kind) if key in self._data else None

    def require(self, key: str, kind: type[T]) -> T:
        """The member, which must be there and be a `kind`."""
        self._asked.add(key)
        if key not in self._data:
            close = nearest(key, self._data)
            self.refuse(f'"{self.where(key)}" is missing{close}')
        return self._typed(key, kind)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """The member, which must be one of `choices`; required where there is no default."""
        value = self.require(key, str) if default is None else self.get(key, str, default)
        if value not in choices:
            self.refuse(f'"{self.where(key)}" is "{value}"{nearest(value, choices)}; known: {", ".join(choices)}')
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """The member, a list of texts; required where there is no default."""
        value = self.require(key, list) if default is None else self.get(key, list, list(default))
        if not all(isinstance(item, str) for item in value):
            self.refuse(f'"{self.where(key)}" must be a list of texts')
        if len(set(value)) != len(value):
            self.refuse(f'"{self.where(key)}" names something twice')
        return tuple(value)

    def table(self, key: str) -> Section:
        """The member, which must be there and be a table, to be read in its turn (and to be `done` with)."""
        return Section(self._what, self.where(key), self.require(key, dict))

    def standing_in(self, key: str, value: Any) -> Section:
        """This table as if `key` stood in it too; what is asked of either counts as asked."""
        other = Section(self._what, self._path, {**self._data, key: value})
        other._asked = self._asked
        return other

    def raw(self, key: str) -> Any:
        """The member as it stands, None where it is absent."""
        self._asked.add(key)
        return self._data.get(key)

    def rest(self) -> dict[str, Any]:
        """The members nobody asked for so far; asking for the rest asks for all."""
        rest = {key: value for key, value in self._data.items() if key not in self._asked}
        self._asked.update(rest)
        return rest

    def done(self, *also: str) -> None:
        """Refuses every member that nobody asked for, with the nearest known name (`also` are known too)."""
        for key in self._data:
            if key not in self._asked:
                known = sorted(self._asked | set(also))
                hint = nearest(key, known) or f"; known: {', '.join(known)}"
                self.refuse(f'"{self.where(key)}" is unknown{hint}')

    def _typed(self, key: str, kind: type[T]) -> T:
        value = self._data[key]
        # bool is an int to Python, and nobody who writes `true` means 1
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not good:
            self.refuse(f'"{self.where(key)}" must be {_NAMES.get(kind, kind.__name__)}')
        return value  # type: ignore[no-any-return]
