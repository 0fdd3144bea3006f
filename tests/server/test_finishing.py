"""Finishing early at the server: refused before any round, kept through restarts, journaled once, and shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_attempts_at_the_server import Attempts
from test_jobs_and_answers import lines

from archipel.governance import job_hash
from archipel.rounds import ASKED_FOR, Opened, ParticipantStatus, SiteRecord, Stage, StageRecord
from archipel.server.experiments import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.transport.rest import Ending
from archipel.vocabulary import Conflict, MetricSum, RoundClosed, Task, TaskKey, TaskKind, TrainingPass
from archipel.vocabulary.states import ControlVerb, ExperimentState
from worlds.people import OLGA
from worlds.server import Applicant, running_job

TERMS = {"rounds": 4, "quorum": 1, "retries": 1, "resumes": 0}
FINISH = ControlVerb.FINISH


@pytest.fixture
def attempts(federation: ServerContext, enrolled: Applicant) -> Iterator[Attempts]:
    yield Attempts(federation, running_job(federation, enrolled, terms=TERMS))


def measure(attempts: Attempts, round_: int, accuracy: float) -> None:
    """The federated model after a round is measured."""
    stage, key = Stage(kind=TaskKind.EVALUATE, round=round_), TaskKey(experiment="first", round=round_, kind="evaluate")
    model, validation = attempts.job.initial_model, {"accuracy": MetricSum(total=accuracy, weight=1)}
    task = Task(key=key, job_hash=job_hash(attempts.job), models=(model,), passes=(TrainingPass(round=round_),))
    attempts.store.open(Opened(stage, 1, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
    part = SiteRecord(state=ParticipantStatus.DELIVERED, validation=validation)
    record = StageRecord(
        stage=stage, attempt=1, committed=True, seconds=1.0, contributors=("berlin",), sites={"berlin": part},
        validation=validation,
    )  # fmt: skip
    closed = RoundClosed(**dict(key), job_hash=attempts.hash, committed=True, contributors=("berlin",))
    attempts.store.close(record, closed, None, {})


async def test_finish_before_any_round_is_refused_and_changes_nothing(attempts: Attempts) -> None:
    experiments = Experiments(attempts.federation)
    with pytest.raises(Conflict, match="cannot finish: none of its rounds has begun; run a round first, or cancel it"):
        await experiments.control("first", FINISH, by=OLGA)
    assert attempts.again().progress().ending is None and not lines(attempts.federation, "experiment-ending")
    await experiments.control("first", ControlVerb.CANCEL, by=OLGA)
    with pytest.raises(Conflict, match="is cancelled and cannot finish; create a new experiment"):
        await experiments.control("first", FINISH, by=OLGA)
    await experiments.stop()


async def test_finish_is_journaled_once_and_a_restarted_server_knows_it(attempts: Attempts) -> None:
    experiments = Experiments(attempts.federation)
    attempts.open(1, 1)
    for _ in range(2):
        shown = await experiments.control("first", FINISH, by=OLGA)
        assert (shown.state, shown.reason) == (ExperimentState.RUNNING, ASKED_FOR)
    await experiments.stop()
    journaled = {"experiment": "first", "reason": ASKED_FOR, "by": OLGA.journal_name}
    assert lines(attempts.federation, "experiment-ending") == [journaled]
    events = [event.body async for event in experiments.events("first", 0, False)]
    assert [body for body in events if isinstance(body, Ending)] == [Ending(reason=ASKED_FOR)]
    assert attempts.again().progress().ending == ASKED_FOR
    # It stays the reason through a pause.
    for verb in (ControlVerb.PAUSE, ControlVerb.RESUME):
        shown = await experiments.control("first", verb, by=OLGA)
    assert shown.reason == ASKED_FOR
    await experiments.stop()


async def test_an_experiment_with_no_attempt_left_can_finish_and_tries_begin_anew(attempts: Attempts) -> None:
    experiments = Experiments(attempts.federation)
    attempts.close(attempts.open(1, 1), committed=True)
    for attempt in (1, 2):
        attempts.fail(2, attempt)
    attempts.store.stall("tried twice")
    with pytest.raises(Conflict, match="used up"):
        await experiments.control("first", ControlVerb.RESUME, by=OLGA)
    shown = await experiments.control("first", FINISH, by=OLGA)
    await experiments.stop()
    assert shown.state is ExperimentState.RUNNING and attempts.again().progress().tries == 0


async def test_what_a_rule_ends_has_no_person_in_the_journal_and_its_reason_in_the_document(attempts: Attempts) -> None:
    attempts.close(attempts.open(1, 1), committed=True)
    attempts.fail(2, 1)
    attempts.store.end_early("no gain in accuracy for 1 round")
    assert attempts.again().progress().tries == 0
    attempts.store.end_early("a later word")
    journaled = {"experiment": "first", "reason": "no gain in accuracy for 1 round", "by": None}
    assert lines(attempts.federation, "experiment-ending") == [journaled]
    experiments = Experiments(attempts.federation)
    assert (await experiments.get("first")).ended_early is None
    attempts.store.finish("ended early after round 1 of 4: no gain in accuracy for 1 round")
    shown = await experiments.get("first")
    assert shown.state is ExperimentState.FINISHED and shown.ended_early == shown.reason


async def test_what_was_measured_after_a_step_is_of_the_newest_model_until_there_is_a_newer_one(
    attempts: Attempts,
) -> None:
    experiments = Experiments(attempts.federation)
    attempts.close(attempts.open(1, 1), committed=True)
    measure(attempts, 1, 0.75)
    federated = (await experiments.get("first")).baselines.federated
    assert federated is not None and federated.validation == {"accuracy": 0.75}
    assert (await experiments.rounds("first"))[0].model_validation == {"accuracy": 0.75}
    assert attempts.again().progress().done == {Stage(kind=TaskKind.EVALUATE, round=1)}
    attempts.close(attempts.open(2, 1), committed=True)
    assert (await experiments.get("first")).baselines.federated is None


def test_what_rounds_measured_is_read_from_their_records(attempts: Attempts) -> None:
    for number in (1, 2, 3):
        attempts.close(attempts.open(number, 1), committed=True)
    measure(attempts, 3, 0.75)
    assert attempts.again().measured("accuracy", 0) == {1: None, 2: None, 3: None}
    assert attempts.again().measured("accuracy", 2) == {3: None}
