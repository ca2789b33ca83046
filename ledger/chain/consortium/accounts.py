"""Which accounts a consortium's contracts expect transactions from: what a chain's account permissions must allow."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.chain.consortium.keys import ValidatorPublic
from ledger.chain.contracts import ConsortiumContract


@dataclass(frozen=True, slots=True)
class SendingAccount:
    """`role` is deployer, governor or anchor; `department` is None for the deployer. `address` is checksummed."""

    address: str
    role: str
    department: str | None


def sending_accounts(consortium: ConsortiumContract) -> list[SendingAccount]:
    """The deployer while set-up is open, and every department's governor and anchoring accounts that have no end yet.

    Raises ChainUnreachable, HistoryRefused as every question to the chain does.
    """
    found = [SendingAccount(consortium.deployer(), "deployer", None)] if consortium.setup_open() else []
    for department in consortium.departments():
        found.append(SendingAccount(department.governor, "governor", department.id))
        open_keys = [key for key in consortium.keys(department.id) if key.use == "anchor" and key.valid_to is None]
        addresses = (ValidatorPublic(key.public_key).address for key in open_keys)
        found += [SendingAccount(address, "anchor", department.id) for address in addresses]
    return found
