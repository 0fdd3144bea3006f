"""Who holds the connections of a port, and whose ends when one more comes than there may be.

While there is room, one caller may hold all of it; nobody is ever shut out. When there is no room, the caller with the
most connections gives one up. At the REST port a caller is an access token, from whatever addresses it comes; as long
as none was shown it is an address. So the people of a hospital, who have one address and tokens of their own, do not
count as one. At the sites' port it is an address, and for bulk connections the site whose certificate was shown.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

_log = structlog.get_logger("archipel.ports")
_SAID_EVERY_S = 60.0


def _nothing() -> None:
    """What ends a connection that does not exist yet."""


@dataclass(eq=False)
class Connection:
    """One open connection.

    ``caller`` is whom it counts for; ``since`` the time in seconds at which its request came or its last answer
    ended; ``busy`` whether a request of it is being answered; ``close`` ends it at once.
    """

    caller: str
    since: float
    busy: bool = False
    close: Callable[[], object] = _nothing

    def begin(self) -> None:
        """It is in use from now on."""
        self.busy = True


def address_caller(address: str) -> str:
    """The caller that an address is: for IPv6 its /64 network, in which one machine may take any address.

    >>> address_caller("192.0.2.7"), address_caller("2001:db8::1:2:3:4"), address_caller("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7')
    """
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.IPv6Network((known, 64), strict=False))
    return str(known)


def token_caller(token_id: str) -> str:
    """The caller that an access token is, by the token's id."""
    return f"access token {token_id}"


def site_caller(site: str) -> str:
    """The caller that a site is, once it has shown its certificate."""
    return f"site {site}"


def join_token_caller(token_id: str) -> str:
    """The caller that a join token is, by the token's id."""
    return f"join token {token_id}"


def to_close(held: Collection[Connection], newest: Connection) -> Connection:
    """The connection that ends so that there is room for ``newest``, which is one of those ``held``.

    It is one of the caller with the most: the one that has waited longest without a request, else the one whose
    request is oldest. The newest ends only if no caller has more than one connection and all others are in use.
    """
    of_callers = Counter(connection.caller for connection in held)
    most = max(of_callers.values())
    others = [one for one in held if one is not newest and of_callers[one.caller] == most]
    if most == 1:
        others = [one for one in others if not one.busy]
    return min(others, key=lambda one: (one.busy, one.since), default=newest)


class Connections:
    """The open connections, at most ``most`` of them."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._held: set[Connection] = set()
        self._said = float("-inf")

    def add(self, connection: Connection) -> bool:
        """Count a connection, and end another one if there are too many; False if it is this one that must end."""
        self._held.add(connection)
        if len(self._held) <= self._most:
            return True
        ending = to_close(self._held, connection)
        self._say(ending)
        self._held.remove(ending)
        if ending is connection:
            return False
        ending.close()
        return True

    def remove(self, connection: Connection) -> None:
        """Count a connection no more; nothing happens if it was ended here."""
        self._held.discard(connection)

    def _say(self, ending: Connection) -> None:
        if self._clock() - self._said < _SAID_EVERY_S:
            return
        self._said = self._clock()
        count = sum(one.caller == ending.caller for one in self._held)
        _log.warning(
            "all connections are in use; the caller with the most gives up one", caller=ending.caller, connections=count
        )
