"""Aggregation: the tensor files of a round's contributors become the next model and the strategy's next memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from archipel.rounds.experiment_store import ExperimentStore, Kept, Opened
from archipel.storage import disk_errors_named
from archipel.strategies import SiteStats, check_strategy
from archipel.tensors import Between, fold
from archipel.vocabulary import Job


@dataclass(frozen=True)
class Aggregated:
    """The next model and memories, in files that nothing names yet; ``nothing`` when a stage makes none."""

    model: Kept | None = None
    memory: Mapping[str, Kept] = field(default_factory=dict)

    def remove(self) -> None:
        """Delete the files: they would keep the room that the next try needs."""
        for kept in (*self.memory.values(), *([self.model] if self.model else [])):
            kept.file.unlink(missing_ok=True)


def aggregate(job: Job, store: ExperimentStore, opened: Opened, contributors: Sequence[str]) -> Aggregated:
    """Fold the contributors' tensor files by the job's strategy, in the order given.

    Raises NotFiniteFrame, NotFiniteResult, StorageFull and BadInput; no file is left behind then.
    """
    strategy = check_strategy(job)
    before = store.progress().memory if strategy.memory else {}
    weights = strategy.weights([SiteStats(site, opened.updates[site].samples) for site in contributors])
    result = store.result_file()
    kept = {name: store.result_file() for name in strategy.memory}
    with ExitStack() as read, ExitStack() as on_error, disk_errors_named(result.parent):
        between = Between(
            model=read.enter_context(store.local(opened.task.models[0])) if strategy.uses_model else None,
            memory={name: read.enter_context(store.local(before[name])) for name in strategy.memory if name in before},
            kept=kept,
        )
        for path in (result, *kept.values()):
            on_error.callback(path.unlink, missing_ok=True)
        tensor_files = [opened.tensor_files[site] for site in contributors]
        folded = fold(job.tensors, tensor_files, weights, result, strategy, between)
        on_error.pop_all()
    memory = {name: Kept(kept[name], digest) for name, digest in folded.memory.items()}
    return Aggregated(Kept(result, folded.model), memory)
