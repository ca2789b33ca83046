"""go-ethereum in proof of authority (Clique), several real nodes on loopback: start, kill, partition, heal.

For tests and trials: every validator of such a network is run by one person, so it proves nothing against that person.

    network.json      chain id, ports, validators' public keys, which nodes may see which; replaced as a whole
    genesis.json      the same for every node
    operator.key      the funded account that deploys contracts (hex)
    node-0/ …         a node's directory (`geth_node`)

Needs go-ethereum 1.13: the last that seals Clique blocks (1.13.15 is what the tests run).
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eth_account import Account

from ledger.chain.client import ChainClient
from ledger.chain.consortium import clique
from ledger.chain.consortium.geth_node import HOST, GethNode, NodePlan, NodeState, find_geth, wait_until
from ledger.chain.consortium.keys import ValidatorKey, write_secret
from ledger.errors import ChainUnreachable, CouldNotRun

STATE_FILE = "network.json"
PEER_SECONDS = 60.0

# below the range from which the system takes ports for outgoing connections: a killed node gets its own port back
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `network.json` holds. `groups`: nodes in one group see each other, others do not."""

    chain_id: int
    period: int
    nodes: tuple[NodePlan, ...]
    groups: tuple[tuple[int, ...], ...]

    def peers(self, index: int) -> tuple[int, ...]:
        return next(tuple(other for other in group if other != index) for group in self.groups if index in group)


