"""The account of a round: whether an update may count, what became of each site, and sums over those that did."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.governance import task_hash
from archipel.privacy import UpdateSums, only_sums, steps_of
from archipel.rounds.experiment_store import Opened, SiteRecord, StageRecord
from archipel.rounds.tables import ENDED
from archipel.vocabulary import (
    BadInput,
    Conflict,
    ErrorCode,
    Job,
    MetricSpec,
    MetricSum,
    Release,
    Task,
    TaskKind,
    Update,
)
from archipel.vocabulary.bounds import MOST_COUNTED
from archipel.vocabulary.remedies import Nothing
from archipel.vocabulary.score_histogram import ScoreHistogram
from archipel.vocabulary.states import ParticipantStatus


def check_releases(job: Job) -> None:
    """Raise BadInput for a job that names an unknown privacy step."""
    steps_of(job)


def check_what_leaves(job: Job, update: Update) -> None:
    """Raise BadInput when an update discloses individually what may leave its site only within a sum.

    Such a field is a tensor of the update's file. Called where a site makes an update and where a server takes one.
    """
    stated = {
        "samples": update.samples > 0,
        "metrics": bool(update.metrics),
        "validation": bool(update.validation),
    }
    for field, is_stated in stated.items():
        if is_stated and job.release_of(field) is Release.SUM:
            cause = f"{field} may leave a site only in a sum"
            remedy = "write it into the update's file, or set privacy.release to individually in a new job"
            raise BadInput(update.thing, cause, remedy, code=ErrorCode.BAD_UPDATE, values={"field": field})


def check_counts(job: Job, opened: Opened, site: str, update: Update, has_file: bool) -> None:
    """Raise unless this update may count now, or is one that counts already, sent again."""
    thing = update.key.update_of(site)
    state = opened.sites.get(site)
    if update.key != opened.task.key or state is None or (state in ENDED and state is not ParticipantStatus.DELIVERED):
        cause = f"the round is closed to it ({state})" if state else "that round is not open"
        raise Conflict(thing, cause, "no action is needed", code=ErrorCode.ROUND_CLOSED, command=Nothing())
    if site in opened.updates:
        if opened.updates[site] != update:
            raise Conflict(thing, "another update counts already", "send the first again", code=ErrorCode.REPLAYED)
        return
    check_update(job, opened.task, update, has_file)


def check_update(job: Job, task: Task, update: Update, has_file: bool) -> None:
    """Raise BadInput unless the update answers the task in the job's terms."""
    thing = update.thing
    if update.task_hash != task_hash(task):
        raise BadInput(thing, "answers another task", "send the update of this task", code=ErrorCode.BAD_UPDATE)
    check_what_leaves(job, update)
    trained = task.key.kind is not TaskKind.EVALUATE
    if (trained or only_sums(job)) != has_file or (trained and not only_sums(job) and update.samples == 0):
        raise BadInput(thing, "has no model or no samples", "train on at least one sample", code=ErrorCode.BAD_UPDATE)
    if update.samples > MOST_COUNTED:
        raise BadInput(
            thing,
            "counts more samples than can be",
            "count each once",
            code=ErrorCode.BAD_UPDATE,
            values={"samples": update.samples, "limit": MOST_COUNTED},
        )
    # A round's metrics of training are over the samples that it counts; how many it measured it says by itself only
    # when it does nothing else.
    measured = MOST_COUNTED if trained else update.samples
    of_training = {spec.name: (spec, spec.most(update.samples)) for spec in job.metrics}
    for name in (name for step in steps_of(job) for name in step.metrics):
        of_training.setdefault(name, (MetricSpec(name=name, better="lower"), 1))
    of_validation = {spec.name: (spec, spec.most(measured)) for spec in job.validation}
    _check_metrics(update, update.metrics, of_training if trained else {})
    _check_metrics(update, update.validation, {} if task.key.kind is TaskKind.LOCAL else of_validation)


def _check_metrics(update: Update, given: Mapping[str, MetricSum], known: Mapping[str, tuple[MetricSpec, int]]) -> None:
    """Raise BadInput unless the metrics are the job's, as they leave a site; each is known with its largest weight, in
    the order in which a site sends them."""
    thing = update.thing
    if list(given) != [name for name in known if name in given] and given.keys() <= known.keys():
        cause, remedy = "has its metrics in another order than the job", "send them in the job's order"
        raise BadInput(thing, cause, remedy, code=ErrorCode.BAD_UPDATE)
    for name, value in given.items():
        spec, most = known.get(name, (None, 0))
        if spec is None:
            cause, remedy = f"metric {name} is not in the job", "send the job's"
        elif value.weight > most:
            cause, remedy = f"metric {name} counts {value.weight} where it may count {most}", "count each once"
        elif not value.is_rounded:
            cause, remedy = f"metric {name} has a number that is not a float32 as a site rounds it", "round it so"
        elif value.spread is not None and (not spec.spread or value.weight < 2):
            cause, remedy = f"metric {name} says how much it differs, which the job does not ask for", "leave it out"
        elif value.scores is not None and not _are_of_a_site(value.scores, spec, most):
            cause, remedy = f"metric {name} has scores that no site sends", "send what the job asks for"
        else:
            continue
        raise BadInput(thing, cause, remedy, code=ErrorCode.BAD_UPDATE, values={"metric": name})


def _are_of_a_site(scores: ScoreHistogram, spec: MetricSpec, most: int) -> bool:
    return scores.bins == spec.bins and scores.is_of_one_site and 0 < sum(scores.cases) <= most


def stage_record(
    job: Job,
    opened: Opened,
    committed: bool,
    contributors: list[str],
    model: str | None,
    seconds: float,
    sums: UpdateSums | None = None,
) -> StageRecord:
    """The record of an attempt that closes now; ``model`` is the hash of the model that it made, if any.

    ``sums`` is what the contributors' files add up to where a site's own numbers may not leave it; no site has numbers
    in the record then.
    """
    sites, alone = {}, not only_sums(job)
    for site, state in opened.sites.items():
        update = opened.updates.get(site) if state is ParticipantStatus.DELIVERED else None
        sites[site] = SiteRecord(
            state=state,
            samples=(update.samples if update else 0) if alone else None,
            seconds=update.seconds if update else 0.0,
            bytes_up=update.model_bytes if update else 0,
            metrics=update.metrics if update else {},
            validation=update.validation if update else {},
            failure=opened.failures.get(site),
        )
    counted = [sites[site] for site in contributors]
    if alone:
        sums = UpdateSums(
            samples=sum(site.samples or 0 for site in counted),
            metrics=pooled([site.metrics for site in counted]),
            validation=pooled([site.validation for site in counted]),
        )
    sums = sums or UpdateSums()
    return StageRecord(
        stage=opened.stage,
        attempt=opened.attempt,
        committed=committed,
        seconds=seconds,
        contributors=tuple(contributors),
        sites=sites,
        samples=sums.samples,
        metrics=dict(sums.metrics),
        validation=dict(sums.validation),
        model=model,
    )


def pooled(parts: list[dict[str, MetricSum]]) -> dict[str, MetricSum]:
    """The sum of each metric over the sites that reported it."""
    total: dict[str, MetricSum] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total
