"""The simulated fleet and real processes give the same models, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import SITES, TINY, World

from archipel.plans import load
from archipel.simulation import scanned_site, simulate
from archipel.tensors import encode
from archipel.vocabulary import Baselines

pytestmark = pytest.mark.processes


async def test_the_simulation_equals_the_deployed_federation_bit_for_bit(world: World, tmp_path: Path) -> None:
    baselines = Baselines(local=True, ensemble=True)
    job = world.submit("twin", TINY, None, baselines=baselines, arguments={"steps": 7}, terms={"rounds": 4})
    world.do("twin", "start")
    shown = world.wait_state("twin")
    who = [scanned_site(site, world.folder / "data" / site, job.needs) for site in SITES]
    initial = encode(load(TINY, job.plan.class_name).initial_model(job.seed))
    book = await simulate(job, TINY, initial, who, tmp_path)
    assert book.model == world.model("twin")
    for site in SITES:
        assert book.local_models[site] == world.model("twin", f"local:{site}")
    deployed = shown["baselines"]["ensemble"]["validation"]["accuracy"]
    validations = [record.validation for record in book.records if record.stage.about == "ensemble"]
    assert validations[0]["accuracy"].mean() == deployed
