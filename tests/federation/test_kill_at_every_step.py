"""kill -9 of the server, a site or a worker at each step: the experiment finishes with the undisturbed run's model."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from worlds.federation import SITES, World, wait

pytestmark = pytest.mark.processes
SLOW = {"pause_s": 0.15, "last_pause_s": 0.5}


@pytest.fixture(scope="module")
def reference(world: World) -> str:
    world.run("reference", arguments=SLOW)
    world.check_undisturbed("reference", "reference")
    return "reference"


@pytest.fixture(scope="module")
def wide_reference(world: World) -> str:
    world.run("wide-reference", class_name="WidePlan", terms={"rounds": 2})
    return "wide-reference"


@pytest.fixture(autouse=True)
def restored(world: World) -> Iterator[None]:
    yield
    assert world.wire is not None
    world.wire.free()
    world.restore()


BASELINES = {"baselines": {"local": True, "ensemble": True}, "terms": {"rounds": 1}}


@pytest.fixture(scope="module")
def baselines_reference(world: World) -> str:
    world.run("baselines-reference", arguments=SLOW, **BASELINES)
    return "baselines-reference"


names = iter(f"killed-{number}" for number in range(1, 1000))


def begin(world: World, **more: object) -> str:
    name = next(names)
    world.submit(name, **{"arguments": SLOW, **more})  # type: ignore[arg-type]
    world.do(name, "start")
    return name


SERVER_STEPS: dict[str, Callable[[World, str], object]] = {
    "as the round opens": lambda world, name: world.heard(name, "round-opened"),
    "in training": lambda world, name: world.seen("site-b", name, "task-accepted"),
    "after one update was received": lambda world, name: world.heard(name, "update-received", 1, "site-a"),
    "after the last update of a round": lambda world, name: world.heard(name, "update-received", 2, "site-b"),
    "after the round closed": lambda world, name: world.heard(name, "round-closed", 2),
}


@pytest.mark.parametrize("step", SERVER_STEPS)
def test_a_killed_server_goes_on_where_it_was(world: World, reference: str, step: str) -> None:
    name = begin(world)
    wait(lambda: SERVER_STEPS[step](world, name), step, every=0.003)
    world.kill_server()
    world.start_server()
    world.wait_state(name)
    world.check_undisturbed(name, reference)
    assert not any(world.seen(site, name, "task-begun-again", number) for site in SITES for number in (1, 2, 3))


SITE_STEPS: dict[str, Callable[[World, str], object]] = {
    "in training": lambda world, name: world.seen("site-b", name, "task-accepted"),
    "after its update was made": lambda world, name: world.seen("site-b", name, "update-made"),
    "after its update was received": lambda world, name: world.heard(name, "update-received", 2, "site-b"),
    "after it delivered and before the round closed": lambda world, name: world.heard(
        name, "update-received", 1, "site-a"
    ),
    "after the round closed": lambda world, name: world.heard(name, "round-closed", 2),
}


@pytest.mark.parametrize("step", SITE_STEPS)
def test_a_killed_site_goes_on_where_it_was(world: World, reference: str, step: str) -> None:
    name = begin(world)
    site = "site-a" if step.startswith("after it delivered") else "site-b"
    wait(lambda: SITE_STEPS[step](world, name), step, every=0.003)
    world.kill_site(site)
    world.start_site(site)
    world.wait_state(name)
    world.check_undisturbed(name, reference)


def test_a_site_killed_before_it_accepts_gets_the_task_again(world: World, reference: str) -> None:
    name = next(names)
    world.submit(name, arguments=SLOW)
    os.kill(world.lab.sites["site-b"].running.pid, signal.SIGSTOP)
    world.do(name, "start")
    wait(lambda: world.heard(name, "round-opened"), "the round")
    world.kill_site("site-b")
    world.start_site("site-b")
    world.wait_state(name)
    world.check_undisturbed(name, reference)


def test_an_update_made_while_the_server_is_away_is_sent_not_made_again(world: World, reference: str) -> None:
    name = begin(world)
    wait(lambda: "worker-started" in [kind for kind, _ in world.site_lines("site-b", name)], "training")
    world.kill_server()
    wait(lambda: world.seen("site-b", name, "update-made"), "the update")
    world.kill_site("site-b")
    world.start_site("site-b")
    world.start_server()
    world.wait_state(name)
    world.check_undisturbed(name, reference)
    assert not world.seen("site-b", name, "task-begun-again")


@pytest.mark.parametrize("round_", [1, 2])
def test_a_killed_worker_is_replaced_and_its_task_done_again(world: World, reference: str, round_: int) -> None:
    name = begin(world)
    wait(lambda: "worker-started" in [kind for kind, _ in world.site_lines("site-b", name)], "the worker")
    wait(lambda: world.seen("site-b", name, "task-accepted", round_), "training")
    for worker in wait(lambda: world.workers("site-b"), "the worker"):
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            continue
    world.wait_state(name)
    world.check_undisturbed(name, reference)
    assert [kind for kind, _ in world.site_lines("site-b", name)].count("worker-started") == 2


@pytest.mark.parametrize("victim", ["server", "site-b", "wire"])
def test_a_death_in_mid_upload_costs_the_rest_of_the_upload_only(
    world: World, wide_reference: str, victim: str
) -> None:
    wire = world.wire
    assert wire is not None
    name = next(names)
    world.submit(name, class_name="WidePlan", terms={"rounds": 2})
    before = wire.passed
    wire.shut_after(16 << 20)
    world.do(name, "start")
    wait(lambda: wire.is_full, "half an upload", every=0.005)
    time.sleep(0.5)  # what is in the buffers between reaches the server's spool
    if victim == "server":
        world.kill_server()
    elif victim == "site-b":
        world.kill_site("site-b")
    else:
        wire.cut()
    wire.free()
    if victim == "server":
        world.start_server()
    elif victim == "site-b":
        world.start_site("site-b")
    world.wait_state(name)
    world.check_undisturbed(name, wide_reference, rounds=2)
    assert wire.passed - before < 4 * 24_100_000 + (6 << 20)


def stages(world: World, name: str) -> list[tuple[str, str, int, str]]:
    query = "select kind, about, attempt, state from rounds where experiment = ? order by opened_at"
    return [tuple(row) for row in world.query(query, name)]


def outcome(world: World, name: str) -> tuple[list[tuple[str, str, int, str]], dict[str, str], object]:
    """Every stage, every model and what the baselines came to."""
    models = {one["name"]: one["hash"] for one in world.lab.get(f"/v1/experiments/{name}/models")}
    return stages(world, name), models, world.show(name)["baselines"]


AFTER_TRAINING = [("evaluate", ""), ("local", ""), ("evaluate", "site-a"), ("evaluate", "ensemble")]


@pytest.mark.parametrize(
    ("kind", "about", "victim"),
    [
        ("evaluate", "", "site-b"),
        ("local", "", "server"),
        ("local", "", "site-b"),
        ("local", "", "its worker"),
        ("evaluate", "site-a", "server"),
        ("evaluate", "ensemble", "site-b"),
        ("evaluate", "ensemble", "its worker"),
    ],
)
def test_a_kill_after_the_last_round_changes_no_baseline(
    world: World, baselines_reference: str, kind: str, about: str, victim: str
) -> None:
    name = begin(world, **BASELINES)

    def is_at_it() -> bool:
        return any(
            what == "task-accepted" and (body["kind"], body["about"]) == (kind, about)
            for what, body in world.site_lines("site-b", name)
        )

    wait(is_at_it, f"{kind} {about} at site-b", every=0.003)
    match victim:
        case "server":
            world.kill_server()
            world.start_server()
        case "site-b":
            world.kill_site("site-b")
            world.start_site("site-b")
        case _:
            for worker in world.workers("site-b"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
    world.wait_state(name)
    found = outcome(world, name)
    assert found == outcome(world, baselines_reference)
    assert [one[:2] for one in found[0]] == [
        ("train", ""),
        *AFTER_TRAINING[:3],
        ("evaluate", "site-b"),
        AFTER_TRAINING[3],
    ]
    for site in SITES:
        assert set(world.made(site, name).values()) == {1}, world.made(site, name)


def test_everything_killed_at_once_comes_back_by_itself(world: World, reference: str) -> None:
    name = begin(world)
    wait(lambda: world.heard(name, "update-received", 2, "site-a"), "an update of round 2", every=0.003)
    for site in SITES:
        world.kill_site(site)
    world.kill_server()
    for site in SITES:
        world.start_site(site)
    world.start_server()
    world.wait_state(name)
    world.check_undisturbed(name, reference)
