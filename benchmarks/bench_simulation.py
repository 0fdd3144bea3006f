"""Simulated rounds of many sites beside the same rounds as a bare PyTorch loop, in one process and in two workers.

All three train the same network from the same weights on the same batches of the same patients with the same
optimiser, and validate each round's model on the same held-out patients; the bare loop is FedAvg as a researcher writes
it. They take turns, so that whatever else the machine does falls on all of them, and must end with the same model: the
simulations to the last bit, the bare loop within the rounding of a float32 sum.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from archipel.vocabulary.threads import thread_variables

# Before numpy and torch load: every process here has one thread, as a hospital's worker has by default.
os.environ.update(thread_variables(1))

import numpy as np
import torch

from archipel.data import RawSource, split
from archipel.plans import Draft, derive_seed, draft, load
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, scanned_site, simulate
from archipel.tensors import decode
from archipel.vocabulary import RosterEntry, RoundTerms

PLAN = Path(__file__).with_name("mlp_plan.py")
NOBODY = "ed25519:" + "0" * 64
FEATURES, HELD_OUT = 64, 0.2
TOLERANCE = 1e-3
"""What the rounding of float32 sums may make of a weight in some rounds; other batches move it by many times that."""


def made_sites(folder: Path, count: int, patients: int) -> list[SimulatedSite]:
    """Sites of so many patients with 64 numbers each; which of two classes is a noisy threshold of their sum."""
    needs, found = load(PLAN).needs, []
    for number in range(count):
        root = folder / f"site-{number:03d}"
        root.mkdir()
        draw = np.random.default_rng(number)
        x = draw.normal(size=(patients, FEATURES)).astype(np.float32)
        names = [f"{root.name}-{patient}" for patient in range(patients)]
        np.savez(root / "table.npz", x=x, y=(x.sum(1) + draw.normal(size=patients) > 0).astype(np.int64), subject=names)
        found.append(scanned_site(root.name, root, needs))
    return found


def drafted(sites: Sequence[SimulatedSite], rounds: int) -> Draft:
    """The job of so many rounds."""
    return draft(
        PLAN,
        experiment="simulation",
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data") for site in sites],
        server_key=NOBODY,
        terms=RoundTerms(rounds=rounds, quorum=len(sites), deadline_s=3600),
        validation_fraction=HELD_OUT,
    )


@dataclass
class Course:
    """One run: when each round was over by the clock and in processor time, and the model that it ended with."""

    ends: list[tuple[float, float]]
    model: dict[str, np.ndarray[Any, Any]]

    @property
    def seconds(self) -> float:
        """Of a round after the first, the median."""
        return statistics.median(end[0] - begin[0] for begin, end in itertools.pairwise(self.ends))

    @property
    def processor(self) -> float:
        """Processor seconds of a round after the first, this process alone."""
        return statistics.median(end[1] - begin[1] for begin, end in itertools.pairwise(self.ends))


def now() -> tuple[float, float]:
    """The clock, and this process's processor time."""
    return time.perf_counter(), time.process_time()


@contextmanager
def ends_of_rounds() -> Iterator[list[tuple[float, float]]]:
    """When each round was over, its model folded and kept."""
    ends: list[tuple[float, float]] = []
    close = MemoryExperimentStore.close

    def timed(store: MemoryExperimentStore, *words: Any) -> Any:
        invited = close(store, *words)
        ends.append(now())
        return invited

    with patch.object(MemoryExperimentStore, "close", timed):
        yield ends


def simulated(sites: Sequence[SimulatedSite], rounds: int, workers: int) -> Course:
    """The rounds in ``archipel simulate``."""
    job = drafted(sites, rounds)
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as place, ends_of_rounds() as ends:
        store = asyncio.run(simulate(job.job, job.plan, job.initial_model, sites, Path(place), workers=workers))
        return Course(ends[:rounds], decode(store.models[store.model].read_bytes()))


