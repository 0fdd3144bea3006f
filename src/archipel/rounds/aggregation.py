"""Aggregation: the tensor files of a round's contributors become the next model and the strategy's next memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from archipel.privacy import UpdateSums, added_up, field_names, only_sums, update_schema
from archipel.rounds.experiment_store import ExperimentStore, Kept, Opened
from archipel.storage import disk_errors_named
from archipel.strategies import SiteStats, Strategy, check_strategy
from archipel.tensors import Between, NotFiniteUpdate, WeightedUpdates, fold, sum_of_numbers
from archipel.vocabulary import BadInput, Job, TaskKind


class UnusableSum(Exception):
    """The sum of the updates cannot be used, and a sum does not show which site's update is at fault."""


@dataclass(frozen=True)
class Aggregated:
    """The next model and memories, in files that nothing names yet; ``nothing`` when a stage makes none.

    ``sums`` is what the updates' fields add up to, of a job whose updates leave only within a sum.
    """

    model: Kept | None = None
    memory: Mapping[str, Kept] = field(default_factory=dict)
    sums: UpdateSums | None = None

    def remove(self) -> None:
        """Delete the files: they would take the space that the next try needs."""
        for kept in (*self.memory.values(), *([self.model] if self.model else [])):
            kept.file.unlink(missing_ok=True)


def aggregate(job: Job, store: ExperimentStore, opened: Opened, contributors: Sequence[str]) -> Aggregated:
    """The result of the contributors' updates: after training the next model and the strategy's memory.

    Raises NotFiniteUpdate, NotFiniteResult, StorageFull and BadInput, and UnusableSum in place of NotFiniteUpdate for a
    job whose updates leave only within a sum; no file is left behind then.
    """
    if not only_sums(job):
        if opened.stage.kind is not TaskKind.TRAIN:
            return Aggregated()
        strategy = check_strategy(job)
        weights = strategy.weights([SiteStats(site, opened.updates[site].samples) for site in contributors])
        return _folded(job, strategy, store, opened, contributors, weights)
    try:
        sums = _summed_fields(job, opened, contributors)
        if opened.stage.kind is not TaskKind.TRAIN:
            return Aggregated(sums=sums)
        weighted = WeightedUpdates(update_schema(job, TaskKind.TRAIN), sums.weight)
        ones = [1.0] * len(contributors)
        made = _folded(job, check_strategy(job), store, opened, contributors, ones, weighted)
        return Aggregated(made.model, made.memory, sums)
    except NotFiniteUpdate as error:
        raise UnusableSum(f"tensor {error.tensor} of the sum of the updates is NaN or infinite") from error


def _summed_fields(job: Job, opened: Opened, contributors: Sequence[str]) -> UpdateSums:
    kind = opened.stage.kind
    tensor_files = [opened.tensor_files[site] for site in contributors]
    numbers = sum_of_numbers(update_schema(job, kind), tensor_files, field_names(job, kind))
    try:
        return added_up(job, numbers)
    except BadInput as error:
        raise UnusableSum(f"{error.thing} {error.cause}") from error


def _folded(
    job: Job,
    strategy: Strategy,
    store: ExperimentStore,
    opened: Opened,
    contributors: Sequence[str],
    weights: Sequence[float],
    weighted: WeightedUpdates | None = None,
) -> Aggregated:
    """Fold the contributors' tensor files by the job's strategy, in the order given."""
    before = store.progress().memory if strategy.memory else {}
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
        folded = fold(job.tensors, tensor_files, weights, result, strategy, between, weighted, durable=store.is_durable)
        on_error.pop_all()
    memory = {name: Kept(kept[name], digest) for name, digest in folded.memory.items()}
    return Aggregated(Kept(result, folded.model), memory)
