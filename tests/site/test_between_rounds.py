"""What a server gains by asking between rounds: no measurement and no baseline beyond what an early end needs."""

from __future__ import annotations

import pytest
from test_agent import agent_of
from test_attempts_at_a_stage import CHOSEN, HEAD, ROUND_1, ROUND_2, SIGNED, Stages, details, refused_by

from archipel.site.audit import journal
from archipel.site.state.folder import StateFolder
from archipel.tasks import check_task_of_job, failure_of
from archipel.vocabulary import (
    ArchipelError,
    Baselines,
    Conflict,
    ErrorCode,
    RoundClosed,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
)
from worlds.people import approve

E, L = TaskKind.EVALUATE, TaskKind.LOCAL
NO_RESULT = "of which this site holds no signed result that counts"
MODELS = ("", ROUND_1, ROUND_2, CHOSEN)


class Between(Stages):
    """A job of five rounds that may be measured twice between them."""

    def __init__(self, site: StateFolder, **terms: object) -> None:
        rules = {"rounds": 5, "quorum": 1, "measurements": 2, **terms}
        super().__init__(site, baselines=Baselines(local=True), terms=RoundTerms.model_validate(rules))

    def local(self, round_: int, passes: int) -> Task:
        key = TaskKey(experiment=self.job.experiment, round=round_, kind=L)
        whole = tuple(TrainingPass(round=number, arguments={"rate": 0.1}) for number in range(1, passes + 1))
        return Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=whole)

    def rounds(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            self.done(number, MODELS[number - 1] or self.job.initial_model, MODELS[number])


@pytest.fixture
def between(with_table: StateFolder) -> Between:
    return Between(with_table)


def test_a_server_that_asks_for_an_extra_evaluation_each_round_gets_as_many_as_the_job_says(between: Between) -> None:
    model = between.job.initial_model
    for number in range(1, 5):
        made = MODELS[min(number, 3)]
        between.done(number, model, made)
        extra = between.task(number, 1, made, E)
        if number <= 2:
            between.store.begin(extra)
        else:
            between.refuses(extra, "measures the model between rounds once more than the 2 times that the job allows")
        model = made
    # The last round's is no measurement between rounds.
    between.done(5, model, ROUND_1)
    between.store.begin(between.task(5, 1, ROUND_1, E))
    accepted = [line.body for line in journal.lines(between.site.database) if line.kind == "task-accepted"]
    assert [one["round"] for one in accepted if one["kind"] == "evaluate"] == [1, 2, 5]


def test_another_attempt_at_the_same_measurement_is_no_further_one(between: Between) -> None:
    between.rounds(1, 1)
    between.store.begin(between.task(1, 1, ROUND_1, E))
    between.rounds(2, 2)
    for attempt in (1, 2, 3):
        between.store.begin(between.task(2, attempt, ROUND_2, E))


@pytest.mark.parametrize("held", [0, 1])
def test_what_follows_a_round_whose_result_the_site_does_not_hold_is_refused(between: Between, held: int) -> None:
    between.rounds(1, held)
    ahead = held + 1
    for task in (
        between.task(ahead, 1, CHOSEN, E),
        between.local(ahead, ahead),
        between.task(ahead, 1, CHOSEN, E, "ucl"),
    ):
        between.refuses(task, f"follows round {ahead}, {NO_RESULT}")


@pytest.mark.parametrize(("held", "round_"), [(1, 2), (2, 1)])
def test_what_is_refused_for_a_result_says_so_and_not_that_nobody_approved(
    between: Between, held: int, round_: int
) -> None:
    between.rounds(1, held)
    with pytest.raises(Conflict) as refused:
        between.store.begin(between.local(round_, round_))
    said = failure_of(refused.value)
    assert said.code is ErrorCode.NOT_APPROVED and said.sentence.startswith(
        "the newest signed result that the site holds"
    )


def test_a_round_that_failed_is_no_round_that_counts(between: Between) -> None:
    task = between.task(1, 1, between.job.initial_model)
    between.store.begin(task)
    between.close(task, None)
    between.refuses(between.task(1, 1, CHOSEN, E), NO_RESULT)


def test_what_follows_an_older_round_is_refused(between: Between) -> None:
    between.rounds(1, 2)
    for task in (between.task(1, 1, ROUND_1, E), between.local(1, 1)):
        between.refuses(task, "follows round 1, and this site holds the signed result of round 2")


def test_a_measurement_is_of_the_model_that_the_server_signed(between: Between) -> None:
    between.rounds(1, 1)
    between.refuses(between.task(1, 1, CHOSEN, E), f"{SIGNED} 1")
    between.store.begin(between.task(1, 2, ROUND_1, E))


def test_a_site_that_began_its_baselines_trains_no_further_round_and_no_second_baseline(between: Between) -> None:
    between.rounds(1, 2)
    between.store.begin(between.local(2, 2))
    ends = "comes after the baselines of round 2, which end the experiment"
    between.refuses(between.task(3, 1, ROUND_2), ends)
    third = RoundClosed(
        experiment="heart", round=3, attempt=1, job_hash=between.hash, committed=True, contributors=(), model=CHOSEN
    )
    between.store.settle(third, HEAD, None)
    for task in (
        between.local(3, 3),
        between.local(5, 5),
        between.task(3, 1, CHOSEN, E),
        between.task(5, 1, CHOSEN, E),
    ):
        between.refuses(task, ends)


@pytest.mark.parametrize("passes", [1, 3, 5])
def test_a_baseline_has_as_many_passes_as_there_were_rounds(between: Between, passes: int) -> None:
    with pytest.raises(ArchipelError, match=f"has {passes} passes that are not those of rounds 1 to 2") as refused:
        check_task_of_job(between.job, between.hash, between.local(2, passes))
    assert refused.value.code is ErrorCode.NOT_APPROVED
    check_task_of_job(between.job, between.hash, between.local(2, 2))


async def test_an_agent_refuses_them_and_its_worker_is_not_asked(with_table: StateFolder) -> None:
    between = Between(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    between.rounds(1, 1)
    beyond, unheld, further = between.local(1, 4), between.task(2, 1, CHOSEN, E), between.local(2, 2)
    for task in (beyond, unheld, further):
        assert await refused_by(agent, line, task) == [ErrorCode.NOT_APPROVED]
    await agent.stop()
    found = details(with_table)
    assert any("has 4 passes" in text for text in found) and any(NO_RESULT in text for text in found)
    kinds = [one.body["kind"] for one in journal.lines(with_table.database) if one.kind == "task-accepted"]
    assert kinds == ["train"]


def missed(between: Between, **changes: object) -> RoundClosed:
    """The result of a round that this site had no task of."""
    values = {"experiment": "heart", "round": 2, "attempt": 1, "job_hash": between.hash, "committed": True}
    return RoundClosed.model_validate({**values, "contributors": ("ucl",), "model": ROUND_2, **changes})


def test_a_site_that_was_away_holds_the_result_that_it_missed_once_and_can_measure(between: Between) -> None:
    approve(between.site, "heart")
    between.rounds(1, 1)
    for _ in range(2):
        between.store.settle(missed(between), HEAD, None)
    closed = [line.body["round"] for line in journal.lines(between.site.database) if line.kind == "round-closed"]
    assert closed == [1, 2]
    between.refuses(between.task(3, 1, CHOSEN), f"{SIGNED} 2")
    between.store.begin(between.task(2, 1, ROUND_2, E))
    between.store.begin(between.local(2, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 6},
        {"round": 0},
        {"attempt": 34},
        {"committed": False, "model": None},
        {"kind": "evaluate"},
        {"job_hash": "sha256:" + "0" * 64},
        {"experiment": "lung"},
    ],
)
def test_results_of_what_the_job_does_not_have_fill_no_journal(between: Between, changes: dict[str, object]) -> None:
    approve(between.site, "heart")
    between.store.settle(missed(between, **changes), HEAD, None)
    assert "round-closed" not in [line.kind for line in journal.lines(between.site.database)]


def test_a_job_that_nobody_approved_here_fills_no_journal(between: Between) -> None:
    between.store.settle(missed(between), HEAD, None)
    assert "round-closed" not in [line.kind for line in journal.lines(between.site.database)]
