"""Records of rounds as a pandas DataFrame: one row for each round and site, and one for all sites together."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from archipel.transport.rest import (
    BaselinesView,
    ErrorReleased,
    Event,
    RoundView,
    SiteFailed,
)
from archipel.vocabulary import BadInput, Details, MetricSpec, TaskKind, worst_site
from archipel.vocabulary.visible import escape_hidden_lines

if TYPE_CHECKING:
    from pandas import DataFrame

C = TypeVar("C")
ALL_SITES = "all_sites"
"""The name of the row of a round, or of the column of a baseline, for all sites together."""

Cell = str | int | float | bool | None
Row = dict[str, Cell]
"""A row of a table: columns differ from plan to plan, so they are keys and no fields."""

_OF_A_ROUND = ("round", "attempt", "site", "state", "samples", "seconds")
_OF_A_FAILURE = ("code", "sentence", "exception", "file", "line")
_OF_IMPORTS = {"ImportError", "ModuleNotFoundError"}


def to_table(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str] | None = None) -> DataFrame:
    """Rows as a pandas DataFrame, with invisible characters of other parties' texts written out.

    Raises BadInput with the remedy when pandas is not installed.
    """
    shown = [
        {key: escape_hidden_lines(one) if isinstance(one, str) else one for key, one in row.items()} for row in rows
    ]
    made: DataFrame = _optional("pandas").DataFrame(shown, columns=columns)
    return made


def pyplot() -> Any:
    """The matplotlib.pyplot module. Raises BadInput with the remedy when it is not installed."""
    return _optional("matplotlib.pyplot")


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(module, "is not installed", 'pip install "archipel[notebook]"') from error


def history(rounds: Sequence[RoundView], baselines: BaselinesView | None = None) -> DataFrame:
    """``history_rows`` as a DataFrame."""
    rows = history_rows(rounds, baselines)
    return to_table(rows, columns=[*_OF_A_ROUND, *sorted({key for row in rows for key in row} - set(_OF_A_ROUND))])


def history_rows(rounds: Sequence[RoundView], baselines: BaselinesView | None = None) -> list[Row]:
    """One row for each attempt at a round and site, and one for all of them, oldest first.

    Columns: ``round``, ``attempt``, ``site`` (or ``all_sites``), ``state``, ``samples``, ``seconds``, each training
    metric by its name, each validation metric as ``validation_<name>`` (of the model that the round started from)
    and as ``model_<name>`` (of the model that the round produced, known once a later exchange has measured it), and
    each hyper-parameter as ``argument_<name>``. Of a metric with ``spread`` there are also ``model_<name>_deviation``,
    the standard deviation, and the 95 % interval from ``model_<name>_low`` to ``model_<name>_high``; of an AUC with
    ``bins`` there are ``model_<name>_pooled``, that of the sites' cases together, and its bounds
    ``model_<name>_pooled_low`` and ``model_<name>_pooled_high``. A metric that is called ``validation_...`` gets no
    second prefix. What leaves a site only within a sum is there for ``all_sites`` alone.
    """
    rows: list[Row] = []
    for attempt in rounds:
        after = after_round(attempt, rounds, baselines)
        place: Row = {"round": attempt.round, "attempt": attempt.attempt}
        arguments = _prefixed("argument", attempt.arguments)
        for site, part in sorted(attempt.sites.items()):
            counts: Row = {"state": part.state.value, "samples": part.samples, "seconds": part.seconds}
            values = {**part.metrics, **_prefixed("validation", part.validation)}
            values |= _prefixed("model", {**after.values.get(site, {}), **detail_columns(after.details.get(site, {}))})
            rows.append({**place, "site": site, **counts, **values, **arguments})
        counts = {"state": attempt.state.value, "samples": attempt.samples, "seconds": attempt.seconds}
        values = {**attempt.metrics, **_prefixed("validation", attempt.validation)}
        values |= _prefixed("model", attempt.model_validation | detail_columns(attempt.model_details))
        rows.append({**place, "site": ALL_SITES, **counts, **values, **arguments})
    return rows


def failures(events: Sequence[Event], lacking: Mapping[str, str] | None = None) -> DataFrame:
    """``failure_rows`` as a DataFrame."""
    columns = ["round", "attempt", "stage", "site", *_OF_A_FAILURE, "lacks", "detail"]
    return to_table(failure_rows(events, lacking), columns=columns)


def failure_rows(events: Sequence[Event], lacking: Mapping[str, str] | None = None) -> list[Row]:
    """Every failure of a site, oldest first, of training and of the stages after it.

    ``lacking`` are the packages of the plan that each site said before that it lacks: they are in ``lacks`` of a
    failure to import, which leaves a site without the package's name.

    The code and the sentence are its agent's; ``exception`` is the error's class, ``line`` the plan's line; ``detail``
    is the error's full text where a person at the site released it, else empty.
    """
    details: dict[tuple[str, int, int, TaskKind, str], list[str]] = {}
    for event in events:
        if isinstance(event.body, ErrorReleased):
            details.setdefault(event.body.task, []).append(event.body.detail)
    rows: list[Row] = []
    for event in events:
        if isinstance(body := event.body, SiteFailed):
            place: Row = {"round": body.round, "attempt": body.attempt, "stage": body.stage, "site": body.site}
            failure: Row = body.failure.model_dump(mode="json", include=set(_OF_A_FAILURE))
            lacks = (lacking or {}).get(body.site, "") if body.failure.exception in _OF_IMPORTS else ""
            rows.append({**place, **failure, "lacks": lacks, "detail": "\n".join(details.get(body.task, ()))})
    return rows


def _averaged_by(metric: MetricSpec) -> str:
    return metric.counts if metric.bins is None else f"site, weighted by {metric.counts}"


@dataclass(frozen=True)
class AtSites:
    """What each site measured of a model: means, and what it says beside them."""

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, Details] = field(default_factory=dict)

    @classmethod
    def before(cls, attempt: RoundView) -> AtSites:
        """Of the model that a round started from."""
        parts = attempt.sites.items()
        return cls({site: part.validation for site, part in parts}, {site: part.details for site, part in parts})


def after_round(attempt: RoundView, rounds: Sequence[RoundView], baselines: BaselinesView | None) -> AtSites:
    """What each site measured of the model that this round produced: at the start of the next round, or at the end."""
    if not attempt.is_committed:
        return AtSites()
    later = [other for other in rounds if other.round == attempt.round + 1 and other.is_committed]
    if later:
        return AtSites.before(later[0])
    federated = baselines.federated if baselines is not None else None
    is_last = attempt.round == max(other.round for other in rounds)
    return AtSites(federated.per_site, federated.per_site_details) if federated is not None and is_last else AtSites()


def measured_after(
    attempt: RoundView, rounds: Sequence[RoundView], baselines: BaselinesView | None
) -> Mapping[str, Mapping[str, float]]:
    """The means of ``after_round``."""
    return after_round(attempt, rounds, baselines).values


def detail_columns(details: Details) -> dict[str, float]:
    """Standard deviation, 95 % interval and pooled AUC of each metric that has them, a column each."""
    found: dict[str, float] = {}
    for name, detail in details.items():
        if (spread := detail.spread) is not None:
            found |= {f"{name}_deviation": spread.deviation, f"{name}_low": spread.low, f"{name}_high": spread.high}
        if (pooled := detail.pooled_auc) is not None:
            found |= {f"{name}_pooled": pooled.auc}
            found |= {f"{name}_pooled_low": pooled.low, f"{name}_pooled_high": pooled.high}
    return found


def _prefixed(prefix: str, values: Mapping[str, C]) -> dict[str, C]:
    return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in values.items()}


def baselines(measured: BaselinesView, metrics: Sequence[MetricSpec] = ()) -> DataFrame:
    """One row per model and metric: its mean over all sites together (``all_sites``), what that is a mean of
    (``averaged_by``: samples, unless the metric counts something else), the site where the model is worst and its value
    there (``worst_site``, ``worst_value``), then its mean at each site. Where a metric says how much its values differ
    there are also ``deviation``, the 95 % interval of the mean (``low``, ``high``), and over what these are (``over``);
    of an AUC with bins ``pooled_auc``, that of the sites' cases together, and its bounds (``pooled_low``,
    ``pooled_high``).
    """
    declared = {metric.name: metric for metric in metrics}
    of_details = ["deviation", "low", "high", "pooled_auc", "pooled_low", "pooled_high", "over"]
    columns = ["model", "metric", ALL_SITES, "averaged_by", "worst_site", "worst_value", *of_details]
    rows: list[Row] = []
    for model, reached in measured.by_model().items():
        for name, value in sorted(reached.validation.items()):
            metric = declared.get(name)
            found = worst_site(metric, reached.per_site) if metric is not None else None
            site, worst = found if found is not None else (None, None)
            row: Row = {
                "model": model,
                "metric": name,
                ALL_SITES: value,
                "averaged_by": _averaged_by(metric) if metric is not None else None,
            }
            row |= {"worst_site": site, "worst_value": worst}
            detail = reached.details.get(name)
            if detail is not None and (spread := detail.spread) is not None:
                row |= {"deviation": spread.deviation, "low": spread.low, "high": spread.high}
                row["over"] = spread.over(metric)
            if detail is not None and (pooled := detail.pooled_auc) is not None:
                row |= {"pooled_auc": pooled.auc, "pooled_low": pooled.low, "pooled_high": pooled.high}
                row["over"] = pooled.over
            rows.append(row | {site: there[name] for site, there in sorted(reached.per_site.items()) if name in there})
    known = {key for row in rows for key in row}
    shown = [column for column in columns if column not in of_details or column in known]
    return to_table(rows, columns=shown + sorted(known - set(columns)))
