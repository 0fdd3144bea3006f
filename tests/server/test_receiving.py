"""How an update's bytes get to the disk, and what a call that ends at a bad moment leaves to the next one."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.governance import job_hash, record_hash
from archipel.privacy import update_schema
from archipel.rounds import Delivered, Delivery
from archipel.rounds.experiment_store import Opened
from archipel.rounds.stages import Stage
from archipel.server import backup
from archipel.server.experiments import spare_files, views
from archipel.server.experiments.service import Experiments
from archipel.server.experiments.spool_names import spool_name
from archipel.server.membership.federation import ServerContext
from archipel.server.sites import receiving, spooling
from archipel.server.sites.receiving import Receiving
from archipel.tensors import TensorFileWriter, blob_hash, encode
from archipel.transport import CHUNK, waiting
from archipel.transport.rest import Interrupted
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    ErrorCode,
    PrivacyTerms,
    Release,
    StorageFull,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    Update,
)
from archipel.vocabulary.states import ParticipantStatus
from worlds.people import OLGA
from worlds.server import Applicant, running_job, sql_store_of
from worlds.transfers import Breaks, Coming

ARRAYS = {"w": np.random.default_rng(0).normal(size=400_000)}
FRAME = encode(ARRAYS)
THING = "update of berlin"


async def spool(part: Path, incoming: Coming, offset: int = 0) -> str:
    return await spooling.spool(part, offset, incoming, size=len(FRAME), thing=THING)


def begun() -> Coming:
    """The first chunk of the frame; the others are announced and do not come."""
    return Coming(FRAME[:CHUNK], len(FRAME))


class SlowDisk:
    """Every write waits until it is let through; ``begun`` says that one waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.through, write = threading.Event(), threading.Event(), TensorFileWriter.write

        def slow(writer: TensorFileWriter, data: bytes) -> None:
            self.begun.set()
            assert self.through.wait(30)
            write(writer, data)

        monkeypatch.setattr(TensorFileWriter, "write", slow)

    async def is_writing(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)


