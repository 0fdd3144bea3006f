"""The loop makes as many attempts as the job allows, whatever ends in between, and then names the way on."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_fleet import Scene, job

from archipel.rounds import ExperimentState, ExperimentVerb, Stage, most_attempts, next_stage
from archipel.vocabulary import Baselines, Conflict, Job, RoundTerms, TaskKind


def scene_of(folder: Path, **terms: int) -> Scene:
    return Scene(folder, job(validation=[], terms={"rounds": 1, **terms}))


async def fails(scene: Scene, attempt: int, kind: TaskKind = TaskKind.TRAIN) -> None:
    """Every site fails at this attempt, in a way that may end better the next time."""
    task = await scene.task(1, attempt, kind)
    told = len(scene.fleet.announced)
    for site in scene.job.sites:
        scene.fail(site, task)
    await scene.until(lambda: len(scene.fleet.announced) > told)
    scene.pass_time(30)


def attempts_of(scene: Scene) -> list[int]:
    return [record.attempt for record in scene.store.records]


async def test_a_restart_in_the_middle_of_retries_forgets_no_try(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, retries=2)
    scene.start()
    for attempt in (1, 2):
        await fails(scene, attempt)
        await scene.crash()
        scene.start(None)
    await fails(scene, 3)
    assert await scene.ended() is ExperimentState.PAUSED
    assert attempts_of(scene) == [1, 2, 3]
    assert "train 1 was tried 3 times without its quorum" in scene.store.reason and "used up" not in scene.store.reason


async def test_a_restart_while_the_last_attempt_is_open_opens_no_other(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, retries=1)
    scene.start()
    await fails(scene, 1)
    await scene.task(1, 2)
    await scene.crash()
    scene.start(None)
    await fails(scene, 2)
    assert await scene.ended() is ExperimentState.PAUSED and attempts_of(scene) == [1, 2]


async def test_after_the_last_attempt_the_pause_names_the_way_on_and_a_resume_is_refused(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, retries=1, resumes=1)
    scene.start()
    for attempt in (1, 2):
        await fails(scene, attempt)
    assert await scene.ended() is ExperimentState.PAUSED and "used up" not in scene.store.reason
    scene.start(ExperimentVerb.RESUME)
    for attempt in (3, 4):
        await fails(scene, attempt)
    assert await scene.ended() is ExperimentState.PAUSED
    ends = "all 4 attempts at train 1 that the job allows are used up (2 at first, and 2 after each of 1 resume)"
    assert ends in scene.store.reason and scene.store.reason.endswith("submit a new job under another name")
    for verb in (ExperimentVerb.RESUME, ExperimentVerb.START, ExperimentVerb.STEP):
        with pytest.raises(
            Conflict, match=r"cannot continue: all 4 attempts at train 1.*; submit a new job"
        ) as refused:
            scene.store.control(verb)
        assert refused.value.values["attempts"] == 4
    assert scene.store.state is ExperimentState.PAUSED and attempts_of(scene) == [1, 2, 3, 4]
    scene.store.control(ExperimentVerb.CANCEL)


async def test_pauses_between_retries_give_no_further_attempt(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, retries=1, resumes=0)
    scene.start()
    await fails(scene, 1)
    await scene.task(1, 2)
    scene.store.control(ExperimentVerb.PAUSE)
    # The last attempt is open still, so that there is something to go on with.
    scene.store.control(ExperimentVerb.RESUME)
    await fails(scene, 2)
    assert await scene.ended() is ExperimentState.PAUSED
    assert attempts_of(scene) == [1, 2] and "all 2 attempts at train 1" in scene.store.reason


async def test_each_stage_has_its_own_attempts(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(terms={"rounds": 1, "retries": 1, "resumes": 0}))
    scene.start()
    await fails(scene, 1)
    task = await scene.task(1, 2)
    for site in scene.job.sites:
        await scene.deliver(site, task)
    await fails(scene, 1, TaskKind.EVALUATE)
    task = await scene.task(1, 2, TaskKind.EVALUATE)
    for site in scene.job.sites:
        await scene.evaluate(site, task)
    assert await scene.ended() is ExperimentState.FINISHED


def stages_in_turn(job_: Job) -> list[Stage]:
    """Every stage, as the loop finds one after the other."""
    found: list[Stage] = []
    while stage := next_stage(job_, sum(one.kind is TaskKind.TRAIN for one in found), found):
        found.append(stage)
    return found


@pytest.mark.parametrize(("local", "ensemble"), [(False, False), (True, False), (True, True)])
def test_the_attempts_of_an_experiment_are_those_at_all_of_its_stages(local: bool, ensemble: bool) -> None:
    baselines = Baselines(local=local, ensemble=ensemble)
    for measurements, between in ((1, 1), (2, 2), (10, 3)):
        terms = {"rounds": 4, "retries": 2, "resumes": 3, "measurements": measurements}
        found = job(baselines=baselines, terms=terms)
        assert most_attempts(found) == (len(stages_in_turn(found)) + between) * 12
    unmeasured = job(baselines=baselines, terms=terms, validation=[])
    assert most_attempts(unmeasured) == len(stages_in_turn(unmeasured)) * 12


def test_a_job_that_says_nothing_of_resumes_allows_ten() -> None:
    assert RoundTerms(rounds=1, quorum=1).attempts == 33
    assert RoundTerms(rounds=1, quorum=1, retries=0, resumes=0).attempts == 1
