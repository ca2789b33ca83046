"""Renewal of time stamps: a later token over earlier ones, made before their certificates or algorithms give out.

All tokens of a log, those over checkpoints and those over tokens, are numbered in the order they came. They are the
leaves of a Merkle tree built like RFC 9162 section 2.1, with SHA-512 in place of SHA-256:

    leaf = SHA-512(0x00 || token)        node = SHA-512(0x01 || left || right)

A renewal of size n is a token over the root of the first n tokens: 64 bytes. It says that all of them existed then. A
renewal is a leaf itself, so the next one covers it too, as the archive time stamps of RFC 4998 follow each other.

    {"index": number, "renewals": [{"size": number, "path": [base64 of 64 bytes …], "token": base64,
                                    "index": number}, …]}

`index` is the number of the token itself, or of the renewal; `path` leads from the one before to the root of `size`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha512
from typing import Any

from cryptography import x509

from ledger.errors import InclusionInvalid, Malformed, NotProven
from ledger.formats.encoding import b64decode, b64encode
from ledger.formats.merkle import MAX_PATH, split
from ledger.formats.strictjson import loads_object
from ledger.formats.timestamp import MAX_TOKEN_BYTES, Timestamp, parse_token, verify_token

HASH_SIZE = 64
MAX_RENEWALS = 64
MAX_BYTES = MAX_RENEWALS * (2 * MAX_TOKEN_BYTES + 16 * 1024)

_WHAT = "time-stamp renewal"


@dataclass(frozen=True, slots=True)
class Renewal:
    """One renewal: the token over the root of the first `size` tokens, its own number, and the path to that root."""

    size: int
    path: tuple[bytes, ...]
    token: bytes
    index: int


@dataclass(frozen=True, slots=True)
class RenewalChain:
    """How a token, number `index` among its log's, was renewed: the oldest renewal first."""

    index: int
    renewals: tuple[Renewal, ...]

    @classmethod
    def parse(cls, data: bytes) -> RenewalChain:
        """Reads the JSON text. Raises Malformed."""
        value = loads_object(data, what=_WHAT, max_bytes=MAX_BYTES)
        if value.keys() != {"index", "renewals"} or not isinstance(value["renewals"], list):
            raise Malformed(_WHAT, "has the members index and renewals, a list")
        if not 0 < len(value["renewals"]) <= MAX_RENEWALS:
            raise Malformed(_WHAT, f"holds 1 to {MAX_RENEWALS} renewals")
        return cls(_number(value["index"]), tuple(map(_renewal, value["renewals"])))

    def serialize(self) -> bytes:
        """The JSON text."""
        renewals = [
            {
                "size": renewal.size,
                "path": [b64encode(node) for node in renewal.path],
                "token": b64encode(renewal.token),
                "index": renewal.index,
            }
            for renewal in self.renewals
        ]
        return json.dumps({"index": self.index, "renewals": renewals}, indent=1).encode("ascii") + b"\n"


def leaf_hash(token: bytes) -> bytes:
    """The leaf of a token: 64 bytes."""
    return sha512(b"\x00" + token).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, at least one."""
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return _node(root_of(leaves[:middle]), root_of(leaves[middle:]))


def path_of(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The path from leaf `index`, below their number, to the root over them, its sibling first."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*path_of(index, leaves[:middle]), root_of(leaves[middle:])]
    return [*path_of(index - middle, leaves[middle:]), root_of(leaves[:middle])]


def covers(token: bytes, chain: RenewalChain) -> bool:
    """Whether the first renewal of `chain` is over a tree with `token` in it. Nothing that is signed is checked.

    Raises Malformed where the renewal's token is none.
    """
    first = chain.renewals[0]
    stamped = parse_token(first.token)
    try:
        root = _root_by(leaf_hash(token), chain.index, first.size, first.path)
    except InclusionInvalid:
        return False
    return stamped.imprint == hashlib.new(stamped.imprint_digest, root).digest()


def verify_renewals(
    token: bytes, stamp: Timestamp, chain: RenewalChain, roots: Sequence[x509.Certificate]
) -> tuple[Timestamp, ...]:
    """The renewals of `token`, which was verified to say `stamp`. Each covers the one before it, and was made while the
    certificates of that one were valid.

    Raises InclusionInvalid where a path does not lead from one to the next, Malformed and NotProven as `verify_token`,
    and NotProven for a renewal that came too late.
    """
    covered, index, last, found = token, chain.index, stamp, []
    for renewal in chain.renewals:
        root = _root_by(leaf_hash(covered), index, renewal.size, renewal.path)
        fresh = verify_token(renewal.token, root, roots)
        if not last.time <= fresh.time <= last.expires:
            raise NotProven("a time stamp was renewed only when its certificates had ended: nothing vouches between")
        found.append(fresh)
        covered, index, last = renewal.token, renewal.index, fresh
    return tuple(found)


def _root_by(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a path leads to (RFC 9162 section 2.1.3.2, with SHA-512)."""
    if not 0 <= index < size:
        raise InclusionInvalid(f"there is no token {index} among {size}: ask for the renewals of this one")
    fn, sn, node = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise InclusionInvalid("the path of a renewal is too long: ask for the renewals again")
        if fn & 1 or fn == sn:
            node = _node(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = _node(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise InclusionInvalid("the path of a renewal is too short: ask for the renewals again")
    return node


def _node(left: bytes, right: bytes) -> bytes:
    return sha512(b"\x01" + left + right).digest()


def _renewal(value: Any) -> Renewal:
    if not isinstance(value, dict) or value.keys() != {"size", "path", "token", "index"}:
        raise Malformed(_WHAT, "each has the members size, path, token and index")
    path, token = value["path"], value["token"]
    if not isinstance(path, list) or len(path) > MAX_PATH or not isinstance(token, str):
        raise Malformed(_WHAT, f"a path is a list of at most {MAX_PATH}, a token is text")
    nodes = tuple(b64decode(node if isinstance(node, str) else "", _WHAT) for node in path)
    if any(len(node) != HASH_SIZE for node in nodes):
        raise Malformed(_WHAT, f"a path is made of hashes of {HASH_SIZE} bytes")
    return Renewal(_number(value["size"]), nodes, b64decode(token, _WHAT), _number(value["index"]))


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Malformed(_WHAT, "index and size are numbers, 0 or more")
    return value
