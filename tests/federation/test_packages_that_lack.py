"""A site that lacks a package says so before anybody approves, and its researcher and its people read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import archipel
from archipel.site.packages import QUESTION
from worlds.federation import TINY, World, wait
from worlds.site import Terminal

pytestmark = pytest.mark.processes
LATER = "\n\ndef later(name):\n    import absent_package, yaml\n\n    return __import__(name)\n"


def test_a_site_that_lacks_a_package_says_so_before_anybody_approves(world: World, tmp_path: Path) -> None:
    plan = tmp_path / "tiny.py"
    plan.write_text(TINY.read_text() + LATER)
    with archipel.connect(world.lab.url, token=world.lab.token, ca=world.lab.authority) as federation:
        made = federation.create(plan, name="lacks", rounds=1, quorum=2)
        with pytest.warns(UserWarning, match="lacks absent_package"):
            made.submit(packages_within=60)
        assert made.job.plan.packages == ("absent_package", "numpy", "yaml")
        lacking = "site-a, site-b: lacks absent_package; ask its people to run there: pip install absent_package"
        assert made.lacking[0] == lacking and "under names that its text does not show (tiny.py:" in made.lacking[1]
        found = {(row.site, row.package): (row.state, row.version) for row in made.packages().itertuples()}
    assert found["site-a", "absent_package"][0] == found["site-b", "absent_package"][0] == "missing"
    assert found["site-b", "numpy"][0] == "present" and found["site-b", "numpy"][1][0].isdigit()
    assert {one["state"] for one in world.show("lacks")["approvals"]} == {"waiting"}
    terminal = Terminal(world.lab.sites["site-a"].folder)
    offer = wait(lambda: terminal.json("plans", "lacks"), "the offer")
    assert isinstance(offer, dict)
    said = dict(offer["explanation"])[QUESTION]
    assert "WARNING: this site lacks absent_package, so the plan fails where it imports it" in said
    lines = json.loads(terminal("journal", "show", "--json").stdout)
    (line,) = [one for one in lines if one["kind"] == "packages-disclosed" and one["body"]["experiment"] == "lacks"]
    assert line["body"]["packages"]["absent_package"] is None
    # A warning and no objection: what fails where it is imported may never be reached.
    for site in ("site-a", "site-b"):
        world.lab.sites[site].approve("lacks")
    world.wait_approved("lacks", 2)
    world.do("lacks", "start")
    world.wait_state("lacks")
