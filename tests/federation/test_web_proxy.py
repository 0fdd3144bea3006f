"""A site behind a hospital's web proxy: everything goes through CONNECT, and an idle stream survives its time-out."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from archipel.lab import LocalFederation
from archipel.lab.ports import HOST, free_port
from worlds.federation import World, write_table

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("tinyproxy") is None, reason="tinyproxy is not installed"),
]
IDLE_S = 2


def test_an_experiment_runs_through_a_proxy_that_cuts_idle_streams(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "tinyproxy.log"
    lines = [f"Port {port}", f"Listen {HOST}", f"Timeout {IDLE_S}", "MaxClients 20", f'LogFile "{log}"']
    (tmp_path / "tinyproxy.conf").write_text("\n".join([*lines, "LogLevel Connect", f"Allow {HOST}", ""]))
    proxy = subprocess.Popen(["tinyproxy", "-d", "-c", str(tmp_path / "tinyproxy.conf")], stdout=subprocess.DEVNULL)
    lab = LocalFederation.create(tmp_path / "lab", heartbeat_s=0.5)
    try:
        with lab:
            lab.start_server()
            for site in ("site-a", "site-b"):
                settings = {"proxy": f'"http://{HOST}:{port}"', "reconnect_longest_s": 0.5}
                lab.add_site(site, write_table(tmp_path / "data" / site, site), layout="npz", **settings)
            lab.start_sites()
            world = World(tmp_path, lab)
            time.sleep(2 * IDLE_S)
            world.run("proxied", arguments={"pause_s": 1.5 * IDLE_S}, terms={"rounds": 1})
            assert lab.server.log.read_text().count("site connected") == 2
            for site in lab.sites.values():
                assert "not connected" not in site.running.log.read_text()
            assert f"CONNECT {HOST}:{lab.settings.grpc_port}" in log.read_text()
    finally:
        proxy.terminate()
        proxy.wait()
