"""A head that is trained on a frozen backbone, from end to end: the same bits, few bytes, and a whole model at home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import archipel
from archipel.rounds import model_path
from archipel.tensors import blob_hash, decode, joined, tensor_file_size
from archipel.vocabulary import Baselines
from archipel.vocabulary.threads import thread_variables
from worlds.federation import SITES, World

pytestmark = pytest.mark.processes
PLAN = Path(__file__).with_name("frozen_plan.py")
ROUNDS = 4


def test_a_frozen_backbone_travels_once_and_only_the_head_comes_back(world: World, tmp_path: Path) -> None:
    assert world.wire is not None
    before = world.wire.passed
    baselines = Baselines(local=True, ensemble=True)
    job = world.submit("head-only", PLAN, None, baselines=baselines, terms={"rounds": ROUNDS})
    world.do("head-only", "start")
    shown = world.wait_state("head-only")
    sent_by_sites = world.wire.passed - before
    assert job.frozen is not None
    backbone, head = tensor_file_size(job.frozen.tensors), tensor_file_size(job.tensors)
    plan = PLAN.stat().st_size
    rounds = world.rounds("head-only")
    assert [one["bytes_down"] for one in rounds] == [2 * (plan + backbone + head)] + [2 * head] * (ROUNDS - 1)
    assert [one["bytes_up"] for one in rounds] == [2 * head] * ROUNDS
    assert head < backbone / 1000 and sent_by_sites < backbone / 10, "all that both sites sent in all rounds"

    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "run").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    inherited |= thread_variables(job.limits.threads)
    script = [sys.executable, Path(__file__).with_name("simulate_here.py"), tmp_path / "job.json", PLAN]
    done = subprocess.run(
        [*script, world.folder / "data", tmp_path / "run"], env=inherited, capture_output=True, text=True, check=True
    )
    simulated = json.loads(done.stdout)
    assert simulated["last"] == world.model("head-only")
    assert simulated["local"] == {site: world.model("head-only", f"local:{site}") for site in SITES}
    assert simulated["ensemble"] == shown["baselines"]["ensemble"]["validation"]["accuracy"]

    connected = archipel.connect(world.lab.url, token=world.lab.token, ca=world.lab.authority)
    path = connected.experiment("head-only").download(tmp_path)
    whole = joined(*(model_path(tmp_path / "run", one).read_bytes() for one in (simulated["last"], job.frozen.blob)))
    assert path.read_bytes() == whole and decode(whole).keys() == {"backbone", "head.weight", "head.bias"}
    card = path.with_suffix(".md").read_text()
    for named in (job.frozen.blob, simulated["last"], blob_hash(whole)):
        assert f"`{named}`" in card
    connected.close()


def test_a_plan_that_changes_its_backbone_at_a_site_delivers_nothing(world: World) -> None:
    world.submit("head-and-more", PLAN, None, arguments={"writes": True}, terms={"rounds": 1, "retries": 0})
    world.do("head-and-more", "start")
    world.wait_state("head-and-more", "paused")
    failures = [body["failure"] for kind, body in world.server_lines("head-and-more") if kind == "site-failed"]
    assert [one["code"] for one in failures] == ["model-changed"] * 2
