"""Rounds that continue a model give the bits that the seeds make of them, and take nothing over but the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archipel.plans import Draft, StartingModel, draft, load, read_starting_model
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import scanned_site, simulate
from archipel.simulation.sites import SimulatedSite
from archipel.vocabulary import RosterEntry, RoundTerms

NOBODY = "ed25519:" + "0" * 64
SITES = ("site-a", "site-b")
PLAN = '''
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum, OptimiserState, Selection

class Slope(Plan):
    """A step of a few draws; with a momentum that continues locally where KEPT says so."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    validation = (MetricSpec(name="distance", better="lower"),)
    selection = Selection(metric="distance", better="lower")
    optimiser_state = OptimiserState.KEPT

    def initial_model(self, seed):
        return {"w": START}

    def prepare(self, training, validation, context):
        self.x, self.held_out = training.table()[0], validation.table()[0]
        self.momentum = np.zeros(4)

    def train(self, model, context):
        noise = context.generator("noise").normal(size=4) if DRAWS else 0.0
        self.momentum = self.momentum * 0.5 + self.x.mean(axis=0) - model["w"] + noise
        model["w"] += 0.25 * self.momentum
        if not CONTINUES:
            self.momentum = np.zeros(4)
        return TrainingResult({})

    def evaluate(self, models, context):
        gap = float(np.abs(models[0]["w"] - self.held_out.mean(axis=0)).sum())
        return {"distance": MetricSum(total=gap * len(self.held_out), weight=len(self.held_out))}

    def state(self):
        return {"momentum": self.momentum}

    def restore(self, state):
        self.momentum = state.get("momentum", np.zeros(4))
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, site in enumerate(SITES):
        (folder / site).mkdir()
        x = np.random.default_rng(number).normal(number, 1.0, size=(11 + number, 4))
        names = np.array([f"{site}-{row:03d}" for row in range(len(x))])
        np.savez(folder / site / "table.npz", x=x, y=x[:, 0], subject=names)
    return folder


def plan(folder: Path, *, start: str = "np.zeros(4)", draws: bool = False, continues: bool = False) -> Path:
    file = folder / f"slope_{draws}_{continues}.py"
    kept = "CONTINUE_LOCAL" if continues else "RESET"
    text = PLAN.replace("START", start).replace("DRAWS", str(draws)).replace("KEPT", kept)
    file.write_text(text.replace("CONTINUES", str(continues)))
    return file


async def run(
    folder: Path, data: Path, plan: Path, rounds: int, start: StartingModel | None = None
) -> tuple[Draft, MemoryExperimentStore]:
    made = draft(
        plan,
        experiment="slope",
        roster=[RosterEntry(site=site, identity_key=NOBODY, dataset="data") for site in SITES],
        server_key=NOBODY,
        terms=RoundTerms(rounds=rounds, quorum=2, deadline_s=3600),
        start_from=start,
    )
    return made, await simulate(made.job, made.plan, made.initial_model, sites_of(data, plan), new(folder))


def sites_of(data: Path, plan: Path) -> list[SimulatedSite]:
    needs = load(plan).needs
    return [scanned_site(site, data / site, needs) for site in SITES]


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def last(store: MemoryExperimentStore) -> Path:
    return store.models[store.model]


async def test_rounds_that_continue_are_those_of_one_run(tmp_path: Path, data: Path) -> None:
    """A plan without a state and without draws: 2 and 3 rounds are 5 rounds, to the last bit."""
    slope = plan(tmp_path)
    _, whole = await run(tmp_path / "whole", data, slope, 5)
    _, first = await run(tmp_path / "first", data, slope, 2)
    made, second = await run(tmp_path / "second", data, slope, 3, read_starting_model(last(first)))
    assert made.job.initial_model == first.model
    assert second.model == whole.model != first.model
    before = first.records[-1].validation, second.records[0].validation
    assert before[0] == before[1], "round 1 measures the model that it starts from"


async def test_rounds_that_continue_draw_as_their_numbers_and_seed_say(tmp_path: Path, data: Path) -> None:
    """The oracle is a plan that makes the same model as its own initial one."""
    slope = plan(tmp_path, draws=True)
    _, first = await run(tmp_path / "first", data, slope, 2)
    _, second = await run(tmp_path / "second", data, slope, 2, read_starting_model(last(first)))
    weights = np.frombuffer(last(first).read_bytes()[-32:]).tolist()
    oracle = plan(new(tmp_path / "other"), start=f"np.array({weights!r})", draws=True)
    made, expected = await run(tmp_path / "third", data, oracle, 2)
    assert made.job.initial_model == first.model and made.job.lineage is None
    assert second.model == expected.model


async def test_an_optimisers_state_is_not_taken_over(tmp_path: Path, data: Path) -> None:
    slope = plan(tmp_path, continues=True)
    _, whole = await run(tmp_path / "whole", data, slope, 4)
    _, first = await run(tmp_path / "first", data, slope, 2)
    start = read_starting_model(last(first))
    _, second = await run(tmp_path / "second", data, slope, 2, start)
    _, again = await run(tmp_path / "again", data, slope, 2, start)
    assert second.model == again.model != whole.model
