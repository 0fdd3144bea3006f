"""The server counts tries in its database: a restart forgets none, and a resume beyond the last attempt is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from archipel.governance import job_hash
from archipel.researcher.stop_reasons import unfinished
from archipel.rounds import ExperimentLoop, ExperimentVerb, Opened, ParticipantStatus, Stage, StageRecord
from archipel.server.experiments import Experiments
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.membership.federation import ServerContext
from archipel.vocabulary import Conflict, Job, RoundClosed, Task, TaskKey, TaskKind, TrainingPass
from archipel.vocabulary.states import ControlVerb, ExperimentState
from worlds.people import OLGA
from worlds.server import Applicant, records_of, running_job, sql_store_of

TERMS = {"rounds": 2, "quorum": 1, "retries": 1, "resumes": 1}


class Attempts:
    """The attempts of one experiment, written as the loop writes them."""

    def __init__(self, federation: ServerContext, job: Job) -> None:
        self.federation, self.job, self.hash = federation, job, job_hash(job)
        self.store = self.again()

    def again(self) -> SqlExperimentStore:
        """The store of a server that was started again."""
        return sql_store_of(self.federation, self.job, self.hash)

    def open(self, round_: int, attempt: int) -> Task:
        key = TaskKey(experiment=self.job.experiment, round=round_, attempt=attempt)
        passes = (TrainingPass(round=round_),)
        task = Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=passes)
        stage = Stage(kind=TaskKind.TRAIN, round=round_)
        self.store.open(Opened(stage, attempt, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
        return task

    def close(self, task: Task, committed: bool) -> None:
        stage = Stage(kind=TaskKind.TRAIN, round=task.key.round)
        record = StageRecord(
            stage=stage, attempt=task.key.attempt, committed=committed, seconds=1.0, contributors=(), sites={}
        )
        closed = RoundClosed(**dict(task.key), job_hash=self.hash, committed=committed, contributors=())
        self.store.close(record, closed, None, {})

    def fail(self, round_: int, attempt: int) -> int:
        """An attempt that fails; the tries that a new store counts then."""
        self.close(self.open(round_, attempt), committed=False)
        return self.again().progress().tries


@pytest.fixture
def attempts(federation: ServerContext, enrolled: Applicant) -> Iterator[Attempts]:
    yield Attempts(federation, running_job(federation, enrolled, terms=TERMS))


def test_tries_are_counted_from_the_database_and_begin_anew_with_a_new_round_or_state(attempts: Attempts) -> None:
    assert attempts.again().progress().tries == 0
    assert [attempts.fail(1, 1), attempts.fail(1, 2)] == [1, 2]
    attempts.store.stall("tried twice")
    assert attempts.again().progress().tries == 0
    attempts.close(attempts.open(1, 3), committed=True)
    assert attempts.again().progress().tries == 0
    assert attempts.fail(2, 1) == 1
    attempts.open(2, 2)
    assert attempts.again().progress().tries == 1, "an attempt that is open has not failed"


def test_no_more_tries_are_read_than_matter(attempts: Attempts) -> None:
    assert [attempts.fail(1, attempt) for attempt in (1, 2, 3, 4)] == [1, 2, 2, 2]


@pytest.mark.parametrize("verb", [ControlVerb.RESUME, ControlVerb.START, ControlVerb.STEP])
async def test_a_resume_beyond_the_last_attempt_is_refused_and_changes_nothing(
    attempts: Attempts, verb: ControlVerb
) -> None:
    for attempt in (1, 2, 3, 4):
        attempts.fail(1, attempt)
    attempts.store.stall("tried four times")
    experiments = Experiments(attempts.federation)
    with pytest.raises(Conflict, match=r"cannot continue: all 4 attempts at train 1 .* used up .*; submit a new job"):
        await experiments.control("first", verb, by=OLGA)
    shown = await experiments.get("first")
    assert shown.state is ExperimentState.PAUSED and shown.reason == "tried four times"
    await experiments.control("first", ControlVerb.CANCEL, by=OLGA)
    await experiments.stop()


async def test_a_loop_that_finds_all_attempts_made_pauses_with_the_way_on_and_nobody_is_told_to_resume(
    attempts: Attempts,
) -> None:
    experiments = Experiments(attempts.federation)

    async def paused() -> str:
        loop = ExperimentLoop(attempts.job, attempts.hash, attempts.again(), experiments.hub.fleet("first"))
        assert await loop.run() is ExperimentState.PAUSED
        return str(unfinished(await experiments.get("first"), []))

    for attempt in (1, 2):
        attempts.fail(1, attempt)
    with_attempts_left = await paused()
    assert "tried 2 times" in with_attempts_left and "continue with run() or resume()" in with_attempts_left
    await asyncio.to_thread(resume, attempts)
    for attempt in (3, 4):
        attempts.fail(1, attempt)
    ended = await paused()
    assert "all 4 attempts at train 1" in ended and "submit a new job" in ended and "resume()" not in ended


def resume(attempts: Attempts) -> None:
    records_of(attempts.federation).steer(attempts.job, ExperimentVerb.RESUME, by=OLGA)


async def test_a_resume_is_allowed_while_an_attempt_is_left_or_open(attempts: Attempts) -> None:
    experiments = Experiments(attempts.federation)
    for attempt in (1, 2, 3):
        attempts.fail(1, attempt)
    attempts.open(1, 4)
    await experiments.control("first", ControlVerb.PAUSE, by=OLGA)
    resumed = await experiments.control("first", ControlVerb.RESUME, by=OLGA)
    assert resumed.state is ExperimentState.RUNNING
    await experiments.stop()
