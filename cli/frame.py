"""The frame around every command: how it is answered, what it prints with, and what several groups share."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ledger.errors import CouldNotRun, Malformed, YunxiError

# Commands import what they need themselves: database and chain client take a second, and `--help` needs neither.
if TYPE_CHECKING:
    from ledger.anchor import Outcome
    from ledger.node import Node


class _Output(Console):
    """A console that lets a reader who has gone be seen; rich itself would end with 1, which is a finding here."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


out = _Output(highlight=False, soft_wrap=True)
out.width = max(out.width, 120)  # a narrower terminal wraps the lines of a table, which is better than figures cut off
err = Console(stderr=True, highlight=False, soft_wrap=True)

NodeOption = Annotated[
    Path, typer.Option("--node", envvar="YUNXI_NODE", metavar="DIR", help="The node directory.", show_default="here")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

HERE = Path()
INTERRUPTED = "interrupted; what was acknowledged stays, and the same command goes on from there"


def answering(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turns a command's outcome into an exit code, and an error into one sentence (or one JSON object)."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except YunxiError as error:
            fail(error.code, str(error), error.exit_code, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED, 2, as_json=bool(kwargs.get("as_json")))
        except BrokenPipeError:
            # whoever read us has gone: say nothing more, and let the interpreter flush into nothing
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 2
        except OSError as error:
            sentence = f"{error.filename or 'the disk'}: {error.strerror}; check the path, its permissions and the disk"
            fail(CouldNotRun.code, sentence, 2, as_json=bool(kwargs.get("as_json")))
        raise typer.Exit(code)

    return wrapper


def fail(code: str, sentence: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Ends the command with an error."""
    report_error(code, sentence, as_json=as_json)
    raise typer.Exit(exit_code)


def report_error(code: str, sentence: str, *, as_json: bool) -> None:
    """An error as one sentence on standard error, or as the command's one JSON object."""
    if as_json:
        print_json({"error": {"code": code, "message": sentence}})
    else:
        err.print(f"yunxi: {sentence}", markup=False)


def print_json(value: Any) -> None:
    """The command's one JSON object."""
    ascii_only = sys.stdout.encoding.lower().replace("-", "") != "utf8"  # escapes are JSON too
    sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only, indent=2, default=_jsonable) + "\n")


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def say(text: str) -> None:
    """A line of output; nothing in it is markup."""
    out.print(text, markup=False)


def numbers_table(first: str, *others: str) -> Table:
    """A table of names and figures that fits 80 columns."""
    table = Table(first, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in others:
        table.add_column(name, justify="right")
    return table


def print_table(table: Table) -> None:
    """A table, whole even where the terminal is narrow."""
    out.print(table)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def officer_of(text: str) -> dict[str, str]:
    """The officer that `--by ID:NAME` names. Raises CouldNotRun."""
    number, _, name = text.partition(":")
    if not number.strip() or not name.strip():
        raise CouldNotRun(f"--by must be ID:NAME, like XF0001:王建国, not {text!r}")
    return {"id": number.strip(), "name": name.strip()}


def local_time(seconds: float) -> str:
    """A moment on this machine's clock, with its offset."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def age(seconds: float) -> str:
    """How long ago, in the largest unit that gives at least 2."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@contextmanager
def open_node(directory: Path) -> Iterator[Node]:
    """An open node, closed at the end."""
    from ledger.node import Node

    node = Node.open(directory)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def anchoring(node: Node, interval: float = 0.5) -> Iterator[list[Outcome]]:
    """Anchors beside the work of the block and once more after it; yields the outcomes as they come."""
    from ledger.anchor import Anchorer

    outcomes: list[Outcome] = []
    stop = threading.Event()
    thread = threading.Thread(target=Anchorer(node).run, args=(stop, interval, outcomes.append), daemon=True)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Progress]:
    """A progress display on standard error, where it disturbs no output."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not shown or not err.is_terminal, transient=True) as progress:
        yield progress


def show_anchors(outcomes: list[Outcome]) -> None:
    """What became of each anchor, a line each."""
    for outcome in outcomes:
        if outcome.anchored is not None:
            size, block = outcome.anchored.size, outcome.anchored.block_number
            say(f"{outcome.department}: {counted(size, 'record')} anchored in block {block:,}.")
        else:
            err.print(f"{outcome.department}: not anchored yet: {outcome.problem}", markup=False)


def anchor_json(outcome: Outcome) -> dict[str, Any]:
    """The same, as a part of the command's JSON object."""
    problem = {"code": outcome.problem.code, "message": str(outcome.problem)} if outcome.problem else None
    anchored = asdict(outcome.anchored) if outcome.anchored else None
    return {"department": outcome.department, "size": outcome.size, "anchored": anchored, "problem": problem}


def read_bounded(path: Path, limit: int, what: str = "file", advice: str = "name the right file") -> bytes:
    """Reads an input file (`-`: standard input) of at most `limit` bytes. Raises CouldNotRun, Malformed.

    `what` the file is and what to do where it is too large, for the sentence.
    """
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be read: {error.strerror}; name a {what} that can") from error
    if len(data) > limit:
        raise Malformed(f"{what} {path}", f"has more than the {limit:,} bytes allowed; {advice}")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Writes an output file. Raises CouldNotRun."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Writes an output file of any size. Raises CouldNotRun, and what the pieces raise."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> CouldNotRun:
    """Why an output file could not be written."""
    if not path.parent.is_dir():
        return CouldNotRun(f"{path} cannot be written: there is no directory {path.parent}; make it first")
    return CouldNotRun(f"{path} cannot be written: {error.strerror}; name another file")


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of `--listen`. Raises CouldNotRun."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CouldNotRun(f"--listen must be HOST:PORT, like 127.0.0.1:8090, not {text!r}")
    return host.strip("[]"), int(port)


def ask_secret(variable: str | None, words: str) -> str:
    """A secret from the environment, asked for at a terminal, or the next line of standard input."""
    if variable is not None and (found := os.environ.get(variable)):
        return found
    if sys.stdin.isatty():
        return str(typer.prompt(words, hide_input=True, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise CouldNotRun(f"{words}: give it on standard input" + (f" or in {variable}" if variable else ""))
    return line


# typer carries a click of its own or uses the installed one, depending on its version: this is the class in either
UsageError: Any = typer.BadParameter.__mro__[1]


def explain_usage(error: Any, arguments: list[str]) -> NoReturn:
    """Ends with 2 and one sentence, or with the help text where a group was named without a command."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        raise SystemExit(2)
    command = error.ctx.command_path if error.ctx else "yunxi"
    sentence = f"{error.format_message().rstrip('.')}; see `{command} --help`"
    report_error("usage", sentence, as_json="--json" in arguments)
    raise SystemExit(2)
