"""What the server does with each call of a site: the control stream, blobs going out, updates coming in."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import structlog

from archipel.governance import HeadFault, JournalHead, canonical, verify
from archipel.rounds import Accepted, Failed
from archipel.server.experiments import Experiments, Stream, journal_heads
from archipel.server.sites.receiving import Receiving
from archipel.transport import (
    AnswerMessage,
    DatasetsMessage,
    DatasetSummary,
    DetailMessage,
    FetchStart,
    FromServer,
    FromSite,
    Heartbeat,
    Hello,
    Incoming,
    Offset,
    Outgoing,
    PackagesMessage,
    Peer,
    RenewRequest,
    Send,
    TaskAcceptedMessage,
    TaskFailedMessage,
    UploadStart,
    Welcome,
)
from archipel.transport.bodies import Readable
from archipel.transport.messages import Document
from archipel.transport.waiting import with_timeout
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    NotFound,
    NotPermitted,
    StorageFull,
    Thing,
    Update,
)
from archipel.vocabulary.remedies import JoinFederation, Nothing

_log = structlog.get_logger("archipel.wire")
PATIENCE = 3
"""How many heartbeats may be missed before the other side counts as disconnected."""


class FederationServicer:
    """The server's side of every call."""

    def __init__(self, experiments: Experiments) -> None:
        self.experiments, self.hub = experiments, experiments.hub
        self.federation = experiments.federation
        self._receiving = Receiving(experiments)
        self._identity_keys: dict[str, str] = {}

    def admit(self, peer: Peer) -> None:
        """Raise NotPermitted unless this certificate is valid now."""
        if self.federation.registry.site_of_serial(peer.serial) != peer.site:
            raise NotPermitted(
                Thing.worded(f"certificate {peer.serial} of {peer.site}", serial=peer.serial, site=peer.site),
                "is revoked or has expired",
                "ask the server's operator for a join token and join again",
                code=ErrorCode.REVOKED,
                command=JoinFederation(),
            )

    async def cut_revoked(self) -> None:
        """End the streams whose certificates are not valid any more; called when the registry changed."""
        for stream in list(self.hub.streams.values()):
            try:
                self.admit(stream.peer)
            except NotPermitted as error:
                await stream.refuse(error)

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Send) -> None:
        """Serve one site's control stream until either side ends it or heartbeats stop."""
        patience = PATIENCE * self.federation.settings.heartbeat_s
        hello = await with_timeout(patience, anext(incoming, None))
        if not isinstance(hello, Hello) or hello.site != peer.site:
            raise NotPermitted(
                Thing("site", peer.site),
                "opened its control stream under another name than its certificate has",
                "check that the site uses its own state folder",
            )
        self._check_clock(hello)
        contains = await asyncio.to_thread(self._note_hello, peer, hello)
        stream = Stream(peer, send, message_s=self.federation.limits.message_s)
        try:
            async with stream.turn:
                # Attached first and with its turn held: what is announced from now on waits until the site has received
                # # what it missed, so that no result of a round is lost or comes after the next round's task.
                self.hub.attach(stream)
                for message in await self._missed(peer.site, contains):
                    await stream.say(message)
            self.hub.ready(stream)
            _log.info("site connected", site=peer.site)
            await self._listen(stream, incoming, patience)
        finally:
            self.hub.detach(stream)
            _log.info("site disconnected", site=peer.site)

    async def _missed(self, site: str, contains: bool | None = None) -> list[FromServer]:
        """The welcome, then the results that the site may have missed, then its jobs and tasks."""
        welcome = Welcome(
            federation=self.federation.settings.name,
            time=datetime.now(UTC).isoformat(),
            heartbeat_s=self.federation.settings.heartbeat_s,
            attested=_dumped(self.hub.receipt(site)),
            head=_dumped(await asyncio.to_thread(self.hub.head)),
            contains=contains,
        )
        ended = await asyncio.to_thread(self.experiments.ended, site)
        offers = await asyncio.to_thread(self.experiments.offers, site)
        closed = await asyncio.to_thread(self.experiments.missed_results, site)
        return [welcome, *ended, *offers, *[await self.hub.round_message(word, site) for word in closed]]

    async def _listen(self, stream: Stream, incoming: AsyncIterator[FromSite], patience: float) -> None:
        closed = asyncio.create_task(stream.closed.wait())
        following: asyncio.Task[FromSite | None] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(incoming, None))
                done, _ = await asyncio.wait({following, closed}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if following not in done:
                    return
                message = following.result()
                if message is None:
                    return
                await self._take(stream, message)
        finally:
            closed.cancel()
            if following is not None and not following.done():
                following.cancel()
                await asyncio.wait({following})
                # The result is read, so that asyncio does not report the end of a stream that is not awaited as an
                # error.
                _ = following.cancelled() or following.exception()

    async def _take(self, stream: Stream, message: FromSite) -> None:
        site = stream.peer.site
        match message:
            case Heartbeat(head=document):
                if document is not None:
                    await self._keep_head(site, document)
                await self._beat_back(stream, document is not None)
            case AnswerMessage():
                try:
                    head = journal_heads.read(self._identity_keys[site], site, message.head) if message.head else None
                    kept = await self.experiments.answer(site, message, head)
                    if kept is not None:
                        self.hub.attest(site, kept)
                        await self._beat_back(stream, showed=True)
                except StorageFull:
                    # The site sends it again when it connects.
                    raise
                except ArchipelError as error:
                    # The site repeats an answer to a job that ended or changed; the stream continues.
                    _log.warning("answer refused", site=site, experiment=message.experiment, error=str(error))
            case PackagesMessage():
                try:
                    await self.experiments.keep_packages(site, message)
                except (BadInput, NotPermitted) as error:
                    # Of a job that changed meanwhile, say; the stream continues.
                    _log.warning("packages refused", site=site, experiment=message.experiment, error=str(error))
            case DatasetsMessage(datasets=datasets):
                await asyncio.to_thread(self._keep_datasets, site, datasets)
            case TaskAcceptedMessage(key=key):
                fleet = self.hub.fleets.get(key.experiment)
                if fleet is not None:
                    fleet.events.put_nowait(Accepted(site, key))
            case TaskFailedMessage(key=key, failure=failure):
                fleet = self.hub.fleets.get(key.experiment)
                if fleet is not None:
                    fleet.events.put_nowait(Failed(site, key, failure))
            case DetailMessage(key=key, detail=detail):
                try:
                    await self.experiments.keep_detail(site, key, detail)
                except NotPermitted as error:
                    _log.warning("error text refused", site=site, error=str(error))
            case Hello():
                raise BadInput(Thing("site", site), "sent a second hello on one stream", "open a new stream")

    async def _keep_head(self, site: str, document: Document) -> None:
        head = journal_heads.read(self._identity_keys[site], site, document)

        def keep() -> JournalHead:
            with self.federation.database.write() as connection:
                return journal_heads.take(connection, site, head, in_order=False)

        try:
            self.hub.attest(site, await asyncio.to_thread(keep))
        except StorageFull as error:
            # The head comes again with the next heartbeat; the stream continues.
            _log.error("a journal head was not kept", site=site, error=str(error))

    async def _beat_back(self, stream: Stream, showed: bool) -> None:
        """A heartbeat, with a receipt when the site ``showed`` a head, and with the server's head when it is new."""
        head = await asyncio.to_thread(self.hub.head)
        is_new = stream.head is None or head.number > stream.head.number
        receipt = self.hub.receipt(stream.peer.site) if showed else None
        await stream.send(Heartbeat(head=_dumped(head) if is_new else None, attested=_dumped(receipt)))

    def _check_clock(self, hello: Hello) -> None:
        try:
            off = (datetime.fromisoformat(hello.time) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError) as error:
            raise BadInput(
                Thing.worded(f"hello of {hello.site}", site=hello.site), "has no time in UTC", "update Archipel there"
            ) from error
        if abs(off) > self.federation.settings.clock_skew_s:
            way = "ahead of" if off > 0 else "behind"
            raise ArchipelError(
                Thing.worded(f"clock of {hello.site}", site=hello.site),
                f"is {abs(off):.0f} s {way} the server's",
                "set both by NTP",
                code=ErrorCode.CLOCK,
                values={"seconds": round(off), "limit": self.federation.settings.clock_skew_s},
            )

    def _note_hello(self, peer: Peer, hello: Hello) -> bool | None:
        """Keep what a hello says; returns whether the server's journal has the head that it names."""
        self._keep_datasets(peer.site, hello.datasets)
        self._identity_keys[peer.site] = self.federation.registry.site(peer.site).identity_key
        identity_key = self._identity_keys[peer.site]
        head = journal_heads.read(identity_key, peer.site, hello.head)
        with self.federation.database.write() as connection:
            self.hub.attested[peer.site] = journal_heads.take_first(connection, identity_key, peer.site, head)
            if hello.attested is None:
                return None
            return journal_heads.has(connection, self.federation.identity.public, peer.site, hello.attested)

    def _keep_datasets(self, site: str, datasets: tuple[DatasetSummary, ...]) -> None:
        self.federation.registry.set_datasets(site, datasets)

    async def fetch(self, peer: Peer, start: FetchStart, outgoing: Outgoing) -> None:
        """Send a blob or a job's document that the site may have."""
        if start.hash.startswith("sha256:"):
            document = await asyncio.to_thread(self.experiments.records.document, peer.site, start.hash)
            await outgoing.send(io.BytesIO(document), len(document))
            return
        experiment = await asyncio.to_thread(self.experiments.records.may_fetch, peer.site, start.hash)
        if experiment is None:
            raise NotFound(
                Thing("blob", start.hash),
                f"is not one that {peer.site} may fetch",
                "approve its experiment first",
                values={"site": peer.site},
            )
        with self.federation.blobs.open(start.hash) as file:
            # Binary files all read into memory that is there; their common type in Python does not say so.
            sent = await outgoing.send(cast("Readable", file), self.federation.blobs.size(start.hash))
        key = (peer.site, experiment)
        self.hub.fetched[key] = self.hub.fetched.get(key, 0) + sent

    async def offset(self, peer: Peer, start: UploadStart) -> Offset:
        """How many bytes of this update's tensor file are here, in whole chunks."""
        self._check_sender(peer, start.update)
        return Offset(offset=self._receiving.held(start.update))

    async def upload(self, peer: Peer, start: UploadStart, incoming: Incoming) -> None:
        """Take an update with its tensor file; returns once the round has recorded it."""
        self._check_sender(peer, start.update)

        async def expected() -> None:
            if start.head is not None:
                await self._hear_head(peer.site, start.head)

        await self._receiving.receive(start.update, start.offset, incoming, expected)

    async def _hear_head(self, site: str, document: Document) -> None:
        """Note a head that came with an update; it is kept in the transaction in which the update is.

        Raises Conflict (code lost) for a site that has not said hello since this server started: its hello shows first
        whether an older copy of its journal came back.
        """
        if site not in self._identity_keys:
            raise Conflict(
                Thing("site", site), "has no control stream yet", "it is tried again", code=ErrorCode.LOST,
                command=Nothing(),
            )  # fmt: skip
        head = journal_heads.read(self._identity_keys[site], site, document)
        known = self.hub.attested.get(site)
        if known is None or head.number > known.number:
            self.hub.journal_heads[site] = head
            self.hub.attest(site, head)
        elif head.number == known.number and head.hash != known.hash:
            await asyncio.to_thread(self._note_fault, site, HeadFault(kept=known, shown=head))

    def _note_fault(self, site: str, fault: HeadFault) -> None:
        with self.federation.database.write() as connection:
            journal_heads.note_fault(connection, site, fault)

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        """A new certificate; the identity key must have signed the request."""
        site = await asyncio.to_thread(self.federation.registry.site, peer.site)
        message = b"archipel-renewal/1\n" + canonical({"site": peer.site, "csr": request.csr})
        if not verify(site.identity_key, request.proof, message):
            raise NotPermitted(
                Thing.worded(f"renewal for {peer.site}", site=peer.site),
                "is not signed by its identity key",
                "renew from the site",
            )
        renewed = await asyncio.to_thread(self.federation.registry.renew, peer.site, request.csr)
        return renewed.pem

    def _check_sender(self, peer: Peer, update: Update) -> None:
        if update.site != peer.site:
            raise NotPermitted(
                Thing.worded(f"update of {update.site}", site=update.site),
                f"was sent by {peer.site}",
                "send only your own",
                values={"sender": peer.site},
            )


def _dumped(head: JournalHead | None) -> Document | None:
    return head.model_dump(mode="json") if head else None
