"""``archipel.simulate``: an experiment on this machine, with the history and the report of a deployed one."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, Unpack

from archipel.data import DataMapping
from archipel.plans import Draft, StartingModel, draft, load_to_train, package, read_starting_model
from archipel.plans.job_builder import NO_ENSEMBLE, ResearchersTerms
from archipel.researcher.checked_terms import checked
from archipel.researcher.federation import PlanPlace, plan_path
from archipel.researcher.simulated import Simulation, round_line, utc_now
from archipel.rounds import StageRecord
from archipel.simulation import SimulatedSite, VirtualSites, simulated_sites
from archipel.simulation import simulate as run_rounds
from archipel.vocabulary import (
    NO_KEY,
    BadInput,
    Baselines,
    Patience,
    PrivacyTerms,
    RosterEntry,
    RoundTerms,
    StrategyTerms,
    Value,
    WorkerLimits,
)

T = TypeVar("T")


def simulate(
    plan: PlanPlace,
    data: str | Path | Sequence[SimulatedSite],
    *,
    split: VirtualSites | None = None,
    sites: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - as everywhere else
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
    rounds: int = 10,
    start_from: str | Path | None = None,
    arguments: Mapping[str, Value] | None = None,
    name: str = "simulation",
    title: str = "",
    description: str = "",
    plan_class: str | None = None,
    plan_entry: str | None = None,
    patience: Patience | None = None,
    baselines: Baselines | bool = False,
    validation_fraction: float = 0.2,
    seed: int = 0,
    limits: WorkerLimits | None = None,
    strategy: StrategyTerms | None = None,
    privacy: PrivacyTerms | None = None,
    workers: int = 1,
    modules: Sequence[str] = (),
    progress: bool | Callable[[str], None] = True,
) -> Simulation:
    """Run a plan's rounds on this machine, with the numbers of a deployed federation, without network and sandbox.

    ``data`` is a folder with one folder of data for each site, or the folder that ``sites``, a TOML file, describes.
    With ``split`` it is the folder of one dataset, whose patients are divided among virtual sites. ``format``,
    ``options`` and ``mapping`` say how a folder is read, as for ``archipel site dataset add``. ``workers`` is the
    number of processes that train at the same time; it changes no bit. In a script, call it with more than one only
    below ``if __name__ == "__main__"``. ``progress`` prints a line after each exchange to standard error, or is given
    the line. The other terms are those of ``Federation.create``; what needs a network, such as a quorum, is not there.

    Works in a notebook too. Raises BadInput for a plan, data or terms that do not fit, and ArchipelError when a site
    fails, with its full error.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import archipel
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> x = np.random.default_rng(0).normal(size=(60, 8))
    >>> np.savez(folder / "all.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=[f"p{n}" for n in range(60)])
    >>> skew = archipel.VirtualSites(by="label", sites=3, alpha=1.0)
    >>> run = archipel.simulate("examples/tiny_numpy.py", folder, split=skew, rounds=2, progress=False)
    >>> run
    <Simulation simulation (finished): 2 of 2 rounds at 3 sites; 3 virtual sites by label skew, alpha 1, seed 0>
    >>> int(run.sites["patients"].sum())
    60
    >>> run.history[run.history["site"] == "all_sites"]["round"].tolist()
    [1, 2]
    >>> run.report(folder).name
    'simulation.html'
    """
    path, class_name = plan_path(plan, plan_class)
    needs = load_to_train(package(path, class_name, plan_entry)).needs
    found = list(data) if not isinstance(data, str | Path) else None
    if found is None:
        place = Path(str(data))
        found = simulated_sites(place, needs, split=split, file=sites, layout=format, options=options, mapping=mapping)
    elif split is not None or sites is not None:
        raise BadInput("split", "divides the folder of one dataset", "give that folder, and leave out sites")
    drafted = draft_at(
        found,
        path,
        rounds=rounds,
        name=name,
        seed=seed,
        class_name=class_name,
        entry=plan_entry,
        arguments=arguments,
        start_from=None if start_from is None else read_starting_model(Path(start_from)),
        title=title,
        description=description,
        patience=patience,
        baselines=baselines,
        validation_fraction=validation_fraction,
        limits=limits or WorkerLimits(),
        strategy=strategy or StrategyTerms(),
        privacy=privacy or PrivacyTerms(),
    )
    if baselines is True and not drafted.job.baselines.ensemble:
        warnings.warn(NO_ENSEMBLE, stacklevel=2)
    lines = (_print if progress else _say_nothing) if isinstance(progress, bool) else progress
    return run_drafted(drafted, found, split, workers=workers, modules=modules, progress=lines)


def draft_at(
    sites: Sequence[SimulatedSite],
    plan: Path,
    *,
    rounds: int,
    patience: Patience | None,
    name: str = "simulation",
    seed: int,
    class_name: str | None = None,
    entry: str | None,
    arguments: Mapping[str, Value] | None,
    start_from: StartingModel | None,
    baselines: Baselines | bool,
    **further: Unpack[ResearchersTerms],
) -> Draft:
    """The job of a simulation at these sites, all of which take part in each round; nobody signs it.

    Raises as ``draft`` does, and BadInput for rounds beyond their bounds.
    """
    return draft(
        plan,
        experiment=name,
        roster=[RosterEntry(site=site.name, identity_key=NO_KEY, dataset="data") for site in sites],
        server_key=NO_KEY,
        seed=seed,
        class_name=class_name,
        entry=entry,
        arguments=arguments,
        start_from=start_from,
        terms=checked(
            RoundTerms, {"rounds": rounds, "quorum": len(sites), "deadline_s": 360_000, "patience": patience}
        ),
        baselines=baselines,
        **further,
    )


def run_drafted(
    drafted: Draft,
    sites: Sequence[SimulatedSite],
    split: VirtualSites | None,
    *,
    workers: int = 1,
    modules: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Simulation:
    """Run the rounds of a draft at its sites, in a folder of their own; ``progress`` is given a line after each one.

    Raises ArchipelError when a site fails, and what the plan raises; the folder is then gone.
    """
    closed: list[str] = []

    def heard(record: StageRecord) -> None:
        closed.append(utc_now())
        progress(round_line(record, drafted.job.terms.rounds))

    folder, began = Path(tempfile.mkdtemp(prefix="archipel-simulation-")), utc_now()
    try:
        store = _finished(
            run_rounds(
                drafted.job, drafted.plan, drafted.initial_model, sites, folder,
                frozen=drafted.frozen, local=drafted.local, workers=workers, modules=modules, heard=heard,
            )
        )  # fmt: skip
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Simulation(drafted, store, sites, split, folder, times=(began, *closed))


def _finished(work: Coroutine[None, None, T]) -> T:
    """The result of a coroutine, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def interruptible() -> T:
        task = asyncio.ensure_future(work)
        begun.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1, "simulation") as thread:
        running = thread.submit(asyncio.run, interruptible())
        try:
            return running.result()
        except KeyboardInterrupt:
            # Else it would train to its end: the thread is waited for.
            loop, task = begun.result()
            loop.call_soon_threadsafe(task.cancel)
            raise


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _say_nothing(line: str) -> None:
    """For a simulation that is not watched."""
