"""The results of a simulation's models, at each site and over all sites together."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.rounds import MemoryExperimentStore, StageRecord
from archipel.vocabulary import Details, MetricSum, Record, TaskKind, metric_details

_NAMES = {"": "federated", "ensemble": "ensemble"}


class ModelScores(Record):
    """One model's validation metrics at each site, and over all sites together: weighted means, without metrics of no
    sample. ``details`` say of all sites together what is known of a metric beside its mean."""

    model: str
    all_sites: dict[str, float]
    per_site: dict[str, dict[str, float]]
    details: Details = {}


def model_scores(store: MemoryExperimentStore) -> list[ModelScores]:
    """The results of each model that was measured at the end: the federated one, the ensemble, then each site's own."""
    measured = [record for record in store.records if record.committed and record.stage.kind is TaskKind.EVALUATE]
    measured.sort(key=_place)
    return [
        scores(
            _NAMES.get(record.stage.about, f"{record.stage.about} alone"),
            {site: part.validation for site, part in record.sites.items()},
        )
        for record in measured
    ]


def scores(model: str, per_site: Mapping[str, Mapping[str, MetricSum]]) -> ModelScores:
    """The means of a model's metrics, by site, and of their sums over all sites."""
    totals: dict[str, MetricSum] = {}
    for sums in per_site.values():
        for name, one in sums.items():
            totals[name] = totals[name] + one if name in totals else one
    means = {site: _means(sums) for site, sums in sorted(per_site.items())}
    return ModelScores(model=model, all_sites=_means(totals), per_site=means, details=metric_details(totals))


def _means(sums: Mapping[str, MetricSum]) -> dict[str, float]:
    return {name: one.mean() for name, one in sums.items() if one.weight}


def _place(record: StageRecord) -> int:
    return list(_NAMES).index(record.stage.about) if record.stage.about in _NAMES else len(_NAMES)
