"""One go-ethereum node of a Clique network: its directory, its process, what it answers.

    key (hex), keystore, password, config.toml, chain data, log, pid

A pid is written when the node is started, so that another process can end it; it counts only while it runs on this
very directory.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account

from ledger.chain.client import ChainClient
from ledger.chain.consortium import clique
from ledger.chain.consortium.keys import ValidatorKey, ValidatorPublic, write_secret
from ledger.errors import ChainUnreachable, CouldNotRun

BINARY_VARIABLE = "YUNXI_GETH"
HOST = "127.0.0.1"

START_SECONDS = 60.0
STOP_SECONDS = 15.0

# miner and debug: only what `CliqueNetwork.unstick` needs
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
class NodeState:
    """How a node stands. `number`, `head` (32 bytes) and `peers` are None if it does not answer."""

    index: int
    pid: int | None
    number: int | None
    head: bytes | None
    peers: int | None


class GethNode:
    """Node `index` of a network with the chain id `chain_id`, in `path`."""

    def __init__(self, index: int, path: Path, plan: NodePlan, chain_id: int, binary: str, *, tied: bool) -> None:
        """`tied`: the process ends with the calling thread, however it ends (where `setpriv` exists)."""
        self.index = index
        self.path = path
        self.plan = plan
        self._chain_id = chain_id
        self._binary = binary
        self._tied = tied
        self._child: subprocess.Popen[bytes] | None = None

    def write(self, key: ValidatorKey) -> None:
        """Makes the directory, with the validator's key."""
        path, password = self.path, secrets.token_urlsafe(16)
        (path / "keystore").mkdir(parents=True, mode=0o700)
        write_secret(path / "key", key.private.hex())
        write_secret(path / "password", password)
        # a light key derivation: the password lies beside the file anyway
        keystore = Account.encrypt(key.private, password, kdf="scrypt", iterations=4096)
        write_secret(path / "keystore" / key.public.address.lower().removeprefix("0x"), json.dumps(keystore))

    def begin_chain(self, genesis: Path) -> None:
        """Makes the chain's first block. Raises CouldNotRun."""
        command = [self._binary, "init", "--datadir", str(self.path), "--state.scheme=hash", str(genesis)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise CouldNotRun(f"go-ethereum did not take the genesis file: {lines[-1]}")

    def forget_chain(self) -> None:
        """Deletes the chain, not the key. The node must be down."""
        shutil.rmtree(self.path / "geth")

    def client(self, timeout: float = 10.0) -> ChainClient:
        """A client of this node."""
        return ChainClient(self.plan.url, self._chain_id, timeout)

    # -- its process

    def launch(self, peers: Sequence[NodePlan]) -> None:
        """Starts the process, which looks for `peers`; it does not answer yet."""
        path = self.path
        (path / "config.toml").write_text(self._config(peers), "utf-8")
        with (path / "log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [*self._tie(), *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._child = process
        (path / "pid").write_text(str(process.pid), "ascii")

    def pid(self) -> int | None:
        """The process, or None where it is down."""
        child = self._child
        if child is not None:
            return child.pid if child.poll() is None else None
        try:
            pid = int((self.path / "pid").read_text("ascii"))
        except (OSError, ValueError):
            return None
        # a pid is reused sooner or later: it counts only while it runs on this data directory
        command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
        return pid if f"--datadir {self.path} " in shown else None

    def end(self, kind: signal.Signals) -> None:
        """Ends the process by `kind`, by force if it takes too long; returns when it is gone."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, kind)
        try:
            wait_until(lambda: self.pid() is None, STOP_SECONDS, "")
        except ChainUnreachable:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.pid() is None, STOP_SECONDS, f"process {pid} does not end")

    def await_answer(self) -> None:
        """Waits until it answers. Raises ChainUnreachable, with the last line of its log."""

        def answers() -> bool:
            if self.pid() is None:
                raise ChainUnreachable(f"node {self.index} ended at once: {self._last_words()}")
            return self.state().number is not None

        wait_until(answers, START_SECONDS, f"node {self.index} does not answer: {self._last_words()}")
        with closing(self.client()) as client:
            # gas is free. The option for it makes zero into a gwei: a node would then seal what it was sent itself, and
            # refuse the same from its peers
            client.request("miner_setGasPrice", "0x0")

    def state(self) -> NodeState:
        """How it stands now."""
        client, pid = self.client(timeout=5), self.pid()
        try:
            block = client.block() if pid is not None else None
            peers = int(client.request("net_peerCount"), 16) if block else None
        except ChainUnreachable:
            block, peers = None, None
        finally:
            client.close()
        return NodeState(self.index, pid, block.number if block else None, block.hash if block else None, peers)

    def _last_words(self) -> str:
        lines = (self.path / "log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    def _tie(self) -> list[str]:
        setpriv = shutil.which("setpriv") if self._tied else None
        return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    def _config(self, peers: Sequence[NodePlan]) -> str:
        # go-ethereum has no option for the address on which peers are heard, only this file
        enodes = [peer.enode for peer in peers]
        return "\n".join(
            [
                "[Node.P2P]",
                "NoDiscovery = true",
                "BootstrapNodes = []",
                "BootstrapNodesV5 = []",
                f"ListenAddr = {json.dumps(f'{HOST}:{self.plan.peer_port}')}",
                f"StaticNodes = {json.dumps(enodes)}",
                "",
            ]
        )

    def _command(self) -> list[str]:
        path, address = self.path, self.plan.validator.address
        return [
            self._binary,
            *("--config", str(path / "config.toml")),
            *("--datadir", str(path)),
            *("--networkid", str(self._chain_id)),
            *("--nodekey", str(path / "key")),
            *("--netrestrict", "127.0.0.0/8"),
            *("--nat", "none"),
            "--ipcdisable",
            *("--authrpc.port", "0"),
            *("--http", "--http.addr", HOST, "--http.port", str(self.plan.rpc_port), "--http.api", _APIS),
            # archive: a state on disk for every block, so that `kill -9` loses none and old state can be proven
            *("--syncmode", "full", "--gcmode", "archive", "--state.scheme", "hash"),
            *("--cache", "64"),
            *("--mine", "--miner.etherbase", address),
            *("--unlock", address, "--password", str(path / "password"), "--allow-insecure-unlock"),
            *("--miner.gaslimit", str(clique.GAS_LIMIT)),
            *("--rpc.txfeecap", "0"),
            *("--verbosity", "3"),
        ]


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


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Raises ChainUnreachable, saying `otherwise`, where `condition` does not hold within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ChainUnreachable(otherwise)
        time.sleep(0.1)
