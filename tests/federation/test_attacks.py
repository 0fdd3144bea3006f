"""What a site with a valid certificate may not do to the server: each is refused, and the round still closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from archipel.governance import JournalHead, record_hash, sign_head
from archipel.site.membership.certificates import credentials
from archipel.tensors import blob_hash, decode, encode
from archipel.transport import CHUNK, UploadStart
from archipel.transport.bulk_requests import upload_head
from archipel.transport.bulk_site import BulkClient
from archipel.transport.dialling import dial
from archipel.transport.service import SERVICE
from archipel.transport.tls import site_tls
from archipel.vocabulary import ArchipelError, ErrorCode, Job, MetricSum, Task, TaskKind, Update
from worlds.federation import World, wait
from worlds.sites_port import answer, fetched

pytestmark = pytest.mark.processes
TERMS = {"rounds": 1, "quorum": 2, "deadline_s": 60, "grace_s": 60}
names = iter(f"attacked-{number}" for number in range(1, 100))


class Attacker:
    """Site-b's keys in other hands, while its own agent is stopped."""

    def __init__(self, world: World, job: Job, task: Task) -> None:
        self.world, self.job, self.task = world, job, task
        self.state = world.lab.sites["site-b"].state()
        self.keys = credentials(self.state.keys)

    def connection(self) -> ssl.SSLSocket:
        return dial(self.state.joined().grpc, "", site_tls(self.keys.key, self.keys.certificate, self.keys.authority))

    def tensor_file(self, value: float = 1.0) -> bytes:
        elements = self.job.tensors.tensors[0].shape[0]
        return encode({"weight": np.full(elements, value)})

    def update(self, tensor_file: bytes, **changes: Any) -> Update:
        made = Update(
            key=self.task.key,
            site="site-b",
            task_hash=record_hash(self.task),
            model=blob_hash(tensor_file),
            model_bytes=len(tensor_file),
            samples=5,
            metrics={"loss": MetricSum(total=1.0, weight=5.0)},
        )
        return made.model_copy(update=changes)

    def send(
        self,
        update: Update,
        body: bytes,
        offset: int = 0,
        head: dict[str, Any] | None = None,
        announced: int | None = None,
    ) -> None:
        """Send these bytes behind the update's record, whatever it says of them. Raises what the server answers."""
        record = UploadStart(update=update, offset=offset, head=head).model_dump_json().encode()
        size = len(body) if announced is None else announced
        with self.connection() as connection:
            try:
                connection.sendall(upload_head("server", len(record), size, waits=False) + record + body)
                _, error = answer(connection)
            except OSError as broken:
                raise ArchipelError("connection", str(broken), "", code=ErrorCode.LOST) from broken
        if error is not None:
            raise error

    def refused(self, update: Update, tensor_file: bytes, *codes: ErrorCode, **more: Any) -> None:
        """Sent again when the connection broke, as a site does: an answer that comes early may get lost."""
        for _ in range(5):
            with pytest.raises(ArchipelError) as caught:
                self.send(update, tensor_file, **more)
            if caught.value.code is not ErrorCode.LOST:
                break
        assert caught.value.code in codes, caught.value


@contextmanager
def attacking(world: World, class_name: str = "SlowPlan") -> Iterator[Attacker]:
    """An open round that waits for site-b only; afterwards site-b does its part and the experiment finishes."""
    name = next(names)
    job = world.submit(name, class_name=class_name, terms=TERMS, arguments={"pause_s": 1.0})
    world.do(name, "start")
    # A round is opened only with its quorum there; site-b needs longer for its task than for its end.
    wait(lambda: world.heard(name, "round-opened"), "the round")
    world.kill_site("site-b")
    wait(lambda: world.heard(name, "update-received", 1, "site-a"), "site-a")
    text = world.query("select task from updates where experiment = ? and site = 'site-b'", name)[0][0]
    attacker = Attacker(world, job, Task.model_validate_json(text))
    try:
        yield attacker
    finally:
        attacker.state.close()
        world.start_site("site-b")
    world.wait_state(name)
    spool = world.lab.folder / "server" / "spool"
    assert [path.name for path in spool.iterdir() if path.name.startswith(f"{name}.")] == []
    assert world.made("site-b", name) == {("train", 1, ""): 1, ("evaluate", 1, ""): 1}


