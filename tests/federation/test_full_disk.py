"""A disk that fills up on either side: said once in clear words, nothing lost, and the work ends when there is room."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from worlds.federation import World, wait

pytestmark = pytest.mark.processes
MB = 1 << 20
FRAME = 24 * MB
"""A little more than the size of a model of ``WidePlan``."""


def only_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount the small file system that this test fills")


@contextlib.contextmanager
def tiny_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of ``size`` bytes over ``folder``; yields a file that takes all of its room."""
    only_root()
    kept = [path.relative_to(folder) for path in folder.rglob("*") if path.is_dir()]
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"this machine does not let the test mount a small file system: {done.stderr.strip()}")
    try:
        for path in sorted(kept):
            (folder / path).mkdir(mode=0o700)
        yield folder / "filler.of-the-test"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler: Path, leave: int = 0) -> None:
    """Take all room but ``leave`` bytes."""
    room = shutil.disk_usage(filler.parent).free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(room - leave, 1))


@pytest.fixture(scope="module")
def reference(world: World) -> str:
    """The same experiment with room on every disk."""
    world.run("roomy", class_name="WidePlan")
    return "roomy"


def told(world: World, name: str) -> list[str]:
    """What a researcher who follows the experiment reads of interruptions."""
    return [event["reason"] for event in events(world, name) if "reason" in event]


def events(world: World, name: str) -> list[dict[str, str]]:
    rows = world.query("select body from events where experiment = ? and kind = 'interrupted'", name)
    return [json.loads(body) for (body,) in rows]


@pytest.mark.parametrize("place", ["spool", "blobs/incoming"])
def test_a_full_disk_at_the_server_is_said_and_the_experiment_ends_when_there_is_room(
    world: World, reference: str, place: str
) -> None:
    name = f"full-{place.partition('/')[0]}"
    world.submit(name, class_name="WidePlan")
    folder = world.lab.folder / "server" / place
    with contextlib.ExitStack() as stack:
        if place == "spool":
            filler = stack.enter_context(tiny_disk(folder, 3 * FRAME))
            # Room for one site's update and half of the other's.
            fill(filler, leave=FRAME * 3 // 2)
        else:
            # A blob is renamed out of this folder, so that all of the store lies on the small disk.
            filler = stack.enter_context(small_blob_store(world, 5 * FRAME))
            fill(filler, leave=FRAME // 2)
        log = world.lab.server.log
        before = log.stat().st_size
        world.do(name, "start")
        wait(lambda: told(world, name), "the researcher to be told")
        assert "the disk is full" in world.show(name)["reason"]
        assert world.show(name)["state"] == "running"
        said = log.read_text()[before:]
        assert "the disk is full" in said and "free space" in said
        filler.unlink()
        world.wait_state(name)
        assert told(world, name) == told(world, name)[:1], "said more than once"
        assert "Traceback" not in said
        world.check_undisturbed(name, reference)
        if place == "spool":
            assert not list(folder.iterdir())
        else:
            world.kill_server()
    if place != "spool":
        world.start_server()


@contextlib.contextmanager
def small_blob_store(world: World, size: int) -> Iterator[Path]:
    """The server's blobs moved to a small disk for a while, and back."""
    # A test that is skipped must not leave the others without a server.
    only_root()
    store = world.lab.folder / "server" / "blobs"
    aside = store.with_name("blobs-aside")
    world.lab.server.stop()
    shutil.copytree(store, aside)
    with tiny_disk(store, 10 * FRAME + size) as filler:
        shutil.copytree(aside, store, dirs_exist_ok=True)
        world.start_server()
        world.lab.wait_connected(set(world.lab.sites))
        yield filler
        shutil.rmtree(aside)
        shutil.copytree(store, aside)
    shutil.copytree(aside, store, dirs_exist_ok=True)
    shutil.rmtree(aside)


def test_a_full_disk_at_a_site_is_said_there_and_the_task_goes_on_when_there_is_room(
    world: World, reference: str
) -> None:
    world.submit("full-site", class_name="WidePlan")
    site = world.lab.sites["site-b"]
    with tiny_disk(site.folder / "spool", 2 * FRAME) as filler:
        fill(filler, leave=FRAME // 2)
        before = site.running.log.stat().st_size
        world.do("full-site", "start")

        def said() -> str:
            return site.running.log.read_text()[before:]

        wait(lambda: "the disk is full" in said(), "the site's log to say it")
        wait(lambda: world.heard("full-site", "update-received", 1, "site-a"), "the other site")
        assert "the task waits for disk space" in said() and "Traceback" not in said()
        assert not world.heard("full-site", "site-failed", 1, "site-b")
        filler.unlink()
        world.wait_state("full-site")
        assert said().count("the disk is full") == 1
        world.check_undisturbed("full-site", reference)
