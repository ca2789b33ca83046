"""The trust file, read from the chain's own registry: what a verifier must be told once, out of band."""

from __future__ import annotations

from ledger.chain import contracts as registry
from ledger.chain.contracts import ConsortiumContract, EvidenceLogContract
from ledger.chain.evidence import read_validators
from ledger.errors import TrustRefused
from ledger.formats import jwk
from ledger.formats.encoding import b64url_encode
from ledger.formats.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from ledger.formats.trust import Chain, Department, Key, Log, LogKey, Trust, Validators, Witness
from ledger.node import ChainLink, Node
from ledger.public_keys import public_key_of
from ledger.settings import EMBEDDED
from ledger.store.reading import read_logs
from ledger.witness.departments import node_operator, witness_name

_USES = ("statement", "encryption", "anchor")


def export_trust(node: Node) -> Trust:
    """The trust file of the node's consortium, with every key that was ever registered.

    Its witnesses are those of each department, always optional, and those of node.toml; the quorum is node.toml's.
    Whoever runs this node runs the witnesses of the departments on it, and `operator` says so.
    Raises TrustRefused when the registry holds no department or a key whose id is not its thumbprint,
    ChainUnreachable when the chain does not answer.
    """
    chain, link = node.settings.chain, node.connect()
    with node.database.reading() as connection:
        hosted = {log.department for log in read_logs(connection)}
    operator = node_operator(node.settings, hosted)
    registered = link.consortium.departments()
    keys = {found.id: link.consortium.keys(found.id) for found in registered}
    # a department that is admitted and has no log key yet has sealed nothing: its own node still has to finish
    departments = tuple(
        _department(keys[found.id], found, operator if found.id in hosted else None)
        for found in registered
        if any(key.use == "log" for key in keys[found.id])
    )
    if not departments:
        raise TrustRefused("the consortium has no department yet: run `yunxi department add`")
    return Trust(
        consortium=node.settings.consortium,
        chain=Chain(
            id=chain.id,
            engine=chain.engine,  # type: ignore[arg-type]  # settings allow the same three
            contracts={"Consortium": chain.consortium, **evidence_logs(link.evidence_log)},
            validators=_validators(link, chain.engine),
        ),
        departments=departments,
        witnesses=_witnesses(node, link.consortium, registered, dict.fromkeys(hosted, operator)),
        quorum=node.settings.quorum,
        tsa_roots=tuple(authority.roots for authority in node.settings.timestamps.authorities),
    )


def _validators(link: ChainLink, engine: str) -> Validators:
    """Who seals the chain's blocks now, and how many of them make a block final: more than half under Clique, two
    thirds under QBFT. The embedded chain has none. Compare them with what the departments say before handing it out."""
    if engine == EMBEDDED:
        return Validators(threshold=0, addresses=())
    addresses = read_validators(link.client, engine)
    threshold = -(-2 * len(addresses) // 3) if engine == "qbft" else len(addresses) // 2 + 1
    return Validators(threshold=threshold, addresses=addresses)


def evidence_logs(newest: EvidenceLogContract) -> dict[str, str]:
    """The EvidenceLog, and as EvidenceLog-1, -2 … (oldest first) those that it carries on."""
    _, *earlier = newest.lineage()
    earlier.reverse()
    return {"EvidenceLog": newest.address, **{f"EvidenceLog-{n}": found for n, found in enumerate(earlier, 1)}}


def _witnesses(
    node: Node, consortium: ConsortiumContract, registered: list[registry.Department], operators: dict[str, str]
) -> tuple[Witness, ...]:
    found = {w.key.public: Witness(w.name, w.vkey, w.operator, w.required) for w in node.settings.witnesses}
    for department in registered:
        keys = [k for k in consortium.keys(department.id) if k.use == "witness"]
        if not keys or keys[-1].valid_to is not None or department.state != "admitted":
            continue
        vkeys = [VerifierKey.of(witness_name(department.log_origin), COSIGNATURE_ED25519, k.public_key) for k in keys]
        earlier = tuple(
            LogKey(str(vkey), key.valid_from, key.valid_to) for vkey, key in zip(vkeys[:-1], keys[:-1], strict=True)
        )
        operator = operators.get(department.id, department.name)
        witness = Witness(vkeys[-1].name, str(vkeys[-1]), operator, earlier=earlier)
        found.setdefault(vkeys[-1].public, witness)
    return tuple(found.values())


def _department(keys: list[registry.Key], found: registry.Department, operator: str | None) -> Department:
    logs = [key for key in keys if key.use == "log"]
    zh, _, en = found.name.partition(" | ")
    vkey = VerifierKey.of(found.log_origin, ED25519, logs[-1].public_key)
    earlier = tuple(
        LogKey(str(VerifierKey.of(found.log_origin, ED25519, key.public_key)), key.valid_from, key.valid_to)
        for key in logs[:-1]
    )
    return Department(
        id=found.id,
        name={"zh": zh, "en": en or zh},
        log=Log(origin=found.log_origin, vkey=str(vkey), earlier=earlier),
        keys=tuple(key_of(key) for key in keys if key.use in _USES),
        operator=operator,
    )


def key_of(key: registry.Key) -> Key:
    """A registered key in the trust file's form. Raises TrustRefused when its id is not its thumbprint."""
    members = jwk.from_public_key(public_key_of(key.use, key.public_key))
    kid = b64url_encode(key.kid)
    if jwk.thumbprint(members) != kid:
        raise TrustRefused(f"key {kid} of department {key.department} is registered under an id that is not its own")
    return Key(kid=kid, use=key.use, jwk=members, valid_from=key.valid_from, valid_to=key.valid_to)  # type: ignore[arg-type]
