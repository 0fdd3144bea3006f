"""Updates that arrive together: each is judged by itself, and those that count are kept in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted_fleet import Scene, job

from archipel.rounds import Delivery, MemoryExperimentStore
from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull, TaskKey


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, job(validation=[]))


class Counting(MemoryExperimentStore):
    """Counts its transactions; with ``full`` it has no room for the next one."""

    kept: list[tuple[list[str], list[str]]]
    full = False

    def heard(self, key: TaskKey, working: Sequence[str], delivered: Sequence[Delivery]) -> None:
        if self.full:
            self.full = False
            raise StorageFull("store", "the disk is full", "free space")
        super().heard(key, working, delivered)
        self.kept.append((list(working), [one.site for one in delivered]))


@pytest.fixture
def counting(scene: Scene) -> Counting:
    store = scene.store = Counting(scene.job, scene.folder)
    store.kept = []
    return store


async def test_updates_that_arrive_together_are_kept_in_one_transaction(scene: Scene, counting: Counting) -> None:
    scene.start()
    task = await scene.task()
    for site in "abc":
        scene.accept(site, task)
    told = await asyncio.gather(
        scene.deliver("a", task),
        scene.deliver("b", task, samples=0),
        scene.deliver("b", task),
        scene.deliver("c", task),
        return_exceptions=True,
    )
    assert isinstance(told[1], ArchipelError), "a bad one keeps no other from counting"
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ("a", "b", "c")
    assert counting.kept[0] == (["a", "b", "c"], ["a", "b", "c"])


async def test_of_two_updates_of_a_site_at_once_the_first_counts(scene: Scene, counting: Counting) -> None:
    scene.start()
    task = await scene.task()
    first, same = scene.tensor_file(1.0), scene.tensor_file(1.0)
    told = await asyncio.gather(
        scene.send("a", scene.update("a", task, *first[1:]), first[0]),
        scene.send("a", scene.update("a", task, *same[1:]), same[0]),
        scene.deliver("a", task, 2.0),
        return_exceptions=True,
    )
    assert told[:2] == [None, None]
    assert isinstance(told[2], ArchipelError) and told[2].code is ErrorCode.REPLAYED
    assert counting.kept == [([], ["a"])]


async def test_updates_that_could_not_be_kept_together_count_when_they_are_sent_again(
    scene: Scene, counting: Counting
) -> None:
    scene.start()
    task = await scene.task()
    counting.full = True
    told = await asyncio.gather(scene.deliver("a", task), scene.deliver("b", task), return_exceptions=True)
    assert [type(one) for one in told] == [StorageFull, StorageFull]
    await asyncio.gather(scene.deliver("a", task), scene.deliver("b", task), scene.deliver("c", task))
    await scene.until(lambda: scene.store.records)
    assert scene.store.records[0].contributors == ("a", "b", "c")


async def test_that_a_site_works_is_shown_though_nothing_else_arrives(scene: Scene, counting: Counting) -> None:
    scene.start()
    task = await scene.task()
    scene.accept("a", task)
    scene.accept("b", task)
    await scene.until(lambda: counting.kept)
    assert counting.kept == [(["a", "b"], [])]
