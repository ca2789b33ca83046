"""The site: what routes and workers share, put together once a process and passed down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Protocol

from anyio import CapacityLimiter
from fastapi import Depends, Request

from gateway.access import Attempt, Authenticator, KeyBook
from gateway.casefiles.service import Making as CaseFileMaking
from gateway.emergency.service import Justifications
from gateway.extractions.service import Extractions
from gateway.grants.service import Grants
from gateway.intake_queue import IntakeQueue
from gateway.lease import Lease
from gateway.nonces import Nonces
from gateway.notices.teller import Teller
from gateway.operations.anchoring import Anchoring
from gateway.operations.limits import Limits
from gateway.operations.metrics import Metrics
from gateway.operations.readiness import Readiness
from gateway.peers.client import PeerClient
from gateway.peers.directory import PeerDirectory
from gateway.people.oidc import Provider
from gateway.people.service import people_of
from gateway.problems import Problem
from gateway.projections.registry import projector_of
from gateway.recalls.projection import CORRECTION, RECALL
from gateway.recalls.service import Acknowledgements, Notices
from gateway.settings import GatewaySettings
from gateway.subscriptions.bell import Bell
from gateway.subscriptions.stream import Streams
from gateway.subscriptions.watching import Watching
from gateway.subscriptions.webhooks import Webhooks
from gateway.terminals.service import Terminals
from ledger.node import ChainLink, Node


class Worker(Protocol):
    """Work in the background. `name` stands in logs and in /readyz; `run` goes on until `stop` is set, and what it
    raises restarts it after a pause."""

    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set. Blocking parts go through `anyio.to_thread.run_sync`."""


class Refusals:
    """Whoever must be told that a request failed authentication: each room appends its own function, which may block
    and is called from any thread. Anybody can make requests fail, so how often a record of it makes sense is theirs."""

    def __init__(self) -> None:
        self.on_authentication_failed: list[Callable[[Attempt], None]] = []

    def authentication_failed(self, attempt: Attempt) -> None:
        """Tells everybody."""
        for tell in self.on_authentication_failed:
            tell(attempt)


class Site:
    """An open node with its service around it. A room adds its line to `__init__`, below those it needs."""

    def __init__(self, node: Node, settings: GatewaySettings, processes: int = 1) -> None:
        """`processes`: how many serve this node, which share what a caller may ask."""
        self.node = node
        self.settings = settings
        self.clock = node.clock
        self.database = node.database
        self.hosted = frozenset(node.agent.departments())
        self.authorities = set(settings.authorities)
        self.metrics = Metrics()
        # the pool's thread needs an intake of its own: one intake serves one thread
        self.nonces = Nonces(self.database, self.clock)
        self.intake = IntakeQueue(node.new_intake(), settings, self.metrics.batch.observe, self.nonces)
        self.limits = Limits(settings, processes)
        # by address, and only of requests that fail authentication: whoever signs is limited as a caller
        self.failures = Limits(
            replace(settings, rate_per_second=settings.failures_per_second, rate_burst=settings.failures_burst),
            processes,
        )
        self.people = people_of(node)
        self.provider: Provider | None = None
        if settings.provider is not None:
            self.provider = Provider(settings.provider, self.people, self.database, self.clock)
        # guessing passwords is slow work: ten at once from one address, then one every two seconds
        self.sign_in_limits = Limits(replace(settings, rate_per_second=0.5, rate_burst=10), processes)
        self.sign_ins = CapacityLimiter(4)
        # anybody may ask behind a decision's code: fifty at once from one address, then five a second
        self.citizen_limits = Limits(replace(settings, rate_per_second=5, rate_burst=50), processes)
        self.peers = PeerDirectory(node, lambda: self.link)
        self.peer_client = PeerClient(self)
        self.grants = Grants(node, lambda: self.link, self.intake.submit)
        self.terminals = Terminals(node)
        self.key_books: list[KeyBook] = [self.peers, self.terminals]
        self.authenticator = Authenticator(self)
        self.refusals = Refusals()
        self.projector = projector_of(node)
        self.extractions = Extractions(self)
        self.refusals.on_authentication_failed.append(self.extractions.authentication_failed)
        self.teller = Teller(self)
        for topic in (Notices(self, RECALL), Notices(self, CORRECTION), Acknowledgements(), Justifications()):
            self.teller.add(topic)
        self.bell = Bell(self.projector)
        self.streams = Streams(self)
        self.everywhere: list[Worker] = [self.projector]
        """Workers that run in every process."""
        self.workers: list[Worker] = [
            Anchoring(self),
            self.extractions.worker,
            self.teller,
            Watching(self),
            CaseFileMaking(self),
            Webhooks(self),
        ]
        """Workers of which one process of the node runs all: the holder of the lease."""
        self.lease = Lease(self.database, "workers", self.clock, settings.lease_seconds)
        self.readiness = Readiness(self)
        self.stopping = asyncio.Event()
        """Set when the service begins to end: whoever holds a connection open lets go of it."""

    @cached_property
    def link(self) -> ChainLink:
        """The chain; connected when first asked for. Raises ChainUnreachable when the embedded one does not start."""
        return self.node.connect()

    def close(self) -> None:
        """Writes and answers what waits, then closes the node. Nothing may be in flight any more."""
        self.intake.close()
        self.nonces.close()
        self.node.close()


async def get_site(request: Request) -> Site:
    """The site of the application that a request came to. Not a plain `def`: that would cost a thread each time."""
    site: Site = request.app.state.site
    return site


SiteOf = Annotated[Site, Depends(get_site)]


def require_hosted(site: Site, department: str) -> None:
    """Raises Problem `forbidden` for a department whose log is on another node: its key lets its systems in too."""
    if department not in site.hosted:
        raise Problem("forbidden", f"this is not the node of {department}: ask its own")
