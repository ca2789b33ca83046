"""A department of another node joins: three steps and two files that people carry between the nodes.

    new node      make_request  ──► request    keys drawn; their public halves, signed by the governance account
    member's node admit         ──► admission  during set-up: admitted and registered at once, by the deployer's node;
                                               afterwards: a proposal, and this call again when it was carried out
    new node      finish                       keys registered, index key taken, log opened

    request   = {"format": "yunxi-department-request", "v": 1, "chain": {"id", "genesis", "consortium"},
                 "department", "name", "url", "governor": address, "keys": {use: b64url(raw)}, "signature": hex}
    admission = {"format": "yunxi-department-admission", "v": 1, "chain": {…}, "department", "kid",
                 "index_key": b64url(HPKE to the department's encryption key `kid`, info: see `_info`),
                 "signature": hex}

Signatures are Ethereum's over text (EIP-191) of the other members as JSON with sorted keys and no white space. A
request proves possession of its governance account and nothing about who holds it: whoever admits compares
`fingerprint` with the people of the department, by voice. An admission is good when an admitted department's governance
account signed it, or, during set-up, the deployer's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from ledger.chain.client import local_account
from ledger.crypto.envelope import seal_to
from ledger.departments import (
    REGISTERED_USES,
    check_name,
    check_url,
    deploys,
    open_department,
    public_keys,
    register_keys,
)
from ledger.errors import KeyRefused, Malformed, Refusal
from ledger.formats.encoding import b64url_decode, b64url_encode, hex_decode
from ledger.formats.jwk import kid_of
from ledger.formats.strictjson import loads_object
from ledger.governance import OPEN, Motion, admission, motions, propose
from ledger.node import ChainLink, Node
from ledger.public_keys import public_key_of

REQUEST = "yunxi-department-request"
ADMISSION = "yunxi-department-admission"
MAX_FILE_BYTES = 64 * 1024

_SIGNATURE_BYTES = 65


@dataclass(frozen=True, slots=True)
class Request:
    """A department that asks to be admitted. `governor` is the address that signed; `keys` raw public keys by use."""

    department: str
    name: str
    url: str
    governor: str
    keys: dict[str, bytes]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a request: `answer` is the admission file of a department that is admitted, `motion` the open
    proposal to admit it; one of the two is None."""

    request: Request
    answer: bytes | None
    motion: Motion | None


def make_request(node: Node, department: str, name: str, url: str) -> bytes:
    """Draws the department's keys on this node and asks for its admission; the request file. Safe to call again.

    Raises Refusal for a name or address that no department can have. The chain is not asked.
    """
    name, url = check_name(department, name), check_url(url)
    public = public_keys(node.agent.create_department(department))
    governor = node.agent.governor_key(department)
    members = {
        "format": REQUEST,
        "v": 1,
        "chain": _chain_of(node),
        "department": department,
        "name": name,
        "url": url,
        "governor": local_account(governor).address,
        "keys": {use: b64url_encode(raw) for use, raw in public.items()},
    }
    return _signed(members, governor)


def read_request(node: Node, data: bytes) -> Request:
    """A request file, checked. Raises Malformed, KeyRefused when it was changed after it was signed, Refusal when it is
    for another chain or consortium than this node's."""
    members = _object(data, REQUEST)
    signer = _signer_of(members)
    _require_chain(node, members)
    governor = _text(members, "governor")
    if signer != governor:
        raise KeyRefused("the request was changed after it was signed: ask for it again")
    department = _text(members, "department")
    name = check_name(department, _text(members, "name"))
    return Request(department, name, check_url(_text(members, "url")), governor, _keys(members), fingerprint(data))


def fingerprint(data: bytes) -> str:
    """The first 80 bits of a request's SHA-256, in groups that can be read out."""
    digest = hashlib.sha256(_message(_object(data, REQUEST))).hexdigest()[:20]
    return " ".join(digest[start : start + 4] for start in range(0, 20, 4))


def admit(node: Node, data: bytes, speaker: str | None = None, days: int = 7) -> Admission:
    """Admits the department of a request, or proposes it to the members in the name of `speaker`. Safe to call again.

    1. during set-up, on the deployer's node: admitted, its keys registered
    2. afterwards, if it is not admitted: a proposal, or the one that is open already
    3. if it is: the answer with the index key, for the keys of this very request

    Raises Refusal where there is nobody to speak or another department has the name, and as `read_request`,
    KeyRefused where this node may not, ChainUnreachable.
    """
    request, link = read_request(node, data), node.connect()
    consortium, department = link.consortium, request.department
    setup_open = consortium.setup_open()
    if consortium.state(department) == "unknown":
        if not setup_open:
            return Admission(request, None, _proposal(node, link, request, speaker, days))
        origin = f"{node.settings.consortium}/{department}"
        operator = node.agent.operator_key()
        consortium.admit(operator, department, request.name, origin, request.url, request.governor)
    if consortium.department(department).governor != request.governor:
        raise Refusal(f"department {department} was admitted with another governance account than this request's")
    if setup_open:
        register_keys(consortium, node.agent.operator_key(), department, request.keys, int(node.clock()))
    return Admission(request, _answer(node, link, request), None)


