"""REST services: JSON over HTTP, page by page, forward only, with the server asked for no more than it has to give.

One reading goes through all pages; the mark holds the next page, so a reading that broke off goes on where it was. When
it came to its end, the mark holds the greatest value of the `since` column, which the next reading asks for. Rows that
come again are recognised by the ledger.

Only the mapping's own origin is ever asked (and the token URL): a link that leads elsewhere, and every redirection, is
refused, so credentials never travel. Secrets come from the environment. Answers are bounded in size and time.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from adapters.conversions import Invalid, to_text
from adapters.jsonl_files import BadJson, check_depth, flatten, number_of
from adapters.rest_auth import Auth, read_auth
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row, Unusable, excerpt
from ledger.errors import CouldNotRun, Malformed

if TYPE_CHECKING:
    import httpx

STYLES = ("none", "page", "offset", "cursor", "next", "link")
MAX_PAGES = 100_000

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_FORGOTTEN = frozenset({400, 404, 410, 422})
_TOTAL = 10
"""How many times the time-out of one step a whole answer may take."""

Params = dict[str, str]


@dataclass(frozen=True, slots=True)
class RestOptions:
    """`[source]` with kind = "rest"."""

    url: str | None
    url_env: str | None
    rows: tuple[str, ...]
    style: str
    param: str | None
    size_param: str | None
    page_size: int
    first_page: int
    next: tuple[str, ...]
    since: str | None
    since_param: str | None
    overlap: int
    params: Mapping[str, str]
    auth: Auth | None
    timeout_seconds: int
    attempts: int
    max_wait_seconds: int
    plain_http: bool
    ca_file: str | None
    post: bool = False
    total: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    message: tuple[str, ...] = ()

    @classmethod
    def parse(cls, section: Section) -> RestOptions:
        """Takes the options of this kind from a `[source]` table."""
        if ("url" in section) == ("url_env" in section):
            section.refuse('"source" needs either "url" or "url_env"')
        style = section.choice("pages", STYLES)
        if ("since" in section) != ("since_param" in section):
            section.refuse('"source.since" (a column) and "source.since_param" go together')
        params = section.get("params", dict, {})
        if not all(isinstance(value, str) for value in params.values()):
            section.refuse('"source.params" must be a table of texts')
        options = cls(
            url=section.optional("url", str),
            url_env=section.optional("url_env", str),
            rows=_path(section.get("rows", str, "")),
            style=style,
            param=_param_of(section, style),
            size_param=section.optional("size_param", str),
            page_size=_within(section, "page_size", 100, 1, 10_000),
            first_page=_within(section, "first_page", 1, 0, 1),
            next=_path(section.require("next", str) if style in ("cursor", "next") else ""),
            since=section.optional("since", str),
            since_param=section.optional("since_param", str),
            overlap=_within(section, "overlap", 0, 0, 10**9),
            params=params,
            auth=read_auth(section),
            timeout_seconds=_within(section, "timeout_seconds", 30, 1, 600),
            attempts=_within(section, "attempts", 5, 1, 20),
            max_wait_seconds=_within(section, "max_wait_seconds", 120, 0, 3600),
            plain_http=section.get("unsafe_plain_http", bool, False),
            ca_file=section.optional("ca_file", str),
            post=section.choice("method", ("GET", "POST"), "GET") == "POST",
            total=_path(section.get("total", str, "")),
            code=_path(section.get("code", str, "")),
            good=section.texts("good", ()),
            expired=section.texts("expired", ()),
            message=_path(section.get("message", str, "")),
        )
        if bool(options.code) != bool(options.good) or (options.expired and not options.code):
            section.refuse('"source.code" (a member) and "source.good" (its values, as texts) go together')
        if options.total and style not in ("page", "offset"):
            section.refuse('"source.total" goes with pages = "page" or "offset"')
        if options.url is not None and (wrong := unfit_url(options.url, plain_http=options.plain_http)):
            section.refuse(f'"source.url" {wrong}')
        return options

    def open(self, opening: Opening) -> RestApi:
        """The service. Raises CouldNotRun where the environment lacks something; nothing is asked for yet."""
        if opening.override is not None:
            raise Malformed("source", "a path was given, but this mapping reads a REST service")
        url = self.url
        if self.url_env is not None:
            url = opening.environ.get(self.url_env)
            if not url:
                raise CouldNotRun(f"set the environment variable {self.url_env} to the service's URL")
            if wrong := unfit_url(url, plain_http=self.plain_http):
                raise CouldNotRun(f"the URL in {self.url_env} {wrong}")
        assert url is not None
        return RestApi(self, url, opening)


def unfit_url(url: str, *, plain_http: bool) -> str | None:
    """Why a URL will not do, as the end of a sentence; None where it will."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        return "is no http or https URL"
    if "@" in parts.netloc:
        return "holds a user or password; put them into the environment"
    if parts.scheme == "http" and not plain_http and host not in ("localhost", "127.0.0.1", "::1"):
        return (
            "is plain http: rows and credentials would be readable on the way; use https, or unsafe_plain_http = true"
        )
    return None