def test_bytes_that_are_not_what_was_announced_never_count(world: World) -> None:
    with attacking(world) as attacker:
        tensor_file = attacker.tensor_file()
        wrong = attacker.update(tensor_file, model="blake3:" + "0" * 64)
        attacker.refused(wrong, tensor_file, ErrorCode.BAD_UPDATE)
        attacker.refused(attacker.update(tensor_file), tensor_file[:-8], ErrorCode.BAD_UPDATE)
        attacker.refused(attacker.update(tensor_file), tensor_file + b"more", ErrorCode.BAD_UPDATE)
        attacker.refused(
            attacker.update(tensor_file, model_bytes=len(tensor_file) + 8), tensor_file + bytes(8), ErrorCode.BAD_UPDATE
        )
        attacker.refused(attacker.update(tensor_file, model_bytes=2**50), tensor_file, ErrorCode.BAD_UPDATE)
        other = tensor_file.replace(b'"weight"', b'"height"')
        attacker.refused(attacker.update(other), other, ErrorCode.BAD_INPUT, ErrorCode.BAD_UPDATE)
        junk = bytes(len(tensor_file))
        attacker.refused(attacker.update(junk), junk, ErrorCode.BAD_INPUT, ErrorCode.BAD_UPDATE)
        attacker.refused(attacker.update(tensor_file), tensor_file, ErrorCode.LOST, offset=CHUNK)
        attacker.refused(attacker.update(tensor_file), tensor_file, ErrorCode.BAD_UPDATE, offset=7)


def test_an_update_speaks_for_its_sender_and_its_task_only(world: World) -> None:
    with attacking(world) as attacker:
        tensor_file = attacker.tensor_file()
        update, key = attacker.update(tensor_file), attacker.task.key
        attacker.refused(update.model_copy(update={"site": "site-a"}), tensor_file, ErrorCode.NOT_PERMITTED)
        for changed in ({"round": 2}, {"attempt": 2}, {"experiment": "no-such"}, {"kind": TaskKind.LOCAL}):
            other = update.model_copy(update={"key": key.model_copy(update=changed)})
            attacker.refused(other, tensor_file, ErrorCode.ROUND_CLOSED, ErrorCode.NOT_FOUND)
        attacker.refused(
            attacker.update(tensor_file, task_hash="sha256:" + "0" * 64), tensor_file, ErrorCode.BAD_UPDATE
        )
        attacker.refused(attacker.update(tensor_file, samples=0), tensor_file, ErrorCode.BAD_UPDATE)
        attacker.refused(
            attacker.update(tensor_file, metrics={"names": MetricSum(total=1, weight=1)}),
            tensor_file,
            ErrorCode.BAD_UPDATE,
        )
        attacker.refused(attacker.update(tensor_file, model=None, model_bytes=0), b"", ErrorCode.BAD_UPDATE)
        empty = JournalHead(owner="site-a", number=10**6, hash="sha256:" + "1" * 64, at="", signature="")
        forged = sign_head(attacker.state.identity, empty)
        attacker.refused(
            update, tensor_file, ErrorCode.TRUST, ErrorCode.NOT_PERMITTED, head=forged.model_dump(mode="json")
        )


def test_a_flood_of_bytes_is_cut_at_the_size_of_the_model(world: World) -> None:
    with attacking(world) as attacker:
        tensor_file = attacker.tensor_file()
        spool = world.lab.folder / "server" / "spool"

        update = attacker.update(tensor_file)
        attacker.refused(update, bytes(CHUNK), ErrorCode.BAD_UPDATE, announced=2**50)
        # What follows an update of the right length is not read as a part of it.
        record = UploadStart(update=update).model_dump_json().encode()
        with attacker.connection() as connection:
            connection.sendall(upload_head("server", len(record), len(tensor_file), waits=False) + record)
            with contextlib.suppress(OSError):
                for _ in range(64):
                    connection.sendall(bytes(CHUNK))
        assert sum(path.stat().st_size for path in spool.iterdir()) < len(tensor_file) * 3


def test_blobs_of_others_are_not_given_out(world: World) -> None:
    secret = world.submit("not-approved-here", approve=False, seed=99)
    world.lab.sites["site-a"].approve("not-approved-here")
    with attacking(world) as attacker:

        def fetch(blob: str) -> bytes:
            keys = attacker.keys
            client = BulkClient(attacker.state.joined().grpc, **keys._asdict())
            try:
                return asyncio.run(fetched(client, blob))
            finally:
                client.close()

        assert decode(fetch(attacker.job.initial_model))
        assert fetch(secret.plan.hash)
        for blob in (secret.initial_model, "blake3:" + "0" * 64):
            with pytest.raises(ArchipelError) as caught:
                fetch(blob)
            assert caught.value.code is ErrorCode.NOT_FOUND
    world.do("not-approved-here", "cancel")