def bare(sites: Sequence[SimulatedSite], rounds: int) -> Course:
    """FedAvg as a researcher writes it in PyTorch: one network, a state dictionary, a loop over the sites."""
    torch.set_num_threads(1)
    made = drafted(sites, rounds)
    plan: Any = load(PLAN)
    data = []
    for site in sites:
        source = RawSource(Path(str(site.data)), site.cohort)
        training, held_out = split(source, site.cohort, HELD_OUT, plan.needs)
        data.append((site.name, *plan.examples(training), *plan.examples(held_out)))
    network, loss_of = plan.build_model(), torch.nn.functional.cross_entropy
    model = {name: torch.from_numpy(array) for name, array in decode(made.initial_model).items()}
    ends: list[tuple[float, float]] = []
    for number in range(1, rounds + 1):
        total = {name: torch.zeros_like(tensor) for name, tensor in model.items()}
        loss_sum, validation, count = 0.0, 0.0, 0
        for name, inputs, targets, held_inputs, held_targets in data:
            network.load_state_dict(model)
            network.eval()
            with torch.inference_mode():
                for places in torch.arange(len(held_inputs)).split(plan.batch_size):
                    loss = loss_of(network(held_inputs[places]), held_targets[places])
                    validation += loss.item() * len(places)
            network.train()
            optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
            draw = torch.Generator().manual_seed(derive_seed(derive_seed(0, name, number), "batches"))
            for places in torch.randperm(len(inputs), generator=draw).split(plan.batch_size):
                optimiser.zero_grad()
                loss = loss_of(network(inputs[places]), targets[places])
                loss.backward()
                optimiser.step()
                loss_sum += loss.item() * len(places)
            for key, tensor in network.state_dict().items():
                total[key] += len(inputs) * tensor
            count += len(inputs)
        model = {name: tensor / count for name, tensor in total.items()}
        ends.append(now())
    return Course(ends, {name: tensor.numpy() for name, tensor in model.items()})


def bench_simulation(sites: int = 100, patients: int = 200, rounds: int = 6, turns: int = 5) -> dict[str, Any]:
    """Measure so many turns of the three, each turn in another order. The first round of each run is not counted: there
    the simulation verifies and reads the data, and the bare loop has it in memory.

    Raises SystemExit when they do not end with the same model.
    """
    names = ("bare", "one_process", "two_workers")
    courses: dict[str, list[Course]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as place:
        who = made_sites(Path(place), sites, patients)
        for turn in range(turns):
            for name in names[turn % 3 :] + names[: turn % 3]:
                run = bare(who, rounds) if name == "bare" else simulated(who, rounds, 1 if name == "one_process" else 2)
                courses[name].append(run)
    reference = courses["bare"][0]
    return {
        "sites": sites,
        "patients": patients,
        "parameters": sum(array.size for array in reference.model.values()),
        "rounds": rounds,
        "turns": turns,
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "round_seconds": {name: round(statistics.median(one.seconds for one in courses[name]), 4) for name in names},
        "farthest_weight": farthest(reference, courses),
        "one_process_processor_ratio": ratio(courses["one_process"], courses["bare"], "processor"),
        "one_process_ratio": ratio(courses["one_process"], courses["bare"], "seconds"),
        "two_workers_ratio": ratio(courses["two_workers"], courses["bare"], "seconds"),
    }


def ratio(ours: Sequence[Course], theirs: Sequence[Course], what: str) -> float:
    """The median of the turns' ratios."""
    ratios: list[float] = [getattr(one, what) / getattr(two, what) for one, two in zip(ours, theirs, strict=True)]
    return round(statistics.median(ratios), 3)


def farthest(reference: Course, courses: Mapping[str, Sequence[Course]]) -> float:
    """How far a weight of a simulation's last model is from that of the bare loop, the farthest."""
    one, *others = [*courses["one_process"], *courses["two_workers"]]
    for other in others:
        if any(not np.array_equal(array, other.model[name]) for name, array in one.model.items()):
            raise SystemExit("two simulations of one seed ended with other bits")
    found = max(float(np.abs(array - one.model[name]).max()) for name, array in reference.model.items())
    if found > TOLERANCE:
        raise SystemExit(f"the bare loop ended with another model: a weight is {found} away")
    return found