class Waits:
    """Cancels a call that waits for its writer, and knows when it has taken that and waits again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun, wait = asyncio.Event(), asyncio.wait

        async def noted(*what: Any, **how: Any) -> Any:
            self._begun.set()
            return await wait(*what, **how)

        monkeypatch.setattr(waiting.asyncio, "wait", noted)

    async def cancel(self, call: asyncio.Task[Any]) -> None:
        self._begun.clear()
        call.cancel()
        async with asyncio.timeout(30):
            await self._begun.wait()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk(monkeypatch)
    yield slow
    slow.through.set()


@pytest.mark.parametrize("size", [CHUNK, 1000_003, 3 * CHUNK])
@pytest.mark.parametrize("kept", [0, 1, 3])
async def test_what_was_here_and_what_comes_are_the_whole_frame(tmp_path: Path, size: int, kept: int) -> None:
    part = tmp_path / "update.part"
    # What an earlier call left behind its last whole chunk is written again.
    part.write_bytes(FRAME[: kept * CHUNK] + b"torn")
    assert spooling.held(part) == kept * CHUNK
    digest = await spool(part, Coming(FRAME[kept * CHUNK :], piece=size), kept * CHUNK)
    assert digest == blob_hash(FRAME) and part.read_bytes() == FRAME


async def test_bytes_beyond_the_frame_are_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"has more than its {len(FRAME)} bytes") as refused:
        await spool(tmp_path / "update.part", Coming(FRAME + b"more"))
    assert refused.value.code is ErrorCode.BAD_UPDATE
    assert (tmp_path / "update.part").read_bytes() == b""


async def test_an_offset_that_is_not_here_any_more_is_asked_for_again(tmp_path: Path) -> None:
    part = tmp_path / "update.part"
    part.write_bytes(FRAME[:CHUNK])
    with pytest.raises(ArchipelError, match=f"continues at byte {2 * CHUNK}, but {CHUNK} bytes are here") as refused:
        await spool(part, Coming(FRAME[2 * CHUNK :]), 2 * CHUNK)
    # The site takes this code for a broken connection: it asks, and sends what is missing.
    assert refused.value.code is ErrorCode.LOST
    assert part.read_bytes() == FRAME[:CHUNK]


async def test_a_call_that_is_cancelled_again_and_again_still_waits_for_its_writer(
    tmp_path: Path, disk: SlowDisk, waits: Waits
) -> None:
    part = tmp_path / "update.part"
    call = asyncio.create_task(spool(part, begun()))
    await disk.is_writing()
    for _ in range(3):
        await waits.cancel(call)
        assert not call.done(), "the file is closed while a thread writes to it"
    disk.through.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert part.read_bytes() == FRAME[:CHUNK]


async def test_what_came_before_a_connection_broke_stays(tmp_path: Path) -> None:
    part = tmp_path / "update.part"
    with pytest.raises(ArchipelError, match="ended early") as broken:
        await spool(part, Breaks(FRAME[:CHUNK], len(FRAME)))
    assert broken.value.code is ErrorCode.LOST
    assert part.read_bytes() == FRAME[:CHUNK]


def full(_: TensorFileWriter, data: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_named_whichever_chunk_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorFileWriter, "write", full)
    for data in (FRAME[:CHUNK], FRAME):
        with pytest.raises(StorageFull, match="the disk is full"):
            await spool(tmp_path / "update.part", Coming(data))


async def test_a_cancelled_call_ends_as_cancelled_when_the_disk_is_full_too(
    tmp_path: Path, disk: SlowDisk, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_and_full(writer: TensorFileWriter, data: bytes) -> None:
        disk.begun.set()
        assert disk.through.wait(30)
        full(writer, data)

    monkeypatch.setattr(TensorFileWriter, "write", slow_and_full)
    forgotten: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: forgotten.append(context))
    call = asyncio.create_task(spool(tmp_path / "update.part", begun()))
    await disk.is_writing()
    await waits.cancel(call)
    disk.through.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    del call
    gc.collect()
    assert not forgotten


class Server:
    """A server whose running experiment has a round open that waits for berlin's update."""

    def __init__(self, federation: ServerContext, site: Applicant, **terms: Any) -> None:
        self.federation = federation
        self.job = job = running_job(federation, site, model=ARRAYS, **terms)
        experiments = Experiments(federation)
        self.fleet = experiments.hub.fleet("first")
        self.receiving = Receiving(experiments)
        self.store = sql_store_of(federation, job, job_hash(job))
        key = TaskKey(experiment="first", round=1)
        task = Task(key=key, job_hash=job_hash(job), models=(job.initial_model,), passes=(TrainingPass(round=1),))
        stage = Stage(kind=TaskKind.TRAIN, round=1)
        self.store.open(Opened(stage, 1, task, {"berlin": ParticipantStatus.INVITED}, 3600.0))
        self.update = Update(
            key=key,
            site="berlin",
            task_hash=record_hash(task),
            model=blob_hash(FRAME),
            model_bytes=len(FRAME),
            samples=1,
        )
        self.placed()

    def placed(self) -> None:
        """Where the update's file goes."""
        self.tensor_file = self.federation.state.spool / spool_name(self.update)
        self.part = self.tensor_file.with_name(f"{self.tensor_file.name}.part")

    def call(self, incoming: Coming, offset: int = 0) -> asyncio.Task[None]:
        async def expected() -> None:
            return None

        return asyncio.create_task(self.receiving.receive(self.update, offset, incoming, expected))

    async def records_it(self) -> None:
        """The round takes the next update into its experiment store."""
        delivered = await self.fleet.events.get()
        assert isinstance(delivered, Delivered)
        assert delivered.tensor_file is not None and delivered.tensor_file.read_bytes() == FRAME
        self.store.heard(self.update.key, (), [Delivery("berlin", delivered.update, delivered.tensor_file)])
        delivered.settled.set_result(None)

    def interruptions(self) -> list[str]:
        """What researchers were told."""
        bodies = [event.body for event in views.events(self.federation.database, "first", 0)]
        return [body.reason for body in bodies if isinstance(body, Interrupted)]


@pytest.fixture
def server(federation: ServerContext, enrolled: Applicant) -> Server:
    return Server(federation, enrolled)


async def test_a_retry_goes_on_only_when_the_call_before_has_left_the_file(
    server: Server, disk: SlowDisk, waits: Waits
) -> None:
    first = server.call(begun())
    await disk.is_writing()
    retry = server.call(Coming(FRAME))
    for _ in range(2):
        await waits.cancel(first)
    assert server.part.stat().st_size == 0 and not first.done()
    disk.through.set()
    await server.records_it()
    await retry
    assert first.cancelled() and server.tensor_file.read_bytes() == FRAME


