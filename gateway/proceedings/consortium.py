"""What proceedings and lookups ask of the registry, and what holds while the chain does not answer."""

from __future__ import annotations

from gateway.extractions.reference import logs_only
from gateway.site import Site
from ledger.errors import ChainUnreachable
from ledger.verify.verifier import Verifier


def is_admitted(site: Site, department: str) -> bool:
    """Whether the consortium has admitted `department` and not suspended it. While the chain does not answer, the
    departments of this node are; every owner decides anew about what it gives."""
    try:
        return site.peers.is_admitted(department)
    except ChainUnreachable:
        return department in site.hosted


def admitted(site: Site) -> list[str]:
    """All of them, sorted; likewise."""
    try:
        return sorted(peer.id for peer in site.peers.all() if peer.standing == "admitted")
    except ChainUnreachable:
        return sorted(site.hosted)


def verifier_of(site: Site) -> Verifier | None:
    """A verifier on the registry's trust, without witnesses; None while the chain does not answer."""
    try:
        return Verifier(logs_only(site.peers.trust()))
    except ChainUnreachable:
        return None
