"""What an audit over the network remembers, so that one that was cut off goes on: lines, each written and synced whole.

    {"format": "yunxi-remote-audit", "v": 1, "options": {…}}                                 once, first
    {"log": "URL department", "note": …, "size": …, "edge": […], "upper": […], "report": {…}, …}

Of the lines of one log the last counts. An audit that goes on is of the checkpoint that it began with. The file is the
auditor's own and is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ledger.audit.findings import Finding, LogReport
from ledger.audit.line_file import append_line, read_lines
from ledger.errors import Malformed, Refusal
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.tiles import TileWrite

FORMAT = "yunxi-remote-audit"


@dataclass(frozen=True, slots=True)
class Kept:
    """How far the audit of one log came. `edge`: the partial tile of each level at `size`; `upper`: tiles above level 0
    that are not full yet; `note`: the checkpoint that it is of."""

    note: bytes
    report: LogReport
    size: int = 0
    edge: Sequence[bytes] = ()
    upper: Sequence[TileWrite] = field(default=())
    newest_time: int = 0
    open: bool = True
    done: bool = False


class RemoteState:
    """A memory for one run."""

    def __init__(self) -> None:
        self._logs: dict[str, Kept] = {}

    def find(self, log: str) -> Kept | None:
        """How far a log came."""
        return self._logs.get(log)

    def keep(self, log: str, kept: Kept) -> None:
        """Remembers it."""
        self._logs[log] = kept


class RemoteStateFile(RemoteState):
    """The memory in a file. Not for two audits at a time."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        """`options`: what two runs must have in common to be one audit. Raises Malformed, Refusal for a file of
        another audit."""
        super().__init__()
        self._path = path
        if path.exists():
            self._read(dict(options))
        else:
            append_line(self._path, {"format": FORMAT, "v": 1, "options": dict(options)})

    def keep(self, log: str, kept: Kept) -> None:
        """Durable when it returns."""
        super().keep(log, kept)
        append_line(self._path, {"log": log, **_to_json(kept)})

    def _read(self, options: Mapping[str, Any]) -> None:
        try:
            lines = read_lines(self._path)
            if not lines:
                append_line(self._path, {"format": FORMAT, "v": 1, "options": dict(options)})
                return
            if (lines[0]["format"], lines[0]["v"]) != (FORMAT, 1):
                raise Malformed("audit state", "is of another version")
            if lines[0]["options"] != options:
                raise Refusal(f"{self._path} is of another audit (other URLs or options): name a new file")
            for line in lines[1:]:
                super().keep(line["log"], _from_json(line))
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed("audit state", f"{self._path} is no audit's state: delete it and begin anew") from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a memory one log is kept."""

    memory: RemoteState
    log: str

    def read(self) -> Kept | None:
        """How far it came."""
        return self.memory.find(self.log)

    def keep(self, note: bytes, kept: Kept) -> None:
        """Remembers it, as of the checkpoint `note`."""
        self.memory.keep(self.log, replace(kept, note=note))


def _to_json(kept: Kept) -> dict[str, Any]:
    report = asdict(kept.report)
    report["counts"] = dict(kept.report.counts)
    return {
        "note": kept.note.decode("utf-8"),
        "report": report,
        "size": kept.size,
        "edge": [b64encode(tile) for tile in kept.edge],
        "upper": [[write.level, write.index, b64encode(write.data)] for write in kept.upper],
        "newest_time": kept.newest_time,
        "open": kept.open,
        "done": kept.done,
    }


def _from_json(value: Mapping[str, Any]) -> Kept:
    report = dict(value["report"])
    for name in ("findings", "notices"):
        report[name] = [Finding(**{**found, "others": tuple(found["others"])}) for found in report[name]]
    report["counts"] = Counter(report["counts"])
    return Kept(
        note=value["note"].encode(),
        report=LogReport(**report),
        size=value["size"],
        edge=[b64decode(tile, "tile") for tile in value["edge"]],
        upper=[TileWrite(level, index, b64decode(data, "tile")) for level, index, data in value["upper"]],
        newest_time=value["newest_time"],
        open=value["open"],
        done=value["done"],
    )
