"""Admitting a department: its keys, its entry in the consortium's registry, its log, its first key-encryption key.

Every step first looks whether it is done, so a call that was cut off is simply made again.
"""

from __future__ import annotations

import re
import shlex

from sqlalchemy import func, insert, select

from ledger.chain.client import local_account
from ledger.chain.contracts import ConsortiumContract
from ledger.errors import Refusal
from ledger.formats.encoding import b64url_decode
from ledger.formats.jwk import PublicKey, kid_of
from ledger.formats.merkle import EMPTY_ROOT
from ledger.keys import PublicKeys, raw_public_key
from ledger.node import Node
from ledger.store.models import keks, logs
from ledger.store.reading import read_logs

BACKDATE_S = 60
"""A key is valid from a minute before it is registered: the chain's clock and ours differ by seconds."""

_ID = re.compile(r"[a-z][a-z0-9-]{1,30}")


def add_department(node: Node, department: str, name: str) -> str:
    """Admits `department` and opens its log; returns the log's origin. Safe to call again.

    `name` is what people call it, as `中文` or `中文 | English`. Raises Refusal for an id that no department can have,
    HistoryRefused or KeyRefused when the consortium refuses, ChainUnreachable when the chain does not answer.
    """
    if not _ID.fullmatch(department):
        raise Refusal(f"department id {department!r} must be 2 to 31 of a-z, 0-9 and -, beginning with a letter")
    if not 0 < len(name.strip()) <= 200:
        raise Refusal("a department's name has 1 to 200 characters")
    origin = f"{node.settings.consortium}/{department}"
    public = node.agent.create_department(department)
    link, now = node.connect(), int(node.clock())
    setup_open, governor = link.consortium.setup_open(), node.agent.governor_key(department)
    if department not in {found.id for found in link.consortium.departments()}:
        address = local_account(governor).address
        if not setup_open:
            raise Refusal(
                f"the consortium's set-up is closed: department {department} is admitted by a vote of its members. "
                f"Let one of them run: yunxi consortium propose admit {department} --name {shlex.quote(name.strip())} "
                f"--governor {address} --as DEPARTMENT; once it is carried out, run this command again"
            )
        link.consortium.admit(node.agent.operator_key(), department, name.strip(), origin, "", address)
    # during set-up only the deployer registers keys, afterwards only the department itself
    account = node.agent.operator_key() if setup_open else governor
    _register_keys(link.consortium, account, department, public, now)
    _open_log(node, department, origin, now)
    return origin


def _register_keys(
    consortium: ConsortiumContract, account: bytes, department: str, public: PublicKeys, now: int
) -> None:
    registered = {key.kid for key in consortium.keys(department)}
    for use in ("statement", "log", "encryption", "anchor", "witness"):
        key: PublicKey = getattr(public, use)
        kid = b64url_decode(kid_of(key), "kid")
        if kid not in registered:
            consortium.register_key(account, department, kid, use, raw_public_key(key), now - BACKDATE_S)


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
