"""Which models of an experiment are kept: the initial, the last and the best one, and each site's own.

One rule for the server's database and for a simulation. Both delete models to which no name refers any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from archipel.rounds.experiment_store import StageRecord
from archipel.vocabulary import Hash, Job, MetricSum, TaskKind

INITIAL, LAST, BEST, LOCAL, MEMORY = "initial", "last", "best", "local:", "memory:"
"""Names of models; a site's own model is called ``local:`` and the site's name.

``memory:`` and a name is what the strategy keeps between rounds: kept as models are, but given to no site and no
researcher.
"""


NO_HASHES: Mapping[str, Hash] = MappingProxyType({})


@dataclass(frozen=True)
class NamedModel:
    """A model by hash, the round that made it, and what it reached where that was measured."""

    model: Hash
    round: int
    validation: Mapping[str, MetricSum] | None = None


def named_at_start(job: Job) -> dict[str, NamedModel]:
    """The models of an experiment before its first round."""
    return {INITIAL: NamedModel(job.initial_model, 0)}


def named_after(
    job: Job,
    named: Mapping[str, NamedModel],
    record: StageRecord,
    local: Mapping[str, Hash],
    memory: Mapping[str, Hash] = NO_HASHES,
) -> dict[str, NamedModel]:
    """The models by name after a committed stage; ``local`` are the sites' own models that it made, by site.

    ``memory``, by name, is what the strategy keeps after a round of training, in place of what it kept before.

    The best model is the best by the job's selection. A round of training measures the model that it starts from.
    """
    after, stage = dict(named), record.stage
    about_federated = stage.kind is TaskKind.TRAIN or (stage.kind is TaskKind.EVALUATE and not stage.about)
    if about_federated and record.validation:
        before = named.get(LAST)
        number = stage.round - (1 if stage.kind is TaskKind.TRAIN else 0)
        measured = NamedModel(before.model if before else job.initial_model, number, record.validation)
        if before is not None:
            after[LAST] = replace(before, validation=record.validation)
        if _is_better(job, record.validation, named.get(BEST)):
            after[BEST] = measured
    if record.model is not None:
        after[LAST] = NamedModel(record.model, stage.round)
    if stage.kind is TaskKind.TRAIN:
        after = {name: kept for name, kept in after.items() if not name.startswith(MEMORY)}
        after |= {MEMORY + name: NamedModel(blob, stage.round) for name, blob in memory.items()}
    for site, model in local.items():
        after[LOCAL + site] = NamedModel(model, stage.round)
    if stage.kind is TaskKind.EVALUATE and stage.about in job.sites:
        name = LOCAL + stage.about
        after[name] = NamedModel(named[name].model, stage.round, record.validation)
    return after


def names_given(job: Job, records: Iterable[StageRecord]) -> frozenset[tuple[str, Hash, int]]:
    """Every name that a model of the federation has had so far, with the model and its round.

    ``records`` are those of the committed stages, oldest first.
    """
    named = named_at_start(job)
    given = _names(named)
    for record in records:
        about_federated = record.stage.kind is TaskKind.TRAIN or not record.stage.about
        if record.committed and record.stage.kind is not TaskKind.LOCAL and about_federated:
            named = named_after(job, named, record, NO_HASHES)
            given |= _names(named)
    return given


def _names(named: Mapping[str, NamedModel]) -> frozenset[tuple[str, Hash, int]]:
    return frozenset((name, model.model, model.round) for name, model in named.items())


def _is_better(job: Job, validation: Mapping[str, MetricSum], best: NamedModel | None) -> bool:
    selection = job.selection
    found = validation.get(selection.metric) if selection else None
    if selection is None or found is None or not found.weight:
        return False
    if best is None or not best.validation:
        return True
    known = best.validation[selection.metric].mean()
    return found.mean() > known if selection.better == "higher" else found.mean() < known
