"""What a site made for a task: never made twice, never for other content, and state kept only for rounds that count."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import pytest

from archipel.governance import JournalHead, record_hash, sign_head
from archipel.site.agent.upload import deliver
from archipel.site.audit import journal
from archipel.site.execution import failures
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.state.folder import StateFolder
from archipel.tasks import LocalUpdate
from archipel.tasks.handling import Idempotent, WaitForSpace, no_waiting
from archipel.tensors import blob_hash
from archipel.transport import UploadStart
from archipel.vocabulary import (
    ArchipelError,
    Conflict,
    ErrorCode,
    Failure,
    Job,
    RoundClosed,
    StorageFull,
    Task,
    TaskKey,
    TrainingPass,
    Update,
)
from worlds.site import SERVER, take_offer

HEAD = sign_head(SERVER, JournalHead(owner="server", number=1, hash="sha256:" + "0" * 64, at="", signature=""))


class Bench:
    """A site with an approved-looking job, its task store, and a trainer that counts how often it is asked."""

    def __init__(self, site: StateFolder, job: Job, job_hash: str) -> None:
        self.site, self.job, self.hash = site, job, job_hash
        self.store, self.trained = SiteTaskStore(site), 0
        self.handler = Idempotent(self._train, self.store)

    async def _train(self, task: Task) -> LocalUpdate:
        self.trained += 1
        tensor_file = self.site.spool / f"{task.key.experiment}.{self.trained}.frame"
        tensor_file.write_bytes(b"weights %d" % self.trained)
        update = Update(
            key=task.key,
            site=self.site.name,
            task_hash=record_hash(task),
            model=blob_hash(tensor_file.read_bytes()),
            model_bytes=tensor_file.stat().st_size,
            samples=4,
            seconds=1.0,
        )
        return LocalUpdate(update, tensor_file, state=b"momentum %d" % self.trained)

    def task(self, round_: int = 1, attempt: int = 1, rate: float = 0.1) -> Task:
        key = TaskKey(experiment=self.job.experiment, round=round_, attempt=attempt)
        one = TrainingPass(round=round_, arguments={"rate": rate})
        return Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(one,))

    def close(self, task: Task, *, named: bool, committed: bool = True) -> None:
        closed = RoundClosed(
            experiment=task.key.experiment,
            round=task.key.round,
            attempt=task.key.attempt,
            job_hash=self.hash,
            committed=committed,
            contributors=(self.site.name,) if named else ("elsewhere",),
        )
        self.store.settle(closed, HEAD, None)

    def files(self) -> list[Path]:
        return [*self.site.spool.iterdir(), *self.site.tensor_files.iterdir()]


@pytest.fixture
def bench(with_table: StateFolder) -> Bench:
    return Bench(with_table, *take_offer(with_table))


async def test_the_same_task_delivered_twice_is_answered_with_the_bytes_already_made(bench: Bench) -> None:
    first = await bench.handler(bench.task())
    again = await Idempotent(bench._train, SiteTaskStore(bench.site))(bench.task())
    assert bench.trained == 1
    assert again.update == first.update
    assert again.tensor_file is not None and again.tensor_file.read_bytes() == b"weights 1"
    assert [line.kind for line in journal.lines(bench.site.database)].count("update-made") == 1


async def test_a_replayed_task_with_other_content_is_refused_and_the_first_stays(bench: Bench) -> None:
    first = await bench.handler(bench.task())
    with pytest.raises(Conflict, match="used for a task with other content; the server must open a new") as refused:
        await bench.handler(bench.task(rate=0.2))
    assert refused.value.code is ErrorCode.REPLAYED
    assert bench.trained == 1
    assert (await bench.handler(bench.task())).update == first.update


async def test_a_task_of_a_closed_round_is_refused(bench: Bench) -> None:
    await bench.handler(bench.task())
    bench.close(bench.task(), named=True)
    with pytest.raises(Conflict, match="its round is closed") as refused:
        await bench.handler(bench.task())
    assert refused.value.code is ErrorCode.ROUND_CLOSED
    assert bench.trained == 1


async def test_state_goes_on_only_from_rounds_that_name_this_site(bench: Bench) -> None:
    def before(round_: int) -> bytes | None:
        return bench.store.states.last_state(bench.task(), round_)

    await bench.handler(bench.task())
    assert before(2) is None, "the server has not said that the round counts"
    bench.close(bench.task(), named=True)
    assert before(2) == b"momentum 1"
    await bench.handler(bench.task(2))
    bench.close(bench.task(2), named=False)
    assert before(3) == b"momentum 1", "the round counts without this site"
    await bench.handler(bench.task(3))
    bench.close(bench.task(3), named=True, committed=False)
    assert before(3) == b"momentum 1", "that attempt failed"
    await bench.handler(bench.task(3, attempt=2))
    bench.close(bench.task(3, attempt=2), named=True)
    bench.close(bench.task(3, attempt=2), named=False)
    assert before(4) == b"momentum 4", "the first word on a round is the last"
    kept = [path.read_bytes() for path in bench.files() if path.suffix != ".spare"]
    assert kept == [b"momentum 4"], "nothing else is kept"


async def test_a_sweep_keeps_what_a_row_names(bench: Bench) -> None:
    made = await bench.handler(bench.task())
    (bench.site.spool / "half").write_bytes(b"written when the agent was killed")
    (bench.site.tensor_files / "half").write_bytes(b"written when the agent was killed")
    bench.store.sweep()
    assert sorted(path.read_bytes() for path in bench.files()) == [b"momentum 1", b"weights 1"]
    assert made.tensor_file is not None and made.tensor_file.exists()


async def test_nothing_is_kept_for_an_experiment_that_is_over_and_a_last_word_still_finds_its_task(
    bench: Bench,
) -> None:
    await bench.handler(bench.task())
    bench.close(bench.task(), named=True)
    await bench.handler(bench.task(2))
    other = bench.site.spool / "lung.1.1.train.0.frame"
    other.write_bytes(b"of another experiment")
    bench.store.forget(bench.job.experiment)
    assert bench.files() == [other]
    with pytest.raises(Conflict) as gone:
        await bench.handler(bench.task(2))
    assert gone.value.code is ErrorCode.NOT_FOUND and bench.trained == 2
    bench.close(bench.task(2), named=True)
    with pytest.raises(Conflict, match="its round is closed"):
        await bench.handler(bench.task(2))
    assert [line.kind for line in journal.lines(bench.site.database)].count("round-closed") == 2


def kinds(bench: Bench, kind: str) -> int:
    return [line.kind for line in journal.lines(bench.site.database)].count(kind)


def state_of(bench: Bench) -> str:
    with bench.site.database.read() as connection:
        return str(connection.exec_driver_sql("SELECT state FROM tasks").scalar_one())


FAILURE = Failure(code=ErrorCode.INTERNAL, sentence="something broke")


async def test_the_word_on_a_task_that_failed_is_journaled_once_however_often_it_is_said(bench: Bench) -> None:
    bench.store.begin(bench.task())
    bench.store.fail(bench.task(), FAILURE, "in full")
    for _ in range(3):
        bench.close(bench.task(), named=False)
    assert kinds(bench, "round-closed") == 1 and state_of(bench) == "failed"
    with pytest.raises(Conflict, match="its round is closed"):
        await bench.handler(bench.task())


async def test_a_task_that_failed_is_tried_again_while_its_round_is_open(bench: Bench) -> None:
    bench.store.begin(bench.task())
    bench.store.fail(bench.task(), FAILURE, "in full")
    await bench.handler(bench.task())
    bench.close(bench.task(), named=True)
    assert bench.trained == 1 and state_of(bench) == "closed" and kinds(bench, "round-closed") == 1


async def test_what_goes_wrong_after_the_last_word_on_a_round_is_no_failure_of_its_task(bench: Bench) -> None:
    await bench.handler(bench.task())
    bench.close(bench.task(), named=True)
    bench.store.fail(bench.task(), FAILURE, "the frame is gone")
    assert state_of(bench) == "closed" and kinds(bench, "task-failed") == 0
    assert failures.failed(bench.site.database) == []


class Ends:
    """A link over which a round ends, in the middle of an upload of its update."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def upload(self, _: UploadStart, file: FileIO) -> None:
        self.bench.close(self.bench.task(), named=True)
        raise ArchipelError("connection", "broke", "it is tried again", code=ErrorCode.LOST)

    async def pause(self) -> None:
        """Try again at once."""


