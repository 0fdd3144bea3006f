"""One task at a time on each share of a GPU; a frozen worker is ended when another experiment waits for its memory."""

from __future__ import annotations

import asyncio

import pytest

from archipel.site.gpus import NvmlFault
from archipel.site.gpus.devices import find
from archipel.site.gpus.shares import Shares
from worlds.gpus import MIB, MadeUpNvml


class Experiment:
    """Notes when its worker is ended; the end may take until ``ended`` is set."""

    def __init__(self) -> None:
        self.told, self.ended = 0, asyncio.Event()
        self.ended.set()

    async def _end(self) -> None:
        await self.ended.wait()

    def let_go(self) -> object:
        self.told += 1
        return self._end()


def shares(*names: str, experiments: int = 1) -> Shares:
    return Shares([find(name, MadeUpNvml()) for name in names], experiments)


async def moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_second_experiment_waits_until_the_task_of_the_first_is_done() -> None:
    pool, first, second = shares("0"), Experiment(), Experiment()
    await pool.claim(first, MIB)
    claim = asyncio.create_task(pool.claim(second, MIB))
    await moment()
    assert not claim.done() and not first.told
    pool.rest(first)
    assert (await claim).name == "0"
    assert first.told == 1 and not pool.resume(first)


async def test_a_frozen_worker_keeps_its_share_while_nobody_waits() -> None:
    pool, first = shares("0"), Experiment()
    await pool.claim(first, MIB)
    pool.rest(first)
    assert pool.resume(first) and not first.told


async def test_the_gpu_is_given_only_when_the_worker_before_has_ended() -> None:
    pool, first, second = shares("0"), Experiment(), Experiment()
    await pool.claim(first, MIB)
    pool.rest(first)
    first.ended.clear()
    claim = asyncio.create_task(pool.claim(second, MIB))
    await moment()
    assert first.told == 1 and not claim.done()
    first.ended.set()
    await claim


async def test_an_end_that_failed_is_told_once_and_the_share_can_be_had_again() -> None:
    class Stuck(Experiment):
        async def _end(self) -> None:
            raise OSError("not killed")

    pool, first, second = shares("0"), Stuck(), Experiment()
    await pool.claim(first, MIB)
    pool.rest(first)
    with pytest.raises(OSError, match="not killed"):
        await pool.claim(second, MIB)
    assert (await pool.claim(second, MIB)).name == "0"


async def test_a_free_gpu_comes_before_one_with_a_frozen_worker_and_then_the_one_frozen_first() -> None:
    pool = shares("0", "1")
    first, second, third = Experiment(), Experiment(), Experiment()
    await pool.claim(first, MIB)
    pool.rest(first)
    assert (await pool.claim(second, MIB)).name == "1"
    pool.rest(second)
    assert (await pool.claim(third, MIB)).name == "0"
    assert (first.told, second.told) == (1, 0)


async def test_whoever_waited_longest_comes_first_and_a_holder_that_asks_again_comes_last() -> None:
    pool, order = shares("0"), []
    first, second, third = Experiment(), Experiment(), Experiment()
    await pool.claim(first, MIB)

    async def work(name: str, holder: Experiment) -> None:
        await pool.claim(holder, MIB)
        order.append(name)
        await moment()
        pool.rest(holder)

    waiting = [asyncio.create_task(work("second", second)), asyncio.create_task(work("third", third))]
    await moment()
    pool.rest(first)
    waiting.append(asyncio.create_task(work("first", first)))
    await asyncio.gather(*waiting)
    assert order == ["second", "third", "first"]


async def test_as_many_experiments_share_a_gpu_as_the_owner_said_each_with_a_part_of_its_memory() -> None:
    pool, holders = shares("0", experiments=2), [Experiment(), Experiment(), Experiment()]
    await pool.claim(holders[0], 8192 * MIB)
    await pool.claim(holders[1], 8192 * MIB)
    third = asyncio.create_task(pool.claim(holders[2], MIB))
    await moment()
    assert not third.done()
    pool.release(holders[1])
    await third
    assert not holders[0].told and not holders[1].told
    with pytest.raises(NvmlFault, match="have 8192 MiB for one experiment, and the job asks for 8193"):
        await pool.claim(Experiment(), 8193 * MIB)


async def test_whoever_gives_up_waiting_holds_nothing() -> None:
    pool, first, second, third = shares("0"), Experiment(), Experiment(), Experiment()
    await pool.claim(first, MIB)
    claim = asyncio.create_task(pool.claim(second, MIB))
    await moment()
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    pool.rest(first)
    assert pool.resume(first)
    late = asyncio.create_task(pool.claim(third, MIB))
    await moment()
    # Given and cancelled at the same moment.
    pool.rest(first)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert (await pool.claim(second, MIB)).name == "0"
