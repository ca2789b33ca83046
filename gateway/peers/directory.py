"""Who belongs to the consortium now: departments, standing, keys and node addresses, from the chain's registry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.access import RequestKey
from gateway.caller import PEER, SYSTEM
from gateway.peers.watch import Watched
from ledger.chain.contracts import Key
from ledger.departments import check_url
from ledger.errors import ChainUnreachable, Malformed, Refusal
from ledger.formats.encoding import b64url_encode
from ledger.formats.jwk import kid_of
from ledger.formats.trust import Trust
from ledger.node import ChainLink, Node
from ledger.public_keys import public_key_of
from ledger.trust import export_trust

REQUEST_ROLES = frozenset({SYSTEM, PEER})
"""What the holder of a department's own request key may do."""

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Peer:
    """A department of the consortium. `standing` is admitted or suspended; `name` is 中文 or 中文 | English; `url` is
    where its node answers (None: not said); `keys` all it ever had, of every use, whose id is their thumbprint."""

    id: str
    name: str
    standing: str
    url: str | None
    keys: tuple[Key, ...]

    def key_at(self, use: str, at: float) -> Key | None:
        """The newest key of a use that is in force at `at`, seconds since 1970."""
        fit = (k for k in self.keys if k.use == use and k.valid_from <= at and (k.valid_to is None or at < k.valid_to))
        return max(fit, key=lambda key: key.valid_from, default=None)


@dataclass(frozen=True, slots=True)
class _Members:
    peers: dict[str, Peer]
    request_keys: dict[str, RequestKey]


class PeerDirectory:
    """The registry as of the newest block. Thread-safe. Every method raises ChainUnreachable where the chain does not
    answer: whoever cannot be looked up is not let in. Only a hosted department's own systems are, by the keys that were
    known last, because records must be taken in while the chain is away."""

    def __init__(self, node: Node, link: Callable[[], ChainLink]) -> None:
        self._node, self._link = node, link
        self._hosted = frozenset(node.agent.departments())
        self._members = Watched(lambda: link().client, lambda: [link().consortium.address], self._read)
        self._trust_lock = threading.Lock()
        self._trust: tuple[_Members, Trust] | None = None

    def all(self) -> list[Peer]:
        """Every department ever admitted, in order of admission."""
        return list(self._members.get().peers.values())

    def find(self, department: str) -> Peer | None:
        """A department, or None where none of that id was ever admitted."""
        return self._members.get().peers.get(department)

    def standing(self, department: str) -> str:
        """`admitted`, `suspended` or `unknown`."""
        found = self.find(department)
        return UNKNOWN if found is None else found.standing

    def is_admitted(self, department: str) -> bool:
        """Whether the department is a member and not suspended."""
        return self.standing(department) == "admitted"

    def key(self, kid: str) -> RequestKey | None:
        """The request key of that id, whose department may be suspended; None where the registry has none.

        While the chain does not answer: the key as it was known last, if it is a hosted department's, for its systems
        and not as a peer. Raises ChainUnreachable for every other.
        """
        try:
            return self._members.get().request_keys.get(kid)
        except ChainUnreachable:
            last = self._members.last()
            known = None if last is None else last.request_keys.get(kid)
            if known is None or known.department not in self._hosted:
                raise
            return replace(known, roles=frozenset({SYSTEM}))

    def trust(self) -> Trust:
        """The trust file of the consortium; the same object as long as nothing changed. Raises TrustRefused."""
        members = self._members.get()
        with self._trust_lock:
            if self._trust is None or self._trust[0] is not members:
                trust = export_trust(self._node)
                if self._trust is not None and self._trust[1] == trust:
                    trust = self._trust[1]
                self._trust = members, trust
            return self._trust[1]

    def _read(self) -> _Members:
        consortium = self._link().consortium
        peers = {}
        for found in consortium.departments():
            keys = tuple(key for key in consortium.keys(found.id) if _is_its_own(key))
            peers[found.id] = Peer(found.id, found.name, found.state, _address(found.node_url), keys)
        return _Members(peers, {key.kid: key for peer in peers.values() for key in _request_keys(peer)})


def _request_keys(peer: Peer) -> list[RequestKey]:
    return [
        RequestKey(
            kid=b64url_encode(key.kid),
            department=peer.id,
            public=key.public_key,
            roles=REQUEST_ROLES,
            valid_from=key.valid_from,
            valid_to=key.valid_to,
            standing=peer.standing,
        )
        for key in peer.keys
        if key.use == "request"
    ]


def _address(url: str) -> str | None:
    # a member writes what it likes into the registry; with a query or a fragment in it, what we append would be no path
    try:
        return check_url(url)
    except Refusal:
        return None


def _is_its_own(key: Key) -> bool:
    # the contract does not recompute thumbprints; one that is wrong must not stand for another key, nor stop the others
    try:
        return kid_of(public_key_of(key.use, key.public_key)) == b64url_encode(key.kid)
    except Malformed:
        return False
