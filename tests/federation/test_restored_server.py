"""An older copy of the server comes back: rounds since are done again, and sites say that its journal lost lines."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from archipel.cli.server import app
from archipel.site.approval import offers
from archipel.site.audit import journal, journal_heads
from worlds.federation import SITES, World, wait

pytestmark = pytest.mark.processes


def test_an_experiment_goes_on_from_an_older_copy_and_what_the_copy_does_not_know_rests(world: World) -> None:
    folder = world.lab.folder / "server"
    world.submit("known", terms={"rounds": 3})
    world.do("known", "step")
    world.wait_state("known", "paused")
    made = CliRunner().invoke(app, ["backup", str(world.folder / "copy"), "--state", str(folder)])
    assert made.exit_code == 0, made.output
    world.do("known", "step")
    wait(lambda: world.show("known")["round"] == 2, "the second round")
    world.wait_state("known", "paused")
    world.submit("unknown", terms={"rounds": 1})
    world.kill_server()
    shutil.rmtree(folder)
    shutil.copytree(world.folder / "copy", folder)
    world.start_server()
    world.lab.wait_connected(set(SITES))
    assert world.show("known")["round"] == 1
    world.do("known", "resume")
    world.wait_state("known", seconds=120)
    done = [(one["round"], one["attempt"], one["state"]) for one in world.rounds("known")]
    assert done == [(1, 1, "committed"), (2, 1, "failed"), (2, 2, "committed"), (3, 1, "committed")]
    for site in SITES:
        state = world.lab.sites[site].state()
        assert offers.offered(state.database, "unknown").state == "approved"
        assert ["a backup was restored there" in str(fault) for fault in journal_heads.faults(state.database)] == [True]
        assert journal.verify(state).whole
        state.close()
