"""The show of the sharing gateway: three nodes, five departments, real exports, and the figures.

    .venv/bin/python scripts/sharing_show.py --data DIR [--rows N] [--arrivals N] [--json FILE]

Licensing opens a joint inspection on 50 businesses. Public health's and streets' records about them arrive masked, as
granted; market and fire grant nothing and are shown as refusing. Then new records come in at public health, and what is
measured is how long each takes, from its acknowledgement there to the open dossier at licensing. At the end every node
is audited and both sides' logs are reconciled.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import lzma
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from ledger.chain import embedded
from ledger.http_signatures import Target, sign_request
from ledger.keys import FileKeyAgent

YUNXI = Path(sys.executable).parent / "yunxi"
MAPPINGS = Path(__file__).parents[1] / "adapters" / "mappings"
CONSORTIUM = "chicago.example"
NODES = {"first": ("licensing", "market"), "second": ("public-health",), "third": ("streets", "fire")}
FEEDS = {
    "licensing": ("first", "chicago_business_licences.toml", "business_licences"),
    "public-health": ("second", "chicago_food_inspections.toml", "food_inspections"),
    "streets": ("third", "chicago_sanitation_complaints.toml", "sanitation_complaints"),
}
BUSINESSES = 50
KIND, PURPOSE = "food-safety", "joint-inspection"
GRANTS = (
    ("public-health", "second", "inspection.report", ("when", "place", "subjects", "result", "violations")),
    ("streets", "third", "complaint.received", ("when", "place", "nature")),
)
MASKED = {"inspection.report": "facility", "complaint.received": "reference"}
"""By type a unit that is not granted: it must not arrive."""
PASSWORD = "a password for the show"  # noqa: S105  of a node that is deleted


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; times in seconds."""

    sealed: dict[str, int]
    received: dict[str, int]
    opening_to_complete: float
    arrival_p50: float
    arrival_p95: float
    arrival_max: float
    participants: dict[str, str]
    audits_good: bool
    differences: int


def main() -> int:
    """Runs the show and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the directory of the exports (*.csv.xz)")
    parser.add_argument("--rows", type=int, default=3000, help="rows of each export")
    parser.add_argument("--arrivals", type=int, default=40, help="new records that are timed")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = show(Path(scratch), options.data, options.rows, options.arrivals)
    text = json.dumps(asdict(figures), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0 if figures.audits_good and figures.differences == 0 else 1


def show(directory: Path, data: Path, rows: int, arrivals: int) -> Figures:
    """Makes the consortium in `directory` (empty), plays the story, and leaves the nodes there, stopped."""
    command = Command(directory)
    ports = {node: _free_port() for node in NODES}
    try:
        _make_consortium(command, ports)
        sealed = {name: _feed(command, data, name, rows) for name in FEEDS}
        _give_grants(command)
        with ExitStack() as stack:
            for node, port in ports.items():
                stack.enter_context(_served(command, node, port))
            story = Story(directory, ports)
            number, opening = story.open_inspection(data, rows)
            participants = story.states(number)
            received = story.received(number)
            story.check_masks(number)
            delays = [story.time_arrival(number, each) for each in range(arrivals)]
            story.close(number)
        audits = all(command.run("audit", "--node", node, "--json", check=False)["good"] for node in NODES)
        compared = command.run("reconcile-disclosures", *NODES, "--json", check=False)
        return Figures(
            sealed=sealed,
            received=received,
            opening_to_complete=round(opening, 3),
            arrival_p50=round(statistics.median(delays), 3),
            arrival_p95=round(statistics.quantiles(delays, n=20, method="inclusive")[-1], 3),
            arrival_max=round(max(delays), 3),
            participants=participants,
            audits_good=audits,
            differences=len(compared["differences"]),
        )
    finally:
        embedded.stop(directory / "first" / "chain")


class Command:
    """Runs `yunxi` in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *words: str | Path, check: bool = True, stdin: str = "") -> Any:
        """The command's JSON, or its text where it prints none. Raises RuntimeError with what it said."""
        done = subprocess.run(
            [YUNXI, *map(str, words)], cwd=self.directory, input=stdin, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"yunxi {' '.join(map(str, words))}: {done.stderr}{done.stdout}")
        return json.loads(done.stdout) if "--json" in words else done.stdout


