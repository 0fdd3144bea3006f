"""How much a metric differs and a pooled AUC, of a whole simulated experiment, against numpy on all held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.data import RawSource, split
from archipel.governance import IdentityKey
from archipel.plans import draft, load
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, scanned_site, simulate
from archipel.simulation.scores import model_scores
from archipel.vocabulary import RosterEntry, RoundTerms, TaskKind

PLAN = Path(__file__).parents[1] / "federation" / "measured_plan.py"
KEY = IdentityKey.generate().public
SIZES = {"a": 500, "b": 300, "few": 6}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[SimulatedSite]:
    root, needs, made = tmp_path_factory.mktemp("sites"), load(PLAN).needs, []
    for number, (name, size) in enumerate(SIZES.items()):
        draw = np.random.default_rng(number)
        x = draw.normal(size=(size, 8))
        (root / name).mkdir()
        subjects = np.array([f"{name}-{row:03d}" for row in range(size)])
        np.savez(root / name / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=subjects)
        made.append(scanned_site(name, root / name, needs))
    return made


async def run(folder: Path, sites: list[SimulatedSite], **more: Any) -> MemoryExperimentStore:
    found = draft(
        PLAN, experiment="measured", server_key=KEY, terms=RoundTerms(rounds=1, quorum=3, retries=0),
        roster=[RosterEntry(site=one.name, identity_key=KEY, dataset="data") for one in sites],
        validation_fraction=0.5, **more,
    )  # fmt: skip
    return await simulate(found.job, found.plan, found.initial_model, sites, folder)


def held_out(site: SimulatedSite) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Chances and truths of a site's held-out rows, without anything of a federation."""
    needs = load(PLAN).needs
    assert isinstance(site.data, Path)
    _, validation = split(RawSource(site.data, site.cohort), site.cohort, 0.5, needs)
    x, y, _ = validation.table()
    assert y is not None
    return 1 / (1 + np.exp(-(x[:, 0] * 1.5 + x[:, 1] * 2.0))), y


async def test_alone_and_within_a_sum_it_is_what_numpy_makes_of_all_rows_of_sites_with_enough(
    tmp_path: Path, sites: list[SimulatedSite]
) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "sum").mkdir()
    alone = await run(tmp_path / "alone", sites)
    within = await run(tmp_path / "sum", sites, privacy={"release": "sum"})
    records = [store.committed(TaskKind.EVALUATE)[-1] for store in (alone, within)]
    one, other = (record.validation for record in records)
    rows = {site.name: held_out(site) for site in sites}
    assert len(rows["few"][0]) < 5 <= len(rows["b"][0])
    chance = np.concatenate([rows[name][0] for name in ("a", "b")])
    truth = np.concatenate([rows[name][1] for name in ("a", "b")])
    losses = (chance - truth) ** 2
    for found in (one, other):
        spread, scores = found["brier"].spread, found["auc"].scores
        assert spread is not None and (spread.weight, spread.sites) == (len(losses), 2)
        assert spread.deviation == pytest.approx(np.std(losses, ddof=1), rel=1e-6)
        assert found["brier"].weight == len(losses) + len(rows["few"][0])
        assert scores is not None and scores.sites == 2 and sum(scores.cases) == len(losses)
        low, high = scores.bounds()
        exact = float((chance[truth > 0.5, None] > chance[truth < 0.5]).mean())
        assert low <= exact <= high and scores.auc() == pytest.approx(exact, abs=0.01)
    assert one["auc"] == other["auc"]
    assert records[0].sites["few"].validation["brier"].spread is None
    assert records[1].sites["a"].validation == {}
    assert model_scores(alone)[0].details["auc"].pooled_auc is not None