def finish(node: Node, department: str, answer: bytes | None = None) -> str:
    """Completes an admission on the department's own node and returns the log's origin. Safe to call again.

    `answer` is the admission file; None where the node has the index key already (its second department).
    Raises Refusal for a department that is not admitted yet or an answer for another, KeyRefused for one that no member
    signed or where this node has another index key, PayloadInvalid for one that does not open.
    """
    node.agent.governor_key(department)
    if answer is not None:
        node.agent.take_index_key(_index_key(node, department, answer))
    node.agent.index_key()
    return open_department(node, department)


def _proposal(node: Node, link: ChainLink, request: Request, speaker: str | None, days: int) -> Motion:
    action = admission(node, request.department, request.name, request.governor, request.url)
    admitted = {found.id for found in link.consortium.departments() if found.state == "admitted"}
    found = next((m for m in motions(link, admitted) if m.action == action and m.state == OPEN), None)
    if found is not None:
        return found
    if speaker is None:
        raise Refusal("set-up is closed, so members vote: name the department of this node that proposes, with --as")
    return propose(node, speaker, action, days)


def _answer(node: Node, link: ChainLink, request: Request) -> bytes:
    kid = kid_of(public_key_of("encryption", request.keys["encryption"]))
    recipient = X25519PublicKey.from_public_bytes(request.keys["encryption"])
    members = {
        "format": ADMISSION,
        "v": 1,
        "chain": _chain_of(node),
        "department": request.department,
        "kid": kid,
        "index_key": b64url_encode(seal_to(recipient, node.agent.index_key(), _info(node, request.department))),
    }
    return _signed(members, _account_of(node, link, request.department))


def _account_of(node: Node, link: ChainLink, joining: str) -> bytes:
    held = set(node.agent.departments()) - {joining}
    for found in link.consortium.departments():
        if found.id in held and found.state == "admitted":
            return node.agent.governor_key(found.id)
    if link.consortium.setup_open() and deploys(node, link.consortium):
        return node.agent.operator_key()
    raise KeyRefused("no department of this node is a member, so it cannot answer: let a member's node do it")


def _index_key(node: Node, department: str, answer: bytes) -> bytes:
    members = _object(answer, ADMISSION)
    signer = _signer_of(members)
    _require_chain(node, members)
    if members.get("department") != department:
        raise Refusal(f"this admission is for {str(members.get('department'))[:40]!r}, not for {department}")
    consortium = node.connect().consortium
    governors = {d.governor for d in consortium.departments() if d.state == "admitted" and d.id != department}
    if signer not in governors and not (consortium.setup_open() and signer == consortium.deployer()):
        raise KeyRefused("no member of the consortium signed this admission, or it was changed: ask for it again")
    sealed = b64url_decode(_text(members, "index_key"), ADMISSION)
    key = node.agent.open_sealed(department, sealed, _info(node, department), _text(members, "kid"))
    if len(key) != 32:
        raise Malformed(ADMISSION, "its index key has not 32 bytes")
    return key


def _info(node: Node, department: str) -> bytes:
    return f"yunxi index key v1\x1f{department}\x1f{node.settings.chain.consortium}".encode()


def _chain_of(node: Node) -> dict[str, Any]:
    chain = node.settings.chain
    return {"id": chain.id, "genesis": chain.genesis, "consortium": chain.consortium}


def _require_chain(node: Node, members: dict[str, Any]) -> None:
    if members.get("chain") != _chain_of(node):
        raise Refusal(
            "this file is for another chain or consortium than this node's: compare `yunxi consortium show` on both"
        )


def _signed(members: dict[str, Any], account: bytes) -> bytes:
    signed = local_account(account).sign_message(encode_defunct(_message(members)))
    return json.dumps(members | {"signature": signed.signature.hex()}, indent=1, ensure_ascii=False).encode() + b"\n"


def _signer_of(members: dict[str, Any]) -> str:
    signature = hex_decode(_text(members, "signature"), _SIGNATURE_BYTES, str(members["format"]))
    try:
        return str(Account.recover_message(encode_defunct(_message(members)), signature=signature))
    except (BadSignature, ValidationError, ValueError) as error:
        raise KeyRefused(f"the signature of this {members['format']} is none: ask for the file again") from error


def _message(members: dict[str, Any]) -> bytes:
    stated = {name: value for name, value in members.items() if name != "signature"}
    return json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()


def _object(data: bytes, what: str) -> dict[str, Any]:
    members = loads_object(data, what=what, max_bytes=MAX_FILE_BYTES)
    if members.get("format") != what or members.get("v") != 1:
        raise Malformed(what, "it says that it is something else, or of a version that this program does not know")
    return members


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(str(members["format"]), f"{name} must be a text")
    return value


def _keys(members: dict[str, Any]) -> dict[str, bytes]:
    keys = members.get("keys")
    if not isinstance(keys, dict) or set(keys) != set(REGISTERED_USES):
        raise Malformed(REQUEST, f"keys must be {', '.join(REGISTERED_USES)}")
    raw = {use: b64url_decode(_text(keys | {"format": REQUEST}, use), REQUEST) for use in REGISTERED_USES}
    for use, value in raw.items():
        public_key_of(use, value)
    return raw
