"""What an audit remembers, so that one that was cut off goes on: a file of lines, each written and synced whole.

    {"format": "yunxi-audit", "v": 2, "options": {…}, "logs": [{…}], "newest": {department: size}}     once, first
    {"stretch": {…}}                                                                    for each that was audited

The logs are pinned: an audit that goes on tomorrow is of what stood there when it began. A last line without its end is
what a kill left behind, and is dropped. The file is the auditor's own and is believed: keep it safe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ledger.audit.bench import Claim, HoldEvent, OldKey, Stop, Stretch
from ledger.audit.findings import Finding, LogReport
from ledger.audit.line_file import append_line, read_lines
from ledger.errors import Malformed, Refusal
from ledger.store.reading import LogRow

FORMAT = "yunxi-audit"


class NoState:
    """The memory of an audit in one go: what other processes found, until it is put together."""

    def __init__(self) -> None:
        self._done: dict[tuple[str, int, int], Stretch] = {}
        self._newest: Mapping[str, int] = {}

    def pin(self, logs: Sequence[LogRow], newest: Mapping[str, int]) -> list[LogRow]:
        """The logs to audit."""
        self._newest = newest
        return list(logs)

    def newest(self, department: str) -> int:
        """What the chain held of a log when the audit began, 0 for nothing."""
        return self._newest.get(department, 0)

    def find(self, department: str, start: int, end: int) -> Stretch | None:
        """A stretch that was done, given away: it is kept no longer."""
        return self._done.get((department, start, end))

    def keep(self, stretch: Stretch) -> None:
        """Remembers a stretch."""
        self._done[stretch.report.department, stretch.start, stretch.end] = stretch


class State(NoState):
    """The memory in a file. Not for two audits at a time."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        """`options`: what two runs must have in common to be one audit. Raises Malformed, Refusal for a file of
        another audit."""
        super().__init__()
        self._path = path
        self._options = dict(options)
        self._head: dict[str, Any] | None = None
        if path.exists():
            self._read()

    def pin(self, logs: Sequence[LogRow], newest: Mapping[str, int]) -> list[LogRow]:
        """The logs as they were when the audit began; those that are there now, the first time."""
        if self._head is None:
            self._head = {
                "format": FORMAT,
                "v": 2,
                "options": self._options,
                "logs": [{**asdict(log), "root": log.root.hex()} for log in logs],
                "newest": dict(newest),
            }
            append_line(self._path, self._head)
        self._newest = self._head["newest"]
        pinned = [LogRow(**{**log, "root": bytes.fromhex(log["root"])}) for log in self._head["logs"]]
        if {log.number for log in logs} - {log.number for log in pinned}:
            raise Refusal(f"{self._path} was begun before there was a log that is here now: begin a new audit")
        return pinned

    def keep(self, stretch: Stretch) -> None:
        """Durable when it returns."""
        super().keep(stretch)
        append_line(self._path, {"stretch": _to_json(stretch)})

    def _read(self) -> None:
        try:
            lines = read_lines(self._path)
            if not lines:
                return
            if lines[0]["format"] != FORMAT or lines[0]["v"] != 2:
                raise Malformed("audit state", "is of another version")
            if lines[0]["options"] != self._options:
                raise Refusal(f"{self._path} is of another audit (other node or options): name a new file")
            for line in lines[1:]:
                super().keep(_from_json(line["stretch"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed("audit state", f"{self._path} is no audit's state: delete it and begin anew") from error
        self._head = lines[0]


def _to_json(stretch: Stretch) -> dict[str, Any]:
    value = asdict(stretch)
    value["root"] = stretch.root.hex()
    value["types"] = dict(stretch.types)
    value["report"]["counts"] = dict(stretch.report.counts)
    for stop in value["stops"]:
        stop["root"] = stop["root"].hex()
        for claim in stop["claims"]:
            claim["root"] = claim["root"].hex()
    return value


def _from_json(value: dict[str, Any]) -> Stretch:
    report = value["report"]
    for name in ("findings", "notices"):
        report[name] = [Finding(**{**found, "others": tuple(found["others"])}) for found in report[name]]
    report["counts"] = Counter(report["counts"])
    stops = [
        Stop(
            stop["size"],
            bytes.fromhex(stop["root"]),
            tuple(Claim(**{**claim, "root": bytes.fromhex(claim["root"])}) for claim in stop["claims"]),
        )
        for stop in value["stops"]
    ]
    return Stretch(
        start=value["start"],
        end=value["end"],
        report=LogReport(**report),
        root=bytes.fromhex(value["root"]),
        stops=stops,
        newest_time=value["newest_time"],
        old_keys={kid: OldKey(**old) for kid, old in value["old_keys"].items()},
        holds=[HoldEvent(**{**event, "values": tuple(event["values"])}) for event in value["holds"]],
        exchanges=value["exchanges"],
        types=Counter(value["types"]),
    )
