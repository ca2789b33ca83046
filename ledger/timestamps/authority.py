"""Asking one authority (RFC 3161 section 3.4: a POST over HTTP). What it answers is verified before it counts."""

from __future__ import annotations

import httpx
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from ledger.errors import CouldNotRun, NotProven
from ledger.formats.timestamp import MAX_TOKEN_BYTES, Timestamp, parse_token, token_of, verify_token
from ledger.timestamps.settings import AuthoritySettings

TIMEOUT_SECONDS = 10.0


class AuthorityUnreachable(CouldNotRun):
    """The authority does not answer, or not with a time stamp."""

    code = "authority-unreachable"


def ask(authority: AuthoritySettings, stamped: bytes) -> tuple[bytes, Timestamp]:
    """A fresh token over `stamped` (SHA-512), and what it proves. May take `TIMEOUT_SECONDS`.

    Raises AuthorityUnreachable, or Malformed or NotProven for an answer that does not hold under the authority's roots
    or is not to this question.
    """
    builder = TimestampRequestBuilder().data(stamped).hash_algorithm(HashAlgorithm.SHA512)
    request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    token = token_of(_post(authority, request.as_bytes()))
    if parse_token(token).nonce != request.nonce:
        raise NotProven(f"time-stamping authority {authority.name} answered another question: ask whoever runs it")
    return token, verify_token(token, stamped, authority.certificates)


def _post(authority: AuthoritySettings, body: bytes) -> bytes:
    headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    try:
        with httpx.stream("POST", authority.url, content=body, headers=headers, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            collected = b""
            for piece in answer.iter_bytes():
                collected += piece
                if len(collected) > MAX_TOKEN_BYTES:
                    raise AuthorityUnreachable(f"time-stamping authority {authority.name} answers with too much")
            return collected
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AuthorityUnreachable(
            f"time-stamping authority {authority.name} does not answer ({type(error).__name__}): it is asked again"
        ) from error
