"""Admitting a department: its keys, its entry in the consortium's registry, its log, its first key-encryption key.

Every step first looks whether it is done, so a call that was cut off is simply made again.
"""

from __future__ import annotations

import re
import shlex

from sqlalchemy import func, insert, select

from ledger.chain.client import local_account
from ledger.chain.contracts import ConsortiumContract
from ledger.errors import KeyRefused, Refusal
from ledger.formats.encoding import b64url_decode
from ledger.formats.jwk import kid_of
from ledger.formats.merkle import EMPTY_ROOT
from ledger.node import Node
from ledger.public_keys import PublicKeys, public_key_of, raw_public_key
from ledger.store.models import keks, logs
from ledger.store.reading import read_logs

BACKDATE_S = 60
"""A key is valid from a minute before it is registered: the chain's clock and ours differ by seconds."""

REGISTERED_USES = ("statement", "log", "encryption", "anchor", "witness", "request")

_ID = re.compile(r"[a-z][a-z0-9-]{1,30}")
_URL = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")


def add_department(node: Node, department: str, name: str) -> str:
    """Admits `department` and opens its log; returns the log's origin. Safe to call again.

    `name` is what people call it, as `中文` or `中文 | English`. Raises Refusal for an id that no department can have,
    HistoryRefused or KeyRefused when the consortium refuses, ChainUnreachable when the chain does not answer.
    """
    name = check_name(department, name)
    node.agent.create_department(department)
    consortium = node.connect().consortium
    if consortium.state(department) == "unknown":
        governor = local_account(node.agent.governor_key(department)).address
        if not consortium.setup_open():
            raise Refusal(
                f"the consortium's set-up is closed: department {department} is admitted by a vote of its members. "
                f"Let one of them run: yunxi consortium propose admit {department} --name {shlex.quote(name)} "
                f"--governor {governor} --as DEPARTMENT; once it is carried out, run this command again"
            )
        if not deploys(node, consortium):
            raise Refusal(
                f"another node sets the consortium up: ask it to admit {department} with `yunxi department request "
                f"{department} --name {shlex.quote(name)} --url URL -o request.json`"
            )
        origin = f"{node.settings.consortium}/{department}"
        consortium.admit(node.agent.operator_key(), department, name, origin, "", governor)
    return open_department(node, department)


def open_department(node: Node, department: str) -> str:
    """What comes after admission: the department's keys in the registry, its log, its first key-encryption key. Returns
    the log's origin. Safe to call again.

    Raises Refusal for one that was not admitted, KeyRefused where the keys are elsewhere or the consortium refuses.
    """
    consortium, now = node.connect().consortium, int(node.clock())
    public = public_keys(node.agent.create_department(department))
    found = consortium.department(department)
    if found.governor != local_account(node.agent.governor_key(department)).address:
        raise KeyRefused(
            f"the consortium admitted another department {department}, with governance account {found.governor}, "
            "which is not this node's: its keys are elsewhere"
        )
    if not consortium.setup_open():
        register_keys(consortium, node.agent.governor_key(department), department, public, now)
    elif deploys(node, consortium):
        register_keys(consortium, node.agent.operator_key(), department, public, now)
    elif missing_keys(consortium, department, public):
        raise Refusal(
            f"keys of {department} are not registered yet: while set-up is open only the node that set the "
            "consortium up can do it, with `yunxi department admit` and the request"
        )
    _open_log(node, department, found.log_origin, now)
    return found.log_origin


def check_name(department: str, name: str) -> str:
    """A department's name without surrounding space. Raises Refusal for an id or a name that no department can have."""
    if not _ID.fullmatch(department):
        raise Refusal(f"department id {department!r} must be 2 to 31 of a-z, 0-9 and -, beginning with a letter")
    if not 0 < len(name.strip()) <= 200:
        raise Refusal("a department's name has 1 to 200 characters")
    return name.strip()


def check_url(url: str) -> str:
    """Where a node answers: http or https, host, perhaps port and path, no slash at the end. Raises Refusal."""
    if not _URL.fullmatch(url) or len(url) > 200:
        raise Refusal(f"{url[:80]!r} is no address of a node: like https://fire.example or http://127.0.0.1:8700")
    return url.rstrip("/")


def deploys(node: Node, consortium: ConsortiumContract) -> bool:
    """Whether this node is the one that made the contracts, and decides alone while set-up is open."""
    return local_account(node.agent.operator_key()).address == consortium.deployer()


def public_keys(drawn: PublicKeys) -> dict[str, bytes]:
    """A department's keys by use, in the registry's form."""
    return {use: raw_public_key(getattr(drawn, use)) for use in REGISTERED_USES}


def register_keys(
    consortium: ConsortiumContract, account: bytes, department: str, public: dict[str, bytes], now: int
) -> None:
    """Registers what is not registered yet. `public`: raw keys by use."""
    for use, (kid, raw) in missing_keys(consortium, department, public).items():
        consortium.register_key(account, department, kid, use, raw, now - BACKDATE_S)


def missing_keys(
    consortium: ConsortiumContract, department: str, public: dict[str, bytes]
) -> dict[str, tuple[bytes, bytes]]:
    """The (kid, raw key) by use of those of `public` that the registry does not have."""
    registered = {key.kid for key in consortium.keys(department)}
    keys = {use: (b64url_decode(kid_of(public_key_of(use, raw)), "kid"), raw) for use, raw in public.items()}
    return {use: key for use, key in keys.items() if key[0] not in registered}


def _open_log(node: Node, department: str, origin: str, now: int) -> None:
    with node.database.writing() as connection:
        found = read_logs(connection, department)
        if found:
            number = found[0].number
        else:
            number = (connection.scalar(select(func.max(logs.c.log))) or 0) + 1
            row = {"log": number, "department": department, "origin": origin, "size": 0, "root": EMPTY_ROOT}
            connection.execute(insert(logs).values(row))
        if connection.scalar(select(func.max(keks.c.epoch)).where(keks.c.log == number)) is None:
            node.keks.begin_epoch(connection, number, department, now)
