"""Where a request comes from: the other end of its connection, or what a proxy that the settings name says of it.

Of any other sender the header fields are not looked at, because anybody can write them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Collection

from fastapi import Request

_CLIENT_CERT = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
NOWHERE = "-"


def address_of(request: Request, proxies: Collection[str]) -> str:
    """The caller's address, of IPv6 the network of 64 bits, which one household has; `-` where there is none.

    Behind one of `proxies`: the last address of X-Forwarded-For, which the proxy itself added; what stands before it
    the caller may have written. Where that is no address, it is the proxy's own.
    """
    here = request.client.host if request.client is not None else NOWHERE
    if here in proxies:
        said = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        return _network(said) or _network(here) or NOWHERE
    return _network(here) or NOWHERE


def certificate_of(request: Request, proxies: Collection[str]) -> str | None:
    """SHA-256 in hex of the DER of the certificate that the caller's TLS connection was made with: as this process saw
    it, or as one of `proxies` says in Client-Cert (RFC 9440 section 2.2). None where neither did."""
    if request.client is None or request.client.host not in proxies:
        seen: str | None = getattr(request.state, "certificate_sha256", None)
        return seen
    fields = request.headers.getlist("client-cert")
    found = _CLIENT_CERT.fullmatch(fields[0].strip()) if len(fields) == 1 else None
    if found is None:
        return None
    try:
        return hashlib.sha256(base64.b64decode(found[1], validate=True)).hexdigest()
    except binascii.Error:
        return None


def _network(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