@asynccontextmanager
async def raw_channel(attacker: Attacker) -> AsyncIterator[Any]:
    keys = grpc.ssl_channel_credentials(attacker.keys.authority, attacker.keys.key, attacker.keys.certificate)
    async with grpc.aio.secure_channel(attacker.state.joined().grpc, keys) as channel:
        yield channel


HELLO = {"type": "hello", "version": "0", "time": "2026-11-21T09:00:00+00:00", "datasets": [], "head": {}}


@pytest.mark.parametrize(
    "messages",
    [
        [b"\x00\xff garbage"],
        [b""],
        [b"[" * 100_000],
        [json.dumps({**HELLO, "site": "site-a"}).encode()],
        [json.dumps({**HELLO, "site": "site-b", "time": "yesterday"}).encode()],
        [json.dumps({**HELLO, "site": "site-b", "time": "1990-01-01T00:00:00+00:00"}).encode()],
        [json.dumps({**HELLO, "site": "site-b", "time": "2026-01-01T00:00:00"}).encode()],
        [json.dumps({"type": "heartbeat"}).encode()],
        [json.dumps({"type": "heartbeat", "extra": 1}).encode()],
        [],
    ],
    ids=[
        "garbage",
        "empty",
        "nested",
        "another-site",
        "no-time",
        "old-clock",
        "no-zone",
        "no-hello",
        "extra",
        "nothing",
    ],
)
def test_a_stream_that_does_not_keep_the_protocol_is_ended(world: World, messages: list[bytes]) -> None:
    attacker = Attacker(world, None, None)  # type: ignore[arg-type]

    async def speak() -> grpc.StatusCode:
        async with raw_channel(attacker) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Control")()
            try:
                for message in messages:
                    await call.write(message)
                await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    continue
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                pass
            return await asyncio.wait_for(call.code(), 20)

    assert asyncio.run(speak()) in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED)
    attacker.state.close()
    assert "call failed" not in world.lab.server.log.read_text()


def test_messages_about_experiments_of_others_change_nothing(world: World) -> None:
    with attacking(world) as attacker:
        key = {"experiment": "no-such", "round": 1, "attempt": 1, "kind": "train", "about": ""}
        job_hash = attacker.task.job_hash
        from datetime import UTC, datetime

        from archipel.site.audit import journal

        head = journal.signed_head(attacker.state).model_dump(mode="json")
        hello = {**HELLO, "site": "site-b", "time": datetime.now(UTC).isoformat(), "head": head}
        mine = attacker.task.key.model_dump(mode="json")
        messages = [
            hello,
            {"type": "answer", "experiment": "no-such", "job_hash": job_hash, "state": "rejected"},
            {"type": "task-failed", "key": key, "failure": {"code": "internal", "sentence": "x"}},
            {"type": "task-accepted", "key": key},
            {"type": "detail", "key": key, "detail": "noise"},
            {"type": "detail", "key": mine, "detail": "noise of a task that did not fail"},
            {"type": "heartbeat"},
        ]

        async def speak() -> bool:
            async with raw_channel(attacker) as channel:
                call = channel.stream_stream(f"/{SERVICE}/Control")()
                for message in messages:
                    await call.write(json.dumps(message).encode())
                while (said := json.loads(await asyncio.wait_for(call.read(), 20)))["type"] != "heartbeat":
                    assert said["type"] != "refused"
                call.cancel()
            return True

        assert asyncio.run(speak())
        assert "noise" not in str(world.server_lines())


def test_a_start_that_is_no_start_is_refused(world: World) -> None:
    attacker = Attacker(world, None, None)  # type: ignore[arg-type]

    async def call(method: str, *messages: bytes) -> grpc.StatusCode:
        async with raw_channel(attacker) as channel:
            upload = channel.stream_unary(f"/{SERVICE}/{method}")()
            try:
                for message in messages:
                    await upload.write(message)
                await upload.done_writing()
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                pass
            return await asyncio.wait_for(upload.code(), 20)

    for method in ("Offset", "Renew"):
        assert asyncio.run(call(method, b"{}")) is grpc.StatusCode.FAILED_PRECONDITION
    attacker.state.close()