async def test_a_site_that_goes_while_its_frame_is_verified_takes_nothing_back(
    server: Server, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifying, through, verify = threading.Event(), threading.Event(), receiving._verify

    def slow(*arguments: Any) -> None:
        verifying.set()
        assert through.wait(30)
        verify(*arguments)

    monkeypatch.setattr(receiving, "_verify", slow)
    call = server.call(Coming(FRAME))
    assert await asyncio.to_thread(verifying.wait, 30)
    retry = server.call(Coming(FRAME))
    for _ in range(2):
        await waits.cancel(call)
        # The retry would cut the file that is being read.
        assert not call.done() and server.part.stat().st_size == len(FRAME)
    through.set()
    await server.records_it()
    with pytest.raises(asyncio.CancelledError):
        await call
    await retry
    assert server.tensor_file.read_bytes() == FRAME and server.fleet.events.empty()


async def test_a_frame_that_could_not_be_made_durable_is_sent_whole_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(StorageFull):
            await server.call(Coming(FRAME))
    (told,) = server.interruptions()
    assert "the disk is full" in told
    assert server.receiving.held(server.update) == 0
    call = server.call(Coming(FRAME))
    await server.records_it()
    await call


async def test_a_frame_with_other_bytes_is_forgotten(server: Server) -> None:
    with pytest.raises(BadInput, match="its bytes have another hash than announced"):
        await server.call(Coming(FRAME[:-1] + bytes([FRAME[-1] ^ 1])))
    assert not server.part.exists() and not server.tensor_file.exists()


async def test_an_update_of_another_form_than_the_job_s_is_refused(
    federation: ServerContext, enrolled: Applicant
) -> None:
    # As it may leave individually, of a job whose updates leave only within a sum: too short for that.
    rome = Applicant("rome")
    federation.enrolment.enrol(rome.request(federation.enrolment.create_token("rome", by=OLGA)), datetime.now(UTC))
    roster = [{"site": one.site, "identity_key": one.identity.public, "dataset": "table"} for one in (enrolled, rome)]
    terms = {"rounds": 1, "quorum": 2, "retries": 0}
    server = Server(federation, enrolled, privacy=PrivacyTerms(release=Release.SUM), roster=roster, terms=terms)
    with pytest.raises(BadInput, match=f"announces {len(FRAME)} bytes where the job's update has"):
        await server.call(Coming(FRAME))
    # And one of the right length whose tensors have other names.
    summed = update_schema(server.job, TaskKind.TRAIN)
    numbers = {spec.name: np.zeros(spec.shape) for spec in summed.tensors}
    other = encode({name.replace("#samples", "#example"): value for name, value in numbers.items()})
    assert len(other) == len(encode(numbers))
    server.update = server.update.model_copy(update={"model": blob_hash(other), "model_bytes": len(other)})
    server.placed()
    with pytest.raises(BadInput, match="tensor #samples is missing"):
        await server.call(Coming(other))
    assert not server.part.exists() and not server.tensor_file.exists()


async def test_half_a_frame_stays_and_the_other_half_completes_it(server: Server) -> None:
    with pytest.raises(BadInput, match=f"ended after {2 * CHUNK} of {len(FRAME)} bytes"):
        await server.call(Coming(FRAME[: 2 * CHUNK]))
    assert server.receiving.held(server.update) == 2 * CHUNK
    call = server.call(Coming(FRAME[2 * CHUNK :]), 2 * CHUNK)
    await server.records_it()
    await call


async def test_a_frame_begun_under_another_hash_takes_no_room(server: Server) -> None:
    other = server.part.with_name(f"{server.part.name.rsplit('.', 2)[0]}.0123456789abcdef.part")
    other.write_bytes(b"an older try")
    call = server.call(Coming(FRAME))
    await server.records_it()
    await call
    assert not other.exists()


WIDE = encode({"w": np.random.default_rng(1).normal(size=700_000)})
assert len(WIDE) > spare_files.SMALLEST_SPARE


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def spool_wide(part: Path, incoming: Coming, offset: int = 0) -> str:
    return await spooling.spool(part, offset, incoming, size=len(WIDE), thing=THING)


@pytest.mark.parametrize("longer", [-CHUNK, 0, 5])
async def test_a_spare_file_is_written_over_and_nothing_of_it_is_left(tmp_path: Path, longer: int) -> None:
    spare, part = tmp_path / "first.0.spare", tmp_path / "first.1.1.berlin.part"
    spare.write_bytes(b"s" * (len(WIDE) + longer))
    number = spare.stat().st_ino
    digest = await spool_wide(part, Coming(WIDE))
    assert part.stat().st_ino == number and digest == blob_hash(WIDE) and part.read_bytes() == WIDE
    assert names_in(tmp_path) == {part.name}


async def test_of_a_spare_file_only_what_arrived_counts_and_the_rest_is_brought(tmp_path: Path) -> None:
    (tmp_path / "first.0.spare").write_bytes(b"s" * len(WIDE))
    part = tmp_path / "first.1.1.berlin.part"
    with pytest.raises(ArchipelError) as broken:
        await spool_wide(part, Breaks(WIDE[: 2 * CHUNK], len(WIDE)))
    assert broken.value.code is ErrorCode.LOST
    # As a server finds it that was killed here: the file is as long as before.
    assert part.stat().st_size == len(WIDE) and spooling.held(part) == 2 * CHUNK
    with pytest.raises(ArchipelError, match="bytes are here"):
        await spool_wide(part, Coming(WIDE[3 * CHUNK :]), 3 * CHUNK)
    assert await spool_wide(part, Coming(WIDE[CHUNK:]), CHUNK) == blob_hash(WIDE)
    assert part.read_bytes() == WIDE and names_in(tmp_path) == {part.name}


async def test_a_small_update_has_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "first.0.spare").write_bytes(b"s" * 10)
    await spool(tmp_path / "first.1.1.berlin.part", Coming(FRAME))
    assert (tmp_path / "first.0.spare").stat().st_size == 10