def _param_of(section: Section, style: str) -> str | None:
    defaults = {"page": "page", "offset": "offset", "cursor": "cursor"}
    return section.get(f"{style}_param", str, defaults[style]) if style in defaults else None


def _within(section: Section, key: str, default: int, low: int, high: int) -> int:
    value = section.get(key, int, default)
    if not low <= value <= high:
        section.refuse(f'"{section.where(key)}" must be from {low} to {high}')
    return value


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a reading is. `at`: its next page, None for the first; `read` rows stood on the pages before it. `skip`
    rows of that page, whose digest is `sha256`, are done. `since`: what this reading asked for; `newest`: the greatest
    value it has met. `etag`, `modified`: what the server said of `request`, which was a whole reading.
    """

    since: Any = None
    at: Any = None
    skip: int = 0
    sha256: str = ""
    newest: Any = None
    read: int = 0
    order: str = ""
    request: str = ""
    etag: str = ""
    modified: str = ""

    def write(self) -> str:
        return json.dumps({name: value for name in self.__slots__ if (value := getattr(self, name))})


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    next_link: str | None
    headers: Mapping[str, str]


class RestApi:
    """One list of a service as a source. Its only part is the path of the URL."""

    def __init__(self, options: RestOptions, url: str, opening: Opening) -> None:
        self._options = options
        self._url = url
        self._part = urlsplit(url).path[:200] or "/"
        self._key = opening.key
        self._limits = opening.limits
        self._clock = opening.clock
        self._asker = Asker(options, url, opening)
        # a page number means another row once the size has changed
        self._order = json.dumps([options.style, options.page_size, options.first_page, sorted(options.params.items())])

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. CouldNotRun too where the server loops, or answers something else than the mapping says."""
        saved = marks.get(self._part)
        mark = _Mark(**json.loads(saved)) if saved else _Mark()
        if mark.order != self._order:
            mark = _Mark(order=self._order)
        with closing(self._asker):
            try:
                yield from self._reading(mark, size)
            except _Forgotten:
                # the server no longer knows the page: from the start of this reading, and known rows are recognised
                yield from self._reading(_Mark(since=mark.since, order=self._order), size)

    def _reading(self, mark: _Mark, size: int) -> Iterator[Page]:
        seen = {_digest(mark.at)}
        last = ""
        for number in range(MAX_PAGES):
            request = self._request(mark)
            answer = self._asker.get(*request, self._conditions(mark, request), resumed=number == 0 and bool(mark.at))
            if answer.status in (304, 404):
                if mark.at is not None:
                    yield Page(self._part, (), self._finished(mark).write())
                return
            body = self._said(answer, request)
            entries = self._entries(body)
            digest = _digest(entries) if entries else ""
            if digest and digest == last:
                raise CouldNotRun(
                    f"{self._part}: the server gave the same page twice; check how its pages are named, and where it "
                    'repeats its last page, name the member with the number of all rows: total = "…"'
                )
            last = digest
            read, total = mark.read + len(entries), self._total(body)
            following = self._following(mark.at, body, answer, len(entries))
            if total is not None and read >= total:
                following = None
            elif total is not None and not entries:
                # the next reading asks for all of it again
                yield Page(self._part, (), _Mark(since=mark.since, order=self._order).write())
                raise CouldNotRun(
                    f"{self._part}: the server says that there are {total:,} rows and gave {read:,}; these are done; "
                    "all pages are read again next time; if it stays so, tell who runs the service"
                )
            if following is not None and _digest(following) in seen:
                raise CouldNotRun(
                    f"{self._part}: the server's pages go in a circle, page {number + 2} was read before; "
                    "rows so far are done; tell who runs the service"
                )
            seen.add(_digest(following))
            after = replace(mark, at=following, skip=0, sha256="", newest=self._newest(mark.newest, entries), read=read)
            if following is None:
                after = self._finished(after)
                if mark.at is None:
                    after = _remembering(after, request, answer)
            yield from self._cut(mark, after, entries, size)
            if following is None:
                return
            mark = after
        raise CouldNotRun(f"{self._part}: more than {MAX_PAGES:,} pages in one reading; check how its pages are named")

    def _cut(self, mark: _Mark, after: _Mark, entries: list[Any], size: int) -> Iterator[Page]:
        """The server's page in pages of ours. The last one carries the mark of the server's next page."""
        done = mark.skip if mark.skip and _digest(entries[: mark.skip]) == mark.sha256 else 0
        restarted = mark.at is None and mark.since is None and not done
        if done >= len(entries):
            if after != mark:
                yield Page(self._part, (), after.write(), restarted)
            return
        while done < len(entries):
            rows = tuple([self._row(entry) for entry in entries[done : done + size]])
            done += len(rows)
            inner = replace(mark, skip=done, sha256=_digest(entries[:done]))
            yield Page(self._part, rows, (inner if done < len(entries) else after).write(), restarted)
            restarted = False

    # -- what is asked --

    def _request(self, mark: _Mark) -> tuple[str, Params]:
        options = self._options
        if mark.at is not None and options.style in ("next", "link"):
            return str(mark.at), {}
        params = dict(options.params)
        if options.size_param is not None:
            params[options.size_param] = str(options.page_size)
        if options.since_param is not None and mark.since is not None:
            params[options.since_param] = _earlier(mark.since, options.overlap)
        if options.param is not None:
            first = {"page": options.first_page, "offset": 0}.get(options.style)
            at = first if mark.at is None else mark.at
            if at is not None:
                params[options.param] = str(at)
        return self._url, params

    def _conditions(self, mark: _Mark, request: tuple[str, Params]) -> dict[str, str]:
        if mark.at is not None or mark.skip or not mark.request or mark.request != _digest(request):
            return {}
        pairs = {"If-None-Match": mark.etag, "If-Modified-Since": mark.modified}
        return {name: value for name, value in pairs.items() if value}

    def _following(self, at: Any, body: Any, answer: _Answer, count: int) -> Any:
        options = self._options
        match options.style:
            case "page":
                # a server may give fewer rows a page than it is asked for, so only an empty page is the end
                return (options.first_page if at is None else at) + 1 if count else None
            case "offset":
                return (at or 0) + count if count else None
            case "cursor":
                value = _member(body, options.next)
                is_cursor = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
                return str(value) if is_cursor else None
            case "next":
                return self._link(_member(body, options.next))
            case "link":
                return self._link(answer.next_link)
            case _:
                return None

    def _link(self, value: Any) -> str | None:
        if not isinstance(value, str) or not value:
            return None
        link = urljoin(self._url, value)
        if _origin(link) != _origin(self._url):
            raise CouldNotRun(f"{self._part}: the link to the next page leads to another server, and is not followed")
        return link

    # -- what is answered --

    def _said(self, answer: _Answer, request: tuple[str, Params]) -> Any:
        """The answer's JSON, where it says itself that it is good; once more with a new token where that ran out."""
        options = self._options
        body = self._parse(answer.body)
        if not options.code:
            return body
        code = _shown(_member(body, options.code))
        if code in options.expired and self._asker.renew():
            body = self._parse(self._asker.get(*request, {}, resumed=False).body)
            code = _shown(_member(body, options.code))
        if code in options.good:
            self._asker.accepted()
            return body
        words = "".join(c for c in _shown(_member(body, options.message))[:200] if c.isprintable())
        what = f'"{".".join(options.code)}" {code[:40] or "missing"}' + (f' ("{words}")' if words else "")
        hint = ": the token has run out or is not taken; check [source.auth]" if code in options.expired else ""
        raise CouldNotRun(f'{self._part}: the server answers with {what}, which is not under "good"{hint}')

    def _total(self, body: Any) -> int | None:
        """How many rows the server says there are; None where the mapping does not ask."""
        if not self._options.total:
            return None
        text = _shown(_member(body, self._options.total))
        if not re.fullmatch("[0-9]{1,15}", text):
            where = ".".join(self._options.total)
            raise CouldNotRun(f'{self._part}: the answer has no number at "{where}"; correct "total" in the mapping')
        return int(text)

    def _parse(self, body: bytes) -> Any:
        try:
            return _DECODER.decode(body.decode("utf-8-sig"))
        except (UnicodeDecodeError, RecursionError):
            why = "is not UTF-8, or nested without end"
        except json.JSONDecodeError as error:
            why = f"is not JSON at character {error.pos}"
        raise CouldNotRun(f"{self._part}: the answer {why}; look at it with another client: is it a sign-in page?")

    def _entries(self, body: Any) -> list[Any]:
        entries = _member(body, self._options.rows)
        if entries is None and self._options.code and isinstance(body, dict):
            entries = []  # a good answer without rows: some servers write null
        if not isinstance(entries, list):
            where = f'at "{".".join(self._options.rows)}"' if self._options.rows else "at its top"
            known = f"; it has {', '.join(name[:30] for name in list(body)[:8])}" if isinstance(body, dict) else ""
            raise CouldNotRun(
                f'{self._part}: the answer has no list of rows {where}{known}; correct "rows" in the mapping, or if '
                'this is how the server says that something is wrong, name that with "code" and "good"'
            )
        return [_bounded(entry) for entry in entries]

    def _row(self, entry: Any) -> Row | BadRow:
        raw = json.dumps(entry, default=str, ensure_ascii=True)
        position = f"{self._part}:{hashlib.sha256(raw.encode()).hexdigest()[:16]}"
        try:
            values = self._values(entry)
        except BadJson as error:
            return BadRow(position, excerpt(raw[:10_000]), error.reason, str(error))
        names = [_shown(values.get(name)) for name in self._key]
        return Row(f"{self._part}:{'|'.join(names)}"[:500] if all(names) else position, values)

    def _values(self, entry: Any) -> dict[str, Any]:
        if isinstance(entry, Unusable):
            raise BadJson(entry.reason, entry.detail)
        if not isinstance(entry, dict):
            raise BadJson("bad-json", "the row is not a JSON object")
        _check_unique(entry)
        values = flatten(entry, self._limits.columns)
        for name, value in values.items():
            if isinstance(value, str):
                if len(value) > self._limits.field_chars:
                    raise BadJson("too-long", f'"{name[:64]}" has more than {self._limits.field_chars:,} characters')
                if max(value, default="") >= "\ud800" and not _is_text(value):
                    raise BadJson("encoding", "a lone surrogate is not text")
        return values

    def _newest(self, newest: Any, entries: list[Any]) -> Any:
        if self._options.since is None:
            return None
        path = _path(self._options.since)
        for entry in entries:
            value = _member(entry, path)
            if isinstance(value, (int, str)) and not isinstance(value, bool) and value != "":
                # one row of the year 9999 would otherwise be the last that is ever read
                if self._is_to_come(value):
                    continue
                newest = value if newest is None or _order(newest) < _order(value) else newest
        return newest

    def _is_to_come(self, value: Any) -> bool:
        moment = _moment(value) if isinstance(value, str) else None
        tomorrow = datetime.fromtimestamp(self._clock() + 86_400, UTC)
        return moment is not None and moment.replace(tzinfo=moment.tzinfo or UTC) > tomorrow

    def _finished(self, mark: _Mark) -> _Mark:
        since = mark.since if mark.newest is None else mark.newest
        return _Mark(since=since, order=self._order)


