"""Which projections there are: one line each. The service, `yunxi rebuild` and the tests all take them from here."""

from __future__ import annotations

from gateway.dossiers.projection import Dossiers
from gateway.emergency.projection import Emergencies
from gateway.extractions.projection import Disclosures
from gateway.lookups.projection import Accesses
from gateway.proceedings.projection import Proceedings
from gateway.projections.projector import Projection, Projector
from gateway.projections.subjects import SubjectIndex
from gateway.recalls.projection import Recalls
from ledger.node import Node


def all_projections() -> list[Projection]:
    """Every projection of the service."""
    return [SubjectIndex(), Proceedings(), Dossiers(), Accesses(), Disclosures(), Recalls(), Emergencies()]


def projector_of(node: Node) -> Projector:
    """The projector of an open node whose database is prepared (`gateway.database.prepare`)."""
    return Projector(node.database, node.reader, all_projections())
