"""The loop over a scripted fleet: who counts, who is awaited, and what a crash leaves."""

from __future__ import annotations

import errno
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scripted_fleet import Scene, job

from archipel.rounds import Accepted, ExperimentState, ExperimentVerb, ParticipantStatus, Stage
from archipel.rounds.fleet import FleetEvent
from archipel.vocabulary import ArchipelError, Baselines, ErrorCode, MetricSum, StorageFull, TaskKind

ALL = ("a", "b", "c")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, job(validation=[]))


async def finish(scene: Scene, from_round: int, attempt: int = 1) -> None:
    """Every site delivers in all rounds that are left."""
    for number in range(from_round, scene.job.terms.rounds + 1):
        task = await scene.task(number, attempt)
        attempt = 1
        for site in scene.job.sites:
            await scene.deliver(site, task)
    assert await scene.ended() is ExperimentState.FINISHED


async def test_a_round_closes_with_the_weighted_mean_when_every_site_has_delivered(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    for site, value, samples in (("c", 4.0, 1), ("a", 1.0, 2), ("b", 2.0, 3)):
        await scene.deliver(site, task, value, samples=samples)
    await scene.until(lambda: scene.fleet.announced)
    assert np.allclose(scene.weights(), (2 * 1.0 + 3 * 2.0 + 1 * 4.0) / 6, rtol=0, atol=1e-15)
    record = scene.store.records[0]
    assert record.contributors == ALL and record.committed
    assert record.metrics["loss"] == MetricSum(total=6.0, weight=5)
    sites, closed = scene.fleet.announced[0]
    assert sites == ALL and closed.contributors == ALL and closed.model == scene.store.model
    await finish(scene, 2)


async def test_the_model_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    values = {"a": 0.1, "b": 1e16, "c": -1e16}
    found = set()
    for number, order in enumerate(itertools.permutations(ALL)):
        folder = tmp_path / str(number)
        folder.mkdir()
        scene = Scene(folder, job(validation=[], terms={"rounds": 1}))
        scene.start()
        task = await scene.task()
        for site in order:
            await scene.deliver(site, task, values[site])
        assert await scene.ended() is ExperimentState.FINISHED
        found.add(scene.store.model)
    assert len(found) == 1


async def test_a_late_site_is_recorded_and_the_round_closes_with_the_quorum(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    scene.accept("c", task)
    await scene.until(lambda: scene.state("c") is ParticipantStatus.WORKING)
    scene.pass_time(99)
    # Answered by the loop itself once it has looked at the clock: the round is still open.
    await refused(scene, "a", task, ErrorCode.REPLAYED, value=2.0)
    assert not scene.store.records
    scene.pass_time(1)
    await scene.until(lambda: scene.store.records and scene.fleet.withdrawn)
    assert scene.store.records[0].sites["c"].state is ParticipantStatus.LATE
    assert scene.store.records[0].contributors == ("a", "b")
    assert scene.fleet.withdrawn == [("c", task.key)]
    with pytest.raises(ArchipelError) as caught:
        await scene.deliver("c", task)
    assert caught.value.code is ErrorCode.ROUND_CLOSED
    await finish(scene, 2)


async def test_without_a_quorum_the_round_is_tried_again_and_then_the_experiment_pauses(scene: Scene) -> None:
    scene.start()
    for attempt in (1, 2):
        task = await scene.task(1, attempt)
        await scene.deliver("a", task)
        scene.fail("b", task)
        scene.fail("c", task)
        await scene.until(lambda wanted=attempt: len(scene.fleet.announced) == wanted)
        scene.pass_time(30)
    assert await scene.ended() is ExperimentState.PAUSED
    assert "train 1 was tried 2 times without its quorum of 2" in scene.store.reason
    assert [record.committed for record in scene.store.records] == [False, False]
    failure = scene.store.records[0].sites["b"].failure
    assert failure is not None and failure.code is ErrorCode.PLAN_ERROR
    scene.start(ExperimentVerb.RESUME)
    await finish(scene, 1, attempt=3)


async def test_failed_attempts_follow_each_other_after_pauses_that_grow(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(validation=[], terms={"retries": 6}))
    scene.start()
    for attempt, pause in enumerate((1, 2, 4, 8, 16, 30), start=1):
        task = await scene.task(1, attempt)
        for site in ALL:
            scene.fail(site, task, retry=site == "c")
        # The word on the round is the last of it: from then on the pause counts, from the clock as it stands.
        await scene.until(lambda wanted=attempt: len(scene.fleet.announced) == wanted)
        scene.pass_time(pause - 0.25)
        # Refused by the loop itself, once it has looked at the clock and rests on.
        await refused(scene, "a", task, ErrorCode.ROUND_CLOSED)
        assert scene.store.progress().opened is None
        scene.pass_time(0.25)
    await scene.task(1, 7)
    await finish(scene, 1, attempt=7)


async def test_a_pause_between_attempts_ends_at_once_when_the_experiment_is_cancelled(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    for site in ALL:
        scene.fail(site, task)
    await scene.until(lambda: scene.store.records)
    scene.store.control(ExperimentVerb.CANCEL)
    scene.nudge()
    assert await scene.ended() is ExperimentState.CANCELLED


async def test_failures_that_would_come_again_pause_the_experiment_at_once_with_the_sites_sentences(
    scene: Scene,
) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    scene.fail("b", task, retry=False)
    scene.fail("c", task, retry=False)
    assert await scene.ended() is ExperimentState.PAUSED
    assert len(scene.store.records) == 1
    assert "without its quorum of 2" in scene.store.reason
    assert 'b: "the plan raised (plan.py:7)"; c: "the plan raised' in scene.store.reason
    scene.start(ExperimentVerb.RESUME)
    await finish(scene, 1, attempt=2)


async def test_a_site_that_only_came_too_late_may_do_better_the_next_time(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    scene.fail("b", task, retry=False)
    scene.accept("c", task)
    await scene.until(lambda: scene.state("c") is ParticipantStatus.WORKING)
    scene.pass_time(100)
    await scene.until(lambda: scene.fleet.announced)
    scene.pass_time(1)
    await scene.task(1, 2)
    await finish(scene, 1, attempt=2)


async def test_too_few_approvals_pause_the_experiment_and_say_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(), invited=("a",))
    scene.start()
    assert await scene.ended() is ExperimentState.PAUSED
    assert "1 sites have approved, the quorum is 2" in scene.store.reason


async def test_a_lost_site_that_returns_within_grace_is_offered_the_same_task(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.until(lambda: len(scene.fleet.offers) == 3)
    scene.accept("c", task)
    scene.lose("c")
    await scene.until(lambda: scene.state("c") is ParticipantStatus.LOST)
    scene.pass_time(9)
    scene.come_back("c")
    await scene.until(lambda: [site for site, _, _ in scene.fleet.offers].count("c") == 2)
    offered = [(offer, left) for site, offer, left in scene.fleet.offers if site == "c"]
    assert offered[0][0] == offered[1][0] and offered[1][1] == pytest.approx(91)
    scene.pass_time(5)
    for site in ALL:
        await scene.deliver(site, task)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ALL
    await finish(scene, 2)


async def test_a_lost_site_is_not_awaited_longer_than_its_grace(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    scene.lose("c")
    await scene.until(lambda: scene.state("c") is ParticipantStatus.LOST)
    scene.pass_time(10)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].sites["c"].state is ParticipantStatus.MISSING
    scene.come_back("c")
    task = await scene.task(2)
    # It may have come back after the round was opened, which then does not wait for it.
    for site in ("c", "a", "b"):
        await scene.deliver(site, task)
    assert await scene.ended() is ExperimentState.FINISHED


async def test_a_site_that_is_away_when_the_round_opens_is_offered_it_when_it_comes(scene: Scene) -> None:
    scene.fleet.up.discard("c")
    scene.start()
    task = await scene.task()
    await scene.until(lambda: [site for site, _, _ in scene.fleet.offers] == ["a", "b"])
    scene.come_back("c")
    await scene.until(lambda: len(scene.fleet.offers) == 3)
    for site in ALL:
        await scene.deliver(site, task)
    await finish(scene, 2)


async def test_a_site_that_delivered_and_then_went_away_counts(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("c", task)
    scene.lose("c")
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ALL
    scene.come_back("c")
    await finish(scene, 2)


async def test_a_cancelled_experiment_stops_in_mid_round(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    scene.store.control(ExperimentVerb.CANCEL)
    scene.nudge()
    assert await scene.ended() is ExperimentState.CANCELLED
    assert sorted(scene.fleet.withdrawn) == [("b", task.key), ("c", task.key)]
    assert scene.store.records == [] and scene.store.progress().opened is None


async def test_a_cancellation_that_a_crash_followed_is_not_forgotten(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.crash()
    scene.store.control(ExperimentVerb.CANCEL)
    scene.start(None)
    assert await scene.ended() is ExperimentState.CANCELLED
    assert {site for site, _ in scene.fleet.withdrawn} == set(ALL) and scene.fleet.offers == []
    assert scene.store.progress().opened is None
    assert task.key.round == 1


async def test_a_cancellation_while_a_round_is_about_to_open_wins(scene: Scene, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    seen = scene.store.progress

    def cancelled_meanwhile():  # type: ignore[no-untyped-def]
        found = seen()
        if found.state is ExperimentState.RUNNING and found.opened is None and found.rounds_done == 2:
            scene.store.control(ExperimentVerb.CANCEL)
        return found

    monkeypatch.setattr(scene.store, "progress", cancelled_meanwhile)
    scene.start()
    for number in (1, 2):
        await scene.until(lambda wanted=number: (now := seen()).opened and now.opened.task.key.round == wanted)
        opened = seen().opened
        assert opened is not None
        for site in ALL:
            await scene.deliver(site, opened.task)
    assert await scene.ended() is ExperimentState.CANCELLED


async def test_a_pause_in_mid_round_lets_the_round_finish(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    scene.store.control(ExperimentVerb.PAUSE)
    scene.nudge()
    for site in ALL:
        await scene.deliver(site, task)
    assert await scene.ended() is ExperimentState.PAUSED
    assert [record.stage.round for record in scene.store.records] == [1]
    scene.start(ExperimentVerb.RESUME)
    await finish(scene, 2)


async def test_a_step_is_one_round(scene: Scene) -> None:
    scene.start(ExperimentVerb.STEP)
    task = await scene.task()
    for site in ALL:
        await scene.deliver(site, task)
    assert await scene.ended() is ExperimentState.PAUSED
    scene.store.arguments["rate"] = 0.25
    scene.start(ExperimentVerb.RESUME)
    assert (await scene.task(2)).passes[0].arguments == {"rate": 0.25}
    await finish(scene, 2)
    assert scene.store.passes() == {1: {"rate": 0.5}, 2: {"rate": 0.25}}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
async def test_a_site_whose_model_is_not_finite_is_expelled_and_the_round_still_closes(
    scene: Scene, bad: float
) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task, 1.0)
    await scene.deliver("b", task, [0.0, bad, 0.0])
    await scene.deliver("c", task, 3.0)
    await scene.until(lambda: scene.store.records)
    record = scene.store.records[0]
    assert record.contributors == ("a", "c") and record.sites["b"].state is ParticipantStatus.FAILED
    failure = record.sites["b"].failure
    assert failure is not None and failure.code is ErrorCode.NOT_FINITE and "weight" in failure.sentence
    assert np.array_equal(scene.weights(), [2.0, 2.0, 2.0])
    await finish(scene, 2)


async def test_the_same_update_twice_counts_once(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    path, digest, size = scene.tensor_file(1.0)
    update = scene.update("a", task, digest, size)
    await scene.send("a", update, path)
    await scene.send("a", update, path)
    await scene.deliver("b", task)
    await scene.deliver("c", task)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].metrics["loss"].weight == 6.0
    await finish(scene, 2)


async def refused(scene: Scene, site: str, task, code: ErrorCode, **changes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArchipelError) as caught:
        await scene.deliver(site, task, **changes)
    assert caught.value.code is code, caught.value


async def test_other_bytes_under_a_used_key_are_refused(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task, 1.0)
    await refused(scene, "a", task, ErrorCode.REPLAYED, value=2.0)
    await refused(scene, "a", task, ErrorCode.REPLAYED, value=1.0, samples=3)
    for site in ("b", "c"):
        await scene.deliver(site, task, 1.0)
    await scene.until(lambda: scene.store.records)
    assert np.array_equal(scene.weights(), [1.0, 1.0, 1.0])
    await finish(scene, 2)


async def test_what_does_not_answer_the_task_is_refused_and_the_site_may_try_again(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    one = MetricSum(total=1.0, weight=1.0)
    await refused(scene, "a", task, ErrorCode.BAD_UPDATE, metrics={"patient_name": one})
    await refused(scene, "a", task, ErrorCode.BAD_UPDATE, validation={"accuracy": one})
    await refused(scene, "a", task, ErrorCode.BAD_UPDATE, samples=0)
    await refused(scene, "a", task, ErrorCode.BAD_UPDATE, task_hash="sha256:" + "0" * 64)
    await refused(scene, "stranger", task, ErrorCode.ROUND_CLOSED)
    with pytest.raises(ArchipelError) as caught:
        await scene.send("a", scene.update("a", task, None, 0), None)
    assert caught.value.code is ErrorCode.BAD_UPDATE
    for site in ALL:
        await scene.deliver(site, task)
    await finish(scene, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 10**400},
        {"samples": 2**60},
        {"metrics": {"loss": MetricSum(total=1.7e308, weight=1)}},
        {"metrics": {"loss": MetricSum(total=0.1, weight=1)}},
        {"metrics": {"loss": MetricSum(total=1.0, weight=2**53 - 1)}},
        {"samples": 5, "metrics": {"loss": MetricSum(total=1.0, weight=6)}},
        {"validation": {"accuracy": MetricSum(total=0.1, weight=1)}},
        {"validation": {"accuracy": MetricSum(total=1.0, weight=2**52)}},
    ],
)
async def test_numbers_that_would_break_the_sum_are_refused(scene: Scene, changes) -> None:  # type: ignore[no-untyped-def]
    scene.start()
    task = await scene.task()
    await refused(scene, "a", task, ErrorCode.BAD_UPDATE, **changes)
    for site in ALL:
        await scene.deliver(site, task)
    await finish(scene, 2)


async def test_an_update_of_a_failed_site_and_of_a_closed_round_is_refused(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    scene.fail("c", task)
    await scene.until(lambda: scene.state("c") is ParticipantStatus.FAILED)
    await refused(scene, "c", task, ErrorCode.ROUND_CLOSED)
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    await scene.task(2)
    await refused(scene, "c", task, ErrorCode.ROUND_CLOSED)
    await refused(scene, "a", task, ErrorCode.ROUND_CLOSED)
    await finish(scene, 2)


async def test_after_a_crash_in_mid_round_finished_work_is_kept(scene: Scene) -> None:
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task, 1.0)
    scene.fail("b", task)
    await scene.until(lambda: scene.state("b") is ParticipantStatus.FAILED)
    await scene.crash()
    scene.start(None)
    await scene.until(lambda: scene.fleet.offers)
    assert [(site, offer) for site, offer, _ in scene.fleet.offers] == [("c", task)]
    await scene.deliver("c", task, 3.0)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ("a", "c")
    assert np.array_equal(scene.weights(), [2.0, 2.0, 2.0])
    await finish(scene, 2)


async def test_after_a_crash_when_all_had_delivered_the_round_closes_by_itself(scene: Scene, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    scene.start()
    task = await scene.task()

    def full_disk(*_: object) -> None:
        raise ArchipelError("disk", "is full", "free space", code=ErrorCode.DISK_FULL)

    with monkeypatch.context() as broken:
        broken.setattr(scene.store, "close", full_disk)
        for site in ALL:
            await scene.deliver(site, task, 1.5)
        with pytest.raises(ArchipelError, match="is full"):
            await scene.ended()
    scene.start(None)
    await scene.until(lambda: scene.store.records)
    assert len(scene.fleet.offers) in (3, 6) and scene.store.records[0].contributors == ALL
    assert np.array_equal(scene.weights(), [1.5, 1.5, 1.5])
    await finish(scene, 2)


async def test_baselines_follow_the_rounds_and_a_site_that_failed_alone_has_no_model(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(terms={"rounds": 1}, baselines=Baselines(local=True, ensemble=True)))
    scene.start()
    task = await scene.task()
    for site in ALL:
        await scene.deliver(site, task)
    task = await scene.task(1, kind=TaskKind.EVALUATE)
    for site in ALL:
        await scene.evaluate(site, task)
    task = await scene.task(1, kind=TaskKind.LOCAL)
    assert task.models == (scene.job.initial_model,) and len(task.passes) == 1
    assert scene.fleet.offers[-1][2] == pytest.approx(100)
    await scene.deliver("a", task, 1.0)
    await scene.deliver("b", task, 2.0)
    scene.fail("c", task)
    for about, models in (("a", 1), ("b", 1), ("ensemble", 2)):
        task = await scene.task(1, kind=TaskKind.EVALUATE, about=about)
        assert len(task.models) == models
        for site in ALL:
            await scene.evaluate(site, task)
    assert await scene.ended() is ExperimentState.FINISHED
    done = [record.stage for record in scene.store.records]
    assert Stage(kind=TaskKind.EVALUATE, round=1, about="c") not in done and len(done) == 6


class Chatter:
    """An event queue in which one site's words never end."""

    def __init__(self, word: FleetEvent) -> None:
        self.word, self.said = word, 0

    async def get(self) -> FleetEvent:
        self.said += 1
        assert self.said < 1000, "the deadline never came"
        return self.word


async def test_a_site_that_speaks_without_end_does_not_keep_the_deadline_away(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(validation=[], terms={"rounds": 1}))
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    heard, scene.fleet.events = scene.fleet.events, Chatter(Accepted("c", task.key))  # type: ignore[assignment]
    scene.clock.now += 100
    heard.put_nowait(Accepted("c", task.key))
    assert await scene.ended() is ExperimentState.FINISHED
    assert scene.store.records[0].sites["c"].state is ParticipantStatus.LATE


async def test_a_fold_that_finds_the_disk_full_leaves_nothing_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def fold(schema: object, tensor_files: object, weights: object, out: Path, *rest: object, **more: object) -> str:
        out.write_bytes(b"half a model")
        written.append(out)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("archipel.rounds.aggregation.fold", fold)
    scene.start()
    task = await scene.task()
    for site in ALL:
        await scene.deliver(site, task)
    with pytest.raises(StorageFull):
        await scene.ended()
    assert written and not any(path.exists() for path in written)
    monkeypatch.undo()
    scene.start(None)
    await scene.until(lambda: scene.store.records)
    await finish(scene, 2)


async def test_a_round_that_counts_is_announced_to_a_site_that_approved_while_it_was_open(tmp_path: Path) -> None:
    scene = Scene(tmp_path, job(), invited=("a", "b"))
    scene.start()
    task = await scene.task()
    scene.store.invited = ALL
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    await scene.until(lambda: scene.fleet.announced)
    sites, closed = scene.fleet.announced[0]
    assert sites == ALL and closed.committed and closed.contributors == ("a", "b")
    assert scene.running is not None
    scene.running.cancel()
