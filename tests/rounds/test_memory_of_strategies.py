"""A strategy with memory over the scripted fleet, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from other_strategies import registered
from scripted_fleet import MODEL, Scene, job

from archipel.tensors import decode, encode
from archipel.vocabulary import StrategyTerms

TERMS = StrategyTerms(name="fedavgm", parameters={"beta": 0.5})


async def test_the_loop_gives_the_numbers_of_momentum_and_a_failed_round_keeps_the_memory(tmp_path: Path) -> None:
    with registered():
        scene = Scene(tmp_path, job(strategy=TERMS, terms={"rounds": 3, "quorum": 3}))
        scene.store.add_model(encode(MODEL), scene.job.initial_model)
        scene.start()
        weight, momentum = np.zeros(3), np.zeros(3)
        for number, value in enumerate((1.0, 3.0, -2.0), start=1):
            attempt = 1
            if number == 2:
                task = await scene.task(2)
                for site in scene.job.sites:
                    scene.fail(site, task)
                # The record is there a moment before the loop begins its pause; what it announces comes after.
                await scene.until(lambda: len(scene.fleet.announced) == 2)
                scene.pass_time(5)
                attempt = 2
            task = await scene.task(number, attempt)
            for site, more in zip(scene.job.sites, (0.0, 1.0, 2.0), strict=True):
                await scene.deliver(site, task, value + more)
            momentum = 0.5 * momentum + (weight - (value + 1.0))
            weight = weight - momentum
        await scene.until(lambda: len([one for one in scene.store.records if one.committed]) == 3)
    found = decode(scene.store.models[scene.store.model].read_bytes())["weight"]
    np.testing.assert_allclose(found, weight)
