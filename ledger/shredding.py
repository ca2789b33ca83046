"""Shredding: every key above the data keys changes, so that copies from before do not open what was forgotten.

    rotate the encryption key ─► new KEK ─► surviving data keys move to it ─► old KEKs, then old private keys deleted

A copy from before holds the data key of a forgotten record under an old KEK, and that under an old encryption key. When
the last step is done nobody has that private key any more, unless the keystore itself was copied. So nothing opens what
was forgotten before the shredding began, and no copy from before opens what survived either: take a backup afterwards.

Not reached: what terminals sealed to the department's own recipient key, which no node holds; and copies that others
were given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, and_, bindparam, delete, func, insert, select, update

from ledger.crypto.envelope import unwrap_data_key, wrap_data_key
from ledger.errors import CouldNotRun
from ledger.keks import KekRing
from ledger.keys import FileKeyAgent
from ledger.node import Node
from ledger.rotation import LOST_S, rotate_key
from ledger.sequencer import lock_head
from ledger.store.database import Database
from ledger.store.models import keks, position_of, shreds, uploads, vault
from ledger.store.reading import LogRow, read_logs

BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Shredding:
    """How far a shredding is. `epoch` is the KEK that survivors are under; `moved`, `epochs` and `keys` are what this
    call did. `wait` is for how many seconds the old private keys are still needed, 0 when all is done."""

    department: str
    epoch: int
    moved: int
    epochs: int
    keys: int
    wait: int


def shred(node: Node, department: str, progress: Callable[[int], None] = lambda _: None) -> Shredding:
    """Shreds a department's old keys, or goes on where a call was cut off; covers what was forgotten before it began.

    The last step must wait until the new encryption key is in force and nothing sealed to the old one is on its way:
    then `wait` is not 0, and the same call is to be made again. Raises CouldNotRun where a rotation is under way, and
    as `rotate_key`.
    """
    with node.database.reading() as connection:
        found = read_logs(connection, department)
        begun = _unfinished(connection, found[0].number) if found else None
    if not found:
        raise CouldNotRun(f"there is no log of department {department!r} on this node")
    log = found[0]
    # 1. New keys. (die here: the next call makes one rotation more)
    if begun is None:
        begun = _begin(node, log)
    epoch, kid, in_force = begun
    # 2. Survivors move, batch by batch. (die here: the next call goes on; each row opens under the KEK that it names)
    # 3. The old KEKs go in one transaction, under the head's lock. (die before or after: nothing is half done)
    moved = epochs = 0
    while True:
        moved += move_survivors(node.database, node.keks, log, epoch, progress)
        deleted = drop_epochs(node.database, log, epoch)
        if deleted is not None:
            epochs += deleted
            break
    # 4. The private keys that no KEK is wrapped to. (die here: the next call finds them)
    wait = max(0, in_force + LOST_S - int(node.clock()))
    keys = 0 if wait else destroy_keys(node.database, node.agent, log, kid)
    if not wait:
        _finish(node.database, log, epoch, int(node.clock()))
    return Shredding(department, epoch, moved, epochs, keys, wait)


def move_survivors(
    database: Database, ring: KekRing, log: LogRow, epoch: int, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Wraps every data key of the log that is under an older KEK of the node's own under that of `epoch`; how many."""
    moved, last = 0, position_of(log.number, 0) - 1
    while True:
        with database.writing() as connection:
            old = _old_epochs(connection, log.number, epoch)
            end = position_of(log.number + 1, 0)
            here = vault.c.position.between(last + 1, end - 1) & vault.c.epoch.in_(old)
            query = select(vault.c.position, vault.c.epoch, vault.c.wrapped_key).where(
                here, vault.c.wrapped_key.is_not(None)
            )
            rows = connection.execute(query.order_by(vault.c.position).limit(BATCH)).all()
            moved += _rewrap(connection, ring, log, epoch, vault, vault.c.position, rows)
        if not rows:
            break
        last = rows[-1].position
        progress(len(rows))
    with database.writing() as connection:
        old = _old_epochs(connection, log.number, epoch)
        query = select(uploads.c.id, uploads.c.epoch, uploads.c.wrapped_key).where(
            uploads.c.department == log.department, uploads.c.epoch.in_(old)
        )
        return moved + _rewrap(connection, ring, log, epoch, uploads, uploads.c.id, connection.execute(query).all())


