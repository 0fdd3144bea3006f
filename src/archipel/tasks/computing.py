"""Compute: the innermost handler. The plan trains somewhere, its result is sealed into a frame of the site's own.

Sealing copies the result chunk by chunk out of memory that the plan can still write, hashing what was copied: what is
hashed, kept and sent are the same bytes, whatever the plan does meanwhile. The steps that a job's privacy terms name
belong into this pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from archipel.governance import record_hash
from archipel.plans.runtime import Outcome
from archipel.rounds import check_releases, check_what_leaves
from archipel.storage import disk_errors_named, sync_folder
from archipel.tasks.handling import Made, Room, no_room
from archipel.tensors import FrameWriter, frame_header
from archipel.vocabulary import Job, StorageFull, Task, TaskKind, TensorSchema, Update

CHUNK = 1 << 20


@dataclass(frozen=True)
class Trained:
    """What came back from where the plan runs: numbers, and the result's memory (None for an evaluation).

    ``release`` gives the memory back; it is called once the result is sealed.
    """

    outcome: Outcome
    result: memoryview | None
    release: Callable[[], None]


class Trainer(Protocol):
    """Where the plan runs: a sandboxed worker, or this process in a simulation."""

    async def run(self, task: Task) -> Trained:
        """Run the task on the cohort. Raises ArchipelError."""


class Compute:
    """Run the task and seal its result into ``folder``; on a full disk the result waits for ``room`` in memory."""

    def __init__(self, job: Job, site: str, trainer: Trainer, folder: Path, room: Room = no_room) -> None:
        self._job, self._site, self._trainer, self._folder, self._room = job, site, trainer, folder, room

    async def __call__(self, task: Task) -> Made:
        """Train or evaluate, and make the update."""
        check_releases(self._job)
        began = time.monotonic()
        trained = await self._trainer.run(task)
        frame, model, size = None, None, 0
        try:
            try:
                if task.key.kind is not TaskKind.EVALUATE and trained.result is not None:
                    frame = self._folder / f"{_file_name(task)}.{os.urandom(8).hex()}.frame"
                    model = await self._sealed(task, trained.result, frame)
                    size = trained.result.nbytes
            finally:
                trained.release()
            update = Update(
                key=task.key,
                site=self._site,
                task_hash=record_hash(task),
                model=model,
                model_bytes=size,
                samples=trained.outcome.samples,
                metrics=trained.outcome.metrics,
                validation=trained.outcome.validation,
                seconds=time.monotonic() - began,
            )
            check_what_leaves(self._job, update)
        except BaseException:
            if frame is not None:
                frame.unlink(missing_ok=True)
            raise
        return Made(update, frame, trained.outcome.state)

    async def _sealed(self, task: Task, result: memoryview, frame: Path) -> str:
        while True:
            sealing = asyncio.ensure_future(asyncio.to_thread(seal, self._job.update_schema, result, frame))
            try:
                return await asyncio.shield(sealing)
            except StorageFull as error:
                await self._room(task, error)
            except asyncio.CancelledError:
                # The thread still reads the memory that is given back next.
                await asyncio.wait({sealing})
                _ = sealing.exception()
                raise


def spare(frame: Path) -> Path:
    """Where a frame that is no longer needed waits to be written over by its experiment's next one."""
    return frame.with_name(f"{frame.name.split('.')[0]}.spare")


def seal(schema: TensorSchema, result: memoryview, frame: Path) -> str:
    """Copy a result into a durable file of the site's own and return the hash of what was copied.

    The header is the job's, never the result's. The experiment's ``spare`` is written over if there is one: new pages
    and blocks for each round would cost more than the copy. Raises StorageFull; nothing is left behind then.
    """
    head = frame_header(schema)
    chunk = bytearray(CHUNK)
    try:
        with contextlib.suppress(FileNotFoundError):
            spare(frame).rename(frame)
        with disk_errors_named(frame.parent), _opened(frame) as file:
            writer = FrameWriter(file)
            writer.write(head)
            for start in range(len(head), result.nbytes, CHUNK):
                part = memoryview(chunk)[: min(CHUNK, result.nbytes - start)]
                part[:] = result[start : start + part.nbytes]
                writer.write(part)
            file.truncate()
            writer.sync()
            sync_folder(frame.parent)
    except BaseException:
        frame.unlink(missing_ok=True)
        raise
    return writer.digest()


def _opened(frame: Path) -> FileIO:
    descriptor = os.open(frame, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _file_name(task: Task) -> str:
    key = task.key
    return f"{key.experiment}.{key.round}.{key.attempt}.{key.kind}"
