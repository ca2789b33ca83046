"""A drop folder: files appear in it, each is a delivery of rows with its attachments beside it, or is a row itself.

A file is read once nobody writes it any more: unchanged for `settle_seconds`, or announced by a marker file. Names that
programs use while they write, hidden files and symbolic links are passed over. What was read to its end is not opened
again until it changes. A file that cannot be read is set aside and holds none of the others up. Nothing is moved or
deleted.

A row whose attachment is not there yet goes to quarantine; its file is read again, as far as `wait_hours` allow, when
something new lies in the directory, and the rows that are sealed already are recognised.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from adapters.csv_files import CsvOptions
from adapters.files import FileOptions, file_digest
from adapters.jsonl_files import JsonlOptions
from adapters.sections import Section
from adapters.source import BadRow, Beside, Opening, Page, Row, SourceOptions
from adapters.xlsx_files import XlsxOptions
from adapters.xml_files import XmlOptions
from ledger.errors import CouldNotRun

MAX_PART_CHARS = 500
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp", "~")


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """`[source]` with kind = "folder". `each` opens one file of the folder."""

    place: FileOptions
    pattern: str
    settle_seconds: int
    ready: str | None
    wait_hours: int
    each: SourceOptions
    beside = True

    @classmethod
    def parse(cls, section: Section) -> FolderOptions:
        """Takes the options of this kind and of its format from a `[source]` table."""
        if "glob" in section:
            section.refuse('"source.glob" has no meaning here; give the directory as "path" and a "pattern"')
        word = section.choice("format", tuple(FORMATS))
        pattern = section.get("pattern", str, "*" if word == "file" else f"*.{word}")
        if pattern.startswith("/") or ".." in pattern.split("/") or not pattern:
            section.refuse('"source.pattern" is a pattern of names inside the folder, e.g. "*.xml" or "**/*.jpg"')
        settle_seconds = section.get("settle_seconds", int, 5)
        wait_hours = section.get("wait_hours", int, 168)
        if not (0 <= settle_seconds <= 86_400 and 0 <= wait_hours <= 8760):
            section.refuse('"source.settle_seconds" must be from 0 to 86400, "wait_hours" from 0 to 8760')
        ready = section.optional("ready", str)
        if ready is not None and (not ready or "/" in ready):
            section.refuse('"source.ready" is what a marker file\'s name adds to the file\'s, e.g. ".done"')
        return cls(FileOptions.parse(section), pattern, settle_seconds, ready, wait_hours, FORMATS[word](section))

    def open(self, opening: Opening) -> Folder:
        """The folder; raises CouldNotRun where it is not there."""
        root = opening.override or self.directory(opening.base, opening.environ)
        try:
            is_there = root.is_dir()
        except OSError as error:
            raise CouldNotRun(f"{root} cannot be reached ({error.strerror}); check its permissions") from error
        if not is_there:
            raise CouldNotRun(f"{root} is no directory; make the drop folder, or correct its path in the mapping")
        return Folder(self, root.resolve(), opening)

    def directory(self, base: Path, environ: Mapping[str, str]) -> Path:
        """Where the folder should be. Raises CouldNotRun where the environment does not say."""
        named = self.place.path
        if self.place.path_env is not None:
            named = environ.get(self.place.path_env)
            if not named:
                raise CouldNotRun(f"set the environment variable {self.place.path_env} to the path of the drop folder")
        return base / str(named)


@dataclass(frozen=True, slots=True)
class EachFile:
    """Every file is one row: its name, its place, its size; its digest where the mapping asks for it."""

    def open(self, opening: Opening) -> _OneFile:
        """The file that the opening names."""
        assert opening.override is not None
        return _OneFile(opening.override, opening.part or opening.override.name, opening.needed)


class _OneFile:
    def __init__(self, path: Path, part: str, needed: frozenset[str]) -> None:
        self._path = path
        self._part = part
        self._needed = needed

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:  # noqa: ARG002 - one row has no pages
        """See Source."""
        path = self._path
        try:
            status = path.stat()
            digest = file_digest(path) if "sha256" in self._needed else None
        except OSError as error:
            raise CouldNotRun(f"{self._part} cannot be read ({error.strerror}); check its permissions") from error
        values = {
            "name": path.name,
            "stem": path.stem,
            "suffix": path.suffix.lower(),
            "path": self._part,
            "folder": self._part.rpartition("/")[0],
            "size": status.st_size,
            "modified": datetime.fromtimestamp(int(status.st_mtime), UTC),
        }
        if digest is not None:
            values["sha256"] = digest
        # all the columns there are, not only those in use: nobody chose them, so none need be ignored
        yield Page(
            self._part, (Row(self._part, values),), "{}", restarted=True, columns=tuple(self._needed), fraction=1
        )


FORMATS: dict[str, Callable[[Section], SourceOptions]] = {
    "csv": CsvOptions.parse,
    "jsonl": JsonlOptions.parse,
    "xlsx": XlsxOptions.parse,
    "xls": XlsxOptions.parse,
    "xml": XmlOptions.parse,
    "file": lambda _: EachFile(),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that may be read. `version` changes with its content, `around` with what lies beside it."""

    part: str
    path: Path
    version: str
    around: str = ""
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryMark:
    """How far a file is. `missing`: a row waits for an attachment. `failed`: it could not be read to its end."""

    version: str
    around: str
    inner: str | None = None
    done: bool = False
    missing: bool = False
    failed: bool = False

    @classmethod
    def read(cls, mark: str | None) -> DeliveryMark | None:
        """The saved mark of a part, None where there is none."""
        return None if mark is None else cls(**json.loads(mark))

    def write(self) -> str:
        """The mark as it is saved."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


class Folder:
    """A drop folder as a source; its parts are the files, in the order of their names."""

    def __init__(self, options: FolderOptions, root: Path, opening: Opening) -> None:
        self._options = options
        self._root = root
        self._opening = opening

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. Files that arrive while this goes on are found the next time."""
        odd: list[BadRow] = []
        for found in self._files(odd):
            saved = DeliveryMark.read(marks.get(found.part))
            if saved is None or not self._is_settled(saved, found):
                beside = Beside(found.path.parent, self._is_whole)
                yield from delivery_pages(self._options.each, self._opening, found, saved, beside, size)
        if odd:
            yield Page("#names", tuple(odd), None, restarted=True)

    def beside(self, part: str) -> Beside | None:
        """Where the files of a row of `part` lie; None where that directory has gone, or lies elsewhere by now."""
        directory = self._root.joinpath(part).parent.resolve()
        inside = directory.is_relative_to(self._root) and directory.is_dir()
        return Beside(directory, self._is_whole) if inside else None

    def _is_settled(self, saved: DeliveryMark, found: Delivery) -> bool:
        if not saved.done or saved.version != found.version:
            return False
        too_old = self._opening.clock() - found.changed > self._options.wait_hours * 3600
        return not saved.missing or saved.around == found.around or too_old

    def _files(self, odd: list[BadRow]) -> Iterator[Delivery]:
        options = self._options
        around: dict[Path, str | None] = {}
        for path in self._found(odd):
            name = path.name
            if name.startswith((".", "~$")) or name.lower().endswith(UNFINISHED):
                continue
            if options.ready is not None and name.endswith(options.ready):
                continue
            directory = path.parent
            if directory not in around:
                around[directory] = self._around(directory)
            beside = around[directory]
            try:
                status = path.lstat()
            except OSError:
                continue  # gone since the directory was read
            if beside is None or not stat.S_ISREG(status.st_mode):
                continue
            part = str(path)[len(str(self._root)) + 1 :]
            if not part.isprintable() or len(part) > MAX_PART_CHARS:
                odd.append(_bad_name(part, "bad-name", "the file's name is too long or not printable; rename it"))
            elif self._is_announced(path, status):
                version = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
                yield Delivery(part, path, version, beside, _changed(status))

    def _found(self, odd: list[BadRow]) -> list[Path]:
        """Everything that the pattern names, by name. A directory that may not be listed is not one without files."""
        pattern = self._options.pattern
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise CouldNotRun(f"{self._root} cannot be listed ({error.strerror}); check its permissions") from error
        if "/" in pattern:
            refused: list[OSError] = []
            for _ in os.walk(self._root, onerror=refused.append):
                pass
            for denied in refused:
                part = str(denied.filename)[len(str(self._root)) + 1 :]
                detail = f"the directory cannot be listed ({denied.strerror}); check its permissions"
                odd.append(_bad_name(part, "unreadable", detail))
        return sorted(self._root.glob(pattern), key=str)

    def _is_announced(self, path: Path, status: os.stat_result) -> bool:
        if self._options.ready is not None:
            return path.with_name(path.name + self._options.ready).exists()
        return self._is_still(status)

    def _is_still(self, status: os.stat_result) -> bool:
        # the time of change is this machine's own, also where the writer sets the time of modification
        return abs(self._opening.clock() - _changed(status)) >= self._options.settle_seconds

    def _is_whole(self, path: Path) -> bool:
        """Whether nobody writes this attachment any more."""
        return self._options.ready is not None or self._is_still(path.stat())

    def _around(self, directory: Path) -> str | None:
        """Changes when a file appears in the directory, or is whole since; None where it has gone, or is reached by a
        link that leads out of the folder."""
        growing = 0
        try:
            if not directory.resolve().is_relative_to(self._root):
                return None
            with os.scandir(directory) as entries:
                for entry in entries:
                    growing += self._is_growing(entry)
            return f"{directory.stat().st_mtime_ns}:{growing}"
        except OSError:
            return None

    def _is_growing(self, entry: os.DirEntry[str]) -> bool:
        try:
            return not self._is_still(entry.stat(follow_symlinks=False))
        except OSError:
            return True


