"""Dossiers as JSON."""

from __future__ import annotations

import base64
from typing import Any

from gateway.dossiers.service import Dossier, Entry, ParticipantState, Shown
from gateway.proceedings.forms import FORMS
from gateway.proceedings.views import attached_json, instant, proceeding_json
from gateway.recalls.reading import Received


def dossier_json(dossier: Dossier, now: float) -> dict[str, Any]:
    """A dossier; `next` is the `after` of the next page of entries, null on the last."""
    received = sum(count for types in dossier.counts.values() for count in types.values())
    return {
        "proceeding": proceeding_json(FORMS[dossier.proceeding.kind], dossier.proceeding),
        "complete": dossier.is_complete,
        "participants": [participant_json(each, now) for each in dossier.participants],
        "counts": {"received": received, "own": len(dossier.own), "by_owner": dossier.counts},
        "entries": [entry_json(each) for each in dossier.entries],
        "own": [
            {"record": each.record_id, "type": each.type, "matter": each.matter, "sealed_at": instant(each.issued_at)}
            for each in dossier.own
        ],
        "attached": [attached_json(each) for each in dossier.attached],
        "next": str(dossier.entries[-1].position) if dossier.entries else None,
    }


def participant_json(state: ParticipantState, now: float) -> dict[str, Any]:
    """How far a participant has come; `age_seconds`: for how long it has been so."""
    last = state.last_success_at
    return {
        "department": state.department,
        "state": state.state,
        "since": instant(state.since),
        "age_seconds": max(0, int(now) - state.since),
        "code": state.code,
        "detail": state.detail,
        "withheld": dict(state.withheld),
        "records": state.records,
        "last_success_at": None if last is None else instant(last),
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """A received record without its content."""
    return {
        "record": entry.record_id,
        "owner": entry.owner,
        "type": entry.type,
        "units": list(entry.units),
        "received_at": instant(entry.received_at),
        "received_record": entry.received,
        "stale": [_stale_json(each) for each in entry.stale],
    }


def _stale_json(notice: Received) -> dict[str, Any]:
    return {
        "recall": notice.received,
        "kind": notice.kind,
        "asks": notice.asks,
        "replaced_by": notice.replaced_by,
        "since": instant(notice.received_at),
        "acknowledged": notice.acknowledgement is not None,
    }


def shown_json(shown: Shown) -> dict[str, Any]:
    """A received record with its presentation (text; base64 where it is none any more) and what is wrong with it."""
    try:
        content = {"presentation": shown.presentation.decode("ascii")}
    except UnicodeDecodeError:
        content = {"damaged": base64.b64encode(shown.presentation).decode("ascii")}
    return entry_json(shown.entry) | content | {"problem": shown.problem}