async def test_a_second_delivery_that_meets_the_end_of_its_round_is_over_too(bench: Bench) -> None:
    made = await bench.handler(bench.task())
    with pytest.raises(Conflict) as over:
        await deliver(bench.site, bench.store, Ends(bench), made)  # type: ignore[arg-type]
    assert over.value.code is ErrorCode.ROUND_CLOSED


def waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int) -> WaitForSpace:
    """The database finds no room for the row of an update; after so many waits it does."""
    keep, waits = journal.append, []

    def full(connection, kind, body):  # type: ignore[no-untyped-def]
        if kind == "update-made" and len(waits) < times:
            raise StorageFull("disk", "the disk is full", "free space there")
        return keep(connection, kind, body)

    async def room(_: Task, error: StorageFull) -> None:
        waits.append(error)

    monkeypatch.setattr(journal, "append", full)
    return room


async def test_an_update_that_finds_no_room_is_kept_later_and_not_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = waiting(bench, monkeypatch, 3)
    made = await Idempotent(bench._train, bench.store, room)(bench.task())
    assert bench.trained == 1
    assert sorted(path.read_bytes() for path in bench.files()) == [b"momentum 1", b"weights 1"]
    assert bench.store.find(bench.task()) == LocalUpdate(made.update, made.tensor_file)