def _bad_name(part: str, reason: str, detail: str) -> BadRow:
    shown = part.encode("utf-8", "backslashreplace").decode()[:MAX_PART_CHARS]
    return BadRow(shown, shown, reason, detail)


def _changed(status: os.stat_result) -> float:
    return max(status.st_mtime, status.st_ctime)


def delivery_pages(
    each: SourceOptions, opening: Opening, found: Delivery, saved: DeliveryMark | None, beside: Beside, size: int
) -> Iterator[Page]:
    """The pages of one file; the last one says that the file is done. What cannot be read becomes a BadRow."""
    again = saved is None or saved.failed or (saved.done and saved.missing)
    inner = None if again or saved is None else saved.inner
    missing = not again and saved is not None and saved.missing
    state = DeliveryMark(found.version, found.around, inner, missing=missing)
    held: Page | None = None
    try:
        source = each.open(replace(opening, override=found.path, part=found.part))
        with closing(source.pages({} if inner is None else {found.part: inner}, size)) as pages:
            for page in pages:
                if held is not None:
                    yield held
                # a page that leaves the mark where it was is one that could not be read
                failed = state.failed or page.mark is None
                state = replace(state, inner=page.mark or state.inner, failed=failed)
                held = _with_mark(page, state, beside)
    except CouldNotRun as error:
        if held is not None:
            yield held
        bad = BadRow(f"{found.part}:0", "", "unreadable", str(error))
        held, state = Page(found.part, (bad,), ""), replace(state, failed=True)
    last = held or Page(found.part, (), "", restarted=again)
    yield _with_mark(last, replace(state, done=True), beside)


def _with_mark(page: Page, state: DeliveryMark, beside: Beside) -> Page:
    rows = tuple([replace(row, beside=beside) if isinstance(row, Row) else row for row in page.rows])
    return replace(page, rows=rows, mark=state.write(), waiting_mark=replace(state, missing=True).write())