class Signed(httpx.Auth):
    """Signs requests with a department's request key."""

    requires_request_body = True

    def __init__(self, agent: FileKeyAgent, department: str) -> None:
        self._signer = agent.request_signer(department)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        target = Target.of_url(request.method, str(request.url))
        nonce = secrets.token_urlsafe(16)
        request.headers.update(sign_request(target, request.content or None, self._signer, int(time.time()), nonce))
        yield request


class Story:
    """The inspection, as an inspector of licensing and a system of public health see it."""

    def __init__(self, directory: Path, ports: dict[str, int]) -> None:
        first, second = (f"http://127.0.0.1:{ports[node]}" for node in ("first", "second"))
        signing_in = {"login": "inspector", "password": PASSWORD, "bearer": True}
        token = httpx.post(f"{first}/v1/sign-in", json=signing_in).raise_for_status().json()["token"]
        self._inspector = httpx.Client(base_url=first, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        health = Signed(FileKeyAgent.open(directory / "second" / "keys"), "public-health")
        self._health = httpx.Client(base_url=second, auth=health, timeout=30)
        self._addresses: list[str] = []

    def open_inspection(self, data: Path, rows: int) -> tuple[str, float]:
        """Opens it and waits for the dossier; its number, and the seconds until the dossier was complete."""
        self._addresses = _addresses(data, rows)
        body = {
            "kind": KIND,
            "purpose": PURPOSE,
            "matter": "food-inspection",
            "subjects": [{"kind": "address", "value": address} for address in self._addresses],
            "participants": ["public-health", "streets", "market", "fire"],
        }
        began = time.perf_counter()
        number = self._inspector.post("/v1/inspections", json=body).raise_for_status().json()["number"]
        for _ in range(1200):
            states = self.states(number)
            if all(states.get(name) == "complete" for name in ("public-health", "streets")):
                return number, time.perf_counter() - began
            time.sleep(0.05)
        raise RuntimeError(f"the dossier was not complete within a minute: {states}")

    def states(self, number: str) -> dict[str, str]:
        """The participants' states, with the reason where one refuses."""
        found = self._dossier(number)["participants"]
        return {p["department"]: p["state"] if not p["code"] else f"{p['state']}: {p['code']}" for p in found}

    def received(self, number: str) -> dict[str, int]:
        """How many records came from whom."""
        counts = self._dossier(number)["counts"]["by_owner"]
        return {owner: sum(types.values()) for owner, types in counts.items()}

    def check_masks(self, number: str) -> None:
        """Raises RuntimeError where a presentation shows more than was granted, or does not verify."""
        answer = self._inspector.get(f"/v1/inspections/{number}/dossier/presentations").raise_for_status()
        lines = [json.loads(line) for line in answer.text.splitlines()]
        shown = [line for line in lines if "presentation" in line]
        for line in shown:
            if line["problem"] is not None or MASKED[line["type"]] in line["units"]:
                raise RuntimeError(f"a presentation from {line['owner']} is not as granted: {line['problem']}")
        if not shown:
            raise RuntimeError("no presentation was handed out")

    def time_arrival(self, number: str, each: int) -> float:
        """Seals a new record at public health; the seconds from its acknowledgement to the dossier."""
        before = self.received(number)["public-health"]
        record = {
            "type": "inspection.report",
            "v": 1,
            "matter": "food-inspection",
            "subjects": [{"kind": "address", "value": self._addresses[each % BUSINESSES]}],
            "facility_name": "as before",
            "result": "Fail",
            "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }
        submission = {"key": f"arrival/{each}", "record": record}
        answer = self._health.post("/v1/records", json={"records": [submission]}).raise_for_status().json()
        acknowledged = time.perf_counter()
        if answer["outcomes"][0]["outcome"] != "acknowledged":
            raise RuntimeError(f"the record was not taken: {answer}")
        while self.received(number)["public-health"] == before:
            if time.perf_counter() - acknowledged > 60:
                raise RuntimeError("a new record did not reach the open dossier within a minute")
            time.sleep(0.02)
        return time.perf_counter() - acknowledged

    def close(self, number: str) -> None:
        """Ends the inspection."""
        body = {"outcome": "completed", "reason": "the show is over"}
        self._inspector.post(f"/v1/inspections/{number}/close", json=body).raise_for_status()

    def _dossier(self, number: str) -> Any:
        return self._inspector.get(f"/v1/inspections/{number}/dossier").raise_for_status().json()


def _make_consortium(command: Command, ports: dict[str, int]) -> None:
    run = command.run
    run("init", "first", "--consortium", CONSORTIUM)
    for department in NODES["first"]:
        run("department", "add", department, "--name", department, "--node", "first")
        run("department", "url", department, f"http://127.0.0.1:{ports['first']}", "--node", "first")
    chain = run("chain", "url", "--node", "first", "--json")
    for node in ("second", "third"):
        joining = ("--chain", chain["url"], "--engine", "embedded", "--join", chain["consortium"])
        run("init", node, "--consortium", CONSORTIUM, *joining)
        for department in NODES[node]:
            request, admission = f"{department}.request", f"{department}.admission"
            url = f"http://127.0.0.1:{ports[node]}"
            run("department", "request", department, "--name", department, "--url", url, "-o", request, "--node", node)
            run("department", "admit", request, "-o", admission, "--node", "first")
            run("department", "finish", department, admission, "--node", node)
    words = ("people", "add", "inspector", "--department", "licensing", "--role", "officer", "--no-totp")
    run(*words, "--password-stdin", "--node", "first", stdin=PASSWORD + "\n")


def _feed(command: Command, data: Path, department: str, rows: int) -> int:
    node, mapping, export = FEEDS[department]
    text = (MAPPINGS / mapping).read_text("utf-8")
    start = text.index("path = ")
    line = text[start : text.index("\n", start)]
    own = command.directory / mapping
    own.write_text(text.replace(line, f"path = {json.dumps(f'{export}.csv')}"), "utf-8")
    with lzma.open(data / f"{export}.csv.xz", "rt", encoding="utf-8", newline="") as full:
        (command.directory / f"{export}.csv").write_text("".join(itertools.islice(full, rows + 1)), "utf-8")
    return int(command.run("adapter", "run", own, "--node", node, "--json")["sealed"])


def _give_grants(command: Command) -> None:
    for owner, node, kind, units in GRANTS:
        words = [word for unit in units for word in ("--unit", unit)]
        terms = ("--purpose", PURPOSE, "--kind", KIND, "--until", "2099-12-31", "--per-day", "100000")
        command.run("grant", "give", "--as", owner, "--to", "licensing", "--type", kind, *words, *terms, "--node", node)


def _addresses(data: Path, rows: int) -> list[str]:
    """Addresses of 50 different businesses that public health inspected; those that streets knows first."""
    known = {row["address"] for row in _rows(data, "sanitation_complaints", rows)}
    inspected = dict.fromkeys(row["address"] for row in _rows(data, "food_inspections", rows) if row["address"])
    return sorted(inspected, key=lambda address: address not in known)[:BUSINESSES]


def _rows(data: Path, export: str, rows: int) -> Iterator[dict[str, str]]:
    with lzma.open(data / f"{export}.csv.xz", "rt", encoding="utf-8", newline="") as file:
        yield from itertools.islice(csv.DictReader(file), rows)


@contextmanager
def _served(command: Command, node: str, port: int) -> Iterator[None]:
    words = [YUNXI, "serve", "--node", node, "--host", "127.0.0.1", "--port", str(port)]
    with (command.directory / f"{node}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=command.directory, stdout=log, stderr=log, env=os.environ)
        try:
            _wait_until_alive(process, port)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_until_alive(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"a node ended with {process.returncode} instead of serving")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("a node does not answer within a minute")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