def drop_epochs(database: Database, log: LogRow, epoch: int) -> int | None:
    """Deletes the node's own KEKs older than `epoch`; how many. None where a record came in under one of them
    meanwhile: it is to be moved first. Intake that sealed under one and comes later is turned back (`KekRing.require`).
    """
    with database.writing() as connection:
        lock_head(connection, log.department)
        old = _old_epochs(connection, log.number, epoch)
        here = vault.c.position.between(position_of(log.number, 0), position_of(log.number + 1, 0) - 1)
        used = here & vault.c.epoch.in_(old) & vault.c.wrapped_key.is_not(None)
        if connection.scalar(select(vault.c.position).where(used).limit(1)) is not None:
            return None
        connection.execute(delete(keks).where(keks.c.log == log.number, keks.c.epoch.in_(old)))
    return len(old)


def destroy_keys(database: Database, agent: FileKeyAgent, log: LogRow, kid: str) -> int:
    """Deletes the encryption keys before `kid` from the keystore, but for those that a KEK is still wrapped to; how
    many."""
    with database.reading() as connection:
        needed = set(connection.scalars(select(keks.c.recipient).where(keks.c.log == log.number)))
    return agent.destroy_before(log.department, "encryption", kid, needed)


def _begin(node: Node, log: LogRow) -> tuple[int, str, int]:
    rotation = rotate_key(node, log.department, "encryption")
    if not rotation.new and rotation.changeover <= node.clock():
        rotation = rotate_key(node, log.department, "encryption")  # the first call ended one that was cut off
    if not rotation.new:
        # copies of what was forgotten since that rotation would open with its key
        wait = rotation.changeover - int(node.clock()) + 1
        raise CouldNotRun(f"a rotation of the encryption key is under way: run this again in {wait} seconds")
    with node.database.writing() as connection:
        own = (keks.c.log == log.number) & keks.c.terminal.is_(None)
        epoch = connection.scalar(select(func.max(keks.c.epoch)).where(own))
        assert epoch is not None
        begun = {"epoch": epoch, "kid": rotation.new_key, "in_force": rotation.changeover}
        connection.execute(insert(shreds).values(log=log.number, begun_at=int(node.clock()), **begun))
    return epoch, rotation.new_key, rotation.changeover


def _unfinished(connection: Connection, log: int) -> tuple[int, str, int] | None:
    here = (shreds.c.log == log) & shreds.c.finished_at.is_(None)
    row = connection.execute(select(shreds).where(here).order_by(shreds.c.epoch.desc()).limit(1)).one_or_none()
    return None if row is None else (row.epoch, row.kid, row.in_force)


def _finish(database: Database, log: LogRow, epoch: int, now: int) -> None:
    with database.writing() as connection:
        here = (shreds.c.log == log.number) & (shreds.c.epoch == epoch)
        connection.execute(update(shreds).where(here).values(finished_at=now))


def _old_epochs(connection: Connection, log: int, epoch: int) -> list[int]:
    own = (keks.c.log == log) & keks.c.terminal.is_(None) & (keks.c.epoch < epoch)
    return list(connection.scalars(select(keks.c.epoch).where(own)))


def _rewrap(
    connection: Connection, ring: KekRing, log: LogRow, epoch: int, table: Table, name: Column[Any], rows: Any
) -> int:
    if not rows:
        return 0
    new = ring.key(connection, log.number, log.department, epoch)
    changes = []
    for row in rows:
        old = ring.key(connection, log.number, log.department, row.epoch)
        wrapped = wrap_data_key(new, unwrap_data_key(old, row.wrapped_key))
        changes.append({"n": row[0], "old": row.wrapped_key, "new": wrapped})
    # only where the key is still the one that was read: a record that was forgotten meanwhile must not come back
    same = and_(name == bindparam("n"), table.c.wrapped_key == bindparam("old"))
    connection.execute(update(table).where(same).values(wrapped_key=bindparam("new"), epoch=epoch), changes)
    return len(changes)
