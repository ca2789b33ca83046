"""The trust file, read from the chain's own registry: what a verifier must be told once, out of band."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ledger.chain import contracts as registry
from ledger.chain.contracts import ConsortiumContract
from ledger.errors import TrustRefused
from ledger.formats import jwk
from ledger.formats.encoding import b64url_encode
from ledger.formats.note import ED25519, VerifierKey
from ledger.formats.trust import Chain, Department, Key, Log, Trust, Validators
from ledger.node import Node

_USES = ("statement", "encryption", "anchor")


def export_trust(node: Node) -> Trust:
    """The trust file of the node's consortium, with every key that was ever registered.

    Raises TrustRefused when the registry holds no department or a key whose id is not its thumbprint,
    ChainUnreachable when the chain does not answer.
    """
    chain, link = node.settings.chain, node.connect()
    departments = tuple(_department(link.consortium, found) for found in link.consortium.departments())
    if not departments:
        raise TrustRefused("the consortium has no department yet: run `yunxi department add`")
    return Trust(
        consortium=node.settings.consortium,
        chain=Chain(
            id=chain.id,
            engine=chain.engine,  # type: ignore[arg-type]  # settings allow the same three
            contracts={"Consortium": chain.consortium, "EvidenceLog": chain.evidence_log},
            validators=Validators(threshold=0, addresses=()),
        ),
        departments=departments,
        witnesses=(),
        quorum=0,
        tsa_roots=(),
    )


def _department(consortium: ConsortiumContract, found: registry.Department) -> Department:
    keys = consortium.keys(found.id)
    logs = [key for key in keys if key.use == "log"]
    if not logs:
        raise TrustRefused(f"department {found.id} has no log key: run `yunxi department add {found.id}` again")
    zh, _, en = found.name.partition(" | ")
    vkey = VerifierKey.of(found.log_origin, ED25519, logs[-1].public_key)
    return Department(
        id=found.id,
        name={"zh": zh, "en": en or zh},
        log=Log(origin=found.log_origin, vkey=str(vkey)),
        keys=tuple(_key(key) for key in keys if key.use in _USES),
    )


def _key(key: registry.Key) -> Key:
    members = jwk.from_public_key(_public_key(key))
    kid = b64url_encode(key.kid)
    if jwk.thumbprint(members) != kid:
        raise TrustRefused(f"key {kid} of department {key.department} is registered under an id that is not its own")
    return Key(kid=kid, use=key.use, jwk=members, valid_from=key.valid_from, valid_to=key.valid_to)  # type: ignore[arg-type]


def _public_key(key: registry.Key) -> jwk.PublicKey:
    if key.use == "encryption":
        return X25519PublicKey.from_public_bytes(key.public_key)
    if key.use == "anchor":
        x, y = (b64url_encode(key.public_key[start : start + 32]) for start in (0, 32))
        return jwk.to_public_key({"kty": "EC", "crv": "secp256k1", "x": x, "y": y})
    return Ed25519PublicKey.from_public_bytes(key.public_key)
