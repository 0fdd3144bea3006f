"""What researchers see of a round's record, at a server or in a simulation: means of sums, as REST says it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypedDict

from archipel.rounds.experiment_store import StageRecord
from archipel.rounds.stages import ENSEMBLE
from archipel.transport.rest import BaselinesView, Measurement, SiteRoundView
from archipel.vocabulary import Details, Job, MetricSum, TaskKind, metric_details
from archipel.vocabulary.metrics import SAMPLE


class Recorded(TypedDict, total=False):
    """The fields of a ``RoundView`` that follow from the round's record."""

    contributors: tuple[str, ...]
    sites: dict[str, SiteRoundView]
    samples: int
    metrics: dict[str, float]
    validation: dict[str, float]
    details: Details


def recorded(record: StageRecord) -> Recorded:
    """What a round's record says of it."""
    return Recorded(
        contributors=record.contributors,
        sites={
            site: SiteRoundView(
                state=part.state,
                samples=part.samples,
                seconds=part.seconds,
                metrics=means(part.metrics),
                validation=means(part.validation),
                details=metric_details(part.validation),
                failure=part.failure,
            )
            for site, part in record.sites.items()
        },
        samples=record.samples,
        metrics=means(record.metrics),
        validation=means(record.validation),
        details=metric_details(record.validation),
    )


def counting_samples(job: Job) -> frozenset[str]:
    """The validation metrics whose weight is a number of samples."""
    return frozenset(metric.name for metric in job.validation if metric.counts == SAMPLE)


def baselines(records: Iterable[StageRecord], counting_samples: Collection[str], newest: int) -> BaselinesView:
    """The last model, each site's own and their ensemble, each validated at every site.

    ``counting_samples`` names the metrics whose weight is a number of samples. ``newest`` is the newest round: what
    was measured after a step or a pause before it is of an older model.
    """
    federated = ensemble = None
    local: dict[str, Measurement] = {}
    for record in records:
        if not record.committed or record.stage.kind is not TaskKind.EVALUATE:
            continue
        measured = Measurement(
            validation=means(record.validation),
            per_site={site: means(part.validation) for site, part in record.sites.items() if part.validation},
            details=metric_details(record.validation),
            per_site_details=per_site_details(record),
            subjects=max(
                (total.weight for name, total in record.validation.items() if name in counting_samples), default=0
            ),
        )
        if not record.stage.about and record.stage.round == newest:
            federated = measured
        elif not record.stage.about:
            continue
        elif record.stage.about == ENSEMBLE:
            ensemble = measured
        else:
            local[record.stage.about] = measured
    return BaselinesView(federated=federated, ensemble=ensemble, local=local)


def measured_after(committed: Iterable[StageRecord]) -> dict[int, dict[str, MetricSum]]:
    """By the number of a round, the first validation of the model that it produced."""
    found: dict[int, dict[str, MetricSum]] = {}
    for record in committed:
        if record.stage.kind is TaskKind.TRAIN:
            found.setdefault(record.stage.round - 1, record.validation)
        elif record.stage.kind is TaskKind.EVALUATE and not record.stage.about:
            found.setdefault(record.stage.round, record.validation)
    return found


def per_site_details(record: StageRecord) -> dict[str, Details]:
    """What each site says of its metrics beside their means."""
    found = {site: metric_details(part.validation) for site, part in record.sites.items()}
    return {site: one for site, one in found.items() if one}


def means(sums: Mapping[str, MetricSum]) -> dict[str, float]:
    """The mean of each metric that was counted at all, and that JSON has a number for."""
    return {name: total.mean() for name, total in sums.items() if total.weight}
