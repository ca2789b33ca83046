"""Exchanges between departments as ASiC-E: what was disclosed or received, with its proofs, signed and time-stamped.

    record.sd-jwt           the record `disclosure.made` or `disclosure.received`, whole: who, to whom, for what, which
                            records, under which grants, and the SHA-256 of what was sent
    record.tlog-proof       its receipt
    presentations.txt       at the requester: the page itself, presentations joined by line feeds
    receipts.json           at the requester: the receipts of those records from their owner's log
    trust.json              the consortium's trust file, for those who check the proofs and not the signature alone

The container's signature is the exporting department's; the proofs inside are checked with the ledger's own verifier.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from ledger.disclosures import MADE, RECEIVED
from ledger.errors import Refusal, YunxiError
from ledger.formats.sdjwt import serialize_presentation
from ledger.formats.trust import Department, Trust
from ledger.interchange.asic import asic_container
from ledger.interchange.cades import Authority, Stamp, sign_detached
from ledger.node import Node
from ledger.receipts import make_receipt
from ledger.timestamps.authority import ask
from ledger.trust import export_trust

TYPES = (MADE, RECEIVED)
MAX_BYTES = 64 * 1024 * 1024
_TEXT, _JSON = "text/plain", "application/json"


def export_exchange(node: Node, record_id: str) -> bytes:
    """The container of one disclosure. The time stamp is by the first authority of node.toml that answers; without
    authorities there is none.

    Raises RecordRefused for a record that is unknown or forgotten, Refusal for one that is no disclosure or too large,
    KeyRefused where the keys are elsewhere, ChainUnreachable, and where authorities are named and none answers, the
    last one's error.
    """
    trust, now = export_trust(node), node.clock()
    with node.database.writing() as connection:
        opened = node.reader.open(connection, record_id)
        statement = opened.statement
        if statement.type not in TYPES:
            raise Refusal(f"record {record_id} is of type {statement.type}, and exchanges are {' or '.join(TYPES)}")
        proof = make_receipt(connection, node.agent, record_id, int(now), node.settings.policy)
        record = serialize_presentation(statement.ascii, [disclosure.text for disclosure in opened.disclosures])
        files = {"record.sd-jwt": ("application/sd-jwt", record), "record.tlog-proof": (_TEXT, proof.serialize())}
        for number, attachment in enumerate(opened.record().get("attachments", []), 1):
            files[attachment["name"]] = (attachment["media_type"], _whole(node, connection, record_id, number))
    files["trust.json"] = (_JSON, trust.serialize())
    authority = authority_of(node, trust.department(statement.issuer), trust, now)
    at = datetime.fromtimestamp(int(now), UTC)
    return asic_container(files, lambda manifest: sign_detached(manifest, authority, at, _stamp(node)))


def authority_of(node: Node, department: Department, trust: Trust, now: float) -> Authority:
    """The department as a certificate authority, by the statement key in force at `now`; its certificate begins with
    the key."""
    signer = node.agent.statement_signer(department.id, now)
    since = next(key.valid_from for key in department.keys if key.kid == signer.kid)
    return Authority(signer, department.name["en"], trust.consortium, since)


def _whole(node: Node, connection: Connection, record_id: str, number: int) -> bytes:
    collected = b""
    for piece in node.reader.attachment(connection, record_id, number):
        collected += piece
        if len(collected) > MAX_BYTES:
            raise Refusal(f"attachment {number} of record {record_id} is larger than {MAX_BYTES:,} bytes")
    return collected


def _stamp(node: Node) -> Stamp | None:
    authorities = node.settings.timestamps.authorities
    if not authorities:
        return None

    def stamp(signature: bytes) -> bytes:
        for place, authority in enumerate(authorities, 1):
            try:
                return ask(authority, signature)[0]
            except YunxiError:
                if place == len(authorities):
                    raise
        raise AssertionError("there is an authority")

    return stamp
