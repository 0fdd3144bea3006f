"""Simulation: what a simulated experiment made, in the words of a deployed one: history, models, report."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from archipel.governance import job_hash
from archipel.plans import Draft
from archipel.researcher import plots, tables
from archipel.researcher.experiment_result import experiment_result
from archipel.researcher.model_card import model_card
from archipel.researcher.model_files import place_for, trained_with, write_model
from archipel.researcher.report import write_page
from archipel.rounds import MemoryExperimentStore, StageRecord
from archipel.rounds.named_models import MEMORY
from archipel.rounds.record_views import baselines, counting_samples, means, measured_after, recorded
from archipel.simulation import SimulatedSite, VirtualSites
from archipel.tensors import blob_hash, joined
from archipel.transport.rest import ExperimentView, ModelView, RoundView
from archipel.vocabulary import NotFound, TaskKind, Thing, metric_details
from archipel.vocabulary.states import ExperimentState, RoundState

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


class Simulation:
    """A simulated experiment that has ended. Its models are kept as long as this object is; ``save`` writes one.

    ``split`` is how one dataset was divided among virtual sites, None for sites that have a folder each. ``store`` has
    the records of all exchanges and the files of the kept models.

    >>> import archipel, pathlib, tempfile
    >>> import numpy as np
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> x = np.random.default_rng(0).normal(size=(40, 8))
    >>> np.savez(folder / "all.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=[f"p{n}" for n in range(40)])
    >>> sizes = archipel.VirtualSites(by="quantity", sites=2, alpha=1.0)
    >>> simulation = archipel.simulate("examples/tiny_numpy.py", folder, split=sizes, rounds=1, progress=False)
    >>> isinstance(simulation, archipel.Simulation), str(simulation.status)
    (True, 'finished')
    >>> simulation.save(folder / "models").name
    'simulation-last.safetensors'
    """

    def __init__(
        self,
        drafted: Draft,
        store: MemoryExperimentStore,
        sites: Sequence[SimulatedSite],
        split: VirtualSites | None,
        folder: Path,
        times: Sequence[str],
    ) -> None:
        self.job, self.job_hash, self.split = drafted.job, job_hash(drafted.job), split
        self.store = store
        self._draft, self._sites, self._times = drafted, tuple(sites), times
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def status(self) -> ExperimentState:
        """finished, or paused where a round did not get through."""
        return self.store.state

    @property
    def sites(self) -> DataFrame:
        """One row per site: how many patients and samples it has."""
        counts = [(site, Counter(site.cohort.samples.subjects_of_rows)) for site in self._sites]
        rows: list[tables.Row] = [
            {"site": site.name, "patients": len(count), "samples": count.total()} for site, count in counts
        ]
        return tables.to_table(rows, columns=["site", "patients", "samples"])

    def rounds(self) -> list[RoundView]:
        """The rounds' records, oldest first, as a server gives them."""
        passes, after = self.store.passes(), measured_after(one for one in self.store.records if one.committed)
        found = []
        for number, record in enumerate(self.store.records):
            if record.stage.kind is not TaskKind.TRAIN:
                continue
            model = after.get(record.stage.round, {}) if record.committed else {}
            found.append(
                RoundView(
                    round=record.stage.round,
                    attempt=record.attempt,
                    state=RoundState.COMMITTED if record.committed else RoundState.FAILED,
                    seconds=record.seconds,
                    opened=self._times[number],
                    closed=self._times[number + 1],
                    arguments=passes[record.stage.round],
                    model=record.model,
                    model_validation=means(model),
                    model_details=metric_details(model),
                    **recorded(record),
                )
            )
        return found

    def document(self) -> ExperimentView:
        """The experiment's document, as a server gives it; nobody approved anything."""
        progress = self.store.progress()
        return ExperimentView(
            experiment=self.job.experiment,
            state=self.status,
            round=progress.rounds_done,
            rounds=self.job.terms.rounds,
            reason=self.store.reason or None,
            created=self._times[0],
            started=self._times[0],
            ended=self._times[-1],
            job=self.job,
            job_hash=self.job_hash,
            arguments=progress.arguments,
            baselines=baselines(self.store.records, counting_samples(self.job), progress.rounds_done),
        )

    @property
    def history(self) -> DataFrame:
        """One row for each round and site, and one for all of them (``all_sites``), as ``Experiment.history``; with
        ``split`` a column says how the dataset was divided.
        """
        found = tables.history(self.rounds(), self.document().baselines)
        if self.split is not None:
            found["split"] = self.split.in_words
        return found

    @property
    def baselines(self) -> DataFrame:
        """The federated model beside each site's own and their ensemble, as ``Experiment.baselines``."""
        return tables.baselines(self.document().baselines, self.job.validation)

    def plot(self) -> Figure:
        """Loss and validation over the rounds, as ``Experiment.plot``."""
        measured = self.document().baselines
        names = [metric.name for metric in self.job.validation]
        return plots.curves(tables.history(self.rounds(), measured), names, measured)

    def report(self, path: str | Path = ".") -> Path:
        """Write the report of ``Experiment.report``, which says that it was a simulation; returns its path."""
        given = Path(path)
        target = given if given.suffix == ".html" else given / f"{self.job.experiment}.html"
        return write_page(experiment_result(self.document(), self.rounds(), simulated=self._in_words()), target)

    def models(self) -> DataFrame:
        """The kept models: ``initial``, ``last``, ``best``, and ``local:<site>`` where that baseline was asked for."""
        rows: list[tables.Row] = [
            {"name": one.name, "origin": one.origin, "round": one.round, "hash": one.hash, **(one.validation or {})}
            for one in self._models().values()
        ]
        return tables.to_table(rows)

    def save(self, path: str | Path, which: str = "last") -> Path:
        """Write a model with its card and plan, as ``Experiment.download`` does; the card says that it was simulated.

        Raises NotFound for a model that is not kept.
        """
        kept = self._models()
        if which not in kept:
            raise NotFound(Thing("model", which), "is not kept", f"there are: {', '.join(sorted(kept))}")
        model = kept[which]
        said = "-untrained" if model.is_untrained else "-initial" if model.is_initial else ""
        target = place_for(Path(path), self.job.experiment, f"{which}{said}")
        data = self.tensor_file(model.hash)
        card = model_card(
            self.job, self.job_hash, model, self.document(), self.rounds(), {}, blob_hash(data),
            simulated=self._in_words(),
        )  # fmt: skip
        trained = trained_with(self.job, model, self.rounds())
        write_model(target, data, card=card, plan=self._draft.plan.files, trained=trained)
        return target

    def tensor_file(self, model: str) -> bytes:
        """A kept model by its hash, with the frozen part and the initial local part where it has them."""
        return joined(self.store.models[model].read_bytes(), self._draft.frozen, self._draft.local)

    def __repr__(self) -> str:
        done, whole = self.store.progress().rounds_done, self.job.terms.rounds
        split = "" if self.split is None else f"; {self.split.in_words}"
        return (
            f"<Simulation {self.job.experiment} ({self.status}): {done} of {whole} rounds at {len(self._sites)} "
            f"sites{split}>"
        )

    def _in_words(self) -> str:
        return f"{len(self._sites)} sites on one machine" if self.split is None else self.split.in_words

    def _models(self) -> dict[str, ModelView]:
        return {
            name: ModelView(
                name=name,
                round=one.round,
                hash=one.model,
                validation=None if one.validation is None else means(one.validation),
                lineage=self.job.lineage,
                details=metric_details(one.validation or {}),
            )
            for name, one in sorted(self.store.named.items())
            if not name.startswith(MEMORY)
        }


def round_line(record: StageRecord, rounds: int) -> str:
    """What an exchange reached, in a line.

    >>> from archipel.rounds import Stage
    >>> stage = Stage(kind=TaskKind.TRAIN, round=2)
    >>> round_line(StageRecord(stage=stage, attempt=1, committed=True, seconds=0.51, contributors=(), sites={}), 10)
    'round 2 of 10 (0.5 s)'
    """
    numbers = {**record.metrics, **{f"validation {name}": one for name, one in record.validation.items()}}
    said = ", ".join(f"{name} {one.mean():.4f}" for name, one in numbers.items() if one.weight)
    stage = record.stage
    what = f"round {stage.round} of {rounds}" if stage.kind is TaskKind.TRAIN else str(stage)
    failed = "" if record.committed else " did not count"
    return f"{what}{failed}{': ' if said else ''}{said} ({record.seconds:.1f} s)"


def utc_now() -> str:
    """The time, ISO and UTC, as a server writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
