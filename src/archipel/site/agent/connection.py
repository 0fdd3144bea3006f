"""The connection: one control stream to the server, kept up forever, and the calls that need it.

The site connects, sends a hello, and sends a heartbeat as often as the server asked (with the journal's head while
lines of it are not attested). It counts the server as gone when nothing came for three intervals. After a break it
waits a random time, which doubles up to a limit, and connects again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from archipel.site.agent import link_status
from archipel.site.audit import journal, journal_heads
from archipel.site.membership import credentials
from archipel.site.state import StateFolder
from archipel.transport import (
    DatasetSummary,
    Download,
    FromServer,
    FromSite,
    Heartbeat,
    Hello,
    Offset,
    RefusedMessage,
    RenewRequest,
    Uplink,
    UploadStart,
    Welcome,
)
from archipel.transport.bodies import Readable
from archipel.transport.channel import ControlStream
from archipel.transport.messages import Document
from archipel.version import VERSION
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing
from archipel.vocabulary.remedies import Nothing

_log = structlog.get_logger("archipel.link")
PATIENCE = 3
HEALTHY_S = 30.0
"""A connection that lasted this long was a good one: the next wait starts small again."""


class _TooLongError(Exception):
    """The server has more bytes than are wanted."""


class ServerConnection:
    """The site's connection. ``dial`` connects to the server; ``sleep`` waits for so many seconds."""

    def __init__(
        self,
        site: StateFolder,
        *,
        dial: Callable[..., Uplink] = Uplink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._site, self._dial, self._sleep = site, dial, sleep
        self._uplink: Uplink | None = None
        self._stream: ControlStream | None = None
        self._turn = asyncio.Lock()
        self._up = asyncio.Event()
        self._redial = asyncio.Event()
        self.problem = ""

    @property
    def up(self) -> bool:
        """Whether the server has welcomed this site and nothing has broken since."""
        return self._up.is_set()

    async def run(
        self, take: Callable[[FromServer], Awaitable[None]], datasets: Callable[[], tuple[DatasetSummary, ...]]
    ) -> None:
        """Keep the connection up until cancelled.
        ``take`` gets every message; ``datasets`` gives those for the hello.
        """
        settings = self._site.settings
        longest = settings.reconnect_first_s
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._connection(take, datasets)
                self.problem = "the server closed the connection"
            except ArchipelError as error:
                self.problem = str(error)
            except Exception as error:
                # An error that a message causes must not end the agent: the next connection starts fresh.
                _log.error("the connection broke", exc_info=error)
                self.problem = f"an unexpected error ({type(error).__name__}); see the log"
            finally:
                self._up.clear()
                self._stream = None
            if asyncio.get_running_loop().time() - began > HEALTHY_S:
                longest = settings.reconnect_first_s
            wait = random.uniform(0, longest)  # noqa: S311 - jitter, no secret
            await asyncio.to_thread(link_status.note, self._site.database, self.problem)
            _log.warning("not connected", problem=self.problem, next_try_s=round(wait, 1))
            longest = min(longest * 2, settings.reconnect_longest_s)
            self._redial.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._redial.wait()

    async def _connection(
        self, take: Callable[[FromServer], Awaitable[None]], datasets: Callable[[], tuple[DatasetSummary, ...]]
    ) -> None:
        federation = self._site.joined()
        keys = await asyncio.to_thread(credentials, self._site.keys)
        async with self._dial(
            federation.grpc,
            key=keys.key,
            certificate=keys.certificate,
            authority=keys.authority,
            proxy=self._site.settings.proxy,
        ) as uplink:
            stream = uplink.control()
            self._uplink, self._stream = uplink, stream
            beating: asyncio.Task[None] | None = None
            try:
                known = await asyncio.to_thread(journal_heads.last, self._site.database)
                await stream.send(
                    Hello(
                        site=self._site.name,
                        version=VERSION,
                        time=datetime.now(UTC).isoformat(),
                        datasets=await asyncio.to_thread(datasets),
                        head=(await asyncio.to_thread(journal.signed_head, self._site)).model_dump(mode="json"),
                        attested=known.model_dump(mode="json") if known else None,
                    )
                )
                beat = federation.heartbeat_s
                while True:
                    message = await self._heard(stream, PATIENCE * beat)
                    if message is None:
                        return
                    if isinstance(message, RefusedMessage):
                        raise ArchipelError(message.thing, message.cause, message.remedy, code=message.code)
                    if isinstance(message, Welcome):
                        beat = message.heartbeat_s
                        if beating is not None:
                            beating.cancel()
                        beating = asyncio.create_task(self._beat(beat))
                        self._up.set()
                        await asyncio.to_thread(link_status.note, self._site.database, "", connected=True)
                        _log.info("connected", federation=message.federation)
                    await take(message)
            finally:
                self._up.clear()
                if beating is not None:
                    beating.cancel()
                stream.cancel()
                self._uplink = None

    async def _heard(self, stream: ControlStream, patience: float) -> FromServer | None:
        try:
            async with asyncio.timeout(patience):
                return await stream.receive()
        except TimeoutError as error:
            cause = f"sent nothing for {patience:.0f} s"
            raise ArchipelError(
                "server", cause, "the agent connects again", code=ErrorCode.LOST, command=Nothing()
            ) from error

    async def _beat(self, seconds: float) -> None:
        while True:
            await self._sleep(seconds)
            await self.send(Heartbeat(head=await self._unattested()))

    async def _unattested(self) -> Document | None:
        """The journal's head, when the server has not attested its last lines."""
        try:
            head = await asyncio.to_thread(journal.unattested_head, self._site)
        except Exception as error:
            # A full disk, say: the heartbeat is sent all the same, and the next one has the head.
            _log.error("the journal's head could not be read", error=str(error))
            return None
        return head.model_dump(mode="json") if head else None

    async def send(self, message: FromSite) -> bool:
        """Send a message if the connection is up; whether it was. What must not be lost is in the database too."""
        stream = self._stream
        if stream is None or not self._up.is_set():
            return False
        try:
            async with self._turn:
                await stream.send(message)
        except ArchipelError as error:
            _log.info("could not send", kind=message.type, error=str(error))
            return False
        return True

    async def _connected(self) -> Uplink:
        await self._up.wait()
        if self._uplink is None:
            raise ArchipelError(
                "server", "is not connected", "the agent connects again", code=ErrorCode.LOST, command=Nothing()
            )
        return self._uplink

    async def fetch(self, blob: str, most: int) -> bytes | None:
        """A blob of at most so many bytes; None for a longer one, of which nothing is fetched."""
        found = bytearray()

        def room(size: int) -> memoryview:
            if size > most:
                raise _TooLongError
            found.extend(bytes(size))
            return memoryview(found)

        try:
            await self._download(blob, room)
        except _TooLongError:
            return None
        return bytes(found)

    async def fetch_into(self, blob: str, window: memoryview) -> None:
        """Bring a blob into this memory, which has its length."""

        def room(size: int) -> memoryview:
            if size != len(window):
                raise BadInput(
                    Thing("model", blob),
                    f"has {size} bytes where the job's model has {len(window)}",
                    "submit the experiment again",
                    values={"bytes": size, "needed": len(window)},
                )
            return window

        await self._download(blob, room)

    async def _download(self, blob: str, room: Callable[[int], memoryview]) -> None:
        """Bring a blob; a break is fixed by continuing at the byte where it came.

        Raises ArchipelError (code lost) when the bytes that came are not those of the hash.
        """
        download = Download(blob, room)
        while True:
            try:
                await (await self._connected()).fetch(download)
                break
            except ArchipelError as error:
                if error.code is not ErrorCode.LOST:
                    raise
                await self.pause()
        if not download.is_right:
            raise BadInput(
                Thing("blob", blob),
                "arrived with other bytes",
                "it is fetched again",
                code=ErrorCode.LOST,
                command=Nothing(),
            )

    async def upload(self, start: UploadStart, file: Readable | None) -> None:
        """Send an update and its tensor file. Raises ArchipelError; code ``lost``: try again."""
        await (await self._connected()).upload(start, file)

    async def offset(self, start: UploadStart) -> Offset:
        """How much of the update's tensor file the server has."""
        return await (await self._connected()).offset(start)

    async def renew(self, request: RenewRequest) -> str:
        """A new certificate (PEM)."""
        return await (await self._connected()).renew(request)

    async def pause(self) -> None:
        """Wait a little before another try."""
        await self._sleep(random.uniform(0.2, 2.0))  # noqa: S311 - jitter, no secret

    def redial(self) -> None:
        """Connect now instead of at the end of the wait: something changed here (a new certificate, say)."""
        self._redial.set()
