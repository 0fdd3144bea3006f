"""A plan of two files from end to end: simulated, deployed, failing in its second file, and attacked through it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from archipel.plans import PackagedPlan, load_packaged, package
from archipel.plans.loading import PlanLine, plan_line_of
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import scanned_site, simulate
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import Job
from worlds.federation import World

pytestmark = pytest.mark.processes
PLAN = Path(__file__).parent / "two_files"
LOSSES = (PLAN / "losses.py").read_text()
FAILING = LOSSES.splitlines().index("    error = (x * weight).sum(axis=1) - y") + 1


def simulated(job: Job, plan: PackagedPlan, world: World, folder: Path, workers: int) -> MemoryExperimentStore:
    folder.mkdir()
    sites = [scanned_site(site, world.folder / "data" / site, job.needs) for site in job.sites]
    model = encode(load_packaged(plan).initial_model(job.seed))
    return asyncio.run(simulate(job, plan, model, sites, folder, workers=workers))


def test_it_trains_to_the_same_bits_in_a_simulation_with_workers_and_in_a_federation(
    world: World, tmp_path: Path
) -> None:
    job = world.submit("two-files", PLAN, None, terms={"rounds": 2})
    assert set(job.plan.files) == {"plan.py", "losses.py"} and job.plan.entry == "plan.py"
    world.do("two-files", "start")
    world.wait_state("two-files")
    deployed = world.model("two-files")
    books = [simulated(job, package(PLAN), world, tmp_path / f"with-{count}", count) for count in (1, 2)]
    assert [book.model for book in books] == [deployed, deployed]
    assert deployed != job.initial_model


def test_an_error_in_the_second_file_names_it_and_its_line_and_no_file_shadows_a_module(
    world: World, tmp_path: Path
) -> None:
    folder = shutil.copytree(PLAN, tmp_path / "plan", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("json", "torch", "numpy", "archipel"):
        (folder / f"{name}.py").write_text("raise RuntimeError('this file shadows a module')\n")
    job = world.submit("two-broken", folder, None, arguments={"broken": 1}, terms={"rounds": 1, "retries": 0})
    world.do("two-broken", "start")
    shown = world.wait_state("two-broken", "paused")
    failures = [body["failure"] for kind, body in world.server_lines("two-broken") if kind == "site-failed"]
    found = [(one["code"], one["exception"], one["file"], one["line"]) for one in failures]
    assert found == [("plan-error", "TypeError", "losses.py", FAILING)] * 2
    assert f"(losses.py:{FAILING})" in shown["reason"]
    for workers in (1, 2):
        with pytest.raises(TypeError) as error:
            simulated(job, package(folder), world, tmp_path / f"with-{workers}", workers)
        place = plan_line_of(error.value, package(folder).files)
        told = "".join(map(str, (place, error.value.__cause__)))
        assert place == PlanLine("losses.py", FAILING) or f'losses.py", line {FAILING}' in told


def offered_as(document: dict[str, Any], **plan: Any) -> dict[str, Any]:
    return {**document, "plan": {**document["plan"], **plan}}


def test_a_server_takes_no_plan_whose_other_file_hides_code_or_leaves_the_folder(world: World) -> None:
    document = world.submit("two-offered", PLAN, None, approve=False).model_dump(mode="json")
    document["experiment"] = "two-hidden"
    hidden = b"# coding: utf-7\n# +AAo-open('ran', 'w').close()\n" + LOSSES.encode()
    files = document["plan"]["files"]
    with world.lab.client() as client:
        client.put(f"/v1/blobs/{blob_hash(hidden)}", content=hidden).raise_for_status()
        attacks = {
            "has a coding line that names utf-7": {**files, "losses.py": blob_hash(hidden)},
            "plan.files": {**files, "../losses.py": files["losses.py"]},
            "has the name of another file": {**files, "Losses.py": files["losses.py"]},
        }
        for words, changed in attacks.items():
            reply = client.post("/v1/experiments", json={"job": offered_as(document, files=changed)})
            assert reply.is_client_error, reply.text
            assert words in reply.text
        assert client.get("/v1/experiments/two-hidden").status_code == 404
