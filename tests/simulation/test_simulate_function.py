"""``archipel.simulate``: the same numbers with workers, in a running loop, and on the command line; errors first."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archipel
from archipel.plans import load
from archipel.researcher.simulating import _finished
from archipel.simulation import scanned_site
from archipel.simulation.virtual_sites import divided
from archipel.vocabulary import BadInput, NotFound

TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"
SKEW = archipel.VirtualSites(by="label", sites=3, alpha=1.0, seed=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dataset of 60 patients."""
    folder = tmp_path_factory.mktemp("whole")
    x = np.random.default_rng(3).normal(size=(60, 8))
    names = [f"p{number:02d}" for number in range(60)]
    np.savez(folder / "all.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


def run(data: Path, **more: Any) -> archipel.Simulation:
    return archipel.simulate(TINY, data, split=SKEW, rounds=2, progress=False, **more)


@pytest.fixture(scope="module")
def one(data: Path) -> archipel.Simulation:
    """A run in this process."""
    return run(data)


def test_a_number_of_rounds_that_cannot_be_is_one_error(data: Path) -> None:
    with pytest.raises(BadInput, match="rounds=0: is too small; give at least 1"):
        archipel.simulate(TINY, data, split=SKEW, rounds=0, progress=False)


def test_an_interrupt_in_a_notebook_ends_what_runs_beside_its_loop() -> None:
    ended = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def cell() -> None:
        _finished(work())

    loop = asyncio.new_event_loop()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert ended == [True]


def last(simulation: archipel.Simulation) -> str:
    models = simulation.models().set_index("name")
    return str(models.loc["last", "hash"])


def test_each_round_is_told_once_and_the_sites_are_those_of_the_division(data: Path, one: archipel.Simulation) -> None:
    told: list[str] = []
    again = archipel.simulate(TINY, data, split=SKEW, rounds=2, progress=told.append)
    assert [line[:12] for line in told[:2]] == ["round 1 of 2", "round 2 of 2"] and len(told) == 3
    assert last(again) == last(one)
    sites = divided(scanned_site("whole", data, load(TINY).needs), SKEW, load(TINY).needs)
    assert one.sites["patients"].tolist() == [len(site.cohort.subjects) for site in sites]
    assert one.split == SKEW


async def test_a_running_event_loop_as_in_a_notebook_changes_nothing(data: Path, one: archipel.Simulation) -> None:
    assert last(run(data)) == last(one)


@pytest.mark.processes
def test_workers_change_no_bit(data: Path, one: archipel.Simulation) -> None:
    assert last(run(data, workers=2)) == last(one)


def test_sites_of_ones_own_have_no_split(tmp_path: Path, data: Path) -> None:
    needs = load(TINY).needs
    sites = divided(scanned_site("whole", data, needs), SKEW, needs)
    found = archipel.simulate(TINY, sites, rounds=1, progress=False, name="mine")
    assert found.split is None and "split" not in found.history
    assert "3 sites on one machine" in found.report(tmp_path).read_text("utf-8")


def test_models_end_with_the_simulation_and_a_saved_one_stays(tmp_path: Path, data: Path) -> None:
    found = run(data)
    saved = found.save(tmp_path / "mine.safetensors", "best")
    assert saved.is_file() and saved.with_suffix(".md").is_file()
    with pytest.raises(NotFound, match="model local:x: is not kept; there are: best, initial, last"):
        found.save(tmp_path, "local:x")


def test_what_does_not_fit_together_is_refused(tmp_path: Path, data: Path) -> None:
    needs = load(TINY).needs
    sites = divided(scanned_site("whole", data, needs), SKEW, needs)
    with pytest.raises(BadInput, match="split: divides the folder of one dataset; give that folder"):
        archipel.simulate(TINY, sites, split=SKEW)
    with pytest.raises(BadInput, match="the file of sites: cannot be used together"):
        archipel.simulate(TINY, data, split=SKEW, sites=tmp_path / "sites.toml")
    with pytest.raises(BadInput, match="contains no folder of a site"):
        archipel.simulate(TINY, data, rounds=1)