async def test_an_update_that_ends_early_does_not_get_the_old_bytes_of_a_spare_file(tmp_path: Path) -> None:
    (tmp_path / "first.0.spare").write_bytes(WIDE)
    part = tmp_path / "first.1.1.berlin.part"
    await spool_wide(part, Coming(WIDE[:CHUNK]))
    assert part.read_bytes() == WIDE[:CHUNK] and spooling.held(part) == CHUNK


def test_a_server_killed_after_a_piece_counts_it_and_nothing_behind_it(tmp_path: Path) -> None:
    (tmp_path / "first.0.spare").write_bytes(b"s" * len(WIDE))
    part, read = tmp_path / "first.1.1.berlin.part", os.pipe()
    if not (child := os.fork()):

        class Dies(Coming):
            async def receive(self, keep: Any) -> None:
                keep(memoryview(WIDE[:CHUNK]))
                os.kill(os.getpid(), 9)

        asyncio.run(spool_wide(part, Dies(WIDE)))
        os._exit(1)
    os.close(read[0]), os.close(read[1])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert spooling.held(part) == CHUNK and part.read_bytes()[:CHUNK] == WIDE[:CHUNK]


def test_spare_files_are_of_their_own_experiment(tmp_path: Path) -> None:
    small, whole = tmp_path / "first.1.1.small", tmp_path / "first.1.1.whole"
    small.write_bytes(FRAME), whole.write_bytes(WIDE)
    assert spare_files.keep_spare(whole, "first") and not spare_files.keep_spare(small, "first")
    assert not spare_files.take_spare(tmp_path / "other.1.1.berlin.part")
    assert spare_files.take_spare(tmp_path / "first.2.1.berlin.part")
    assert not spare_files.take_spare(tmp_path / "first.2.1.bremen.part")
    (tmp_path / "first.0.spare").write_bytes(WIDE)
    spare_files.drop_spares(tmp_path)
    assert names_in(tmp_path) == {"first.1.1.small", "first.2.1.berlin.part"}


def test_a_closed_round_leaves_spare_files_and_the_end_of_the_experiment_none(server: Server) -> None:
    spool, half = server.federation.state.spool, server.part
    late, later = (server.tensor_file.with_name(f"first.1.1.{name}.0.0") for name in ("late", "later"))
    late.write_bytes(WIDE), later.write_bytes(WIDE), half.write_bytes(WIDE)
    assert server.update.model is not None
    server.store.heard(server.update.key, (), [Delivery("berlin", server.update, server.tensor_file)])
    server.tensor_file.write_bytes(WIDE)
    server.store._sweep(keeps_spares=True)
    assert server.tensor_file.exists() and half.exists(), "the round is open"
    assert [spare_files.is_spare(path) for path in spool.iterdir()].count(True) == 1, "as many as sites"
    assert not late.exists() and not later.exists()
    server.store._sweep(keeps_spares=True)
    assert [spare_files.is_spare(path) for path in spool.iterdir()].count(True) == 1
    server.store.refused(server.update.key, ())
    assert not list(spool.iterdir())


def test_a_backup_does_not_take_a_file_that_was_written_over_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, copied = tmp_path / "first.1.1.berlin", tmp_path / "copied"
    whole.write_bytes(WIDE)
    copy = backup.shutil.copyfileobj

    def slow(source: Any, target: Any, length: int) -> None:
        copy(source, target, length)
        assert spare_files.keep_spare(whole, "first")

    monkeypatch.setattr(backup.shutil, "copyfileobj", slow)
    with pytest.raises(FileNotFoundError):
        backup._copy_file(whole, copied)
    assert not copied.exists()
