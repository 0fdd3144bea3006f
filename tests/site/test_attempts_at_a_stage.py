"""What a server gains by asking again: no attempt beyond the job's, no model of its choice, no second failure."""

from __future__ import annotations

import asyncio

import pytest
from test_agent import Line, agent_of

from archipel.governance import JournalHead, record_hash, sign_head
from archipel.privacy.capacity import MOST_RUNS
from archipel.site.agent.agent import Agent
from archipel.site.audit import journal
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.execution.training import SandboxTrainer
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.state.folder import StateFolder
from archipel.tasks import Idempotent, LocalUpdate, failure_of
from archipel.tensors import blob_hash
from archipel.transport import TaskFailedMessage, TaskOffer
from archipel.vocabulary import (
    Baselines,
    Conflict,
    ErrorCode,
    Failure,
    RoundClosed,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    Update,
)
from worlds.people import approve
from worlds.site import SERVER, take_offer

HEAD = sign_head(SERVER, JournalHead(owner="server", number=1, hash="sha256:" + "0" * 64, at="", signature=""))
ROUND_1, ROUND_2, CHOSEN = (blob_hash(name) for name in (b"of round 1", b"of round 2", b"the server's choice"))


class Stages:
    """A site's task store, asked for the stages of one job."""

    def __init__(self, site: StateFolder, **changes: object) -> None:
        self.site, self.store = site, SiteTaskStore(site)
        self.job, self.hash = take_offer(site, **changes)

    def task(self, round_: int, attempt: int, model: str, kind: TaskKind = TaskKind.TRAIN, about: str = "") -> Task:
        key = TaskKey(experiment=self.job.experiment, round=round_, attempt=attempt, kind=kind, about=about)
        one = TrainingPass(round=round_, arguments={"rate": 0.1})
        return Task(key=key, job_hash=self.hash, models=(model,), passes=(one,))

    def close(self, task: Task, model: str | None) -> None:
        """The server's signed result; with a model the round counts."""
        closed = RoundClosed(
            **dict(task.key), job_hash=self.hash, committed=model is not None, contributors=("mayo",), model=model
        )
        self.store.settle(closed, HEAD, None)

    def refuses(self, task: Task, cause: str) -> None:
        with pytest.raises(Conflict, match=cause) as refused:
            self.store.begin(task)
        assert refused.value.code is ErrorCode.NOT_APPROVED
        # As the agent does then; what is refused must not become what counts.
        self.store.fail(task, Failure(code=ErrorCode.NOT_APPROVED, sentence="refused"), str(refused.value))

    def done(self, round_: int, model: str, made: str) -> None:
        """A whole round: begun on a model, closed with the one that it made."""
        task = self.task(round_, 1, model)
        self.store.begin(task)
        self.close(task, made)


@pytest.fixture
def stages(with_table: StateFolder) -> Stages:
    return Stages(with_table)


FIRST = "names another model than the first attempt at this stage did"
SIGNED = "names another model than the server signed as the result of round"


def test_a_second_attempt_on_another_model_is_refused(stages: Stages) -> None:
    stages.store.begin(stages.task(2, 1, ROUND_1))
    stages.refuses(stages.task(2, 2, CHOSEN), FIRST)
    stages.refuses(stages.task(2, 14, CHOSEN), FIRST)
    stages.store.begin(stages.task(2, 3, ROUND_1))
    begun = [line.body["attempt"] for line in journal.lines(stages.site.database) if line.kind == "task-accepted"]
    assert begun == [1, 3]


