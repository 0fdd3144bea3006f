"""Whatever order crashes, losses, late and duplicate messages come in: each round closes once, with what was sent."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_fleet import Scene, job

from archipel.rounds import ExperimentState, ExperimentVerb, ParticipantStatus
from archipel.rounds.tables import ENDED
from archipel.vocabulary import ArchipelError, ErrorCode, Update
from worlds.examples import examples

SITES = ("a", "b", "c")
VALUE = {"a": 0.1, "b": 0.7, "c": -3.3}
HAPPENINGS = ("deliver", "again", "other", "fail", "lose", "return", "accept", "crash", "grace", "deadline", "nudge")

happenings = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(SITES)), max_size=25)


async def opened_or_done(scene: Scene) -> None:
    """Until there is a task or nothing more to do; time passes while the loop waits before another attempt."""

    def reached() -> object:
        found = scene.store.progress().opened or (scene.running and scene.running.done())
        if not found:
            scene.pass_time(1)
        return found

    await scene.until(reached)


async def play(folder: Path, events: list[tuple[str, str]]) -> Scene:
    scene = Scene(folder, job(validation=[], terms={"rounds": 2, "retries": 100}))
    scene.start()
    sent: dict[str, tuple[Update, Path]] = {}
    for what, site in events:
        if scene.running is not None and scene.running.done():
            break
        await opened_or_done(scene)
        opened = scene.store.progress().opened
        if opened is None:
            if scene.running is not None and scene.running.done():
                break
            continue
        task = opened.task
        try:
            match what:
                case "deliver":
                    path, digest, size = scene.tensor_file(VALUE[site] * task.key.round)
                    update = scene.update(site, task, digest, size)
                    sent[site] = (update, path)
                    await scene.send(site, update, path)
                case "again" if site in sent and sent[site][1].exists():
                    await scene.send(site, *sent[site])
                case "other":
                    await scene.deliver(site, task, 99.0, samples=0)
                case "fail":
                    scene.fail(site, task)
                case "lose":
                    scene.lose(site)
                case "return":
                    scene.come_back(site)
                case "accept":
                    scene.accept(site, task)
                case "crash":
                    await scene.crash()
                    scene.start(None)
                case "grace":
                    scene.pass_time(11)
                case "deadline":
                    scene.pass_time(101)
                case "nudge":
                    scene.nudge()
        except ArchipelError as error:
            assert error.code in (ErrorCode.ROUND_CLOSED, ErrorCode.REPLAYED, ErrorCode.BAD_UPDATE)
    for site in SITES:
        scene.come_back(site)
    if scene.running is not None and scene.running.done() and await scene.ended() is ExperimentState.PAUSED:
        # Fewer than the quorum were there for as long as a round may last.
        scene.start(ExperimentVerb.RESUME)
    for _ in range(200):
        await opened_or_done(scene)
        opened = scene.store.progress().opened
        if opened is None:
            if scene.running is not None and scene.running.done():
                break
            continue
        for site in SITES:
            try:
                await scene.deliver(site, opened.task, VALUE[site] * opened.task.key.round)
            except ArchipelError:
                continue
        await scene.until(
            lambda key=opened.task.key: (now := scene.store.progress().opened) is None or now.task.key != key
        )
    assert await scene.ended() is ExperimentState.FINISHED
    committed = [record for record in scene.store.records if record.committed]
    assert [record.stage.round for record in committed] == [1, 2]
    keys = [(record.stage, record.attempt) for record in scene.store.records]
    assert len(set(keys)) == len(keys)
    for record in scene.store.records:
        delivered = {site for site, one in record.sites.items() if one.state is ParticipantStatus.DELIVERED}
        assert set(record.contributors) == delivered
        assert record.committed == (len(delivered) >= 2)
        assert all(one.state in ENDED for one in record.sites.values())
    last = committed[-1]
    total = np.zeros(3)
    for site in last.contributors:
        total = total + 2.0 * (np.zeros(3) + VALUE[site] * 2)
    assert np.array_equal(scene.weights(), total / (2.0 * len(last.contributors)))
    return scene


@examples(60)
@given(happenings)
def test_every_experiment_finishes_with_exactly_what_was_delivered(events: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder), events))


LATE = [("deliver", "a"), ("deliver", "b"), ("accept", "c"), ("deadline", "c"), ("deliver", "c")]


@pytest.mark.parametrize("before", [[], [("lose", "b"), ("return", "b")], [("crash", "a")]])
def test_a_site_that_is_late_is_so_in_the_record_and_the_round_counts_without_it(before: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = asyncio.run(play(Path(folder), [*before, *LATE]))
    (late,) = [
        one for one in scene.store.records if ParticipantStatus.LATE in [site.state for site in one.sites.values()]
    ][-1:]
    assert late.committed and late.sites["c"].state is ParticipantStatus.LATE and late.contributors == ("a", "b")


def test_a_verb_is_never_lost_between_two_loops() -> None:
    async def scenario(folder: Path) -> None:
        scene = Scene(folder, job(validation=[]))
        scene.start()
        task = await scene.task()
        scene.store.control(ExperimentVerb.PAUSE)
        await scene.crash()
        scene.start(None)
        for site in SITES:
            await scene.deliver(site, task)
        assert await scene.ended() is ExperimentState.PAUSED

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))
