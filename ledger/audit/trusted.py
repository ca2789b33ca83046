"""A node and its chain against a trust file that the auditor has from elsewhere: settings, registry, witnesses.

Everything else that an audit asks it asks where node.toml says. Whoever owns the node can write another chain there,
with contracts of their own and every root anchored anew; only what was handed out before knows better.

    trust-differs     critical: another consortium, chain, contract, log key or key, or a key with another interval
    policy-differs    warning: a witness struck out, a smaller quorum, an authority that the file does not have
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger.audit.findings import LogReport
from ledger.chain.contracts import ConsortiumContract, Key
from ledger.errors import Refusal
from ledger.formats import trust as formats
from ledger.formats.encoding import b64url_encode
from ledger.formats.trust import Trust
from ledger.node import ChainLink
from ledger.settings import Settings
from ledger.trust import evidence_logs


def check_trust(
    report: LogReport, settings: Settings, link: ChainLink | None, trust: Trust, hosted: Sequence[str] = ()
) -> None:
    """Adds what differs from `trust`. Keys that were registered since, and keys that ended since, are no difference.
    `hosted`: the departments that it concerns. `link` None: the chain cannot be asked, and only settings are compared.
    Raises ChainUnreachable."""
    for sentence in (*_of_settings(settings, trust), *(_of_registry(link, trust) if link is not None else ())):
        report.add("trust-differs", "trust file", sentence, others=tuple(hosted))
    for sentence in _of_policy(settings, trust):
        report.add("policy-differs", "node.toml", sentence)


def _of_settings(settings: Settings, trust: Trust) -> Iterator[str]:
    chain = settings.chain
    if settings.consortium != trust.consortium:
        yield f"node.toml names consortium {settings.consortium}, the trust file {trust.consortium}"
    if chain.id != trust.chain.id:
        yield f"node.toml names chain {chain.id}, the trust file {trust.chain.id}"
    if chain.consortium.lower() != trust.chain.contracts["Consortium"].lower():
        yield f"node.toml names Consortium {chain.consortium}, the trust file {trust.chain.contracts['Consortium']}"


def _of_registry(link: ChainLink, trust: Trust) -> Iterator[str]:
    here = {address.lower() for address in evidence_logs(link.evidence_log).values()}
    for name, address in trust.chain.contracts.items():
        if name.startswith("EvidenceLog") and address.lower() not in here:
            yield f"{name} of the trust file, {address}, is neither the chain's EvidenceLog nor one that it carries on"
    for department in trust.departments:
        yield from _of_department(link.consortium, department)


def _of_department(consortium: ConsortiumContract, wanted: formats.Department) -> Iterator[str]:
    try:
        keys = consortium.keys(wanted.id)
        origin = next(found.log_origin for found in consortium.departments() if found.id == wanted.id)
    except (Refusal, StopIteration):
        yield f"the registry does not have department {wanted.id} of the trust file"
        return
    if origin != wanted.log.origin:
        yield f"the log of {wanted.id} is {origin} in the registry, {wanted.log.origin} in the trust file"
    logs = {key.public_key for key in keys if key.use == "log"}
    for vkey in wanted.log.vkeys:
        if vkey.public not in logs:
            yield f"the registry does not have log key {str(vkey)[:100]} of {wanted.id}"
    there = {b64url_encode(key.kid): key for key in keys}
    for key in wanted.keys:
        if not _continues(there.get(key.kid), key):
            yield f"key {key.kid} of {wanted.id} is not in the registry as the trust file has it"


def _continues(there: Key | None, said: formats.Key) -> bool:
    if there is None or (there.use, there.valid_from) != (said.use, said.valid_from):
        return False
    return said.valid_to in (None, there.valid_to)


def _of_policy(settings: Settings, trust: Trust) -> Iterator[str]:
    if settings.quorum < trust.quorum:
        yield f"node.toml asks for {settings.quorum} witnesses, the trust file for {trust.quorum}"
    named = {witness.key.public: witness for witness in settings.witnesses}
    origins = {department.log.origin for department in trust.departments}
    for witness in trust.witnesses:
        if witness.name.removesuffix("/witness") in origins:
            continue  # a department's, which the registry has
        there = named.get(witness.key.public)
        if there is None or there.required < witness.required:
            yield f"witness {witness.name} of the trust file is not in node.toml, or no longer required"
    for authority in settings.timestamps.authorities:
        if authority.roots not in trust.tsa_roots:
            yield f"the roots of time-stamping authority {authority.name} are not in the trust file"
