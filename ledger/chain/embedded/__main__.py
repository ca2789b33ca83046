"""`python -m ledger.chain.embedded DIR`: serve the chain in DIR, in the foreground unless `--detach`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TextIO

from ledger.chain.embedded.daemon import create, idle_seconds_from_environment, serve
from ledger.chain.embedded.directory import WARNING, DaemonState, describe
from ledger.errors import YunxiError


def main() -> int:
    """Exit 0 when it served and ended, otherwise the error's own code."""
    options = _options()
    try:
        if options.create:
            create(options.directory)
        info = describe(options.directory)
        if options.detach:
            _detach()
        _say(f"{WARNING} Chain {info.chain_id}.", sys.stderr)
        idle = idle_seconds_from_environment() if options.idle is None else options.idle
        serve(options.directory.absolute(), options.port, idle, _announce_and_let_go if options.detach else _announce)
    except YunxiError as error:
        _say("busy" if type(error).__name__ == "Busy" else f"failed {error}", sys.stdout)
        _say(str(error), sys.stderr)
        return error.exit_code
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ledger.chain.embedded", description=WARNING)
    parser.add_argument("directory", type=Path, help="the chain's directory")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: the last one, or any)")
    parser.add_argument("--idle", type=float, help="seconds without a request after which it ends")
    parser.add_argument("--create", action="store_true", help="make a new chain in the directory first")
    parser.add_argument("--detach", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _say(words: str, stream: TextIO) -> None:
    stream.write(words + "\n")
    stream.flush()


def _detach() -> None:
    # before the EVM is imported and before any thread: the first process ends, the second is nobody's child
    if os.fork():
        os._exit(0)
    os.setsid()


def _announce(state: DaemonState) -> None:
    _say(f"ready {state.url}", sys.stdout)


def _announce_and_let_go(state: DaemonState) -> None:
    _announce(state)
    # the starter reads until we close: its pipe must not stay open for our life
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