class CliqueNetwork:
    """A network in a directory. Several processes may open it; one at a time may change it."""

    def __init__(self, directory: Path, plan: Plan, binary: str, *, tied: bool = False) -> None:
        """`tied`: nodes started from here end with the calling thread, however it ends (where `setpriv` exists)."""
        self.directory = directory
        self.plan = plan
        self.nodes = tuple(
            GethNode(index, directory / f"node-{index}", node, plan.chain_id, binary, tied=tied)
            for index, node in enumerate(plan.nodes)
        )

    @classmethod
    def create(
        cls,
        directory: Path,
        validators: int = 4,
        *,
        period: int = 1,
        chain_id: int | None = None,
        funded: Sequence[str] = (),
        binary: str | None = None,
        tied: bool = False,
    ) -> CliqueNetwork:
        """Draw keys and write every node's directory; nothing runs yet. `period` is the seconds between blocks.

        Raises CouldNotRun if go-ethereum is not there, or the directory is taken.
        """
        if validators < 1 or period < 1:
            raise CouldNotRun("a Clique network needs at least one validator and a period of at least one second")
        binary = binary or find_geth()
        if directory.exists() and any(directory.iterdir()):
            raise CouldNotRun(f"{directory} is not empty: name another directory, or end the network in it with `down`")
        directory.mkdir(parents=True, exist_ok=True)
        keys = [ValidatorKey.create() for _ in range(validators)]
        ports = _free_ports(2 * validators)
        nodes = tuple(
            NodePlan(peer_port, rpc_port, key.public.public_key.hex())
            for key, peer_port, rpc_port in zip(keys, ports[::2], ports[1::2], strict=True)
        )
        plan = Plan(chain_id or 10**9 + secrets.randbelow(10**9), period, nodes, (tuple(range(validators)),))
        network = cls(directory, plan, binary, tied=tied)
        network._write(keys, funded)
        return network

    @classmethod
    def open(cls, directory: Path, *, binary: str | None = None) -> CliqueNetwork:
        """The network that `create` made. Raises CouldNotRun if there is none."""
        try:
            values = json.loads((directory / STATE_FILE).read_text("utf-8"))
        except OSError as error:
            raise CouldNotRun(f"{directory} holds no network: start one with `up`") from error
        nodes = tuple(NodePlan(**node) for node in values["nodes"])
        groups = tuple(tuple(group) for group in values["groups"])
        return cls(directory, Plan(values["chain_id"], values["period"], nodes, groups), binary or find_geth())

    # -- what it is

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.plan.nodes]

    @property
    def chain_id(self) -> int:
        return self.plan.chain_id

    @property
    def validators(self) -> list[tuple[str, bytes]]:
        """(checksummed address, 64-byte public key) of every validator, in node order."""
        return [(node.validator.address, node.validator.public_key) for node in self.plan.nodes]

    @property
    def confirmations(self) -> int:
        """Blocks that must follow before a block counts as final."""
        return clique.signers_needed(len(self.plan.nodes))

    def operator_key(self) -> bytes:
        """The 32-byte key of the account that genesis funds."""
        return bytes.fromhex((self.directory / "operator.key").read_text("ascii"))

    def client(self, index: int = 0, timeout: float = 10.0) -> ChainClient:
        return self.nodes[index].client(timeout)

    def genesis_hash(self) -> bytes:
        """32 bytes. Asks the first node that is up."""
        with closing(self.client(self._first_alive())) as client:
            return client.genesis_hash()

    def states(self) -> list[NodeState]:
        return [node.state() for node in self.nodes]

    # -- processes

    def up(self) -> None:
        """Start every node that is down, see them peered and blocks coming. Raises ChainUnreachable."""
        for node in self.nodes:
            if node.pid() is None:
                self._launch(node)
        for node in self.nodes:
            node.await_answer()
        self.await_peers()
        self.resume()

    def start(self, index: int) -> None:
        """Start a node that is down, and see it peered with those it may see and that are up."""
        node = self._node(index)
        if node.pid() is None:
            self._launch(node)
        node.await_answer()
        self.await_peers()

    def kill(self, index: int) -> None:
        """`kill -9`: no goodbye to peers, nothing flushed. Returns when the process is gone."""
        self._node(index).end(signal.SIGKILL)

    def stop(self, index: int) -> None:
        """Ask a node to end, as an operator would; kill it if it takes too long."""
        self._node(index).end(signal.SIGTERM)

    def down(self) -> None:
        """End every node. The directory stays."""
        for node in self.nodes:
            pid = node.pid()
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        for node in self.nodes:
            node.end(signal.SIGTERM)

    def wipe(self, index: int) -> None:
        """Forget a node's chain, not its key: as if its disk were lost. The node must be down."""
        self.nodes[index].forget_chain()
        self.nodes[index].begin_chain(self._genesis)

    def _launch(self, node: GethNode) -> None:
        node.launch([self.plan.nodes[other] for other in self.plan.peers(node.index)])

    # -- who sees whom

    def partition(self, *groups: Sequence[int]) -> None:
        """Let nodes see only those of their own group; nodes not named form one group more."""
        named = [index for group in groups for index in group]
        if len(set(named)) != len(named) or not set(named) <= set(range(len(self.plan.nodes))):
            raise CouldNotRun(f"each node 0 to {len(self.plan.nodes) - 1} belongs to at most one group")
        rest = tuple(index for index in range(len(self.plan.nodes)) if index not in named)
        self._regroup([*(tuple(group) for group in groups), *([rest] if rest else [])])

    def heal(self) -> None:
        """Let every node see every other again."""
        self._regroup([tuple(range(len(self.plan.nodes)))])

    def await_peers(self, seconds: float = PEER_SECONDS) -> None:
        """Wait until every node that is up has exactly the peers it should. Raises ChainUnreachable."""
        alive = {node.index for node in self.nodes if node.pid() is not None}

        def peered() -> bool:
            return all(self.nodes[at].state().peers == len(alive & set(self.plan.peers(at))) for at in alive)

        wait_until(peered, seconds, "the nodes did not find each other")

    def await_blocks(self, count: int, index: int | None = None, seconds: float | None = None) -> int:
        """Wait until a node (the first that is up) has `count` more blocks; returns its height."""
        at = index if index is not None else self._first_alive()
        goal = self._number(at) + count
        wait = seconds if seconds is not None else 30 + 4 * count * self.plan.period
        wait_until(lambda: self._number(at) >= goal, wait, f"no {count} blocks came within {wait:g} seconds")
        return self._number(at)

    def resume(self, seconds: float = 25.0) -> None:
        """See blocks coming again after a fault; decide between branches by `unstick` if nobody else does."""
        try:
            self.await_blocks(2, seconds=seconds)
        except ChainUnreachable:
            self.unstick()
            self.await_blocks(2, seconds=seconds)

    def unstick(self) -> None:
        """Let one node change to the branch of another, where two branches are equally heavy and nobody may seal.

        Clique has no rule for that case: a signer may not seal again so soon on its own branch, and sees no reason to
        prefer the other. It happens after a partition into halves, and waits for an operator for ever.
        """
        alive = [state for state in self.states() if state.number is not None]
        leader = max(alive, key=lambda state: state.number or 0)
        for state in alive:
            if state.head != leader.head:
                self._change_branch(state.index, leader.index)
                if self._moving():
                    return

    def _change_branch(self, index: int, leader: int) -> None:
        path = self.nodes[index].path / "branch.rlp"
        with closing(self.client(index)) as mine, closing(self.client(leader)) as theirs:
            fork, top = _fork(mine, theirs), _head(theirs)
            blocks = (theirs.request("debug_getRawBlock", hex(number)) for number in range(fork + 1, top + 1))
            path.write_bytes(b"".join(bytes.fromhex(block.removeprefix("0x")) for block in blocks))
            mine.request("miner_stop")
            mine.request("debug_setHead", hex(fork))
            mine.request("admin_importChain", str(path))
            mine.request("miner_start")
        path.unlink()

    def _moving(self) -> bool:
        try:
            self.await_blocks(1, seconds=5 + 3 * self.plan.period)
        except ChainUnreachable:
            return False
        return True

    # -- inside

    def _node(self, index: int) -> GethNode:
        if not 0 <= index < len(self.nodes):
            raise CouldNotRun(f"there is no node {index}: they are 0 to {len(self.nodes) - 1}")
        return self.nodes[index]

    @property
    def _genesis(self) -> Path:
        return self.directory / "genesis.json"

    def _write(self, keys: Sequence[ValidatorKey], funded: Sequence[str]) -> None:
        operator = Account.create()
        write_secret(self.directory / "operator.key", bytes(operator.key).hex())
        signers = [key.public.address for key in keys]
        genesis = clique.genesis(
            self.plan.chain_id, signers, period=self.plan.period, funded=[operator.address, *signers, *funded]
        )
        self._genesis.write_text(json.dumps(genesis, indent=1), "utf-8")
        for node, key in zip(self.nodes, keys, strict=True):
            node.write(key)
            node.begin_chain(self._genesis)
        self._save()

    def _save(self) -> None:
        temporary = self.directory / (STATE_FILE + ".new")
        temporary.write_text(json.dumps(asdict(self.plan), indent=1), "utf-8")
        temporary.replace(self.directory / STATE_FILE)

    def _regroup(self, groups: Sequence[tuple[int, ...]]) -> None:
        self.plan = replace(self.plan, groups=tuple(groups))
        self._save()
        for node in self.nodes:
            if node.pid() is None:
                continue
            mine = self.plan.peers(node.index)
            with closing(node.client()) as client:
                for other, peer in enumerate(self.plan.nodes):
                    if other != node.index:
                        client.request("admin_addPeer" if other in mine else "admin_removePeer", peer.enode)
        self.await_peers()

    def _number(self, index: int) -> int:
        number = self.nodes[index].state().number
        return -1 if number is None else number

    def _first_alive(self) -> int:
        for node in self.nodes:
            if node.pid() is not None:
                return node.index
        raise ChainUnreachable(f"no node of the network in {self.directory} is running")


def _head(client: ChainClient) -> int:
    block = client.block()
    return block.number if block else 0


def _fork(one: ChainClient, other: ChainClient) -> int:
    """The number of the last block that both have."""
    number = min(_head(one), _head(other))
    while one.block(number) != other.block(number):
        number -= 1
    return number


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise CouldNotRun("no free ports are left on loopback")
