"""``archipel site renew`` against a real server: a new certificate now, the same identity, nothing else to be done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worlds.federation import World, wait

pytestmark = pytest.mark.processes
SITE = "site-a"


def archipel(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archipel", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def renew(world: World) -> subprocess.CompletedProcess[str]:
    return archipel("site", "renew", "--state", world.lab.sites[SITE].folder)


def status(world: World) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        archipel("site", "status", "--json", "--state", world.lab.sites[SITE].folder).stdout
    )
    return shown


def serials(world: World) -> list[str]:
    """The serials of the site's certificates that are not revoked, oldest first."""
    query = "select serial from certificates where site = ? and revoked_at is null order by not_after, rowid"
    return [serial for (serial,) in world.query(query, SITE)]


def is_connected(world: World) -> bool:
    return SITE in {one["site"] for one in world.lab.get("/v1/sites") if one["connected"]}


def test_a_renewed_site_outlives_the_revocation_of_its_old_certificate(world: World) -> None:
    (old,), before = serials(world), status(world)
    done = renew(world)
    assert done.returncode == 0, done.stderr
    assert "has a new certificate until" in done.stdout and "the agent uses the new one" in done.stdout
    after = status(world)
    assert after["identity_key"] == before["identity_key"]
    assert after["certificate_until"] > before["certificate_until"]
    assert serials(world)[0] == old and len(serials(world)) == 2
    assert world.site_lines(SITE)[-1][0] == "certificate-renewed"
    said = world.lab.server.log.stat().st_size
    state = world.lab.folder / "server"
    assert archipel("server", "certificate", "revoke", old, "--state", state).returncode == 0
    # The stream on the old certificate is cut at once; the agent comes back on the new one by itself.
    wait(lambda: "site disconnected" in world.lab.server.log.read_text()[said:], "the old certificate to be cut")
    wait(lambda: is_connected(world), "the site to come back")
    assert len(serials(world)) == 1


def test_a_site_whose_agent_does_not_run_renews_too(world: World) -> None:
    world.lab.sites[SITE].running.stop()
    try:
        known = serials(world)
        done = renew(world)
        assert done.returncode == 0, done.stderr
        assert "the agent" not in done.stdout
        assert len(serials(world)) == len(known) + 1
    finally:
        world.restore()


def test_without_its_server_a_site_keeps_the_certificate_it_has(world: World) -> None:
    before = {path.name: path.read_bytes() for path in (world.lab.sites[SITE].folder / "keys").iterdir()}
    world.lab.server.stop()
    try:
        done = renew(world)
        assert done.returncode == 1
        assert f"server {world.lab.settings.grpc_address}: cannot be reached" in done.stderr
        assert "the certificate that is here lasts until" in done.stderr and "Traceback" not in done.stderr
        after = {path.name: path.read_bytes() for path in (world.lab.sites[SITE].folder / "keys").iterdir()}
        assert after == before
    finally:
        world.restore()


def test_a_site_that_was_sent_away_is_told_to_join_again(world: World) -> None:
    state = world.lab.folder / "server"
    for serial in serials(world):
        assert archipel("server", "certificate", "revoke", serial, "--state", state).returncode == 0
    done = renew(world)
    assert done.returncode == 1
    assert "is revoked or has expired; ask the server's operator for a join token and join again" in done.stderr
