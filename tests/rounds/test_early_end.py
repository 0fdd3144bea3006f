"""An experiment that ends early has all that a finished one has, and ends after the same round however it got there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from scripted_fleet import Scene, job

from archipel.rounds import ExperimentState, ExperimentVerb, Stage
from archipel.rounds.early_end import ASKED_FOR, Course
from archipel.rounds.stages import last_round
from archipel.tensors import blob_hash
from archipel.vocabulary import Baselines, Conflict, MetricSum, ModelFile, Patience, Task, TaskKind

BEST = {"selection": {"metric": "accuracy", "better": "higher"}}
BOTH = Baselines(local=True, ensemble=True)
T, L, E = TaskKind.TRAIN, TaskKind.LOCAL, TaskKind.EVALUATE


def scene_of(folder: Path, *, rounds: int = 6, **changes: Any) -> Scene:
    folder.mkdir(exist_ok=True)
    terms = {"rounds": rounds, **changes.pop("terms", {})}
    return Scene(folder, job(**BEST, **changes, terms=terms))


def patient(rounds: int, gain: float = 0.0) -> dict[str, Any]:
    return {"terms": {"patience": {"metric": "accuracy", "rounds": rounds, "smallest_gain": gain}}}


async def train(scene: Scene, round_: int, measured: float = 0.5, attempt: int = 1) -> None:
    """Every site delivers in a round, and measures the model that it starts from."""
    task = await scene.task(round_, attempt)
    found = {"accuracy": MetricSum(total=measured, weight=1).rounded("accuracy")}
    for site in scene.job.sites:
        await scene.deliver(site, task, float(round_), validation=found)


async def evaluate(scene: Scene, round_: int, about: str = "", measured: float = 0.5) -> None:
    task = await scene.task(round_, 1, E, about)
    for site in scene.job.sites:
        await scene.evaluate(site, task, MetricSum(total=measured, weight=1).rounded("accuracy").total)


async def all_fail(scene: Scene, task: Task, retry: bool = True) -> None:
    """Every site fails, and the pause that the loop makes after that is over.

    The record is there a moment before the loop begins that pause; what it announces comes after.
    """
    told = len(scene.fleet.announced)
    for site in scene.job.sites:
        scene.fail(site, task, retry)
    await scene.until(lambda: len(scene.fleet.announced) > told)
    scene.pass_time(30)


async def alone(scene: Scene, round_: int) -> None:
    task = await scene.task(round_, 1, L)
    assert [one.round for one in task.passes] == list(range(1, round_ + 1)) and task.models == (
        scene.job.initial_model,
    )
    for number, site in enumerate(scene.job.sites):
        await scene.deliver(site, task, 10.0 + number)


def stages(scene: Scene) -> list[str]:
    return [str(record.stage) for record in scene.store.records if record.committed]


def names(scene: Scene) -> dict[str, int]:
    return {name: kept.round for name, kept in scene.store.named.items()}


async def test_finish_completes_the_open_round_and_then_does_all_that_follows_a_last_round(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, baselines=BOTH)
    scene.start()
    await train(scene, 1, 0.1)
    await scene.task(2)
    scene.store.control(ExperimentVerb.FINISH)
    scene.nudge()
    await train(scene, 2, 0.9)
    await evaluate(scene, 2, measured=0.8)
    await alone(scene, 2)
    for about in ("a", "b", "c", "ensemble"):
        await evaluate(scene, 2, about)
    assert await scene.ended() is ExperimentState.FINISHED
    last = ["train 1", "train 2", "evaluate 2", "local 2"]
    assert stages(scene) == [*last, *(f"evaluate 2 of {about}" for about in ("a", "b", "c", "ensemble"))]
    assert names(scene) == {"initial": 0, "last": 2, "best": 1, "local:a": 2, "local:b": 2, "local:c": 2}
    assert scene.store.reason == f"ended early after round 2 of 6: {ASKED_FOR}; best by accuracy after round 1"


async def test_finish_while_paused_goes_on_to_what_follows(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start(ExperimentVerb.STEP)
    await train(scene, 1)
    await evaluate(scene, 1)
    assert await scene.ended() is ExperimentState.PAUSED
    scene.start(ExperimentVerb.FINISH)
    # The model was measured after the step, and is not measured again.
    assert await scene.ended() is ExperimentState.FINISHED and stages(scene) == ["train 1", "evaluate 1"]


@pytest.mark.parametrize(("crashes", "retries", "retry"), [(False, 1, True), (True, 0, True), (False, 1, False)])
async def test_a_round_that_fails_while_it_is_to_finish_is_not_tried_again(
    tmp_path: Path, crashes: bool, retries: int, retry: bool
) -> None:
    scene = scene_of(tmp_path, baselines=Baselines(local=True), terms={"retries": retries})
    scene.start()
    await train(scene, 1)
    task = await scene.task(2)
    scene.store.control(ExperimentVerb.FINISH)
    if crashes:
        await scene.crash()
        scene.start(None)
    await all_fail(scene, task, retry)
    # Its failure says nothing of what comes next.
    await evaluate(scene, 1)
    # The passes are those of the rounds that count, not of the one that failed.
    await alone(scene, 1)
    for site in scene.job.sites:
        await evaluate(scene, 1, site)
    assert await scene.ended() is ExperimentState.FINISHED
    assert scene.store.named["last"].round == 1


async def test_a_first_round_that_fails_is_tried_again_for_there_is_no_model_yet(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    task = await scene.task(1)
    scene.store.control(ExperimentVerb.FINISH)
    await all_fail(scene, task)
    await train(scene, 1, attempt=2)
    await evaluate(scene, 1)
    assert await scene.ended() is ExperimentState.FINISHED


async def test_finish_before_any_round_is_refused(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    with pytest.raises(Conflict, match="is waiting and cannot finish; possible now: start, step, cancel"):
        scene.store.control(ExperimentVerb.FINISH)
    scene.store.control(ExperimentVerb.START)
    scene.store.control(ExperimentVerb.PAUSE)
    with pytest.raises(Conflict, match="none of its rounds has begun; run a round first, or cancel it") as refused:
        scene.store.control(ExperimentVerb.FINISH)
    assert refused.value.values["round"] == 0 and scene.store.ending is None


async def test_finish_twice_is_once_and_after_the_end_it_is_refused(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await train(scene, 1)
    await scene.task(2)
    for _ in range(2):
        scene.store.control(ExperimentVerb.FINISH)
    await train(scene, 2)
    await evaluate(scene, 2)
    assert await scene.ended() is ExperimentState.FINISHED and stages(scene)[-2:] == ["train 2", "evaluate 2"]
    with pytest.raises(Conflict, match="is finished and cannot finish; create a new experiment"):
        scene.store.control(ExperimentVerb.FINISH)


async def test_finish_in_the_last_round_is_no_early_end(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, rounds=1)
    scene.start()
    await scene.task(1)
    scene.store.control(ExperimentVerb.FINISH)
    await train(scene, 1)
    await evaluate(scene, 1)
    assert await scene.ended() is ExperimentState.FINISHED and scene.store.reason == ""


async def test_cancel_while_it_finishes_keeps_its_meaning(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await train(scene, 1)
    await scene.task(2)
    scene.store.control(ExperimentVerb.FINISH)
    scene.store.control(ExperimentVerb.CANCEL)
    scene.nudge()
    assert await scene.ended() is ExperimentState.CANCELLED and stages(scene) == ["train 1"]


async def test_an_experiment_whose_attempts_are_used_up_can_still_finish(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, terms={"retries": 0, "resumes": 0})
    scene.start()
    await train(scene, 1)
    task = await scene.task(2)
    await all_fail(scene, task)
    assert await scene.ended() is ExperimentState.PAUSED
    with pytest.raises(Conflict, match="used up"):
        scene.store.control(ExperimentVerb.RESUME)
    scene.start(ExperimentVerb.FINISH)
    await evaluate(scene, 1)
    assert await scene.ended() is ExperimentState.FINISHED


COURSE = (0.1, 0.5, 0.5, 0.505, 0.4, 0.9)
"""What rounds 1 to 6 measure: the models of rounds 0 to 5."""


@pytest.mark.parametrize(
    ("rounds", "gain", "course", "ends"),
    [
        (2, 0.0, COURSE, None),
        (1, 0.0, COURSE, 3),
        (2, 0.01, COURSE, 4),
        (3, 0.01, COURSE, 5),
        (3, 0.005, COURSE, None),
        (4, 0.01, COURSE, None),
        (2, 0.0, (0.9, 0.1, 0.2), 3),
        # A gain of just the smallest one counts.
        (1, 0.25, (0.25, 0.5, 0.75), None),
    ],
)
def test_the_rule_ends_it_after_so_many_rounds_without_the_gain(
    rounds: int, gain: float, course: Sequence[float], ends: int | None
) -> None:
    for better, sign in (("higher", 1.0), ("lower", -1.0)):
        validation = [{"name": "accuracy", "better": better}]
        made = job(validation=validation, **patient(rounds, gain))
        found = Course(made)
        over = []
        for number, value in enumerate(course, 1):
            found.take({number: MetricSum(total=sign * value, weight=1)})
            over += [number] if found.is_over else []
        assert (over[0] if over else None) == ends
        at_once = Course(made)
        at_once.take({number: MetricSum(total=sign * value, weight=1) for number, value in enumerate(course[:ends], 1)})
        assert at_once.is_over == (ends is not None)


def test_what_was_not_measured_is_no_round_without_a_gain() -> None:
    found = Course(job(**patient(2)))
    found.take({1: MetricSum(total=0.5, weight=1), 2: None, 3: MetricSum(total=0.0, weight=0), 4: None})
    assert not found.is_over and found.rounds == 4
    found.take({5: MetricSum(total=0.5, weight=1), 6: MetricSum(total=0.5, weight=1)})
    assert found.is_over


@pytest.mark.parametrize("how", ["undisturbed", "crashes", "pauses", "steps"])
async def test_it_loses_patience_after_the_same_round_however_it_got_there(tmp_path: Path, how: str) -> None:
    scene = scene_of(tmp_path, rounds=9, **patient(2, 0.01))
    scene.start(ExperimentVerb.STEP if how == "steps" else ExperimentVerb.START)
    for number, measured in enumerate(COURSE[:4], 1):
        if how == "crashes":
            await scene.task(number)
            await scene.crash()
            scene.start(None)
        if how == "pauses":
            await scene.task(number)
            scene.store.control(ExperimentVerb.PAUSE)
        await train(scene, number, measured)
        # The last of the steps is followed by the end at once, and so by the same measurement.
        if how in ("pauses", "steps") and number < 4:
            await evaluate(scene, number, measured=0.95 if number == 3 else 0.2)
            assert await scene.ended() is ExperimentState.PAUSED
            scene.start(ExperimentVerb.STEP if how == "steps" else ExperimentVerb.RESUME)
    await evaluate(scene, 4, measured=0.3)
    if how == "pauses":
        # A pause that came before the rule was asked is a pause.
        assert await scene.ended() is ExperimentState.PAUSED
        scene.start(ExperimentVerb.RESUME)
    assert await scene.ended() is ExperimentState.FINISHED
    assert [one for one in stages(scene) if one.startswith("train")] == [f"train {number}" for number in (1, 2, 3, 4)]
    reason = "ended early after round 4 of 9: no gain of 0.01 in accuracy for 2 rounds; best after round 3"
    assert scene.store.reason == reason


@pytest.mark.parametrize(
    ("lineage", "best"),
    [(None, "the untrained initial model"), (ModelFile(file=blob_hash(b"model")), "the model that it started from")],
)
async def test_the_initial_model_may_be_the_best(tmp_path: Path, lineage: ModelFile | None, best: str) -> None:
    scene = scene_of(tmp_path, **patient(1), lineage=lineage)
    scene.start()
    for number in (1, 2):
        await train(scene, number, 0.9 - number / 10)
    await evaluate(scene, 2, measured=0.1)
    assert await scene.ended() is ExperimentState.FINISHED
    assert scene.store.reason.endswith(f"; best is {best}")


def test_a_rule_needs_a_metric_that_the_plan_measures() -> None:
    with pytest.raises(ValidationError, match="patience metric dice is not a validation metric of the plan; it has a"):
        job(terms={"patience": {"metric": "dice", "rounds": 1}})
    with pytest.raises(ValidationError, match="it has none"):
        job(validation=[], **patient(1))
    for wrong in ({"rounds": 0}, {"smallest_gain": -0.1}, {"smallest_gain": float("nan")}):
        with pytest.raises(ValidationError):
            Patience.model_validate({"metric": "accuracy", "rounds": 1, **wrong})


async def test_after_a_step_the_newest_model_is_measured_and_then_it_pauses(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start(ExperimentVerb.STEP)
    await train(scene, 1)
    await scene.task(1, 1, E)
    assert scene.store.state is ExperimentState.RUNNING, "who waits for the step waits for its measurement"
    await evaluate(scene, 1, measured=0.7)
    assert await scene.ended() is ExperimentState.PAUSED
    assert names(scene) == {"initial": 0, "last": 1, "best": 1}
    scene.start(ExperimentVerb.RESUME)
    await scene.task(2)


async def test_after_a_pause_the_newest_model_is_measured_once(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await scene.task(1)
    scene.store.control(ExperimentVerb.PAUSE)
    await train(scene, 1)
    task = await scene.task(1, 1, E)
    for site in scene.job.sites:
        scene.fail(site, task, retry=False)
    assert await scene.ended() is ExperimentState.PAUSED
    assert [record.committed for record in scene.store.records] == [True, False]
    scene.start(ExperimentVerb.RESUME)
    # Its failure says nothing of the next round, which begins at once.
    await train(scene, 2)


async def test_a_job_without_validation_is_not_measured(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(validation=[], terms={"rounds": 3}))
    scene.start(ExperimentVerb.STEP)
    task = await scene.task(1)
    for site in scene.job.sites:
        await scene.deliver(site, task)
    assert await scene.ended() is ExperimentState.PAUSED
    scene.start(ExperimentVerb.FINISH)
    assert await scene.ended() is ExperimentState.FINISHED and stages(scene) == ["train 1"]


async def test_sites_that_are_not_connected_are_awaited_for_their_grace_only(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start(ExperimentVerb.STEP)
    task = await scene.task(1)
    for site in ("a", "b"):
        await scene.deliver(site, task)
    scene.lose("b")
    scene.lose("c")
    await scene.until(lambda: scene.store.awaited)
    scene.pass_time(10)
    await scene.until(lambda: scene.store.state is ExperimentState.PAUSED)
    assert await scene.ended() is ExperimentState.PAUSED and stages(scene) == ["train 1"]


async def test_a_stall_measures_nothing(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, terms={"retries": 0})
    scene.start()
    await train(scene, 1)
    task = await scene.task(2)
    await all_fail(scene, task)
    assert await scene.ended() is ExperimentState.PAUSED and stages(scene) == ["train 1"]


async def test_one_of_the_measurements_is_left_for_the_end(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, terms={"measurements": 2})
    scene.start(ExperimentVerb.STEP)
    await train(scene, 1)
    await evaluate(scene, 1)
    assert await scene.ended() is ExperimentState.PAUSED
    scene.start(ExperimentVerb.STEP)
    await train(scene, 2)
    assert await scene.ended() is ExperimentState.PAUSED and stages(scene)[-1] == "train 2"
    scene.start(ExperimentVerb.FINISH)
    await evaluate(scene, 2)
    assert await scene.ended() is ExperimentState.FINISHED


def test_the_last_round_of_an_early_end() -> None:
    made = job(terms={"rounds": 3})
    assert [last_round(made, done, True) for done in range(4)] == [1, 1, 2, 3]
    assert {last_round(made, done, False) for done in range(4)} == {3}
    assert Stage(kind=E, round=2).measures_federated and not Stage(kind=E, round=2, about="a").measures_federated
