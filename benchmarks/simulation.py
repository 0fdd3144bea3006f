"""What a second worker gains in ``archipel simulate``: seconds for a round after the first; prints JSON.

Each of 32 sites does the same fixed work in numpy in every round, at least 20 ms of processor time. One worker and two
take turns, and each pair gives one ratio; both must end with the same model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from archipel.vocabulary.threads import thread_variables

# Before numpy loads: the process that is compared with workers has one thread, as they have.
os.environ.update(thread_variables(1))

import numpy as np

from archipel.plans import draft, load
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, scanned_site, simulate
from archipel.vocabulary import RosterEntry, RoundTerms

PLAN = Path(__file__).with_name("simulation_plan.py")
NOBODY = "ed25519:" + "0" * 64


def made_sites(folder: Path, count: int) -> list[SimulatedSite]:
    """Sites of 200 subjects with 64 features each."""
    needs, found = load(PLAN).needs, []
    for number in range(count):
        root = folder / f"site-{number:02d}"
        root.mkdir()
        x = np.random.default_rng(number).normal(size=(200, 64))
        names = [f"{root.name}-{subject}" for subject in range(len(x))]
        np.savez(root / "table.npz", x=x, y=(x.sum(1) > 0).astype(float), subject=names)
        found.append(scanned_site(root.name, root, needs))
    return found


@contextlib.contextmanager
def ends_of_rounds() -> Iterator[list[float]]:
    """When each round was over, its model folded and kept."""
    ends: list[float] = []
    close = MemoryExperimentStore.close

    def timed(store: MemoryExperimentStore, *words: Any) -> None:
        close(store, *words)
        ends.append(time.perf_counter())

    with patch.object(MemoryExperimentStore, "close", timed):
        yield ends


def run(sites: list[SimulatedSite], rounds: int, workers: int) -> tuple[str, list[float], float]:
    """The last model's hash, seconds of each round after the first, and a site's mean processor time in training."""
    drafted = draft(
        PLAN,
        experiment="simulation",
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data") for site in sites],
        server_key=NOBODY,
        terms=RoundTerms(rounds=rounds, quorum=len(sites), deadline_s=3600),
    )
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as place, ends_of_rounds() as ends:
        store = asyncio.run(
            simulate(drafted.job, drafted.plan, drafted.initial_model, sites, Path(place), workers=workers)
        )
    trained = [record.metrics["cpu_seconds"].mean() for record in store.records[1:]]
    return store.model, [end - begin for begin, end in itertools.pairwise(ends)], statistics.mean(trained)


def bench(sites: int, rounds: int, pairs: int) -> dict[str, Any]:
    """Measure pairs of one worker and two, every other pair in the other order."""
    models: dict[int, set[str]] = {1: set(), 2: set()}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    training: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as place:
        who = made_sites(Path(place), sites)
        for pair in range(pairs):
            for workers in (1, 2) if pair % 2 == 0 else (2, 1):
                model, took, trained = run(who, rounds, workers)
                models[workers].add(model)
                seconds[workers].append(statistics.median(took))
                training[workers].append(trained)
    if len(models[1] | models[2]) != 1:
        raise SystemExit(f"one worker and two ended with other models: {models}")
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "sites": sites,
        "rounds": rounds,
        "pairs": pairs,
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "training_cpu_ms": {str(n): round(1000 * statistics.median(of), 1) for n, of in training.items()},
        "round_seconds": {str(n): round(statistics.median(of), 4) for n, of in seconds.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
        "model": {str(n): next(iter(of)) for n, of in models.items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(bench(given.sites, given.rounds, given.pairs), indent=1))
