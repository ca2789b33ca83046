"""The files of a Hyperledger Besu QBFT consortium: genesis, keys, peers, permissions, and a trial on one machine.

    genesis.json             the same for every validator
    node-0/ …                a validator's directory, mounted as Besu's data path:
        key                  its private key (only where it was drawn here), readable by its owner alone
        key.pub              its public key, 0x and 128 hex digits
        static-nodes.json    the others, by enode
        permissions_config.toml   which nodes may connect, which accounts may send
    validators.json          for the trust file: addresses, public keys as JWK, how many must seal
    compose.yaml, .env       four validators, PostgreSQL and two gateways on one machine, to try it out

`docs/consortium.md` is the runbook.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

from eth_utils.address import is_address, to_checksum_address

from ledger.chain.consortium import qbft
from ledger.chain.consortium.keys import ValidatorKey, ValidatorPublic, write_secret
from ledger.errors import CouldNotRun, Malformed

PEER_PORT = 30_303
RPC_PORT = 8_545
BESU_IMAGE = "hyperledger/besu:25.11.0"
POSTGRES_IMAGE = "postgres:17"

# enodes name addresses, not names, so the trial's containers get fixed ones
_TRIAL_NETWORK = IPv4Network("172.30.71.0/24")
_TRIAL_FIRST = 11

_PREAMBLE = "# Written by `yunxi consortium config`. "


@dataclass(frozen=True, slots=True)
class Member:
    """One validator: where peers reach it, and its private key if it was drawn here."""

    host: str
    port: int
    public: ValidatorPublic
    key: ValidatorKey | None

    @property
    def enode(self) -> str:
        return self.public.enode(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the chain's id, and the validators' checksummed addresses in node order."""

    directory: Path
    chain_id: int
    validators: tuple[str, ...]


def write_config(
    directory: Path,
    *,
    validators: int = 4,
    chain_id: int | None = None,
    period: int = 2,
    hosts: Sequence[str] = (),
    public_keys: Sequence[str] = (),
    accounts: Sequence[str] = (),
) -> Written:
    """Write everything into `directory`, absent or empty.

    `period`: seconds between blocks. `hosts`: `IP` or `IP:PORT` of each validator; by default the trial's own.
    `public_keys`: 128 hex digits each, of validators whose operators drew their keys themselves, as they should in
    production; keys are drawn for the rest. `accounts`: who may send transactions. Raises CouldNotRun if the
    directory is taken or the numbers do not fit, Malformed for a host, key or account that is none.
    """
    _check(directory, validators, period, hosts, public_keys)
    chain_id = chain_id or 10**9 + secrets.randbelow(10**9)
    members = _members(validators, hosts, public_keys)
    addresses = tuple(member.public.address for member in members)
    allowed = [_account(account) for account in accounts]
    genesis = qbft.genesis(chain_id, addresses, period=period)
    # everything that can be refused was looked at before this line
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / "genesis.json", genesis)
    _write_json(directory / "validators.json", _trust(members))
    for index, member in enumerate(members):
        _write_member(directory / f"node-{index}", member, members, allowed)
    (directory / "compose.yaml").write_text(compose(members), "utf-8")
    write_secret(directory / ".env", environment())
    return Written(directory, chain_id, addresses)


def permissions(enodes: Sequence[str], accounts: Sequence[str]) -> str:
    """Besu's permissions_config.toml. Both lists empty mean: nobody."""
    return "\n".join(
        [
            _PREAMBLE + "The same for every validator.",
            f"nodes-allowlist={json.dumps(list(enodes))}",
            f"accounts-allowlist={json.dumps([account.lower() for account in accounts])}",
            "",
        ]
    )


def compose(members: Sequence[Member]) -> str:
    """compose.yaml: the validators, PostgreSQL, and two gateways of one node. Paths are relative to the file."""
    services = [_PREAMBLE + "A trial on one machine: in production every validator has its own.", "name: yunxi"]
    services += ["services:", *(_validator(index, member) for index, member in enumerate(members)), _POSTGRES]
    services += [_GATEWAY.format(index=index) for index in range(2)]
    return "\n".join(services) + "\n" + _NETWORK.format(subnet=_TRIAL_NETWORK)


def environment() -> str:
    """The trial's .env: a drawn database password, who owns the key files, and the switch for account permissions."""
    return "\n".join(
        [
            _PREAMBLE + "Holds a password: keep it readable by its owner alone.",
            f"POSTGRES_PASSWORD={secrets.token_urlsafe(24)}",
            f"BESU_USER={os.getuid()}:{os.getgid()}",
            f"BESU_IMAGE={BESU_IMAGE}",
            "YUNXI_IMAGE=yunxi:latest",
            "# true once permissions_config.toml names the accounts (`yunxi consortium accounts`); see the runbook",
            "ACCOUNT_PERMISSIONS=false",
            "",
        ]
    )


