"""go-ethereum in proof of authority (Clique), several real nodes on loopback: start, kill, partition, heal.

For tests and trials: every validator of such a network is run by one person, so it proves nothing against that person.

    network.json      chain id, ports, validators' public keys, which nodes may see which; replaced as a whole
    genesis.json      the same for every node
    operator.key      the funded account that deploys contracts (hex)
    node-0/ …         a node's data directory: key (hex), keystore, password, config.toml, chain data, log, pid

Needs go-ethereum 1.13: the last that seals Clique blocks (1.13.15 is what the tests run).
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eth_account import Account

from ledger.chain.client import ChainClient
from ledger.chain.consortium import clique
from ledger.chain.consortium.keys import ValidatorKey, ValidatorPublic, write_secret
from ledger.errors import ChainUnreachable, CouldNotRun

BINARY_VARIABLE = "YUNXI_GETH"
STATE_FILE = "network.json"
HOST = "127.0.0.1"

START_SECONDS = 60.0
PEER_SECONDS = 60.0
STOP_SECONDS = 15.0

# below the range from which the system takes ports for outgoing connections: a killed node gets its own port back
_PORTS = range(20_000, 32_000)

# miner and debug: only what `unstick` needs
_APIS = "eth,net,web3,clique,txpool,admin,miner,debug"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: where it listens, and its validator's public key (128 hex digits)."""

    peer_port: int
    rpc_port: int
    public_key: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.rpc_port}"

    @property
    def validator(self) -> ValidatorPublic:
        return ValidatorPublic(bytes.fromhex(self.public_key))

    @property
    def enode(self) -> str:
        return self.validator.enode(HOST, self.peer_port) + "?discport=0"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `network.json` holds. `groups`: nodes in one group see each other, others do not."""

    chain_id: int
    period: int
    nodes: tuple[NodePlan, ...]
    groups: tuple[tuple[int, ...], ...]

    def peers(self, index: int) -> tuple[int, ...]:
        return next(tuple(other for other in group if other != index) for group in self.groups if index in group)


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node stands. `number`, `head` (32 bytes) and `peers` are None if it does not answer."""

    index: int
    pid: int | None
    number: int | None
    head: bytes | None
    peers: int | None


