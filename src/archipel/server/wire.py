"""What the server does with each call of a site: the control stream, blobs going out, updates coming in."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from archipel.governance import JournalHead, canonical, verify
from archipel.rounds import Accepted, Delivered, Failed
from archipel.server import heads
from archipel.server.book import spool_name, spool_start
from archipel.server.experiments import Experiments
from archipel.server.hub import DeployedFleet, Stream
from archipel.storage import disk_errors_named, sync_folder
from archipel.tensors import BlobHasher, FrameWriter, check_header, frame_size
from archipel.transport import (
    CHUNK,
    AnswerMessage,
    DatasetsMessage,
    DatasetSummary,
    DetailMessage,
    FetchStart,
    FromServer,
    FromSite,
    Heartbeat,
    Hello,
    Peer,
    RenewRequest,
    Send,
    TaskAcceptedMessage,
    TaskFailedMessage,
    UploadStart,
    Welcome,
)
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    Job,
    NotFound,
    NotPermitted,
    StorageFull,
    Update,
)

_log = structlog.get_logger("archipel.wire")
T = TypeVar("T")
PATIENCE = 3
"""How many heartbeats may be missed before the other side counts as gone."""
STALLED_S = 60.0
"""How long an upload may go without a chunk before it is given up; what arrived stays for the next try."""


class Wire:
    """The server's side of every call."""

    def __init__(self, experiments: Experiments) -> None:
        self.experiments, self.hub = experiments, experiments.hub
        self.federation = experiments.federation
        self._uploads: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._identity_keys: dict[str, str] = {}

    def admit(self, peer: Peer) -> None:
        """Raise NotPermitted unless this certificate is valid now."""
        if self.federation.registry.site_of_serial(peer.serial) != peer.site:
            raise NotPermitted(
                f"certificate {peer.serial} of {peer.site}",
                "is revoked or has expired",
                "ask the server's operator for a join token and join again",
                code=ErrorCode.REVOKED,
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
        hello = await _within(patience, anext(incoming, None))
        if not isinstance(hello, Hello) or hello.site != peer.site:
            raise NotPermitted(f"site {peer.site}", "did not say hello as itself", "check which keys the site uses")
        self._check_clock(hello)
        await asyncio.to_thread(self._note_hello, peer, hello)
        stream = Stream(peer, send)
        try:
            async with stream.turn:
                # Attached first and with its turn held: what is announced from now on waits until the site has learned
                # what it missed, so that no word on a round is lost or comes after the next round's task.
                self.hub.attach(stream)
                for message in await self._missed(peer.site):
                    await send(message)
            self.hub.ready(stream)
            _log.info("site connected", site=peer.site)
            await self._listen(stream, incoming, patience)
        finally:
            self.hub.detach(stream)
            _log.info("site gone", site=peer.site)

    async def _missed(self, site: str) -> list[FromServer]:
        """The welcome, then what became of what the site knows, then what is asked of it."""
        welcome = Welcome(
            federation=self.federation.settings.name,
            time=datetime.now(UTC).isoformat(),
            heartbeat_s=self.federation.settings.heartbeat_s,
            attested=_dumped(self.hub.receipt(site)),
        )
        ended = await asyncio.to_thread(self.experiments.ended, site)
        offers = await asyncio.to_thread(self.experiments.offers, site)
        closed = await asyncio.to_thread(self.experiments.last_words, site)
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
                # Looked at, so that the end of a stream that nobody waits for is not reported as an error.
                _ = following.cancelled() or following.exception()

    async def _take(self, stream: Stream, message: FromSite) -> None:
        site = stream.peer.site
        match message:
            case Heartbeat():
                await stream.send(Heartbeat())
            case AnswerMessage():
                try:
                    await self.experiments.answer(site, message)
                except StorageFull:
                    # The site says it again when it comes back.
                    raise
                except ArchipelError as error:
                    # An answer to a job that is gone or changed is the site's business to repeat, not a reason to go.
                    _log.warning("answer refused", site=site, experiment=message.experiment, error=str(error))
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
                raise BadInput(f"site {site}", "said hello twice", "open a new stream")

    def _check_clock(self, hello: Hello) -> None:
        try:
            off = (datetime.fromisoformat(hello.time) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError) as error:
            raise BadInput(f"hello of {hello.site}", "has no time in UTC", "update Archipel there") from error
        if abs(off) > self.federation.settings.clock_skew_s:
            way = "ahead of" if off > 0 else "behind"
            raise ArchipelError(
                f"clock of {hello.site}",
                f"is {abs(off):.0f} s {way} the server's",
                "set both by NTP",
                code=ErrorCode.CLOCK,
            )

    def _note_hello(self, peer: Peer, hello: Hello) -> None:
        self._keep_datasets(peer.site, hello.datasets)
        self._identity_keys[peer.site] = self.federation.registry.site(peer.site).identity_key
        head = JournalHead.model_validate(hello.head)
        self.hub.attested[peer.site] = heads.keep(self.federation, peer.site, head)

    def _keep_datasets(self, site: str, datasets: tuple[DatasetSummary, ...]) -> None:
        self.federation.registry.set_datasets(site, datasets)

    async def fetch(self, peer: Peer, start: FetchStart) -> AsyncIterator[bytes]:
        """The bytes of a blob that the site may have."""
        experiment = await asyncio.to_thread(self.experiments.records.may_fetch, peer.site, start.hash)
        if experiment is None:
            raise NotFound(f"blob {start.hash}", f"is none that {peer.site} may fetch", "approve its experiment first")
        with self.federation.blobs.open(start.hash) as file:
            position = start.offset
            while chunk := os.pread(file.fileno(), CHUNK, position):
                position += len(chunk)
                yield chunk
        key = (peer.site, experiment)
        self.hub.fetched[key] = self.hub.fetched.get(key, 0) + position - start.offset

    async def offset(self, peer: Peer, start: UploadStart) -> int:
        """How many bytes of this update's frame are here, in whole chunks."""
        self._check_sender(peer, start.update)
        try:
            return self._part(start.update).stat().st_size // CHUNK * CHUNK
        except FileNotFoundError:
            return 0

    async def upload(self, peer: Peer, start: UploadStart, chunks: AsyncIterator[bytes]) -> None:
        """Spool an update's frame, verify it, and return once the round has recorded it."""
        update = start.update
        self._check_sender(peer, update)
        async with self._uploads.setdefault(spool_start(update), asyncio.Lock()):
            job, known = await asyncio.to_thread(self.experiments.records.expects, peer.site, update)
            if known:
                return
            self._fleet(update)
            if start.head is not None:
                await self._hear_head(peer.site, start.head)
            digest = None
            if update.model is not None:
                digest = await self._received(job, update, start.offset, chunks)
            # From here on the call's own end (a site that dies now) must not come between the spool and the book.
            settling = asyncio.ensure_future(self._settle(peer.site, job, update, digest))
            try:
                await asyncio.shield(settling)
            finally:
                await asyncio.wait({settling})

    async def _received(self, job: Job, update: Update, offset: int, chunks: AsyncIterator[bytes]) -> str:
        try:
            return await self._receive(job, update, offset, chunks)
        except StorageFull as error:
            name = update.key.experiment
            if await self.experiments.note_interruption(name, str(error)):
                _log.error("an update waits for room", experiment=name, site=update.site, error=str(error))
            raise

    async def _receive(self, job: Job, update: Update, offset: int, chunks: AsyncIterator[bytes]) -> str:
        """Spool the chunks behind what is there already; returns the hash of the whole, formed on the way."""
        size = frame_size(job.tensors)
        thing = f"update of {update.site} for {update.key}"
        if update.model_bytes != size:
            cause = f"announces {update.model_bytes} bytes where the job's model has {size}"
            raise BadInput(thing, cause, "send the tensors of the job", code=ErrorCode.BAD_UPDATE)
        part = self._part(update)
        # A site has one upload for a task: whatever it began to send before under other hashes takes no room.
        for other in part.parent.glob(f"{spool_start(update)}.*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        with disk_errors_named(part.parent), part.open("ab", buffering=0) as file:
            position = file.tell()
            if offset > position or offset % CHUNK:
                raise BadInput(thing, f"goes on at byte {offset}, which is not here", "ask for the offset first")
            file.truncate(offset)
            file.seek(offset)
            writer = FrameWriter(file, await asyncio.to_thread(_hashed, part, offset))
            async with _patience(STALLED_S) as patience:
                arrived, writing = writer.position, asyncio.ensure_future(asyncio.sleep(0))
                try:
                    async for chunk in chunks:
                        arrived += len(chunk)
                        if arrived > size:
                            cause = f"has more than its {size} bytes"
                            raise BadInput(thing, cause, "send it again", code=ErrorCode.BAD_UPDATE)
                        await _done(writing)
                        # Hashed and written while the next one is on its way.
                        writing = asyncio.ensure_future(asyncio.to_thread(writer.write, chunk))
                        patience()
                finally:
                    await _done(writing)
        return writer.digest()

    def _finish(self, job: Job, update: Update, digest: str | None) -> Path:
        """Verify a received frame, make it durable and give it its name. A frame that is not right is forgotten."""
        part = self._part(update)
        frame = part.with_suffix("")
        thing = f"update of {update.site} for {update.key}"
        if not part.exists():
            raise Conflict(thing, "its round closed meanwhile", "it is sent again", code=ErrorCode.LOST)
        with part.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < update.model_bytes:
                cause = f"ended after {size} of {update.model_bytes} bytes"
                raise BadInput(thing, cause, "go on from the last whole chunk", code=ErrorCode.BAD_UPDATE)
            try:
                _verify(job, update, digest, file.fileno(), size)
            except BadInput:
                part.unlink()
                raise
            with disk_errors_named(part.parent):
                os.fsync(file.fileno())
        part.replace(frame)
        sync_folder(frame.parent)
        return frame

    async def _settle(self, site: str, job: Job, update: Update, digest: str | None) -> None:
        """Name a received frame, and wait until the round has recorded the update or refused it."""
        frame = await asyncio.to_thread(self._finish, job, update, digest) if update.model is not None else None
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._fleet(update).events.put_nowait(Delivered(site, update, frame, settled))
            await settled
        except BaseException:
            if frame is not None:
                await asyncio.to_thread(self._drop, site, update, frame)
            raise

    def _fleet(self, update: Update) -> DeployedFleet:
        fleet = self.hub.fleets.get(update.key.experiment)
        if fleet is None:
            thing = f"update of {update.site} for {update.key}"
            raise Conflict(thing, "its experiment is interrupted", "it is sent again", code=ErrorCode.LOST)
        return fleet

    def _drop(self, site: str, update: Update, frame: Path) -> None:
        """Remove a spool that did not come to count, unless the book took it before the error came."""
        try:
            _, counts = self.experiments.records.expects(site, update)
        except ArchipelError:
            counts = False
        if not counts:
            frame.unlink(missing_ok=True)

    async def _hear_head(self, site: str, document: dict[str, object]) -> None:
        head = JournalHead.model_validate(document)
        heads.check(self._identity_keys[site], site, head)
        known = self.hub.attested.get(site)
        if known is not None and head.number < known.number:
            # Uploads of two experiments may overtake each other; a journal that was cut shows at the next hello.
            return
        if known is not None and not heads.follows(head, known):
            await asyncio.to_thread(heads.note_fault, self.federation, site, known, head)
            return
        self.hub.heads[site] = self.hub.attested[site] = head

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        """A new certificate; the identity key must have signed the request."""
        site = await asyncio.to_thread(self.federation.registry.site, peer.site)
        message = b"archipel-renewal/1\n" + canonical({"site": peer.site, "csr": request.csr})
        if not verify(site.identity_key, request.proof, message):
            raise NotPermitted(f"renewal for {peer.site}", "is not signed by its identity key", "renew from the site")
        renewed = await asyncio.to_thread(self.federation.registry.renew, peer.site, request.csr)
        return renewed.pem

    def _part(self, update: Update) -> Path:
        return self.federation.state.spool / f"{spool_name(update)}.part"

    def _check_sender(self, peer: Peer, update: Update) -> None:
        if update.site != peer.site:
            raise NotPermitted(f"update of {update.site}", f"was sent by {peer.site}", "send only your own")


async def _done(work: asyncio.Future[None]) -> None:
    """Wait for work in a thread to its end, which comes whether the waiting is cancelled or not."""
    await asyncio.wait({work})
    work.result()


def _hashed(part: Path, size: int) -> BlobHasher:
    """A hasher that has seen the first ``size`` bytes of a file: what an earlier call had brought."""
    hasher = BlobHasher()
    with part.open("rb", buffering=0) as file:
        while size and (chunk := file.read(min(CHUNK, size))):
            hasher.update(chunk)
            size -= len(chunk)
    return hasher


def _verify(job: Job, update: Update, digest: str | None, descriptor: int, size: int) -> None:
    if digest != update.model:
        raise BadInput(
            f"update of {update.site} for {update.key}",
            "its bytes have another hash than announced",
            "send it again",
            code=ErrorCode.BAD_UPDATE,
        )
    # Not closed here: an error still looks into it. It goes with the last view.
    check_header(job.tensors, mmap.mmap(descriptor, size, prot=mmap.PROT_READ))


async def _within(seconds: float, what: Awaitable[T]) -> T:
    async with _patience(seconds):
        return await what


@contextlib.asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Gives up when nothing was heard for ``seconds``; call what it yields at each sign of life."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds) as limit:
            yield lambda: limit.reschedule(loop.time() + seconds)
    except TimeoutError as error:
        raise ArchipelError(
            "connection", f"said nothing for {seconds:.0f} s", "it is tried again", code=ErrorCode.LOST
        ) from error


def _dumped(head: JournalHead | None) -> dict[str, object] | None:
    return head.model_dump(mode="json") if head else None
