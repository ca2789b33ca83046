"""What node.toml says of trusted time.

[timestamps]                     all of it optional
required = 1                     tokens of so many different authorities make a checkpoint stamped
every_seconds = 60               a log is stamped at most so often
stop_after_hours = 24            behind this, decisions are not sealed any more until a token arrives

[[timestamps.authorities]]       asked in this order; the next one when one fails
name = "national"
url = "https://tsa.example/"
roots = "tsa-national.pem"       beside node.toml: whom its tokens must lead to
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import Malformed

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """One authority. `roots` is PEM text. Raises ValueError where a member is not fit."""

    name: str
    url: str
    roots: str
    certificates: tuple[Certificate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # certificates take a while to import, and most nodes name no authority
        from ledger.formats.timestamp import read_roots

        if not all(isinstance(text, str) and text for text in (self.name, self.url, self.roots)):
            raise ValueError("a time-stamping authority needs the texts name, url and roots")
        if len(self.name) > 100 or not self.name.isprintable():
            raise ValueError("an authority's name is 1 to 100 printable characters")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the url of time-stamping authority {self.name} must begin with http:// or https://")
        try:
            certificates = tuple(read_roots([self.roots]))
        except Malformed:
            certificates = ()
        if not certificates:
            raise ValueError(f"the roots of time-stamping authority {self.name} hold no certificate in PEM")
        object.__setattr__(self, "certificates", certificates)


@dataclass(frozen=True, slots=True)
class TimestampSettings:
    """When and by whom checkpoints are stamped. Without authorities nothing is, and nothing is asked for."""

    required: int = 1
    every_seconds: float = 60.0
    stop_after_hours: float = 24.0
    authorities: tuple[AuthoritySettings, ...] = ()

    def __post_init__(self) -> None:
        if type(self.required) is not int or self.required < 1:
            raise ValueError("timestamps.required must be a number of authorities, 1 or more")
        if self.authorities and self.required > len(self.authorities):
            raise ValueError(f"timestamps.required is {self.required}, but only {len(self.authorities)} are named")
        for name in ("every_seconds", "stop_after_hours"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"timestamps.{name} must be a number above 0")
        if len({authority.name for authority in self.authorities}) < len(self.authorities):
            raise ValueError("two time-stamping authorities have the same name")


def timestamp_settings(table: Mapping[str, Any], directory: Path) -> TimestampSettings:
    """The settings that a `[timestamps]` table gives; files of roots stand in `directory`. Raises ValueError."""
    values = dict(table)
    authorities = tuple(_authority(members, directory) for members in values.pop("authorities", ()))
    try:
        return TimestampSettings(**values, authorities=authorities)
    except TypeError as error:
        raise ValueError("[timestamps] has the members required, every_seconds, stop_after_hours") from error


def _authority(members: Mapping[str, Any], directory: Path) -> AuthoritySettings:
    if members.keys() != {"name", "url", "roots"}:
        raise ValueError("a time-stamping authority has the members name, url and roots")
    path = directory / str(members["roots"])
    try:
        return AuthoritySettings(members["name"], members["url"], path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: it must hold the roots of {members['name']!r} in PEM") from error
