"""A site asked twice on the wire: the same task is answered with the same bytes, another under its key is refused."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archipel.governance import job_hash, record_hash
from archipel.lab.ports import HOST, free_port
from archipel.server.state.folder import ServerState
from archipel.transport import (
    FetchStart,
    FromSite,
    Heartbeat,
    Hello,
    Incoming,
    Offset,
    Outgoing,
    Peer,
    RenewRequest,
    Send,
    TaskFailedMessage,
    TaskOffer,
    UploadStart,
    Welcome,
    sites_port,
)
from archipel.vocabulary import ErrorCode, NotFound, Task, TaskKey, TaskKind, TrainingPass, Update
from worlds.federation import SITES, World

pytestmark = pytest.mark.processes


class ScriptedServer:
    """A server with the federation's keys that says to site-b what the test says, and keeps what it sends."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs
        self.talk: asyncio.Queue[Send] = asyncio.Queue()
        self.updates: asyncio.Queue[tuple[Update, bytes]] = asyncio.Queue()
        self.failures: asyncio.Queue[TaskFailedMessage] = asyncio.Queue()

    def admit(self, peer: Peer) -> None:
        """Everybody with a certificate."""

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Send) -> None:
        async for message in incoming:
            match message:
                case Hello():
                    await send(Welcome(federation="lab", time=datetime.now(UTC).isoformat(), heartbeat_s=1.0))
                    if peer.site == "site-b":
                        await self.talk.put(send)
                case Heartbeat():
                    await send(Heartbeat())
                case TaskFailedMessage():
                    await self.failures.put(message)

    async def fetch(self, peer: Peer, start: FetchStart, outgoing: Outgoing) -> None:
        data = self.blobs[start.hash]
        await outgoing.send(io.BytesIO(data), len(data))

    async def upload(self, peer: Peer, start: UploadStart, incoming: Incoming) -> None:
        came = bytearray()
        await incoming.receive(lambda piece: came.extend(piece))
        await self.updates.put((start.update, bytes(came)))

    async def offset(self, peer: Peer, start: UploadStart) -> Offset:
        return Offset(offset=0)

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        raise NotFound("renewal", "is not part of this script", "ask the real server")


def test_the_same_task_twice_is_answered_with_the_same_bytes_and_another_under_its_key_is_refused(
    world: World, tmp_path: Path
) -> None:
    job = world.submit("twice")
    state = ServerState(world.lab.folder / "server")
    blob = job.initial_model.removeprefix("blake3:")
    model = (state.root / "blobs" / blob[:2] / blob[2:]).read_bytes()
    wire = world.wire
    assert wire is not None
    real, wire.target = wire.target, free_port()

    server = ScriptedServer({job.initial_model: model})

    async def asked_again(send: Send, task: Task) -> tuple[Update, bytes]:
        # An offer that meets the upload before it is only accepted, since its bytes are on their way.
        while True:
            await send(TaskOffer(task=task, remaining_s=60))
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(server.updates.get(), 1)

    async def script() -> None:
        async with sites_port(
            server,
            host=HOST,
            port=wire.target,
            key=state.tls_key.read_bytes(),
            certificate=state.tls_certificate.read_bytes(),
            authority=state.ca_certificate.read_bytes(),
            folder=tmp_path,
        ):
            async with asyncio.timeout(60):
                wire.cut()
                send = await server.talk.get()
                key = TaskKey(experiment="twice", round=1, attempt=1, kind=TaskKind.TRAIN)
                passes = (TrainingPass(round=1, arguments=dict(job.arguments)),)
                task = Task(key=key, job_hash=job_hash(job), models=(job.initial_model,), passes=passes)
                await send(TaskOffer(task=task, remaining_s=60))
                first = await server.updates.get()
                assert await asked_again(send, task) == first
                assert first[0].task_hash == record_hash(task) and first[1]

                arguments = {**job.arguments, "pause_s": 0.5}
                other = task.model_copy(update={"passes": (TrainingPass(round=1, arguments=arguments),)})
                failed = None
                while failed is None:
                    await send(TaskOffer(task=other, remaining_s=60))
                    with contextlib.suppress(TimeoutError):
                        failed = await asyncio.wait_for(server.failures.get(), 1)
                assert failed.key == key and failed.failure.code is ErrorCode.REPLAYED

                # The first is still what it was.
                assert await asked_again(send, task) == first
                while not server.failures.empty():
                    assert server.failures.get_nowait().failure.code is ErrorCode.REPLAYED

    try:
        asyncio.run(script())
    finally:
        wire.target = real
        wire.cut()
    world.lab.wait_connected(set(SITES))
    assert world.made("site-b", "twice") == {("train", 1, ""): 1}
    assert [kind for kind, _ in world.site_lines("site-b", "twice")].count("task-refused") == 1
    world.do("twice", "cancel")
