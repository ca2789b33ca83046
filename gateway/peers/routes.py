"""`/v1/peers`: the departments of the consortium and how this node gets on with theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.access import allow
from gateway.caller import PERSON_ROLES, SYSTEM
from gateway.guarded import Guarded
from gateway.site import SiteOf

router = APIRouter(prefix="/v1/peers", tags=["peers"], route_class=Guarded)


class PeerShown(BaseModel):
    """A department. `hosted`: this very node is its node. `reachable_since`, `last_error` and `last_error_at` are what
    the answering process saw itself; null where it never asked."""

    id: str
    name: dict[str, str]
    standing: str
    url: str | None
    hosted: bool
    reachable_since: str | None
    last_error: str | None
    last_error_at: str | None


class Peers(BaseModel):
    """Every department ever admitted, in order of admission."""

    peers: list[PeerShown]


@router.get("", summary="List departments", response_model=Peers, dependencies=[allow(SYSTEM, *PERSON_ROLES)])
def peers(site: SiteOf) -> Any:
    """The consortium's departments as the chain has them now."""
    shown = []
    for peer in site.peers.all():
        zh, _, en = peer.name.partition(" | ")
        reach = site.peer_client.reach(peer.id)
        shown.append(
            PeerShown(
                id=peer.id,
                name={"zh": zh, "en": en or zh},
                standing=peer.standing,
                url=peer.url,
                hosted=peer.id in site.hosted,
                reachable_since=_instant(reach.since),
                last_error=reach.error,
                last_error_at=_instant(reach.failed_at),
            )
        )
    return Peers(peers=shown)


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
