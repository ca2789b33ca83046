"""Attachments that a row names by URL: fetched from hosts that the mapping lists, and from nowhere else.

A row is data of another system, so its URL could lead to anything this machine can reach. Therefore: only listed hosts;
every address that a host's name leads to must be public, or in a network that the mapping lists; the connection goes
to the address that was checked (a name that changes its mind finds nobody); certificates are those of the name; a
redirection must stay on the host; no proxies, no cookies, no credentials; time and size are bounded.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from adapters.sections import Section
from ledger.errors import CouldNotRun, RecordRefused

if TYPE_CHECKING:
    import httpx

MAX_URL_CHARS = 2_000
MAX_REDIRECTS = 3
PAUSES_S = (1.0, 3.0)
"""Before the second and the third attempt."""

UNREACHABLE = "attachment-unreachable"

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[1-9][0-9]{0,4})?|\[[0-9a-f:.]+\](:[1-9][0-9]{0,4})?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PORTS = {"https": 443, "http": 80}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class UrlRule:
    """`[attachments.url]`. `hosts`: host or host:port, in lower case; `private`: networks beside the public ones whose
    addresses may be asked; `plain_http` allows http."""

    hosts: frozenset[str]
    private: tuple[Network, ...] = ()
    max_bytes: int = 100 << 20
    timeout_seconds: int = 30
    max_seconds: int = 600
    plain_http: bool = False

    @classmethod
    def read(cls, section: Section) -> UrlRule:
        """Takes the table of one attachment rule."""
        hosts = section.texts("hosts")
        for host in hosts:
            if not _HOST.fullmatch(host):
                section.refuse(f'"{section.where("hosts")}": "{host}" is no host or host:port in lower case')
        if not hosts:
            section.refuse(f'"{section.where("hosts")}" must name at least one host')
        rule = cls(
            hosts=frozenset(hosts),
            private=tuple(_network(section, text) for text in section.texts("private_networks", ())),
            max_bytes=_bounded(section, "max_megabytes", 100, 65_536) << 20,
            timeout_seconds=_bounded(section, "timeout_seconds", 30, 600),
            max_seconds=_bounded(section, "max_seconds", 600, 86_400),
            plain_http=section.get("unsafe_plain_http", bool, False),
        )
        section.done()
        return rule

    def check(self, url: str) -> SplitResult:
        """The parts of a URL that may be asked for, as far as its text tells. Raises RecordRefused (`bad-attachment`,
        `attachment-host`)."""
        if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise RecordRefused("bad-attachment", "an attachment's URL is too long, or holds what no URL holds")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise RecordRefused("bad-attachment", "an attachment's URL is no URL") from None
        if parts.scheme not in (("https", "http") if self.plain_http else ("https",)) or not parts.hostname:
            raise RecordRefused("bad-attachment", "an attachment's URL must be an https URL")
        if "@" in parts.netloc:
            raise RecordRefused("bad-attachment", "an attachment's URL must not hold a user or a password")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        named = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
        if named not in self.hosts:
            raise RecordRefused("attachment-host", f'host "{named[:80]}" is not listed: add it to "hosts" if it may be')
        return parts

    def allows(self, address: Address) -> bool:
        """Whether an address may be asked."""
        inner = _inner(address)
        return (inner.is_global and not inner.is_multicast) or any(inner in network for network in self.private)


class Fetcher:
    """Fetches into one directory, which its owner clears. For one thread."""

    def __init__(self, rule: UrlRule, directory: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        self._rule = rule
        self._directory = directory
        self._sleep = sleep
        self._client = _client(rule)
        self._count = 0

    def close(self) -> None:
        """Closes connections."""
        self._client.close()

    def fetch(self, url: str) -> Path:
        """The file behind a URL, under a name of ours. Raises RecordRefused: as `UrlRule.check`, `attachment-host` for
        an address or a redirection that leads elsewhere, `attachment-missing`, `attachment-too-large`, and
        `attachment-unreachable` when three attempts failed."""
        self._count += 1
        path = self._directory / f"fetched-{self._count}"
        for pause in (*PAUSES_S, None):
            try:
                self._fetch(url, path)
                return path
            except _Failed as error:
                if pause is None:
                    raise RecordRefused(
                        UNREACHABLE, f"an attachment cannot be fetched ({error}): try again later"
                    ) from None
                self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _fetch(self, url: str, path: Path) -> None:
        import httpx

        until = time.monotonic() + self._rule.max_seconds
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with self._ask(url) as answer:
                    if answer.status_code not in _REDIRECTS:
                        self._take(answer, path, until)
                        return
                    url = self._redirected(url, answer.headers.get("location", ""))
            except httpx.TransportError as error:
                raise _Failed(type(error).__name__) from error
            except OSError as error:
                raise CouldNotRun(
                    f"an attachment cannot be kept while it is read ({error.strerror}); make room"
                ) from error
        raise RecordRefused(UNREACHABLE, f"an attachment's URL redirects more than {MAX_REDIRECTS} times")

    def _ask(self, url: str) -> AbstractContextManager[httpx.Response]:
        parts = self._rule.check(url)
        address = self._resolve(parts)
        host = f"[{address}]" if address.version == 6 else str(address)
        port = parts.port or _PORTS[parts.scheme]
        target = f"{parts.scheme}://{host}:{port}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
        self._client.cookies.clear()
        headers = {"Host": parts.netloc, "Accept-Encoding": "identity"}
        return self._client.stream("GET", target, headers=headers, extensions={"sni_hostname": parts.hostname})

    def _resolve(self, parts: SplitResult) -> Address:
        assert parts.hostname is not None
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port or _PORTS[parts.scheme], type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _Failed("its host has no address") from error
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if not all(self._rule.allows(address) for address in addresses):
            detail = f'host "{parts.hostname[:80]}" leads into a private network: list that in "private_networks"'
            raise RecordRefused("attachment-host", detail)
        return addresses[0]

    def _redirected(self, url: str, location: str) -> str:
        to = urljoin(url, location)
        old, new = self._rule.check(url), self._rule.check(to)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise RecordRefused("attachment-host", "an attachment's URL redirects to another host")
        return to

    def _take(self, answer: httpx.Response, path: Path, until: float) -> None:
        _check_status(answer)
        limit = self._rule.max_bytes
        stated = answer.headers.get("content-length", "0")
        size = int(stated) if stated.isdigit() and len(stated) < 16 else 0
        with path.open("wb") as file:
            for chunk in answer.iter_raw() if size <= limit else ():
                file.write(chunk)
                size = max(size, file.tell())
                if file.tell() > limit:
                    break
                if time.monotonic() > until:
                    raise _Failed(f"it takes longer than {self._rule.max_seconds} s")
        if size > limit:
            raise RecordRefused("attachment-too-large", f"an attachment has more than the {limit:,} bytes allowed")


class _Failed(Exception):
    """An attempt that may go better the next time."""


def name_of(url: str) -> str:
    """What the file is called: the last part of the URL's path, as far as it can be a name."""
    last = re.split(r"[/\\]", unquote(urlsplit(url).path, errors="replace"))[-1]
    name = "".join(character for character in last if character.isprintable()).strip()[:200].strip()
    return name if name not in ("", ".", "..") else "attachment"


def _check_status(answer: httpx.Response) -> None:
    if answer.status_code in (404, 410):
        raise RecordRefused("attachment-missing", "the server has no such attachment")
    if answer.status_code in _AGAIN:
        raise _Failed(f"status {answer.status_code}")
    if answer.status_code != 200:
        raise RecordRefused(UNREACHABLE, f"the server answers {answer.status_code} where an attachment should be")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise RecordRefused(UNREACHABLE, "the server packs the attachment although it was not asked to")


def _inner(address: Address) -> Address:
    """The address that is reached in the end, where an IPv6 one only wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _network(section: Section, text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        section.refuse(f'"{section.where("private_networks")}": "{text}" is no network such as 10.3.0.0/16')


def _bounded(section: Section, key: str, default: int, high: int) -> int:
    value = section.get(key, int, default)
    if not 1 <= value <= high:
        section.refuse(f'"{section.where(key)}" must be from 1 to {high}')
    return value


def _client(rule: UrlRule) -> httpx.Client:
    try:
        import httpx
    except ImportError:
        raise CouldNotRun('attachments by URL need httpx; install it with: pip install "yunxi[rest]"') from None
    return httpx.Client(trust_env=False, timeout=rule.timeout_seconds, follow_redirects=False)
