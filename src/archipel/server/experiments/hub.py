"""The hub: which sites are connected now, and for each experiment a fleet of them that its loop can use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from archipel.governance import IdentityKey, JournalHead, sign_closed, sign_head
from archipel.rounds import FleetEvent, Lost, Returned
from archipel.server.state import ServerLimits
from archipel.transport import (
    FromServer,
    Heartbeat,
    Peer,
    RefusedMessage,
    RoundMessage,
    Send,
    TaskOffer,
    TaskWithdrawn,
    Welcome,
)
from archipel.vocabulary import ArchipelError, RoundClosed, Task, TaskKey

_log = structlog.get_logger("archipel.hub")


@dataclass(eq=False)
class Stream:
    """One site's open control stream; messages leave it one after the other. ``closed`` ends it.

    ``head`` is the newest head of the server's journal that went out on it; ``message_s`` how long the site may leave
    a message untaken.
    """

    peer: Peer
    write: Send
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    head: JournalHead | None = None
    message_s: float = ServerLimits.message_s

    async def say(self, message: FromServer) -> None:
        """Send; the caller has the turn. A head that is older than the last one sent is replaced by that one.

        A site takes an older head for a fault of this server.
        """
        if isinstance(message, Welcome | RoundMessage | Heartbeat) and message.head is not None:
            head = JournalHead.model_validate(message.head)
            if self.head is not None and head.number < self.head.number:
                message = message.model_copy(update={"head": self.head.model_dump(mode="json")})
            else:
                self.head = head
        await self.write(message)

    async def send(self, message: FromServer) -> None:
        """Send, or close the stream when it is broken; the site gets what it missed when it returns."""
        try:
            async with asyncio.timeout(self.message_s), self.turn:
                await self.say(message)
        except Exception as error:
            # gRPC raises several kinds for a stream that is gone; all mean that the site must connect again.
            _log.info("control stream ended with an error", site=self.peer.site, error=str(error))
            self.closed.set()

    async def refuse(self, error: ArchipelError) -> None:
        """Say why and end the stream."""
        await self.send(RefusedMessage(code=error.code, thing=error.thing, cause=error.cause, remedy=error.remedy))
        self.closed.set()


class Hub:
    """Connected sites and running fleets. ``head`` gives the server's journal head, signed.

    A site that was not here since this process began counts as lost then: nobody's grace ran out while the server was
    away.
    """

    def __init__(self, identity: IdentityKey, head: Callable[[], JournalHead]) -> None:
        self.identity, self.head = identity, head
        self.streams: dict[str, Stream] = {}
        self.fleets: dict[str, DeployedFleet] = {}
        self.journal_heads: dict[str, JournalHead] = {}
        self.attested: dict[str, JournalHead] = {}
        self.fetched: dict[tuple[str, str], int] = {}
        self._began = time.monotonic()
        self._lost: dict[str, float] = {}

    def fleet(self, experiment: str) -> DeployedFleet:
        """A new fleet for an experiment's loop; it takes the place of the one before."""
        self.fleets[experiment] = DeployedFleet(self)
        return self.fleets[experiment]

    def attach(self, stream: Stream) -> None:
        """The site uses this stream from now on; an older stream of the same site ends."""
        site = stream.peer.site
        older = self.streams.get(site)
        self.streams[site] = stream
        self._lost.pop(site, None)
        if older is not None:
            older.closed.set()

    def ready(self, stream: Stream) -> None:
        """The site has received what it missed, and can be given work."""
        self._tell(Returned(stream.peer.site))

    def detach(self, stream: Stream) -> None:
        """The stream has ended; the site is lost unless it already uses a newer one."""
        if self.streams.get(stream.peer.site) is stream:
            del self.streams[stream.peer.site]
            self._lost[stream.peer.site] = time.monotonic()
            self._tell(Lost(stream.peer.site))

    def absent_since(self, site: str) -> float | None:
        """When the site's last control stream ended, by the monotonic clock; None while it has one."""
        return None if site in self.streams else self._lost.get(site, self._began)

    def _tell(self, event: FleetEvent) -> None:
        for fleet in self.fleets.values():
            fleet.events.put_nowait(event)

    async def send(self, site: str, message: FromServer) -> None:
        """Send to a site if it is connected."""
        stream = self.streams.get(site)
        if stream is not None:
            await stream.send(message)

    def attest(self, site: str, head: JournalHead) -> None:
        """The server keeps this head of the site's journal, unless it keeps one of a longer journal."""
        known = self.attested.get(site)
        if known is None or head.number > known.number:
            self.attested[site] = head

    def receipt(self, site: str) -> JournalHead | None:
        """The newest head of the site's journal that is kept here, countersigned."""
        attested = self.attested.get(site)
        return sign_head(self.identity, attested) if attested else None

    async def round_message(self, closed: RoundClosed, site: str) -> RoundMessage:
        """The signed result of a closed round for one site, with the journal heads of both."""
        head = await asyncio.to_thread(self.head)
        return self.signed_result(closed, sign_closed(self.identity, closed), site, head)

    def signed_result(self, closed: RoundClosed, signature: str, site: str, head: JournalHead) -> RoundMessage:
        """The same with a signature and a head that are there: one of each is enough for all sites."""
        attested = self.receipt(site)
        return RoundMessage(
            closed=closed,
            signature=signature,
            head=head.model_dump(mode="json"),
            attested=attested.model_dump(mode="json") if attested else None,
        )


class DeployedFleet:
    """One experiment's sites over the network."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.events: asyncio.Queue[FleetEvent] = asyncio.Queue()

    def absent_since(self, site: str) -> float | None:
        """When the site was lost; None while it has a control stream."""
        return self._hub.absent_since(site)

    async def offer(self, site: str, task: Task, remaining_s: float) -> None:
        """Push the task to the site; one that is away is offered it again by the loop when it returns."""
        await self._hub.send(site, TaskOffer(task=task, remaining_s=max(remaining_s, 0.0)))

    async def withdraw(self, site: str, key: TaskKey, reason: str) -> None:
        """Tell the site to stop; one that is away learns it from the closed round when it returns."""
        await self._hub.send(site, TaskWithdrawn(key=key, reason=reason))

    async def announce(self, sites: Sequence[str], closed: RoundClosed) -> None:
        """Send each connected site the signed result."""
        head, signature = await asyncio.to_thread(self._hub.head), sign_closed(self._hub.identity, closed)
        for site in sites:
            await self._hub.send(site, self._hub.signed_result(closed, signature, site, head))