class CliqueNetwork:
    """A network in a directory. Several processes may open it; one at a time may change it."""

    def __init__(self, directory: Path, plan: Plan, binary: str, *, tied: bool = False) -> None:
        """`tied`: nodes started from here end with the calling thread, however it ends (where `setpriv` exists)."""
        self.directory = directory
        self.plan = plan
        self._binary = binary
        self._tied = tied
        self._children: dict[int, subprocess.Popen[bytes]] = {}

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
        return ChainClient(self.plan.nodes[index].url, self.chain_id, timeout)

    def genesis_hash(self) -> bytes:
        """32 bytes. Asks the first node that is up."""
        with closing(self.client(self._first_alive())) as client:
            return client.genesis_hash()

    def states(self) -> list[NodeState]:
        return [self._state(index) for index in range(len(self.plan.nodes))]

    # -- processes

    def up(self) -> None:
        """Start every node that is down, see them peered and blocks coming. Raises ChainUnreachable."""
        for index in range(len(self.plan.nodes)):
            if self._pid(index) is None:
                self._launch(index)
        for index in range(len(self.plan.nodes)):
            self._await_answer(index)
        self.await_peers()
        self.resume()

    def start(self, index: int) -> None:
        """Start a node that is down, and see it peered with those it may see and that are up."""
        self._require(index)
        if self._pid(index) is None:
            self._launch(index)
        self._await_answer(index)
        self.await_peers()

    def kill(self, index: int) -> None:
        """`kill -9`: no goodbye to peers, nothing flushed. Returns when the process is gone."""
        self._end(index, signal.SIGKILL)

    def stop(self, index: int) -> None:
        """Ask a node to end, as an operator would; kill it if it takes too long."""
        self._end(index, signal.SIGTERM)

    def down(self) -> None:
        """End every node. The directory stays."""
        for index in range(len(self.plan.nodes)):
            pid = self._pid(index)
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        for index in range(len(self.plan.nodes)):
            self._end(index, signal.SIGTERM)

    def wipe(self, index: int) -> None:
        """Forget a node's chain, not its key: as if its disk were lost. The node must be down."""
        shutil.rmtree(self._path(index) / "geth")
        self._init(index)

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
        alive = [index for index in range(len(self.plan.nodes)) if self._pid(index) is not None]

        def peered() -> bool:
            return all(self._peer_count(index) == len(set(alive) & set(self.plan.peers(index))) for index in alive)

        _await(peered, seconds, "the nodes did not find each other")

    def await_blocks(self, count: int, index: int | None = None, seconds: float | None = None) -> int:
        """Wait until a node (the first that is up) has `count` more blocks; returns its height."""
        at = index if index is not None else self._first_alive()
        goal = self._number(at) + count
        wait = seconds if seconds is not None else 30 + 4 * count * self.plan.period
        _await(lambda: self._number(at) >= goal, wait, f"no {count} blocks came within {wait:g} seconds")
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
        path = self._path(index) / "branch.rlp"
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

    def _require(self, index: int) -> None:
        if not 0 <= index < len(self.plan.nodes):
            raise CouldNotRun(f"there is no node {index}: they are 0 to {len(self.plan.nodes) - 1}")

    def _path(self, index: int) -> Path:
        return self.directory / f"node-{index}"

    def _write(self, keys: Sequence[ValidatorKey], funded: Sequence[str]) -> None:
        operator = Account.create()
        write_secret(self.directory / "operator.key", bytes(operator.key).hex())
        signers = [key.public.address for key in keys]
        genesis = clique.genesis(
            self.plan.chain_id, signers, period=self.plan.period, funded=[operator.address, *signers, *funded]
        )
        (self.directory / "genesis.json").write_text(json.dumps(genesis, indent=1), "utf-8")
        for index, key in enumerate(keys):
            self._write_node(index, key)
            self._init(index)
        self._save()

    def _write_node(self, index: int, key: ValidatorKey) -> None:
        path, password = self._path(index), secrets.token_urlsafe(16)
        (path / "keystore").mkdir(parents=True, mode=0o700)
        write_secret(path / "key", key.private.hex())
        write_secret(path / "password", password)
        # a light key derivation: the password lies beside the file anyway
        keystore = Account.encrypt(key.private, password, kdf="scrypt", iterations=4096)
        write_secret(path / "keystore" / key.public.address.lower().removeprefix("0x"), json.dumps(keystore))

    def _init(self, index: int) -> None:
        genesis = self.directory / "genesis.json"
        command = [self._binary, "init", "--datadir", str(self._path(index)), "--state.scheme=hash", str(genesis)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise CouldNotRun(f"go-ethereum did not take the genesis file: {lines[-1]}")

    def _save(self) -> None:
        temporary = self.directory / (STATE_FILE + ".new")
        temporary.write_text(json.dumps(asdict(self.plan), indent=1), "utf-8")
        temporary.replace(self.directory / STATE_FILE)

    def _launch(self, index: int) -> None:
        path, node = self._path(index), self.plan.nodes[index]
        (path / "config.toml").write_text(self._config(index), "utf-8")
        with (path / "log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [*self._tie(), *self._command(path, node)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[index] = process
        (path / "pid").write_text(str(process.pid), "ascii")

    def _tie(self) -> list[str]:
        setpriv = shutil.which("setpriv") if self._tied else None
        return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    def _config(self, index: int) -> str:
        # go-ethereum has no option for the address on which peers are heard, only this file
        enodes = [self.plan.nodes[other].enode for other in self.plan.peers(index)]
        return "\n".join(
            [
                "[Node.P2P]",
                "NoDiscovery = true",
                "BootstrapNodes = []",
                "BootstrapNodesV5 = []",
                f"ListenAddr = {json.dumps(f'{HOST}:{self.plan.nodes[index].peer_port}')}",
                f"StaticNodes = {json.dumps(enodes)}",
                "",
            ]
        )

    def _command(self, path: Path, node: NodePlan) -> list[str]:
        address = node.validator.address
        return [
            self._binary,
            *("--config", str(path / "config.toml")),
            *("--datadir", str(path)),
            *("--networkid", str(self.plan.chain_id)),
            *("--nodekey", str(path / "key")),
            *("--netrestrict", "127.0.0.0/8"),
            *("--nat", "none"),
            "--ipcdisable",
            *("--authrpc.port", "0"),
            *("--http", "--http.addr", HOST, "--http.port", str(node.rpc_port), "--http.api", _APIS),
            # archive: a state on disk for every block, so that `kill -9` loses none and old state can be proven
            *("--syncmode", "full", "--gcmode", "archive", "--state.scheme", "hash"),
            *("--cache", "64"),
            *("--mine", "--miner.etherbase", address),
            *("--unlock", address, "--password", str(path / "password"), "--allow-insecure-unlock"),
            *("--miner.gaslimit", str(clique.GAS_LIMIT)),
            *("--rpc.txfeecap", "0"),
            *("--verbosity", "3"),
        ]

    def _pid(self, index: int) -> int | None:
        child = self._children.get(index)
        if child is not None:
            return child.pid if child.poll() is None else None
        try:
            pid = int((self._path(index) / "pid").read_text("ascii"))
        except (OSError, ValueError):
            return None
        # a pid is reused sooner or later: it counts only while it runs on this data directory
        command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
        return pid if f"--datadir {self._path(index)} " in shown else None

    def _end(self, index: int, kind: signal.Signals) -> None:
        self._require(index)
        pid = self._pid(index)
        if pid is None:
            return
        os.kill(pid, kind)
        try:
            _await(lambda: self._pid(index) is None, STOP_SECONDS, "")
        except ChainUnreachable:
            os.kill(pid, signal.SIGKILL)
            _await(lambda: self._pid(index) is None, STOP_SECONDS, f"process {pid} does not end")

    def _await_answer(self, index: int) -> None:
        def answers() -> bool:
            if self._pid(index) is None:
                raise ChainUnreachable(f"node {index} ended at once: {self._last_words(index)}")
            return self._state(index).number is not None

        _await(answers, START_SECONDS, f"node {index} does not answer: {self._last_words(index)}")
        with closing(self.client(index)) as client:
            # gas is free. The option for it makes zero into a gwei: a node would then seal what it was sent itself, and
            # refuse the same from its peers
            client.request("miner_setGasPrice", "0x0")

    def _last_words(self, index: int) -> str:
        lines = (self._path(index) / "log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    def _regroup(self, groups: Sequence[tuple[int, ...]]) -> None:
        self.plan = replace(self.plan, groups=tuple(groups))
        self._save()
        for index, node in enumerate(self.plan.nodes):
            if self._pid(index) is None:
                continue
            client, mine = ChainClient(node.url, self.chain_id), self.plan.peers(index)
            for other, peer in enumerate(self.plan.nodes):
                if other != index:
                    client.request("admin_addPeer" if other in mine else "admin_removePeer", peer.enode)
            client.close()
        self.await_peers()

    def _state(self, index: int) -> NodeState:
        client, pid = self.client(index, timeout=5), self._pid(index)
        try:
            block = client.block() if pid is not None else None
            peers = int(client.request("net_peerCount"), 16) if block else None
        except ChainUnreachable:
            block, peers = None, None
        finally:
            client.close()
        return NodeState(index, pid, block.number if block else None, block.hash if block else None, peers)

    def _number(self, index: int) -> int:
        number = self._state(index).number
        return -1 if number is None else number

    def _peer_count(self, index: int) -> int | None:
        return self._state(index).peers

    def _first_alive(self) -> int:
        for index in range(len(self.plan.nodes)):
            if self._pid(index) is not None:
                return index
        raise ChainUnreachable(f"no node of the network in {self.directory} is running")


def find_geth() -> str:
    """The go-ethereum binary: `YUNXI_GETH`, or `geth` on the path. Raises CouldNotRun if it is missing or too new."""
    binary = os.environ.get(BINARY_VARIABLE) or shutil.which("geth")
    if not binary:
        raise CouldNotRun(
            f"go-ethereum is not installed: build it with `scripts/services start` (needs Go) or name one in "
            f"{BINARY_VARIABLE}"
        )
    try:
        shown = subprocess.run([binary, "version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise CouldNotRun(f"{binary} cannot be run: {error.strerror}") from error
    version = next((line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("Version:")), "unknown")
    if not version.startswith("1.13."):
        raise CouldNotRun(f"{binary} is go-ethereum {version}; only 1.13 still seals Clique blocks")
    return binary


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


def _await(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ChainUnreachable(otherwise)
        time.sleep(0.1)
