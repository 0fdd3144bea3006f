"""Receiving updates: one call at a time for a site's task; spooled, verified, and handed to its round or forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from archipel.privacy import update_schema
from archipel.rounds import Delivered
from archipel.server.experiments import DeployedFleet, Experiments, drop_spares, spool_name, spool_start
from archipel.server.sites.spooling import arrived_beside, held, spool
from archipel.storage import disk_errors_named, sync_folder
from archipel.tensors import check_header, tensor_file_size
from archipel.transport import Incoming
from archipel.transport.waiting import shielded
from archipel.vocabulary import ArchipelError, BadInput, Conflict, ErrorCode, Job, StorageFull, Update
from archipel.vocabulary.remedies import Nothing

_log = structlog.get_logger("archipel.receiving")


class Receiving:
    """The uploads of every site, each from its first byte until its round has recorded it."""

    def __init__(self, experiments: Experiments) -> None:
        self._experiments = experiments
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def held(self, update: Update) -> int:
        """How many bytes of this update's tensor file are here, in whole chunks."""
        return held(self._part(update))

    async def receive(
        self, update: Update, offset: int, incoming: Incoming, expected: Callable[[], Awaitable[None]]
    ) -> None:
        """Spool an update's tensor file, verify it, and return once the round has recorded it.

        ``expected`` is called before the first byte is taken, when the update is one that is waited for. Raises
        ArchipelError; what has code ``lost`` or ``disk-full`` is fixed by sending it again.
        """
        async with self._turns.setdefault(spool_start(update), asyncio.Lock()):
            job, known = await asyncio.to_thread(self._experiments.records.expects, update.site, update)
            if known:
                return
            self._fleet(update)
            await expected()
            digest = None
            if update.model is not None:
                async with self._room_awaited(update):
                    digest = await self._spooled(job, update, offset, incoming)
            # From here on the end of the call (the site may die) must not separate the spool from the experiment #
            # store.
            await shielded(asyncio.ensure_future(self._settle(job, update, digest)))

    async def _spooled(self, job: Job, update: Update, offset: int, incoming: Incoming) -> str:
        """Take the tensor file's bytes behind what is there already; returns the hash of the whole."""
        size = tensor_file_size(update_schema(job, update.key.kind))
        if update.model_bytes != size:
            cause = f"announces {update.model_bytes} bytes where the job's update has {size}"
            raise BadInput(
                update.thing,
                cause,
                "send the tensors of the job",
                code=ErrorCode.BAD_UPDATE,
                values={"bytes": update.model_bytes, "needed": size},
            )
        part = self._part(update)
        # A site has one upload for a task: what it began to send before under other hashes is removed.
        for other in part.parent.glob(f"{spool_start(update)}.*.part*"):
            if other not in (part, arrived_beside(part)):
                other.unlink(missing_ok=True)
        return await spool(part, offset, incoming, size=size, thing=update.thing)

    @contextlib.asynccontextmanager
    async def _room_awaited(self, update: Update) -> AsyncIterator[None]:
        """A full disk is reported to the experiment's followers; the site tries again, with the room of spare files."""
        try:
            yield
        except StorageFull as error:
            name = update.key.experiment
            drop_spares(self._experiments.federation.state.spool)
            if await self._experiments.note_interruption(name, str(error)):
                _log.error("an update waits for disk space", experiment=name, site=update.site, error=str(error))
            raise

    async def _settle(self, job: Job, update: Update, digest: str | None) -> None:
        """Name a received tensor file, and wait until the round has recorded the update or refused it."""
        tensor_file = None
        if update.model is not None:
            async with self._room_awaited(update):
                tensor_file = await asyncio.to_thread(self._finish, job, update, digest)
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._fleet(update).events.put_nowait(Delivered(update.site, update, tensor_file, settled))
            await settled
        except BaseException:
            if tensor_file is not None:
                await asyncio.to_thread(self._drop, update, tensor_file)
            raise

    def _finish(self, job: Job, update: Update, digest: str | None) -> Path:
        """Verify a received tensor file, make it durable and give it its name. A tensor file that fails is removed."""
        part = self._part(update)
        tensor_file = part.with_suffix("")
        if not part.exists():
            raise Conflict(
                update.thing,
                "its round closed meanwhile",
                "it is sent again",
                code=ErrorCode.LOST,
                command=Nothing(),
            )
        with part.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < update.model_bytes:
                cause = f"ended after {size} of {update.model_bytes} bytes"
                raise BadInput(
                    update.thing,
                    cause,
                    "continue from the last complete chunk",
                    code=ErrorCode.BAD_UPDATE,
                    values={"bytes": size, "needed": update.model_bytes},
                )
            try:
                _verify(job, update, digest, file.fileno(), size)
                with disk_errors_named(part.parent):
                    os.fsync(file.fileno())
            except (ArchipelError, OSError):
                # After a failed sync the kernel may count lost pages as written: only new bytes are safe.
                part.unlink(missing_ok=True)
                raise
        part.replace(tensor_file)
        sync_folder(tensor_file.parent)
        return tensor_file

    def _drop(self, update: Update, tensor_file: Path) -> None:
        """Remove a spool that did not come to count, unless the experiment store took it before the error came."""
        try:
            _, counts = self._experiments.records.expects(update.site, update)
        except ArchipelError:
            counts = False
        if not counts:
            tensor_file.unlink(missing_ok=True)

    def _fleet(self, update: Update) -> DeployedFleet:
        fleet = self._experiments.hub.fleets.get(update.key.experiment)
        if fleet is None:
            raise Conflict(
                update.thing,
                "its experiment is interrupted",
                "it is sent again",
                code=ErrorCode.LOST,
                command=Nothing(),
            )
        return fleet

    def _part(self, update: Update) -> Path:
        return self._experiments.federation.state.spool / f"{spool_name(update)}.part"


def _verify(job: Job, update: Update, digest: str | None, descriptor: int, size: int) -> None:
    if digest != update.model:
        cause = "its bytes have another hash than announced"
        raise BadInput(update.thing, cause, "send it again", code=ErrorCode.BAD_UPDATE)
    # Not closed here, because an error still refers to it; it is freed with the last view.
    check_header(update_schema(job, update.key.kind), mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
