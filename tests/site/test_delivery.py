"""A finished update goes on from where an earlier try came, in messages of the size that the server takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

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
from archipel.transport import CHUNK, SMALLEST, Offset, UploadStart
from archipel.vocabulary import Task, TaskKey, TrainingPass, Update
from worlds.site import take_offer

FRAME = np.random.default_rng(0).bytes(3 * CHUNK + 77)


class FarEnd(ServerConnection):
    """A server that has the first chunk already and takes small messages."""

    def __init__(self, site: StateFolder) -> None:
        super().__init__(site)
        self.begun: list[UploadStart] = []
        self.messages: list[bytes] = []

    async def offset(self, start: UploadStart) -> Offset:
        return Offset(offset=CHUNK, message=SMALLEST)

    async def upload(self, start: UploadStart, chunks: AsyncIterator[bytes]) -> None:
        self.begun.append(start)
        self.messages += [chunk async for chunk in chunks]


async def test_an_update_is_sent_in_the_messages_that_the_server_takes(with_table: StateFolder) -> None:
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
    store, made, server = SiteTaskStore(with_table), LocalUpdate(update, file), FarEnd(with_table)
    store.begin(task)
    store.keep(task, made)
    await deliver(with_table, store, server, made)
    assert b"".join(server.messages) == FRAME[CHUNK:]
    assert {len(message) for message in server.messages[:-1]} == {SMALLEST}
    (start,) = server.begun
    assert (start.update, start.offset) == (update, CHUNK)
    assert start.head is not None
    assert JournalHead.model_validate(start.head).is_signed_by(with_table.identity.public)
    store.keep_sent()
    with with_table.database.read() as connection:
        assert connection.scalar(select(schema.tasks.c.state)) == "sent"
