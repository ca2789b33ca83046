#!/usr/bin/env python3
"""A real consortium chain on loopback, to try things on: go-ethereum validators in proof of authority.

    scripts/consortium.py up --validators 4 --dir DIR     start, deploy the contracts, say where everything is
    scripts/consortium.py status --dir DIR
    scripts/consortium.py kill 3 --dir DIR                kill -9
    scripts/consortium.py start 3 --dir DIR
    scripts/consortium.py partition 0,1 2,3 --dir DIR
    scripts/consortium.py heal --dir DIR
    scripts/consortium.py unstick --dir DIR               after a partition into halves; see docs/consortium.md
    scripts/consortium.py down --dir DIR [--delete]

One person runs every validator of it, so it proves nothing against that person.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ledger.chain.consortium.geth import CliqueNetwork
from ledger.chain.contracts import deploy
from ledger.errors import YunxiError

DEPLOYED = "consortium.json"


def up(arguments: argparse.Namespace) -> None:
    directory = arguments.dir
    if (directory / DEPLOYED).exists():
        network = CliqueNetwork.open(directory)
        network.up()
    else:
        network = CliqueNetwork.create(
            directory,
            arguments.validators,
            period=arguments.period,
            chain_id=arguments.chain_id,
            funded=arguments.fund,
        )
        try:
            network.up()
            describe(network)
        except BaseException:
            network.down()
            raise
    print((directory / DEPLOYED).read_text("utf-8"), end="")


def describe(network: CliqueNetwork) -> None:
    """Deploys, and writes down what others need to know of the network."""
    with closing(network.client()) as client:
        addresses = deploy(client, network.operator_key())
    validators = [node.validator for node in network.plan.nodes]
    found: dict[str, Any] = {
        "engine": "clique",
        "urls": network.urls,
        "chain_id": network.chain_id,
        "genesis": "0x" + network.genesis_hash().hex(),
        "confirmations": network.confirmations,
        "contracts": asdict(addresses),
        "validators": [{"address": validator.address, "jwk": validator.jwk} for validator in validators],
    }
    (network.directory / DEPLOYED).write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def status(network: CliqueNetwork) -> None:
    for state in network.states():
        node = network.plan.nodes[state.index]
        where = f"node {state.index}  {node.url}  {node.validator.address}"
        if state.number is None or state.head is None:
            print(f"{where}  down" if state.pid is None else f"{where}  does not answer")
        else:
            print(f"{where}  block {state.number} {state.head.hex()[:8]}  {state.peers} peers")


def act(arguments: argparse.Namespace) -> None:
    network = CliqueNetwork.open(arguments.dir)
    if arguments.verb in ("kill", "start"):
        getattr(network, arguments.verb)(arguments.node)
    elif arguments.verb == "partition":
        network.partition(*arguments.groups)
    elif arguments.verb in ("heal", "unstick", "down"):
        getattr(network, arguments.verb)()
    if arguments.verb == "down" and arguments.delete:
        shutil.rmtree(arguments.dir)
    else:
        status(network)


def group(text: str) -> list[int]:
    return [int(index) for index in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    parsers = {name: verbs.add_parser(name) for name in ("up", "status", "kill", "start", "partition")}
    parsers |= {name: verbs.add_parser(name) for name in ("heal", "unstick", "down")}
    for each in parsers.values():
        each.add_argument("--dir", type=Path, required=True, help="the network's directory")
    parsers["up"].add_argument("--validators", type=int, default=4)
    parsers["up"].add_argument("--engine", choices=["geth"], default="geth")
    parsers["up"].add_argument("--period", type=int, default=1, help="seconds between blocks")
    parsers["up"].add_argument("--chain-id", type=int)
    parsers["up"].add_argument("--fund", action="append", default=[], metavar="0x…", help="an account to fund")
    for name in ("kill", "start"):
        parsers[name].add_argument("node", type=int)
    parsers["partition"].add_argument("groups", type=group, nargs="+", metavar="A,B")
    parsers["down"].add_argument("--delete", action="store_true", help="remove the directory too")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    try:
        arguments.dir = arguments.dir.resolve()
        if arguments.verb == "up":
            up(arguments)
        else:
            act(arguments)
    except YunxiError as error:
        print(f"consortium: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