_POSTGRES = f"""\
  postgres:
    image: {POSTGRES_IMAGE}
    restart: unless-stopped
    environment:
      POSTGRES_USER: yunxi
      POSTGRES_DB: yunxi
      POSTGRES_PASSWORD: ${{POSTGRES_PASSWORD:?}}
    volumes: ["postgres:/var/lib/postgresql/data"]
    networks: [consortium]
    healthcheck:
      test: ["CMD", "pg_isready", "-U", "yunxi"]
      interval: 5s"""

# both work on one node: records, keys and settings are shared, and either goes on alone
_GATEWAY = """\
  gateway-{index}:
    image: ${{YUNXI_IMAGE:?}}
    restart: unless-stopped
    command: ["yunxi", "anchor", "--follow"]
    environment:
      YUNXI_NODE: /node
    volumes: ["node:/node"]
    networks: [consortium]
    depends_on:
      postgres: {{condition: service_healthy}}"""

_NETWORK = """\
volumes:
  postgres:
  node:
networks:
  consortium:
    ipam:
      config: [{{subnet: {subnet}}}]
"""


def _validator(index: int, member: Member) -> str:
    # `chain` names every validator that is up: a gateway that asks it finds another when one is down
    return f"""\
  validator-{index}:
    image: ${{BESU_IMAGE:?}}
    user: ${{BESU_USER:?}}
    restart: unless-stopped
    command:
      - --genesis-file=/config/genesis.json
      - --data-path=/data
      - --p2p-host={member.host}
      - --p2p-port={member.port}
      - --discovery-enabled=false
      - --sync-mode=FULL
      - --data-storage-format=FOREST
      - --min-gas-price=0
      - --permissions-nodes-config-file-enabled=true
      - --permissions-accounts-config-file-enabled=${{ACCOUNT_PERMISSIONS:?}}
      - --rpc-http-enabled=true
      - --rpc-http-host=0.0.0.0
      - --rpc-http-port={RPC_PORT}
      - --rpc-http-api=ETH,NET,WEB3
      - --host-allowlist=*
    volumes:
      - ./genesis.json:/config/genesis.json:ro
      - ./node-{index}:/data
    networks:
      consortium:
        ipv4_address: {member.host}
        aliases: [chain]
    ports: ["127.0.0.1:{RPC_PORT + index}:{RPC_PORT}"]"""


def _check(directory: Path, validators: int, period: int, hosts: Sequence[str], keys: Sequence[str]) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CouldNotRun(f"{directory} is not an empty directory: name another one")
    if not 4 <= validators <= 100:
        raise CouldNotRun("QBFT outlives a failed validator only from four on: name 4 to 100 validators")
    if period < 1:
        raise CouldNotRun("the period is at least one second")
    if hosts and len(hosts) != validators:
        raise CouldNotRun(f"{len(hosts)} hosts are named for {validators} validators: name one for each, or none")
    if len(keys) > validators:
        raise CouldNotRun(f"{len(keys)} public keys are given for {validators} validators")


def _members(validators: int, hosts: Sequence[str], public_keys: Sequence[str]) -> list[Member]:
    members = []
    for index in range(validators):
        host, port = _host(hosts[index]) if hosts else (str(_TRIAL_NETWORK[_TRIAL_FIRST + index]), PEER_PORT)
        if index < len(public_keys):
            members.append(Member(host, port, _public(public_keys[index]), None))
        else:
            key = ValidatorKey.create()
            members.append(Member(host, port, key.public, key))
    return members


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    try:
        return str(ip_address(host)), int(port) if port else PEER_PORT
    except ValueError as error:
        raise Malformed("validator's host", f"{text[:60]!r} is not an IPv4 address with or without :port") from error


def _public(text: str) -> ValidatorPublic:
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise Malformed("validator's public key", "is not hexadecimal") from error
    return ValidatorPublic.of(key)


def _account(text: str) -> str:
    if not is_address(text):
        raise Malformed("account", f"{text[:60]!r} is not an address of 0x and 40 hex digits")
    return to_checksum_address(text)


def _trust(members: Sequence[Member]) -> dict[str, Any]:
    return {
        "threshold": qbft.quorum(len(members)),
        "addresses": [member.public.address for member in members],
        "keys": [member.public.jwk for member in members],
    }


def _write_member(path: Path, member: Member, members: Sequence[Member], accounts: Sequence[str]) -> None:
    path.mkdir(mode=0o700)
    if member.key is not None:
        write_secret(path / "key", "0x" + member.key.private.hex())
    (path / "key.pub").write_text("0x" + member.public.public_key.hex(), "ascii")
    _write_json(path / "static-nodes.json", [other.enode for other in members if other is not member])
    enodes = [other.enode for other in members]
    (path / "permissions_config.toml").write_text(permissions(enodes, accounts), "utf-8")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
