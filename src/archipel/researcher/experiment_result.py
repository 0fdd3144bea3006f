"""The result of an experiment, from the server's records, as its report shows it."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Mapping, Sequence

from archipel.researcher.outcome import ExperimentResult, ModelKind, ModelScore, SiteFacts
from archipel.researcher.tables import ALL_SITES, measured_after
from archipel.transport.rest import ExperimentView, Measurement, RoundView
from archipel.version import VERSION
from archipel.vocabulary import Conflict, Details, Job, MetricSpec, ParentModel, SpreadFigures, Thing


def experiment_result(
    document: ExperimentView, rounds: Sequence[RoundView], *, simulated: str = ""
) -> ExperimentResult:
    """What the experiment reached so far: of the metric that chooses its best model, else of its first one.

    ``simulated`` says of a simulation which sites it had. Raises Conflict before its first round is finished.
    """
    job = document.job
    committed = [attempt for attempt in rounds if attempt.is_committed]
    if not committed:
        cause, remedy = "has no finished round to report on", "run it, or wait for its first round"
        raise Conflict(Thing("experiment", job.experiment), cause, remedy)
    metric = _metric(job)
    labels = ", ".join(name for _, name in sorted(job.needs.labels.items()))
    data = f"{job.needs.kind} of {len(job.sites)} sites" + (f", labels {labels}" if labels else "")
    held_out = max((one.subjects for one in document.baselines.by_model().values()), default=0)
    return ExperimentResult(
        title=job.title or job.experiment,
        data="; ".join(part for part in (data, simulated) if part),
        deployed=not simulated,
        sites=[_site(site, committed) for site in job.sites],
        rounds=len(committed),
        seed=job.seed,
        scores=_scores(metric, document, rounds),
        curves={ModelKind.FEDERATED: [one.model_validation.get(metric.name, math.nan) for one in committed]},
        losses=_losses(job, committed),
        seconds={"total": sum(attempt.seconds or 0.0 for attempt in committed)},
        plan=f"{job.plan.entry}, class {job.plan.class_name}",
        plan_hash=job.plan.hash,
        job_hash=document.job_hash,
        notes=_notes(document, rounds),
        versions={"archipel": VERSION, "python": platform.python_version()},
        metric=metric,
        is_demonstration=False,
        strategy=job.strategy.name,
        subjects=held_out,
        intervals={
            place: spread
            for place, one in enumerate(committed, start=1)
            if (spread := _spread(metric, one.model_details)) is not None
        },
    )


def _metric(job: Job) -> MetricSpec:
    chosen = job.selection.metric if job.selection is not None else None
    for metric in job.validation:
        if chosen in (None, metric.name):
            return metric
    return MetricSpec(name="validation", better="higher")


def _site(site: str, committed: Sequence[RoundView]) -> SiteFacts:
    there = [attempt.sites[site] for attempt in committed if site in attempt.contributors]
    seconds = statistics.median(part.seconds for part in there) if there else None
    return SiteFacts(site, there[-1].samples if there else 0, None, seconds)


def _scores(metric: MetricSpec, document: ExperimentView, rounds: Sequence[RoundView]) -> list[ModelScore]:
    measured = document.baselines
    found: list[tuple[ModelKind, str, Measurement | None]] = [
        (ModelKind.FEDERATED, ModelKind.FEDERATED, measured.federated or _of_the_rounds(document, rounds)),
        (ModelKind.ENSEMBLE, ModelKind.ENSEMBLE, measured.ensemble),
        *((ModelKind.LOCAL, site, one) for site, one in sorted(measured.local.items())),
    ]
    return [
        ModelScore(
            kind,
            name,
            one.validation[metric.name],
            {site: values[metric.name] for site, values in one.per_site.items() if metric.name in values},
            {other: value for other, value in one.validation.items() if other != metric.name},
            _spread(metric, one.details),
            detail.pooled_auc if (detail := one.details.get(metric.name)) is not None else None,
        )
        for kind, name, one in found
        if one is not None and metric.name in one.validation
    ]


def _spread(metric: MetricSpec, details: Details) -> SpreadFigures | None:
    detail = details.get(metric.name)
    return detail.spread if detail is not None else None


def _of_the_rounds(document: ExperimentView, rounds: Sequence[RoundView]) -> Measurement | None:
    """The newest model that a later round has measured."""
    for attempt in reversed(rounds):
        if attempt.is_committed and attempt.model_validation:
            per_site = {site: dict(one) for site, one in measured_after(attempt, rounds, document.baselines).items()}
            return Measurement(
                validation=attempt.model_validation, per_site=per_site, subjects=0, details=attempt.model_details
            )
    return None


def _losses(job: Job, committed: Sequence[RoundView]) -> Mapping[str, Sequence[float]]:
    """The training loss of each round at each site, or of all together where it leaves within a sum only."""
    by_site = {
        site: [attempt.sites[site].metrics.get("loss", math.nan) if site in attempt.sites else math.nan
               for attempt in committed]
        for site in job.sites
    }  # fmt: skip
    by_site[ALL_SITES] = [attempt.metrics.get("loss", math.nan) for attempt in committed]
    known = {site: values for site, values in by_site.items() if any(map(math.isfinite, values))}
    return {site: values for site, values in known.items() if site != ALL_SITES} or known


def _notes(document: ExperimentView, rounds: Sequence[RoundView]) -> list[str]:
    lineage = document.job.lineage
    notes = []
    if lineage is not None:
        digest = lineage.job_hash if isinstance(lineage, ParentModel) else lineage.file
        notes.append(f"It started from {lineage} ({digest}); its rounds are counted from there.")
    notes += [] if document.state.is_over else [f"The experiment is {document.state}; numbers may change."]
    if document.ended_early:
        notes.append(f"The experiment {document.ended_early}.")
    elif document.round < document.rounds:
        notes.append(f"{document.round} of {document.rounds} rounds are finished.")
    lacking = sum(len(one.contributors) < len(document.job.sites) for one in rounds if one.is_committed)
    if lacking:
        notes.append(f"{lacking} of the finished rounds lacked at least one site.")
    notes.append(
        "The federated numbers are those of the last round's model, not of the best one."
        if document.baselines.federated is not None
        else "The federated numbers are those of the newest model that was measured; it may be of an earlier round."
    )
    return notes