def test_a_first_attempt_that_failed_still_says_on_which_model(stages: Stages) -> None:
    task = stages.task(2, 1, ROUND_1)
    stages.store.begin(task)
    stages.store.fail(task, Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan failed"), "in full")
    stages.close(task, None)
    stages.refuses(stages.task(2, 2, CHOSEN), FIRST)


def test_what_is_answered_later_does_not_make_a_site_forget_the_first_attempt(stages: Stages) -> None:
    task = stages.task(2, 1, ROUND_1)
    stages.store.begin(task)
    made = Update(key=task.key, site=stages.site.name, task_hash=record_hash(task), samples=4)
    stages.store.keep(task, LocalUpdate(made))
    # As when the experiment ended here, and the server sent the task once more.
    stages.store.fail(task, Failure(code=ErrorCode.NOT_APPROVED, sentence="the site has not approved this"), "ended")
    stages.refuses(stages.task(2, 2, CHOSEN), FIRST)


@pytest.mark.parametrize(
    ("kind", "about"), [(TaskKind.LOCAL, ""), (TaskKind.EVALUATE, ""), (TaskKind.EVALUATE, "mayo")]
)
def test_so_it_is_of_baselines_and_measurements(stages: Stages, kind: TaskKind, about: str) -> None:
    stages.store.begin(stages.task(3, 1, ROUND_1, kind, about))
    stages.refuses(stages.task(3, 2, CHOSEN, kind, about), FIRST)
    stages.store.begin(stages.task(3, 2, CHOSEN, kind, "ucl"))


def test_a_round_starts_from_what_the_server_signed_as_the_result_of_the_one_before(stages: Stages) -> None:
    stages.done(1, stages.job.initial_model, ROUND_1)
    stages.refuses(stages.task(2, 1, CHOSEN), f"{SIGNED} 1")
    stages.refuses(stages.task(2, 2, stages.job.initial_model), f"{SIGNED} 1")
    stages.refuses(stages.task(2, 1, CHOSEN), f"{SIGNED} 1")
    stages.store.begin(stages.task(2, 3, ROUND_1))  # what was refused says nothing of the model
    stages.store.begin(stages.task(3, 1, CHOSEN))  # no result of round 2 is held


def test_the_last_model_is_measured_and_no_other(stages: Stages) -> None:
    stages.done(1, stages.job.initial_model, ROUND_1)
    stages.refuses(stages.task(1, 1, CHOSEN, TaskKind.EVALUATE), f"{SIGNED} 1")


def test_the_last_committed_result_counts_and_none_that_failed_or_is_of_another_round(stages: Stages) -> None:
    failed, done, again = (stages.task(2, attempt, ROUND_1) for attempt in (1, 2, 3))
    for task, made in ((failed, None), (done, CHOSEN), (again, ROUND_2)):
        stages.store.begin(task)
        stages.close(task, made)
    stages.done(1, stages.job.initial_model, ROUND_1)
    stages.store.begin(stages.task(3, 1, ROUND_2))
    stages.refuses(stages.task(3, 2, CHOSEN), FIRST)


def test_only_failed_attempts_before_say_nothing_of_the_model(stages: Stages) -> None:
    task = stages.task(1, 1, stages.job.initial_model)
    stages.store.begin(task)
    stages.close(task, None)
    stages.store.begin(stages.task(2, 1, ROUND_1))


def test_what_was_done_for_another_experiment_or_an_older_job_of_this_name_says_nothing(stages: Stages) -> None:
    stages.done(1, stages.job.initial_model, ROUND_1)
    stages.store.begin(stages.task(2, 1, ROUND_1))
    other = Stages(stages.site, experiment="heart-2")
    other.store.begin(other.task(2, 1, CHOSEN))
    changed = Stages(stages.site, seed=7)
    assert changed.hash != stages.hash
    changed.store.begin(changed.task(2, 2, CHOSEN))


def test_a_damaged_line_of_the_journal_stops_no_task(stages: Stages) -> None:
    stages.done(1, stages.job.initial_model, ROUND_1)
    with stages.site.database.write() as connection:
        connection.exec_driver_sql("UPDATE journal SET body = '{\"experiment\":\"heart\"' WHERE kind = 'round-closed'")
    stages.store.begin(stages.task(2, 1, ROUND_1))


def test_the_very_task_begins_again_after_a_crash(stages: Stages) -> None:
    stages.done(1, stages.job.initial_model, ROUND_1)
    for _ in range(2):
        stages.store.begin(stages.task(2, 1, ROUND_1))


class Plan:
    """A handler whose plan fails with these codes, one after the other, and then does well."""

    def __init__(self, stages: Stages, *codes: ErrorCode) -> None:
        self.stages, self.codes, self.runs = stages, list(codes), 0

    async def __call__(self, task: Task) -> LocalUpdate:
        self.runs += 1
        if self.codes:
            failure = Failure(code=self.codes.pop(0), sentence="in the agent's words", exception="ValueError")
            raise WorkerTaskFailed(failure, f"text of run {self.runs}")
        update = Update(key=task.key, site=self.stages.site.name, task_hash=record_hash(task), samples=4)
        return LocalUpdate(update)


async def offered(stages: Stages, plan: Plan, task: Task) -> WorkerTaskFailed | LocalUpdate:
    """A task from its offer to what leaves, as the agent does it."""
    try:
        return await Idempotent(plan, stages.store)(task)
    except WorkerTaskFailed as error:
        stages.store.fail(task, error.failure, error.detail)
        return error


@pytest.mark.parametrize("code", [ErrorCode.PLAN_ERROR, ErrorCode.CRASHED, ErrorCode.LIMIT_TIME, ErrorCode.BAD_DATA])
async def test_a_plan_tells_one_failure_in_an_attempt_however_often_it_is_asked(
    stages: Stages, code: ErrorCode
) -> None:
    plan, task = Plan(stages, code, ErrorCode.NOT_FINITE), stages.task(1, 1, stages.job.initial_model)
    found = [await offered(stages, plan, task) for _ in range(3)]
    assert plan.runs == 1
    told = {(one.failure, one.detail) for one in found if isinstance(one, WorkerTaskFailed)}
    assert len(told) == 1 and {failure.code for failure, _ in told} == {code}
    again = await offered(stages, plan, stages.task(1, 2, stages.job.initial_model))
    assert isinstance(again, WorkerTaskFailed) and again.failure.code is ErrorCode.NOT_FINITE and plan.runs == 2


def ensemble_of(stages: Stages, attempt: int = 1) -> Task:
    """The evaluation of an ensemble after the job's only round."""
    key = TaskKey(experiment="heart", round=1, attempt=attempt, kind=TaskKind.EVALUATE, about="ensemble")
    one = TrainingPass(round=1, arguments={"rate": 0.1})
    return Task(key=key, job_hash=stages.hash, models=(ROUND_1, ROUND_2), passes=(one,))


@pytest.fixture
def of_one_round(with_table: StateFolder) -> Stages:
    return Stages(with_table, terms=RoundTerms(rounds=1, quorum=1), baselines=Baselines(local=True, ensemble=True))


@pytest.mark.parametrize("code", [ErrorCode.LOST, ErrorCode.NOT_FOUND, ErrorCode.INTERNAL])
async def test_an_ensemble_that_could_not_be_read_to_its_end_is_not_read_again_in_the_attempt(
    of_one_round: Stages, code: ErrorCode
) -> None:
    """A server that gives a damaged model in the middle of a lap would see another lap."""
    plan, task = Plan(of_one_round, code), ensemble_of(of_one_round)
    found = [await offered(of_one_round, plan, task) for _ in range(3)]
    assert plan.runs == 1
    assert {one.failure.code for one in found if isinstance(one, WorkerTaskFailed)} == {code} and len(found) == 3
    await offered(of_one_round, plan, ensemble_of(of_one_round, 2))
    assert plan.runs == 2


def test_an_ensemble_is_begun_as_often_as_its_readings_are_counted_in_each_attempt(of_one_round: Stages) -> None:
    for attempt in (1, 2):
        for _ in range(MOST_RUNS):
            of_one_round.store.begin(ensemble_of(of_one_round, attempt))
        with pytest.raises(Conflict, match=f"was begun {MOST_RUNS} times; the server opens a new attempt") as refused:
            SiteTaskStore(of_one_round.site).begin(ensemble_of(of_one_round, attempt))
        assert failure_of(refused.value).retry


class Counted:
    """A worker whose evaluations are counted."""

    def __init__(self) -> None:
        self.runs = 0

    async def evaluate(self, *_: object) -> None:
        self.runs += 1


async def test_each_run_of_an_ensemble_counts_also_one_that_its_own_agent_repeats(of_one_round: Stages) -> None:
    stages, worker = of_one_round, Counted()
    stages.store.begin(ensemble_of(stages))
    trainer = SandboxTrainer(stages.site, stages.store, stages.job, lambda: None, None)  # type: ignore[arg-type, return-value]
    for _ in range(MOST_RUNS):
        await trainer._evaluated(worker, ensemble_of(stages))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="was begun"):
        await trainer._evaluated(worker, ensemble_of(stages))  # type: ignore[arg-type]
    assert worker.runs == MOST_RUNS
    # Another model alone tells nothing by how it is read.
    alone = stages.task(1, 1, ROUND_1, TaskKind.EVALUATE)
    for _ in range(MOST_RUNS + 1):
        await trainer._evaluated(worker, alone)  # type: ignore[arg-type]


