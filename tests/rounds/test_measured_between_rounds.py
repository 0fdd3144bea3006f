"""What the loop measures between rounds: after every step where the job allows so many, and nothing a site refuses."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import pytest
from scripted_fleet import job

from archipel.governance import job_hash
from archipel.rounds import ExperimentProgress, ExperimentState, Stage, most_measurements
from archipel.rounds.early_end import measurement_due
from archipel.rounds.stages import next_stage
from archipel.tasks import KnownRounds, check_between_rounds
from archipel.vocabulary import Job, Task, TaskKey, TaskKind


def job_of(rounds: int, **terms: int) -> Job:
    return job(terms={"rounds": rounds, **terms})


def due(job: Job, done: int, measured: Collection[int]) -> bool:
    """Whether the loop measures after the step that was round ``done``."""
    progress = ExperimentProgress(
        state=ExperimentState.RUNNING,
        rounds_done=done,
        done=frozenset(Stage(kind=TaskKind.EVALUATE, round=number) for number in measured),
        attempts={},
        model=job.initial_model,
        local_models={},
        arguments={},
        invited=job.sites,
        pause_after=done,
    )
    return measurement_due(job, progress) is not None


def check_at_a_site(job: Job, round_: int, measured: Collection[int]) -> None:
    key = TaskKey(experiment=job.experiment, round=round_, kind=TaskKind.EVALUATE)
    task = Task(key=key, job_hash=job_hash(job), models=(job.initial_model,))
    check_between_rounds(job, task, KnownRounds(closed=round_, measured=frozenset(measured)))


def measured_by_steps(job: Job, steps: Collection[int]) -> list[int]:
    """The rounds after which the model is measured, where these rounds are steps."""
    measured: list[int] = []
    for done in range(1, job.terms.rounds + 1):
        if done in steps and due(job, done, measured):
            check_at_a_site(job, done, measured)
            measured.append(done)
    return measured


@pytest.mark.parametrize("rounds", [2, 3, 5, 11])
def test_every_step_but_the_last_round_is_measured_where_there_is_a_measurement_for_each(rounds: int) -> None:
    for measurements in (rounds - 1, rounds, 30):
        found = measured_by_steps(job_of(rounds, measurements=measurements), range(1, rounds + 1))
        assert found == list(range(1, rounds))


@pytest.mark.parametrize(
    ("measurements", "expected"), [(1, [5]), (2, [1, 5]), (3, [1, 2, 5]), (4, [1, 2, 3, 5]), (5, [1, 2, 3, 4, 5])]
)
def test_one_is_kept_for_an_early_end_until_only_the_last_round_is_left(measurements: int, expected: list[int]) -> None:
    assert measured_by_steps(job_of(6, measurements=measurements), range(1, 7)) == expected


@pytest.mark.parametrize("rounds", range(1, 7))
@pytest.mark.parametrize("measurements", range(1, 7))
def test_a_site_takes_every_measurement_also_that_of_an_early_end_after_any_round(
    rounds: int, measurements: int
) -> None:
    job = job_of(rounds, measurements=measurements)
    for count in range(rounds + 1):
        for steps in itertools.combinations(range(1, rounds + 1), count):
            measured = measured_by_steps(job, steps)
            assert len(measured) <= most_measurements(job)
            for end in range(1, rounds):
                before = [number for number in measured if number <= end]
                done = [Stage(kind=TaskKind.EVALUATE, round=number) for number in before]
                if (last := next_stage(job, end, done, ends_early=True)) is not None:
                    check_at_a_site(job, last.round, before)


def test_a_job_of_one_round_and_one_without_validation_are_not_measured() -> None:
    assert measured_by_steps(job_of(1), [1]) == []
    assert measured_by_steps(job(terms={"rounds": 4}, validation=[]), range(1, 5)) == []
