"""Making receipts at the node, and verifying them with what a court has: the verifier and a trust file."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import insert

from benchmarks.base import DEPARTMENT, ORIGIN, Ledger, Options, Row, interleave, new_ledger
from ledger.checkpoints import vkey_of
from ledger.formats import jwk
from ledger.formats.sdjwt import parse_presentation
from ledger.formats.trust import Chain, Department, Key, Log, Trust, Validators
from ledger.receipts import make_receipt, make_receipts
from ledger.store.models import anchors
from ledger.verify.verifier import Verifier

NAME = "receipts"
LIST = 100
CHAIN_ID = 1
CONTRACT = "0x" + "5e" * 20


def measure(options: Options) -> Iterator[Row]:
    """The log is anchored in ten steps; the anchors are made up, because here nobody asks the chain."""
    with new_ledger() as ledger:
        ids = ledger.fill(options.records)
        add_anchors(ledger, options.records)
        yield from _making(ledger, ids, options)
        yield from _verifying(ledger, ids, options)


def _making(ledger: Ledger, ids: list[str], options: Options) -> Iterator[Row]:
    count = min(LIST, len(ids))
    start = min(len(ids) * 45 // 100, len(ids) - count)  # between two anchors
    log, draw = ledger.log(), Random(1)  # noqa: S311  for even spread
    spread = sorted(draw.sample(range(len(ids)), count))

    with ledger.database.writing() as connection:
        times = interleave(
            options.rounds,
            {
                "one by one": lambda: [
                    make_receipt(connection, ledger.agent, ids[index], 0).serialize() for index in spread
                ],
                f"a list of {count}, neighbours": lambda: [
                    receipt.serialize()
                    for receipt in make_receipts(connection, ledger.agent, log, range(start, start + count), 0)
                ],
                f"a list of {count}, anywhere": lambda: [
                    receipt.serialize() for receipt in make_receipts(connection, ledger.agent, log, spread, 0)
                ],
            },
        )
    for name, taken in times.items():
        yield taken.cost(NAME, f"make and serialise, {name}", count)


def _verifying(ledger: Ledger, ids: list[str], options: Options) -> Iterator[Row]:
    count = min(LIST, len(ids))
    chosen = sorted(Random(2).sample(range(len(ids)), count))  # noqa: S311
    with ledger.database.writing() as connection:
        made = make_receipts(connection, ledger.agent, ledger.log(), chosen, 0)
        receipts = [receipt.serialize() for receipt in made]
        shown = list(ledger.reader.present_list(connection, [ids[index] for index in chosen], None))
    entries = [parse_presentation(presentation).statement.ascii for presentation in shown]
    trust = trust_of(ledger)
    warm, department = Verifier(trust), trust.department(DEPARTMENT)
    pairs = list(zip(shown, receipts, strict=True))

    def cold() -> None:
        for entry, receipt in zip(entries, receipts, strict=True):
            Verifier(trust).verify_receipt(department, entry, receipt)

    times = interleave(
        options.rounds,
        {
            "receipt": lambda: [warm.verify_receipt(department, e, r) for e, r in zip(entries, receipts, strict=True)],
            "cold": cold,
            "both": lambda: [warm.verify(presentation, receipt) for presentation, receipt in pairs],
        },
    )
    note = "checkpoints seen before are not verified again"
    yield times["receipt"].rate(NAME, "verify receipts offline", count, "receipts/s", target="≥ 5,000", note=note)
    yield times["cold"].rate(NAME, "verify receipts, each with a new checkpoint", count, "receipts/s")
    yield times["both"].rate(NAME, "verify presentation (10 units) and receipt", count, "records/s", note=note)


def add_anchors(ledger: Ledger, size: int) -> None:
    """Rows of `anchors` at ten sizes of the log, as the anchorer would have left them."""
    sizes = sorted({max(1, size * step // 10) for step in range(1, 11)})
    with ledger.database.writing() as connection:
        for number, anchored in enumerate(sizes):
            row = {
                "log": 1,
                "size": anchored,
                "chain_id": CHAIN_ID,
                "contract": CONTRACT,
                "block_number": number,
                "block_hash": bytes(32),
                "transaction": bytes(32),
                "block_time": 0,
                "anchored_at": 0,
            }
            connection.execute(insert(anchors).values(row))


def trust_of(ledger: Ledger) -> Trust:
    """The trust file of this one department."""
    signer = ledger.agent.statement_signer(DEPARTMENT)
    members = jwk.from_public_key(Ed25519PublicKey.from_public_bytes(signer.public))
    key = Key(kid=signer.kid, use="statement", jwk=members, valid_from=0, valid_to=None)
    vkey = vkey_of(ORIGIN, ledger.agent.log_signer(DEPARTMENT))
    names = {"zh": "市场监督管理局", "en": "Market supervision"}
    return Trust(
        consortium="yunxi.example",
        chain=Chain(
            id=CHAIN_ID,
            engine="embedded",
            contracts={"Consortium": CONTRACT, "EvidenceLog": CONTRACT},
            validators=Validators(0, ()),
        ),
        departments=(Department(id=DEPARTMENT, name=names, log=Log(ORIGIN, str(vkey)), keys=(key,)),),
    )