async def test_an_update_that_cannot_be_kept_leaves_no_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(bench, monkeypatch, 1)
    with pytest.raises(StorageFull):
        await Idempotent(bench._train, bench.store, no_waiting)(bench.task())
    assert bench.files() == []


async def test_half_a_state_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageFull):
        bench.store.keep(bench.task(), await bench._train(bench.task()))
    assert list(bench.site.tensor_files.iterdir()) == []


def lines_from_the_task(bench: Bench) -> list[str]:
    """The lines of the journal from the first task on."""
    found = [line.kind for line in journal.lines(bench.site.database)]
    return found[found.index("task-accepted") :]


@pytest.mark.parametrize("named", [True, False])
async def test_that_an_update_was_sent_is_kept_with_the_result_of_its_round(bench: Bench, named: bool) -> None:
    await bench.handler(bench.task())
    bench.store.sent(bench.task().key)
    assert lines_from_the_task(bench) == ["task-accepted", "update-made"]
    bench.close(bench.task(), named=named)
    bench.store.keep_sent()
    assert lines_from_the_task(bench) == ["task-accepted", "update-made", "update-sent", "round-closed"]


async def test_an_update_whose_round_goes_on_is_kept_as_sent_by_itself(bench: Bench) -> None:
    await bench.handler(bench.task())
    bench.store.sent(bench.task().key)
    for _ in range(2):
        bench.store.keep_sent()
    assert lines_from_the_task(bench) == ["task-accepted", "update-made", "update-sent"]
    bench.close(bench.task(), named=True)
    assert lines_from_the_task(bench) == ["task-accepted", "update-made", "update-sent", "round-closed"]


@pytest.mark.parametrize(("named", "proof"), [(True, ["update-sent"]), (False, [])])
async def test_a_result_proves_that_an_agent_which_was_killed_had_sent_the_update(
    bench: Bench, named: bool, proof: list[str]
) -> None:
    await bench.handler(bench.task())
    bench.store.sent(bench.task().key)
    bench.store = SiteTaskStore(bench.site)
    bench.close(bench.task(), named=named)
    assert lines_from_the_task(bench) == ["task-accepted", "update-made", *proof, "round-closed"]


@pytest.mark.parametrize("named", [True, False])
async def test_a_result_that_comes_before_the_answer_to_an_upload(bench: Bench, named: bool) -> None:
    await bench.handler(bench.task())
    bench.close(bench.task(), named=named)
    bench.store.sent(bench.task().key)
    bench.store.keep_sent()
    assert sorted(lines_from_the_task(bench)) == ["round-closed", "task-accepted", "update-made", "update-sent"]
