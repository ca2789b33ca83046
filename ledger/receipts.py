"""Receipts: from a record's place in the log to a proof that verifies without this node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, false, func, null, select

from ledger.checkpoints import cosigned_note, sign_at
from ledger.formats.merkle import MAX_SIZE
from ledger.formats.receipt import AnchorHint, encode_extra
from ledger.formats.tiles import TreeView
from ledger.formats.tlogproof import TlogProof
from ledger.keys import KeyAgent
from ledger.settings import WitnessPolicy
from ledger.store.models import anchors, cosignatures, timestamps
from ledger.store.reading import LogRow, StoredTiles, find_entry, read_logs

ANY = WitnessPolicy()


def make_receipt(
    connection: Connection, agent: KeyAgent, record_id: str, now: int, policy: WitnessPolicy = ANY
) -> TlogProof:
    """The receipt of a record, under the earliest anchored checkpoint that holds it, because that dates it best.

    More precisely: under the earliest that meets the witness `policy` (the node's is `Settings.policy`), or, where none
    does yet, the earliest at all; with every cosignature that it has by now. Where none is anchored yet: under the
    newest checkpoint, signed now if need be, without an anchor. `connection` is a write transaction, committed by the
    caller; `now` in seconds since 1970. Raises RecordRefused for an unknown record, KeyRefused when the log's key is
    elsewhere.
    """
    row = find_entry(connection, record_id)
    log = next(log for log in read_logs(connection) if log.number == row.log)
    return make_receipts(connection, agent, log, [row.index], now, policy)[0]


def make_receipts(
    connection: Connection,
    agent: KeyAgent,
    log: LogRow,
    indexes: Sequence[int],
    now: int,
    policy: WitnessPolicy = ANY,
    *,
    upto: int | None = None,
    stamped_within: float | None = None,
) -> list[TlogProof]:
    """The receipts of many entries of one log, in the order of `indexes`; each is the one that `make_receipt` gives.

    `upto`: no checkpoint larger than that, which is anchored and holds them all. `stamped_within`: a checkpoint that a
    time-stamping authority stamped is taken instead where it was anchored at most so many seconds later.

    Entries under one checkpoint share its signature and the tiles that are read for it, so neighbours cost little.
    Those tiles, about 40 KB each, are held meanwhile: ask for some hundred entries at a time. Every index is below
    the log's size. Raises KeyRefused as `make_receipt`.
    """
    made: dict[int, TlogProof] = {}
    for anchor, served in _by_anchor(connection, log, sorted(set(indexes)), policy, upto, stamped_within):
        signer = agent.log_signer(log.department, now)
        signed = sign_at(connection, log, log.size if anchor is None else anchor.size, signer, now)
        extra = encode_extra(hint_of(anchor), signed.checkpoint, signer.sign) if anchor is not None else None
        view = TreeView(signed.checkpoint.size, StoredTiles(connection, log.number))
        note = cosigned_note(connection, log.number, signed)
        for index in served:
            made[index] = TlogProof(extra, index, tuple(view.inclusion_path(index)), note)
    return [made[index] for index in indexes]


def hint_of(anchor: Any) -> AnchorHint:
    """What a receipt says of a row of `anchors`."""
    return AnchorHint(
        chain_id=anchor.chain_id,
        contract=anchor.contract,
        block_number=anchor.block_number,
        block_hash="0x" + anchor.block_hash.hex(),
        transaction="0x" + anchor.transaction.hex(),
        time=anchor.block_time,
    )


def _by_anchor(
    connection: Connection,
    log: LogRow,
    indexes: list[int],
    policy: WitnessPolicy,
    upto: int | None,
    stamped_within: float | None,
) -> Iterator[tuple[Any, list[int]]]:
    """Cuts ascending `indexes` into those that share their anchor; the row of `anchors` is None for none."""
    while indexes:
        place = {"of_log": log.number, "least": indexes[0] + 1, "most": MAX_SIZE if upto is None else upto}
        anchor = connection.execute(_earliest(policy), place).one_or_none()
        if anchor is None and policy != ANY:
            # every index left is past the last witnessed checkpoint: the earliest anchor of each will do until there is
            anchor = connection.execute(_earliest(ANY), place).one_or_none()
        elif anchor is not None and stamped_within is not None:
            place |= {"least": anchor.size, "late": anchor.block_time + stamped_within}
            anchor = connection.execute(_stamped(_earliest(policy)), place).one_or_none() or anchor
        served = [index for index in indexes if anchor is None or index < anchor.size]
        yield anchor, served
        indexes = indexes[len(served) :]


@lru_cache(maxsize=16)
def _earliest(policy: WitnessPolicy) -> Select[Any]:
    """The anchor of the smallest checkpoint of `least` to `most` entries that meets the policy."""
    c = anchors.c
    within = c.size.between(bindparam("least"), bindparam("most"))
    return _meeting(select(anchors).where(c.log == bindparam("of_log"), within).order_by(c.size).limit(1), policy)


def _stamped(query: Select[Any]) -> Select[Any]:
    query = query.where(anchors.c.block_time <= bindparam("late"))
    here = (timestamps.c.log == anchors.c.log) & (timestamps.c.size == anchors.c.size) & ~timestamps.c.renewal
    return query.where(select(timestamps.c.size).where(here).exists())


def _meeting(query: Select[Any], policy: WitnessPolicy) -> Select[Any]:
    here = (cosignatures.c.log == anchors.c.log) & (cosignatures.c.size == anchors.c.size)
    if policy.quorum:
        whose = case(*((cosignatures.c.witness.in_(vkeys), n) for n, vkeys in enumerate(policy.hands)), else_=null())
        counted = select(func.count(whose.distinct())).where(here).scalar_subquery()
        query = query.where(counted >= policy.quorum if policy.hands else false())
    for vkey in policy.required:
        query = query.where(select(cosignatures.c.size).where(here, cosignatures.c.witness == vkey).exists())
    return query
