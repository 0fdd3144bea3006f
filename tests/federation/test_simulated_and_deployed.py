"""The simulated fleet and real processes give the same models, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archipel.vocabulary import Baselines, MetricSum, metric_details
from worlds.federation import SITES, TINY, World

pytestmark = pytest.mark.processes


def test_the_simulation_equals_the_deployed_federation_bit_for_bit(world: World, tmp_path: Path) -> None:
    baselines = Baselines(local=True, ensemble=True)
    job = world.submit("twin", TINY, None, baselines=baselines, arguments={"steps": 7}, terms={"rounds": 4})
    world.do("twin", "start")
    shown = world.wait_state("twin")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "frames").mkdir()
    # A worker inherits no variable; one that chooses another BLAS kernel here would change the last bits.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    script = Path(__file__).parent / "simulate_here.py"
    places = [tmp_path / "job.json", TINY, world.folder / "data", tmp_path / "frames"]
    done = subprocess.run([sys.executable, script, *places], env=inherited, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["last"] == world.model("twin")
    assert found["local"] == {site: world.model("twin", f"local:{site}") for site in SITES}
    assert found["ensemble"] == shown["baselines"]["ensemble"]["validation"]["accuracy"]


def test_how_much_a_metric_differs_and_a_pooled_auc_are_the_same_simulated_and_deployed(
    world: World, tmp_path: Path
) -> None:
    plan = Path(__file__).with_name("measured_plan.py")
    job = world.submit("measured", plan, None, terms={"rounds": 1}, validation_fraction=0.5)
    world.do("measured", "start")
    deployed = world.wait_state("measured")["baselines"]["federated"]
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "frames").mkdir()
    script = Path(__file__).parent / "simulate_here.py"
    places = [tmp_path / "job.json", plan, world.folder / "data", tmp_path / "frames"]
    done = subprocess.run([sys.executable, script, *places], capture_output=True, text=True, check=True)
    sums = {name: MetricSum.model_validate(one) for name, one in json.loads(done.stdout)["validation"].items()}
    simulated = {name: one.model_dump(mode="json") for name, one in metric_details(sums).items()}
    assert simulated == deployed["details"]
    assert simulated["brier"]["spread"]["sites"] == simulated["auc"]["pooled_auc"]["sites"] == 2