async def refused_by(agent: Agent, line: Line, task: Task) -> list[ErrorCode]:
    """What the agent answers to a task that it must not take on."""
    await agent.take(TaskOffer(task=task, remaining_s=60))
    await asyncio.gather(*agent.tasks.proving)
    work = agent.tasks.work[task.key.experiment]
    await asyncio.gather(*work.running.values(), *agent._aside)
    found = [one.failure.code for one, _ in line.said if isinstance(one, TaskFailedMessage) and one.key == task.key]
    assert len(line.said) == len([one for one, _ in line.said if isinstance(one, TaskFailedMessage)])
    return found


async def test_an_agent_refuses_the_attempt_after_the_last_and_one_on_a_chosen_model(with_table: StateFolder) -> None:
    stages = Stages(with_table, terms=RoundTerms(rounds=3, quorum=1, retries=2, resumes=4))
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    stages.done(1, stages.job.initial_model, ROUND_1)
    for attempt in (16, 99_999):
        assert await refused_by(agent, line, stages.task(2, attempt, ROUND_1)) == [ErrorCode.NOT_APPROVED]
    assert any("attempt 16 is beyond the 15 that the job allows" in text for text in details(with_table))
    assert await refused_by(agent, line, stages.task(2, 15, CHOSEN)) == [ErrorCode.NOT_APPROVED]
    assert await refused_by(agent, line, stages.task(2, 14, CHOSEN)) == [ErrorCode.NOT_APPROVED]
    await agent.stop()
    accepted = [one.body["round"] for one in journal.lines(with_table.database) if one.kind == "task-accepted"]
    assert accepted == [1]


def details(site: StateFolder) -> list[str]:
    with site.database.read() as connection:
        return [text for text in connection.exec_driver_sql("SELECT detail FROM tasks").scalars() if text]
