"""A link that cannot be, and a port that is not to be had: the reason in words where a person looks for it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archipel.lab.ports import HOST, free_port
from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from worlds.federation import World, wait
from worlds.people import OLGA

pytestmark = pytest.mark.processes


def archipel(*words: str) -> subprocess.CompletedProcess[str]:
    """A command line of ours, run to its end."""
    command = [sys.executable, "-m", "archipel", *words]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "300"}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


def status(world: World, site: str) -> Any:
    done = archipel("site", "status", "--json", "--state", str(world.lab.sites[site].folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def restart(world: World, site: str) -> None:
    world.lab.sites[site].running.stop()
    world.start_site(site)


def wait_problem(world: World, site: str, words: str) -> None:
    """Until ``site status`` gives this reason for having no link."""

    def said() -> bool:
        link = status(world, site)["link"]
        return link is not None and not link["connected"] and words in link["problem"]

    wait(said, f"site status to say {words!r}", every=0.3)


def other_authority(folder: Path) -> Path:
    """The CA of a federation that is not this one."""
    state = ServerState(folder)
    settings = ServerSettings(name="elsewhere", hosts=(HOST,), rest_port=free_port(), grpc_port=free_port())
    ServerContext.create(state, settings, by=OLGA).close()
    return state.ca_certificate


def test_a_server_that_another_ca_signed_is_not_talked_to_and_status_says_why(world: World, tmp_path: Path) -> None:
    site = world.lab.sites["site-b"]
    assert status(world, "site-b")["link"]["connected"]
    kept, place = tmp_path / "ca.pem", site.folder / "keys" / "ca.pem"
    shutil.copy(place, kept)
    try:
        shutil.copy(other_authority(tmp_path / "elsewhere"), place)
        restart(world, "site-b")
        wait_problem(world, "site-b", "is not from the CA that this site knows")
        text = archipel("site", "status", "--state", str(site.folder)).stdout
        assert "not connected: \"the server's certificate" in text and "join again" in text
        assert "is not from the CA that this site knows" in site.running.log.read_text()
        assert not {one["site"]: one["connected"] for one in world.lab.get("/v1/sites")}["site-b"]
    finally:
        shutil.copy(kept, place)
        restart(world, "site-b")
    world.lab.wait_connected({"site-b"})
    wait(lambda: status(world, "site-b")["link"]["connected"], "status to say that it is connected again", every=0.3)


def test_a_server_that_is_away_is_said_and_its_return_too(world: World) -> None:
    world.kill_server()
    wait_problem(world, "site-a", "")
    world.start_server()
    world.lab.wait_connected({"site-a"})
    wait(lambda: status(world, "site-a")["link"]["connected"], "the link", every=0.3)


def test_a_stopped_agent_has_no_link_to_speak_of(world: World) -> None:
    world.lab.sites["site-a"].running.stop()
    found = status(world, "site-a")
    assert (found["agent"], found["link"]) == ("stopped", None)
    world.start_site("site-a")
    world.lab.wait_connected({"site-a"})


@pytest.mark.parametrize("which", ["rest_port", "grpc_port"])
def test_a_port_in_use_is_named_with_the_setting_to_change(tmp_path: Path, which: str) -> None:
    state = ServerState(tmp_path / "server")
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"rest_port": free_port(), "grpc_port": free_port(), which: port}
        ServerContext.create(state, ServerSettings(name="lab", hosts=(HOST,), **ports), by=OLGA).close()
        done = archipel("server", "start", "--state", str(state.root))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert str(port) in said and f"change {which} in server.toml" in said
    assert "Traceback" not in said
