"""The exact plan's job, data and simulation, the same wherever they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archipel.plans import Draft, draft, load
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import scanned_site, simulate
from archipel.vocabulary import Baselines, RosterEntry, RoundTerms

PLAN = Path(__file__).with_name("exact_plan.py")
SITES = ("site-a", "site-b")
SEED = 20


def write_data(folder: Path, site: str) -> Path:
    """A table of small integers: 11 subjects at site-a, 14 at site-b."""
    folder.mkdir(parents=True)
    count = {"site-a": 11, "site-b": 14}[site]
    x = (np.arange(count * 5).reshape(count, 5) * 7 + len(site)) % 13 - 6.0
    names = np.array([f"{site}-{number:03d}" for number in range(count)])
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


def exact_job(key: str, dataset: str = "table") -> Draft:
    """Three rounds over both sites, with a model of each site alone and their ensemble."""
    return draft(
        PLAN,
        experiment="exact",
        roster=[RosterEntry(site=site, identity_key=key, dataset=dataset) for site in SITES],
        server_key=key,
        terms=RoundTerms(rounds=3, quorum=2, retries=0),
        baselines=Baselines(local=True, ensemble=True),
        seed=SEED,
    )


async def simulated(folder: Path, made: Draft) -> MemoryExperimentStore:
    """The experiment in this process."""
    needs = load(PLAN).needs
    who = [scanned_site(site, write_data(folder / site, site), needs) for site in SITES]
    (folder / "run").mkdir()
    return await simulate(made.job, made.plan, made.initial_model, who, folder / "run")
