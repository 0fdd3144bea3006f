"""Numbers that stay at each site, from end to end: kills and restarts change no bit, and nothing of them leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archipel
from archipel.tensors import decode, tensor_file_size
from archipel.vocabulary import Baselines, Job
from archipel.vocabulary.threads import thread_variables
from worlds.federation import SITES, World, wait

pytestmark = pytest.mark.processes
PLAN = Path(__file__).with_name("local_plan.py")
ROUNDS = 4
ASKED: Any = {"terms": {"rounds": ROUNDS}, "arguments": {"pause_s": 0.2}}


@pytest.fixture(autouse=True)
def restored(world: World) -> Iterator[None]:
    yield
    world.restore()


def simulated(world: World, job: Job, folder: Path) -> Any:
    (folder / "job.json").write_text(job.model_dump_json())
    (folder / "run").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    script = [sys.executable, Path(__file__).with_name("simulate_here.py"), folder / "job.json", PLAN]
    done = subprocess.run(
        [*script, world.folder / "data", folder / "run"],
        env=inherited | thread_variables(job.limits.threads),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def kept(world: World) -> list[Path]:
    return [file for site in SITES for file in (world.lab.sites[site].folder / "state").iterdir()]


def test_kills_of_a_site_and_of_a_worker_change_no_bit_and_nothing_of_it_leaves_or_stays(
    world: World, tmp_path: Path
) -> None:
    job = world.submit("own", PLAN, None, baselines=Baselines(local=True), **ASKED)
    assert job.local is not None
    world.do("own", "start")
    # Between what was made and the signed result that makes it count.
    wait(lambda: world.heard("own", "update-received", 1, "site-b"), "the update", every=0.003)
    world.kill_site("site-b")
    world.start_site("site-b")
    wait(lambda: world.seen("site-a", "own", "update-made", 2), "the update", every=0.003)
    world.kill_site("site-a")
    world.start_site("site-a")
    wait(lambda: world.seen("site-b", "own", "task-accepted", 3), "training", every=0.003)
    for worker in world.workers("site-b"):
        os.kill(worker, 9)
    world.wait_state("own")
    expected = simulated(world, job, tmp_path)
    assert world.model("own") == expected["last"]
    assert {site: world.model("own", f"local:{site}") for site in SITES} == expected["local"]
    for one in world.rounds("own"):
        assert one["bytes_up"] == 2 * tensor_file_size(job.tensors)
        assert one["attempt"] == 1
    wait(lambda: not kept(world), "the end of what was kept")

    connected = archipel.connect(world.lab.url, token=world.lab.token, ca=world.lab.authority)
    path = connected.experiment("own").download(tmp_path)
    connected.close()
    arrays = decode(path.read_bytes())
    assert arrays["own"].tobytes() == np.random.default_rng(job.seed).normal(size=8).tobytes()
    assert arrays.keys() == {"own", "shared"} and arrays["shared"].any()
    card = path.with_suffix(".md").read_text()
    assert f"initial values of its local part | `{job.local.blob}`" in card and "only the initial values of it" in card
