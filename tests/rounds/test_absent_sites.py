"""A site that is not connected costs its grace once, and a quorum that is not there costs no attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_fleet import Scene, job
from structlog.testing import capture_logs

from archipel.rounds import ExperimentState, ExperimentVerb, ParticipantStatus, UpdateVerdict, verdict
from archipel.vocabulary import ArchipelError, ErrorCode, Task

ALL = ("a", "b", "c")


def scene_of(folder: Path, **terms: object) -> Scene:
    return Scene(folder, job(validation=[], terms={"rounds": 3, **terms}))


async def delivered_by(scene: Scene, round_: int, *sites: str) -> None:
    task = await scene.task(round_)
    for site in sites:
        await scene.deliver(site, task)
    await scene.until(lambda: len(scene.store.records) == round_)


async def without_c(scene: Scene, round_: int = 1) -> None:
    """A round in which c is lost and its grace ends; it is away from then on."""
    task = await scene.task(round_)
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    scene.lose("c")
    await scene.until(lambda: scene.state("c") is ParticipantStatus.LOST)
    scene.pass_time(10)
    await scene.until(lambda: len(scene.store.records) == round_)


async def c_returns(scene: Scene, round_: int) -> Task:
    """c comes back while a round is open that does not wait for it.

    A site that is there when a round opens is awaited, and a task is known a moment before its round looks who is.
    """
    task = await scene.task(round_)
    await scene.until(lambda: scene.state("c") is ParticipantStatus.AWAY)
    scene.come_back("c")
    return task


async def test_thirty_rounds_without_a_site_cost_one_grace(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, rounds=30)
    scene.start()
    await delivered_by(scene, 1, *ALL)
    await without_c(scene, 2)
    for number in range(3, 31):
        await delivered_by(scene, number, "a", "b")
    assert await scene.ended() is ExperimentState.FINISHED
    assert scene.clock.now == sum(record.seconds for record in scene.store.records) == scene.job.terms.grace_s
    assert {record.sites["c"].state for record in scene.store.records[1:]} == {ParticipantStatus.MISSING}
    assert [record.attempt for record in scene.store.records] == [1] * 30


async def test_a_site_that_returns_is_offered_the_open_round_which_does_not_wait_for_it(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await without_c(scene)
    task = await c_returns(scene, 2)
    await scene.until(lambda: ("c", task) in [(site, offer) for site, offer, _ in scene.fleet.offers])
    scene.accept("c", task)
    await delivered_by(scene, 2, "a", "b")
    assert scene.store.records[1].sites["c"].state is ParticipantStatus.LATE
    await scene.until(lambda: ("c", task.key) in scene.fleet.withdrawn)
    # From the next round on it is awaited like any other.
    task = await scene.task(3)
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    scene.pass_time(50)
    await scene.deliver("c", task)
    assert await scene.ended() is ExperimentState.FINISHED
    assert scene.store.records[2].contributors == ALL


async def test_a_site_that_returns_and_delivers_before_the_others_counts(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await without_c(scene)
    await c_returns(scene, 2)
    await delivered_by(scene, 2, "a", "c", "b")
    assert scene.store.records[1].contributors == ALL


async def test_each_absence_has_a_grace_of_its_own(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await without_c(scene, 1)
    await c_returns(scene, 2)
    await delivered_by(scene, 2, "a", "b")
    await without_c(scene, 3)
    assert await scene.ended() is ExperimentState.FINISHED
    assert [record.seconds for record in scene.store.records] == [10, 0, 10]


async def test_a_grace_counts_from_the_loss_and_not_from_the_rounds_begin(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    task = await scene.task()
    await scene.deliver("c", task)
    scene.lose("c")
    scene.pass_time(4)
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    task = await scene.task(2)
    await scene.deliver("a", task)
    await scene.deliver("b", task)
    await scene.until(lambda: scene.store.awaited)
    assert scene.store.awaited == {"c": 6}
    scene.pass_time(6)
    await scene.until(lambda: len(scene.store.records) == 2)
    assert scene.store.records[1].seconds == 6


async def test_a_restart_of_the_server_gives_everybody_a_fresh_grace(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.start()
    await without_c(scene)
    task = await scene.task(2)
    await scene.deliver("a", task)
    await scene.crash()
    scene.start(None)
    await scene.until(lambda: scene.state("c") is ParticipantStatus.LOST)
    await scene.deliver("b", task)
    await scene.until(lambda: scene.store.awaited == {"c": 10})
    assert len(scene.store.records) == 1
    scene.come_back("c")
    await scene.deliver("c", task)
    await scene.until(lambda: len(scene.store.records) == 2)
    assert scene.store.records[1].contributors == ALL


async def test_without_its_quorum_no_attempt_is_opened_and_it_is_said_for_whom_it_waits(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, retries=0)
    scene.fleet.up = {"a"}
    with capture_logs() as told:
        scene.start()
        await scene.until(lambda: scene.store.awaited)
    assert scene.store.awaited == {"b": 100, "c": 100}
    assert [(line["event"], line["awaited_s"]) for line in told] == [("sites are not connected", {"b": 100, "c": 100})]
    scene.pass_time(99)
    scene.come_back("c")
    task = await scene.task()
    await scene.until(lambda: len(scene.fleet.offers) >= 2)
    assert scene.fleet.offers[:2] == [("a", task, 100), ("c", task, 100)]
    # The clock began for b before the round: its grace is over, so that the round does not wait for it.
    await delivered_by(scene, 1, "a", "c")
    assert scene.store.awaited == {} and scene.store.away == ("b",)
    await delivered_by(scene, 2, "a", "c")


async def test_an_experiment_whose_quorum_does_not_come_pauses_after_a_deadline_without_an_attempt(
    tmp_path: Path,
) -> None:
    scene = scene_of(tmp_path, retries=0)
    scene.fleet.up = {"a"}
    scene.start()
    await scene.until(lambda: scene.store.awaited)
    scene.pass_time(100)
    assert await scene.ended() is ExperimentState.PAUSED
    assert scene.store.reason == (
        "train 1 needs 2 sites and 1 of 3 is connected; b, c did not connect within 100 s; resume when enough are "
        "connected"
    )
    assert scene.store.records == [] and scene.fleet.offers == []
    assert scene.store.awaited == {} and scene.store.away == ("b", "c"), "nothing waits any more"
    scene.come_back("b")
    scene.start(ExperimentVerb.RESUME)
    assert (await scene.task()).key.attempt == 1


async def test_a_delivery_while_no_attempt_is_open_is_answered(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, rounds=2)
    scene.start()
    task = await scene.task()
    scene.lose("b")
    scene.lose("c")
    for site in ALL:
        await scene.deliver(site, task)
    await scene.until(lambda: scene.store.awaited)
    with pytest.raises(ArchipelError) as caught:
        await scene.deliver("a", task)
    assert caught.value.code is ErrorCode.ROUND_CLOSED


async def test_a_person_can_pause_and_cancel_an_experiment_that_waits_for_its_quorum(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    scene.fleet.up = set()
    for verb, state in (
        (ExperimentVerb.PAUSE, ExperimentState.PAUSED),
        (ExperimentVerb.CANCEL, ExperimentState.CANCELLED),
    ):
        scene.start(ExperimentVerb.START)
        await scene.until(lambda: scene.store.awaited)
        scene.store.control(verb)
        scene.nudge()
        assert await scene.ended() is state
    assert scene.fleet.offers == []


async def test_an_open_round_waits_until_its_deadline_for_an_absent_site_that_the_quorum_needs(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, quorum=3)
    scene.start()
    task = await scene.task()
    await scene.deliver("a", task, 1.0)
    await scene.deliver("b", task, 1.0)
    scene.lose("c")
    await scene.until(lambda: scene.store.awaited == {"c": 10})
    scene.pass_time(10)
    await scene.until(lambda: scene.store.awaited == {"c": 90})
    assert scene.store.records == [] and scene.state("a") is ParticipantStatus.DELIVERED
    scene.come_back("c")
    await scene.deliver("c", task, 4.0)
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ALL and scene.store.records[0].attempt == 1
    assert scene.weights().tolist() == [2.0] * 3


@pytest.mark.parametrize("unawaited", [ParticipantStatus.AWAY, ParticipantStatus.RETURNED])
def test_a_site_that_is_not_awaited_holds_a_round_open_only_where_the_quorum_needs_it(
    unawaited: ParticipantStatus,
) -> None:
    done = ParticipantStatus.DELIVERED
    assert verdict([done, done, unawaited], 2) is UpdateVerdict.QUORUM
    assert verdict([done, done, unawaited], 3) is UpdateVerdict.OPEN
    assert verdict([done, ParticipantStatus.FAILED, unawaited], 3) is UpdateVerdict.NO_QUORUM