class _Forgotten(Exception):
    """The server does not know the page that the mark names any more."""


class Asker:
    """Asks one origin, patiently: waits as the server says, backs off, gives up with a sentence."""

    def __init__(self, options: RestOptions, url: str, opening: Opening) -> None:
        self._options = options
        self._part = urlsplit(url).path or "/"
        self._environ = opening.environ
        self._limits: Limits = opening.limits
        self._sleep = opening.sleep
        self._clock = opening.clock
        self._headers: dict[str, str] | None = None
        self._renewed = False
        self._ca = None if options.ca_file is None else opening.base / options.ca_file
        self._opened: httpx.Client | None = None

    def close(self) -> None:
        """Closes the connections; the next request opens new ones."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def get(self, url: str, params: Params, conditions: Mapping[str, str], *, resumed: bool) -> _Answer:
        """The answer: 200, 304, or 404 beyond the last page.

        Raises CouldNotRun for everything else, after `attempts` tries where that helps. `resumed`: the page comes from
        a mark, so a server that does not know it any more raises _Forgotten.
        """
        wait, why = 0.0, ""
        for attempt in range(self._options.attempts):
            if attempt:
                self._sleep(wait)
            try:
                answer = self._once(url, params, conditions)
            except _Silent as error:
                why, wait = str(error), _back_off(attempt)
                continue
            if answer.status in (200, 304):
                if not self._options.code:
                    self._renewed = False
                return answer
            if answer.status == 404 and self._is_beyond(params):
                return answer
            if resumed and answer.status in _FORGOTTEN:
                raise _Forgotten
            if answer.status == 401 and self.renew():
                why, wait = "refuses a new token", 0.0
                continue
            if answer.status not in _RETRIED:
                raise CouldNotRun(f"{self._part}: the server answers {answer.status}{_hint(answer.status)}")
            why, wait = f"answers {answer.status}", self._asked_wait(answer, attempt)
        raise CouldNotRun(
            f"{self._part}: the server {why}, {self._options.attempts} times; it is asked again next time"
        )

    def _is_beyond(self, params: Params) -> bool:
        """Whether 404 says that there is no such page; on the first page it says that the address is wrong."""
        return self._options.style == "page" and params[self._options.param or ""] != str(self._options.first_page)

    def accepted(self) -> None:
        """The token was good: when it runs out later, it may be renewed again."""
        self._renewed = False

    def renew(self) -> bool:
        """Whether the token may have run out: then the next request asks for a new one, once between good answers."""
        auth = self._options.auth
        if auth is None or not auth.renewable or self._renewed:
            return False
        self._headers, self._renewed = None, True
        return True

    def _asked_wait(self, answer: _Answer, attempt: int) -> float:
        """Retry-After (RFC 9110 section 10.2.3), seconds or a date; our own back-off without."""
        text = answer.headers.get("retry-after", "").strip()
        wait = _back_off(attempt)
        if re.fullmatch(r"[0-9]{1,9}", text):
            wait = float(text)
        elif text:
            with suppress(ValueError, OverflowError):
                wait = max(0.0, parsedate_to_datetime(text).timestamp() - self._clock())
        if wait > self._options.max_wait_seconds:
            raise CouldNotRun(f"{self._part}: the server asks to wait {wait:.0f} seconds; it is asked again next time")
        return wait

    def _once(self, url: str, params: Params, conditions: Mapping[str, str]) -> _Answer:
        client = self._client()
        if self._headers is None:
            auth = self._options.auth
            self._headers = {} if auth is None else auth.headers(self._environ, self._post)
        headers = {**self._headers, **conditions}
        if self._options.post:
            body = {name: self._plain(name, value) for name, value in params.items()}
            return self.send(client.build_request("POST", url, json=body, headers=headers))
        return self.send(client.build_request("GET", url, params=params or None, headers=headers))

    def _plain(self, name: str, value: str) -> str | int:
        """In a JSON body, numbers and sizes of pages are numbers."""
        return int(value) if name in (self._options.size_param, self._options.param) and value.isdigit() else value

    def _post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str], as_json: bool) -> tuple[int, bytes]:
        content: Any = {"json": dict(form)} if as_json else {"data": dict(form)}
        answer = self.send(self._client().build_request("POST", url, headers=dict(headers), **content))
        return answer.status, answer.body

    def send(self, request: httpx.Request) -> _Answer:
        """One request, its answer bounded in size and time. Raises _Silent where none came."""
        import httpx

        deadline = time.monotonic() + self._options.timeout_seconds * _TOTAL
        body = bytearray()
        try:
            response = self._client().send(request, stream=True)
            with closing(response):
                for chunk in response.iter_bytes(1 << 16):
                    body += chunk
                    if len(body) > self._limits.body_bytes:
                        raise CouldNotRun(
                            f"{self._part}: the answer has more than {self._limits.body_bytes:,} bytes; "
                            "ask for smaller pages"
                        )
                    if time.monotonic() > deadline:
                        raise _Silent("does not come to the end of its answer in time")
        except httpx.TimeoutException:
            raise _Silent("does not answer in time") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            # the library's text can hold the whole URL
            raise _Silent(f"cannot be reached ({type(error).__name__})") from None
        return _Answer(response.status_code, bytes(body), _next_link(response.links), response.headers)

    def _client(self) -> httpx.Client:
        if self._opened is None:
            try:
                import httpx
            except ImportError:
                raise CouldNotRun('REST sources need httpx; install it with: pip install "yunxi[rest]"') from None
            try:
                context = _certificates(self._ca)
            except OSError as error:
                raise CouldNotRun(f"{self._ca} holds no certificates that can be read; correct ca_file") from error
            # no redirections, no proxy or netrc from the environment: credentials go to one place
            self._opened = httpx.Client(
                verify=context, follow_redirects=False, trust_env=False, timeout=self._options.timeout_seconds,
                headers={"Accept": "application/json", "User-Agent": "yunxi-adapter"},
            )  # fmt: skip
        return self._opened


@lru_cache(16)
def _certificates(ca: Path | None) -> ssl.SSLContext:
    # reading the system's store takes longer than a request
    return ssl.create_default_context(cafile=None if ca is None else str(ca))


class _Silent(Exception):
    """No answer; it may come the next time. The text goes on after "the server"."""


def _next_link(links: Mapping[Any, Mapping[str, str]]) -> str | None:
    return links.get("next", {}).get("url")


def _hint(status: int) -> str:
    if status in (401, 403):
        return ": it refuses the credentials; check the environment variables that [source.auth] names"
    if 300 <= status < 400:
        return ": it redirects, which is not followed; put the final URL into the mapping"
    return "; correct the mapping, or tell who runs the service"


def _back_off(attempt: int) -> float:
    return min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing


def _remembering(mark: _Mark, request: tuple[str, Params], answer: _Answer) -> _Mark:
    """With what the server said of this answer, which was all: only then does "unchanged" mean that nothing is new."""
    etag, modified = answer.headers.get("etag", "")[:500], answer.headers.get("last-modified", "")[:100]
    return replace(mark, request=_digest(request), etag=etag, modified=modified) if etag or modified else mark


def _member(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", None, None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()


def _order(value: Any) -> tuple[int, Any]:
    """What is newer: numbers by size, times by their moment, other texts as they stand. A text among times or numbers
    is a mistake in one row, and must not be where the next reading begins."""
    if isinstance(value, int):
        return 1, value
    moment = _moment(value)
    return (0, value) if moment is None else (2, moment.replace(tzinfo=moment.tzinfo or UTC))


def _moment(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if len(value) >= 10 and value[4] == "-" else None
    except ValueError:
        return None


def _earlier(since: Any, overlap: int) -> str:
    if isinstance(since, int):
        return str(since - overlap)
    moment = _moment(since) if overlap else None
    if moment is None:
        return str(since)
    try:
        text = (moment - timedelta(seconds=overlap)).isoformat()
    except OverflowError:  # before the year 1
        return str(since)
    return text.replace("+00:00", "Z") if since.endswith("Z") else text


def _shown(value: Any) -> str:
    try:
        return "" if value is None else to_text(value).strip()
    except Invalid:
        return ""


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Twice(dict[str, Any]):
    """An object in which a member stands twice: it harms its own row only."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Twice(value)


def _bounded(entry: Any) -> Any:
    """The entry, or why not: nothing that is nested for ever may reach what goes down by calling itself."""
    try:
        check_depth(entry)
    except BadJson as error:
        return Unusable(error.reason, str(error))
    return entry


def _check_unique(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Twice):
            raise BadJson("duplicate-column", "a member stands twice in the row")
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def _number(kind: type[int | float]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return number_of(text, kind)
        except BadJson as error:
            return Unusable(error.reason, str(error))

    return read


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_float=_number(float),
    parse_int=_number(int),
    parse_constant=lambda name: Unusable("not-a-number", f"is {name}"),
)
