"""Golden values: an experiment in exact arithmetic gives these very bytes, simulated and by real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from exact_run import PLAN, SEED, exact_job, simulated, write_data

from archipel.governance import IdentityKey
from archipel.tensors import blob_hash
from archipel.vocabulary import Baselines
from worlds.federation import World

INITIAL = "blake3:ecdc76bdb13853af759b4a9f7624ee2a58d46dda577e223e87b10bf795a31011"
LAST = "blake3:00f6eee53ed7c2417415ab13cd18c7bb387940500ede289d68a2fc16c1ca2fe1"
LOCAL = {
    "site-a": "blake3:1b0f0a8e1130c3bc71e95ab2358ac46c6317fe6a130791850020d3f192b2cb9b",
    "site-b": "blake3:bd786aa94910946c56c0a3728edf8cea8e13d21ec966573c8ce8e5cb8201348b",
}


async def test_the_simulation_gives_the_golden_models(tmp_path: Path) -> None:
    made = exact_job(IdentityKey.generate().public)
    store = await simulated(tmp_path, made)
    assert (blob_hash(made.initial_model), store.model, store.local_models) == (INITIAL, LAST, LOCAL)
    [ensemble] = [record.validation["reached"] for record in store.records if record.stage.about == "ensemble"]
    assert (ensemble.total, ensemble.weight) == (6, 10)


@pytest.mark.processes
def test_a_federation_of_processes_gives_the_golden_models(tmp_path: Path) -> None:
    with World.running(tmp_path, write_data=write_data) as world:
        baselines = Baselines(local=True, ensemble=True)
        world.submit("exact", PLAN, None, baselines=baselines, seed=SEED)
        world.do("exact", "start")
        world.wait_state("exact")
        assert world.model("exact") == LAST
        assert {site: world.model("exact", f"local:{site}") for site in LOCAL} == LOCAL
