"""A finished update goes on from where an earlier try came."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import select

from archipel.governance import JournalHead, record_hash
from archipel.site.agent.connection import ServerConnection
from archipel.site.agent.upload import deliver
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.tasks import LocalUpdate
from archipel.tensors import blob_hash
from archipel.transport import CHUNK, Offset, UploadStart
from archipel.vocabulary import BadInput, ErrorCode, Task, TaskKey, TrainingPass, Update
from worlds.site import take_offer

FRAME = np.random.default_rng(0).bytes(3 * CHUNK + 77)


class FarEnd(ServerConnection):
    """A server that has the first chunk already, and keeps what it is sent behind that."""

    def __init__(self, site: StateFolder) -> None:
        super().__init__(site)
        self.begun: list[UploadStart] = []
        self.sent = b""

    async def offset(self, start: UploadStart) -> Offset:
        return Offset(offset=CHUNK)

    async def upload(self, start: UploadStart, file: Any) -> None:
        self.begun.append(start)
        file.seek(start.offset)
        self.sent += file.read()


class Damaged(FarEnd):
    """A server whose first chunk is not what was sent."""

    async def upload(self, start: UploadStart, file: Any) -> None:
        await super().upload(start, file)
        if start.offset:
            raise BadInput("update", "its bytes have another hash than announced", "", code=ErrorCode.BAD_UPDATE)


def finished(with_table: StateFolder) -> tuple[SiteTaskStore, LocalUpdate]:
    """An update that is kept and not sent yet."""
    job, digest = take_offer(with_table)
    key = TaskKey(experiment=job.experiment, round=1)
    task = Task(key=key, job_hash=digest, models=(job.initial_model,), passes=(TrainingPass(round=1),))
    file = with_table.spool / "made.safetensors"
    file.write_bytes(FRAME)
    update = Update(
        key=key,
        site=with_table.name,
        task_hash=record_hash(task),
        model=blob_hash(FRAME),
        model_bytes=len(FRAME),
        samples=4,
    )
    store, made = SiteTaskStore(with_table), LocalUpdate(update, file)
    store.begin(task)
    store.keep(task, made)
    return store, made


async def test_an_update_goes_on_from_where_an_earlier_try_came(with_table: StateFolder) -> None:
    (store, made), server = finished(with_table), FarEnd(with_table)
    await deliver(with_table, store, server, made)
    assert server.sent == FRAME[CHUNK:]
    (start,) = server.begun
    assert (start.update, start.offset) == (made.update, CHUNK)
    assert start.head is not None
    assert JournalHead.model_validate(start.head).is_signed_by(with_table.identity.public)
    store.keep_sent()
    with with_table.database.read() as connection:
        assert connection.scalar(select(schema.tasks.c.state)) == "sent"


async def test_an_update_whose_part_was_damaged_at_the_server_is_sent_whole(with_table: StateFolder) -> None:
    (store, made), server = finished(with_table), Damaged(with_table)
    await deliver(with_table, store, server, made)
    assert server.sent == FRAME[CHUNK:] + FRAME
    assert [start.offset for start in server.begun] == [CHUNK, 0]
