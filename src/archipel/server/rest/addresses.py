"""The address that a request comes from: that of the socket, or the one that a trusted proxy names.

Anybody can write ``X-Forwarded-For`` into a request. A proxy adds the address that it saw at the end, so the last
address that is not a trusted proxy's own is known; everything before it is what the caller claims.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from archipel.transport.connections import address_caller

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_HEADER = b"x-forwarded-for"


class Addresses:
    """Gives each request the address it comes from, and its connection the caller that this address is."""

    def __init__(self, app: ASGIApp, trusted_proxies: Collection[str]) -> None:
        self.app = app
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            peer = scope["client"][0]
            forwarded = b",".join(value for name, value in scope["headers"] if name == _HEADER)
            address = origin(peer, forwarded.decode("latin-1"), self._trusted)
            scope["client"] = (address, 0)
            scope["state"]["connection"].caller = address_caller(address)
        await self.app(scope, receive, send)


def origin(peer: str, forwarded: str, trusted: Collection[Network]) -> str:
    """Where a request comes from, given the socket's address and the header's text.

    >>> proxy = (ipaddress.ip_network("10.0.0.5/32"),)
    >>> origin("10.0.0.5", "1.1.1.1, 192.0.2.7", proxy), origin("192.0.2.9", "1.1.1.1", proxy)
    ('192.0.2.7', '192.0.2.9')
    """
    found = peer
    for part in reversed(forwarded.split(",")):
        if not _is_in(found, trusted):
            break
        named = _without_port(part.strip())
        if named is None:
            break
        found = named
    return found


def _is_in(address: str, networks: Collection[Network]) -> bool:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in networks)


def _without_port(text: str) -> str | None:
    """An address as a proxy writes it (``192.0.2.7``, ``192.0.2.7:443``, ``[2001:db8::1]:443``); None if it is not."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
