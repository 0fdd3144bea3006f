"""A researcher reads which site lacks a package right after the sites were asked."""

from __future__ import annotations

import importlib
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import archipel
from archipel.server.state import schema
from worlds.research import TINY_PLAN, World

OPTIONAL = "try:\n    import umap\nexcept ImportError:\n    umap = None\n"
LATER = "\ndef later(name):\n    import sksurv, numpy\n    __import__(name)\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.py"
    source = TINY_PLAN.read_text().replace("import numpy as np\n", f"import numpy as np\n{OPTIONAL}", 1)
    path.write_text(source + LATER)
    return path


@pytest.fixture
def sites(world: World) -> Iterator[World]:
    world.experiments.missing = {"site-a": {"sksurv", "umap"}, "site-b": {"umap"}}
    world.experiments.silent = {"site-c"}
    yield world
    world.experiments.missing, world.experiments.silent = {}, set()


@pytest.mark.usefixtures("sites")
def test_submitting_warns_which_site_lacks_what_and_which_did_not_say(
    federation: archipel.Federation, plan: Path
) -> None:
    made = federation.create(plan)
    assert made.job.plan.packages == ("numpy", "sksurv", "umap") and made.lacking == ()
    began = time.monotonic()
    with pytest.warns(UserWarning) as warned:
        made.submit()
    assert time.monotonic() - began < 5, "a site that is not connected is not waited for"
    lines = plan.read_text().splitlines()
    place = lines.index("    __import__(name)") + 1
    assert tuple(str(one.message) for one in warned) == made.lacking
    assert made.lacking == (
        "site-a: lacks scikit-survival (imported as sksurv); ask its people to run there: pip install scikit-survival; "
        "lacks umap-learn (imported as umap), but the plan also runs without",
        "site-b: lacks umap-learn (imported as umap), but the plan also runs without",
        "site-c: is not connected, and has not said which packages it has",
        f"the plan may import others, under names that its text does not show (tiny.py:{place})",
    )
    found = made.packages()
    shown = found[["site", "package", "state", "version"]].astype(object)
    states = [tuple(row) for row in shown.where(shown.notna(), None).itertuples(index=False)]
    assert ("site-a", "sksurv", "missing", None) in states and ("site-b", "sksurv", "present", "1.0") in states
    assert ("site-c", "numpy", "not said", None) in states and len(states) == 9


def test_creating_warns_which_site_lacked_what_when_it_last_answered_a_job(
    sites: World, federation: archipel.Federation, plan: Path
) -> None:
    """A site answers about the packages of a job only: before the first one nothing is known, and nobody is asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert federation.create(plan).lacking == ()
    jobs, rows = schema.experiments, schema.approvals
    said = {"site-a": {"sksurv": None, "umap": None}, "site-b": {"umap": None, "numpy": "2"}, "site-c": {"sksurv": "1"}}
    with sites.federation.database.write() as connection:
        kept = {"job": "{}", "job_hash": "h", "state": "finished", "arguments": "{}", "token": "ada", "created_at": "t"}
        connection.execute(jobs.insert().values(experiment="earlier", **kept))
        for site, packages in said.items():
            row = {"experiment": "earlier", "site": site, "state": "approved", "at": "t"}
            connection.execute(rows.insert().values(packages=json.dumps(packages), **row))
    try:
        with pytest.warns(UserWarning) as warned:
            made = federation.create(plan, name="later", sites=["site-a", "site-c"])
    finally:
        with sites.federation.database.write() as connection:
            connection.execute(rows.delete().where(rows.c.experiment == "earlier"))
            connection.execute(jobs.delete().where(jobs.c.experiment == "earlier"))
    assert tuple(str(one.message) for one in warned) == made.lacking == (
        "site-a: lacks scikit-survival (imported as sksurv); ask its people to run there: pip install scikit-survival; "
        "lacks umap-learn (imported as umap), but the plan also runs without (as said to an earlier job; submit() asks "
        "again)",
    )  # fmt: skip
    assert made.status == "draft"


def test_a_connected_site_is_waited_for_a_bounded_time(
    sites: World, federation: archipel.Federation, plan: Path
) -> None:
    sites.experiments.silent = {"site-b"}
    began = time.monotonic()
    with pytest.warns(UserWarning, match="site-b: has not said yet which packages it has"):
        federation.create(plan).submit(packages_within=1)
    assert 1 <= time.monotonic() - began < 6


def test_nothing_is_said_where_every_site_has_every_package(federation: archipel.Federation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = federation.create(TINY_PLAN).submit()
    assert made.lacking == () and set(made.packages()["state"]) == {"present"}


def test_the_commands_say_it_too(sites: World, plan: Path) -> None:
    environment = {"ARCHIPEL_SERVER": sites.url, "ARCHIPEL_TOKEN": sites.token(), "ARCHIPEL_CA": str(sites.ca)}
    sites.experiments.approve_at_once = True
    try:
        words = [str(plan), "--rounds", "1", "--name", "lacking", "--description", "A test."]
        done = CliRunner().invoke(importlib.import_module("archipel.cli.run").app, words, env=environment)
    finally:
        sites.experiments.approve_at_once = False
    assert done.exit_code == 0, done.output
    assert "site-a: lacks scikit-survival (imported as sksurv); ask its people to run there" in done.stderr
    app = importlib.import_module("archipel.cli.experiment").app
    listed = json.loads(CliRunner().invoke(app, ["packages", "lacking", "--json"], env=environment).stdout)
    named = {"site": "site-a", "package": "sksurv", "installed_as": "scikit-survival"}
    assert named | {"state": "missing", "version": None} in listed
