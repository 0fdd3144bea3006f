"""Experiments that end early on a real federation: with the bits of the simulation, and through kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import archipel
from archipel.vocabulary import Baselines
from worlds.federation import SITES, TINY, World, wait

pytestmark = pytest.mark.processes
BASELINES = Baselines(local=True, ensemble=True)
PATIENT = {"rounds": 12, "patience": {"metric": "accuracy", "rounds": 2, "smallest_gain": 0.02}}
LOCAL = [f"local:{site}" for site in SITES]


def models(world: World, name: str) -> dict[str, str]:
    return {which: world.model(name, which) for which in ("last", *LOCAL)}


def simulated(world: World, job_json: str, folder: Path) -> dict[str, Any]:
    (folder / "job.json").write_text(job_json)
    (folder / "frames").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    script = Path(__file__).parent / "simulate_here.py"
    places = [folder / "job.json", TINY, world.folder / "data", folder / "frames"]
    done = subprocess.run([sys.executable, script, *places], env=inherited, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_rule_of_patience_ends_both_after_the_same_round_with_the_same_bits(world: World, tmp_path: Path) -> None:
    more: dict[str, Any] = {"baselines": BASELINES, "arguments": {"steps": 7}, "terms": PATIENT}
    job = world.submit("patient", TINY, None, **more)
    world.do("patient", "start")
    shown = world.wait_state("patient")
    found = simulated(world, job.model_dump_json(), tmp_path)
    assert 2 < shown["round"] < 12 and shown["round"] == found["rounds"]
    assert shown["reason"] == found["reason"]
    words = f"ended early after round {shown['round']} of 12: no gain of 0.02 in accuracy for 2 rounds; best "
    assert shown["reason"].startswith(words)
    assert models(world, "patient") == {
        "last": found["last"], **{f"local:{site}": model for site, model in found["local"].items()}
    }  # fmt: skip
    assert found["ensemble"] == shown["baselines"]["ensemble"]["validation"]["accuracy"]
    assert [kind for kind, _ in world.server_lines("patient")].count("experiment-ending") == 1

    # And so does one whose server is killed on the way.
    world.submit("killed", TINY, None, **more)
    world.do("killed", "start")
    wait(lambda: world.heard("killed", "round-closed", 2), "two rounds", every=0.003)
    world.kill_server()
    world.start_server()
    again = world.wait_state("killed")
    assert (again["round"], again["reason"]) == (shown["round"], shown["reason"])
    assert models(world, "killed") == models(world, "patient")


def of_kind(world: World, name: str, line: str, kind: str, about: str = "") -> bool:
    return any(
        what == line and (body.get("kind"), body.get("about")) == (kind, about)
        for what, body in world.server_lines(name)
    )


STEPS: dict[str, Callable[[World, str], object]] = {
    "at once": lambda world, name: True,
    "while the sites train alone": lambda world, name: of_kind(world, name, "round-opened", "local"),
    "after they trained alone": lambda world, name: of_kind(world, name, "round-closed", "local"),
    "as the last measurement opens": lambda world, name: of_kind(world, name, "round-opened", "evaluate", "ensemble"),
}


@pytest.fixture(scope="module")
def finished(world: World) -> dict[str, str]:
    """The models of an experiment that was finished after its first round."""
    finish_after_a_step(world, "finished")
    shown = world.wait_state("finished")
    reason = "ended early after round 1 of 3: a person asked to finish it"
    assert (shown["round"], shown["reason"]) == (1, reason)
    assert set(shown["baselines"]["local"]) == set(SITES) and shown["baselines"]["federated"]
    return models(world, "finished")


def finish_after_a_step(world: World, name: str) -> None:
    world.submit(name, arguments={"pause_s": 0.15, "last_pause_s": 0.5}, baselines=BASELINES)
    world.do(name, "step")
    shown = world.wait_state(name, "paused")
    assert shown["baselines"]["federated"]["validation"], "who steps sees what the new model reaches"
    with archipel.connect(world.lab.url, token=world.lab.token, ca=world.lab.authority) as researcher:
        assert researcher.experiment(name).finish() == "running"


@pytest.mark.parametrize("step", STEPS)
def test_a_server_killed_between_finish_and_the_end_ends_it_with_the_same_bits(
    world: World, finished: dict[str, str], step: str
) -> None:
    name = f"finishing-{list(STEPS).index(step)}"
    finish_after_a_step(world, name)
    wait(lambda: STEPS[step](world, name), step, every=0.003)
    world.kill_server()
    world.start_server()
    shown = world.wait_state(name)
    assert shown["round"] == 1 and models(world, name) == finished
    for site in SITES:
        assert set(world.made(site, name).values()) == {1}, world.made(site, name)


def test_an_open_round_is_completed_first_and_stepping_changes_no_bit(world: World) -> None:
    slow = {"pause_s": 0.15, "last_pause_s": 1.0}
    world.submit("stepped", arguments=slow)
    for number in (1, 2):
        world.do("stepped", "step")
        wait(lambda number=number: len(world.rounds("stepped")) == number, f"round {number}")
        world.wait_state("stepped", "paused")
    world.do("stepped", "resume")
    world.wait_state("stepped")
    assert [(one["round"], one["attempt"]) for one in world.rounds("stepped")] == [(1, 1), (2, 1), (3, 1)]

    world.submit("asked", arguments=slow)
    world.do("asked", "start")
    wait(lambda: world.heard("asked", "round-opened", 2), "round 2", every=0.003)
    world.do("asked", "finish")
    last = world.wait_state("asked")["round"]
    assert last >= 2
    made = {name: [one["model"] for one in world.rounds(name)] for name in ("stepped", "asked")}
    assert made["asked"] == made["stepped"][:last] and world.model("asked") == made["stepped"][last - 1]
    if last < 3:
        assert of_kind(world, "asked", "round-closed", "evaluate")
    turned = [body for kind, body in world.server_lines("asked") if kind == "experiment-ending"]
    assert len(turned) == 1 and turned[0]["by"] and turned[0]["reason"] == "a person asked to finish it"
