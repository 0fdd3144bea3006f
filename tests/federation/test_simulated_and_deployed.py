"""The simulated fleet and real processes give the same models, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archipel.plans import read_starting_model
from archipel.site.approval import offers
from archipel.site.services import explanations
from archipel.vocabulary import Baselines, Job, MetricSum, ParentModel, metric_details
from worlds.federation import SITES, TINY, World

pytestmark = pytest.mark.processes


def test_the_simulation_equals_the_deployed_federation_bit_for_bit(world: World, tmp_path: Path) -> None:
    baselines = Baselines(local=True, ensemble=True)
    job = world.submit("twin", TINY, None, baselines=baselines, arguments={"steps": 7}, terms={"rounds": 4})
    world.do("twin", "start")
    shown = world.wait_state("twin")
    found = simulated(world, job, tmp_path)
    assert found["last"] == world.model("twin")
    assert found["local"] == {site: world.model("twin", f"local:{site}") for site in SITES}
    assert found["ensemble"] == shown["baselines"]["ensemble"]["validation"]["accuracy"]


def test_an_experiment_that_continues_another_one_has_the_same_bits_and_its_sites_can_prove_its_model(
    world: World, tmp_path: Path
) -> None:
    """Round 2's model is continued for two rounds, with another seed."""
    world.run("base", TINY, None, terms={"rounds": 2})
    (tmp_path / "base.safetensors").write_bytes(downloaded(world, "base"))
    parent = world.show("base")
    lineage = ParentModel(experiment="base", job_hash=parent["job_hash"], model="last", round=2)
    start = replace(read_starting_model(tmp_path / "base.safetensors"), lineage=lineage)
    job = world.submit("next", TINY, None, start_from=start, terms={"rounds": 2}, seed=5, approve=False)
    for site in SITES:
        world.lab.sites[site].approve("next")
        folder = world.lab.sites[site].state()
        said = dict(explanations.explain(folder, offers.offered(folder.database, "next")))
        folder.close()
        assert "This site can prove that it is this model" in said["Which model does it start from?"]
        lines = said["What differs from what was approved before?"].split("\n")[1:]
        assert lines[0] == "- seed: 0 -> 5" and lines[1].startswith("- nothing else differs but")
    world.wait_approved("next", len(SITES))
    world.do("next", "start")
    world.wait_state("next")
    assert job.initial_model == world.model("base") != world.model("next")
    assert simulated(world, job, tmp_path, tmp_path / "base.safetensors")["last"] == world.model("next")


def downloaded(world: World, name: str) -> bytes:
    with world.lab.client() as client:
        return client.get(f"/v1/experiments/{name}/models/last").raise_for_status().content


def simulated(world: World, job: Job, folder: Path, *initial: Path) -> dict[str, Any]:
    """The models of a simulation of the job in a process of its own."""
    (folder / "job.json").write_text(job.model_dump_json())
    (folder / "frames").mkdir()
    # A worker inherits no variable; one that chooses another BLAS kernel here would change the last bits.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    script = Path(__file__).parent / "simulate_here.py"
    places = [folder / "job.json", TINY, world.folder / "data", folder / "frames", *initial]
    done = subprocess.run([sys.executable, script, *places], env=inherited, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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
