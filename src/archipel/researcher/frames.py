"""Records of rounds as a pandas frame: one row for each round and site, and one for all sites together."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archipel.vocabulary import BadInput
from archipel.vocabulary.visible import visible

if TYPE_CHECKING:
    from pandas import DataFrame

ALL_SITES = "all_sites"
"""The row of a round, or the column of a baseline, that stands for all its sites together."""

_OF_A_FAILURE = ("code", "sentence", "exception", "line")


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> DataFrame:
    """Rows as a pandas frame, in texts of others everything hidden written out.

    Raises BadInput with the remedy when pandas is not installed.
    """
    shown = [
        {key: visible(one, keep="\n\t") if isinstance(one, str) else one for key, one in row.items()} for row in rows
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


def history(rounds: Sequence[Mapping[str, Any]], baselines: Mapping[str, Any] | None = None) -> DataFrame:
    """Rounds as a frame, oldest first.

    Columns: ``round``, ``attempt``, ``site`` (or ``all_sites``), ``state``, ``samples``, ``seconds``, each training
    metric by its name, each validation metric as ``validation_<name>`` (of the model that the round started from)
    and as ``model_<name>`` (of the model that the round produced, known once a later exchange has measured it), and
    each hyper-parameter as ``argument_<name>``. A metric that is called ``validation_...`` gets no second prefix.
    """
    rows: list[dict[str, Any]] = []
    for one in rounds:
        after = measured_after(one, rounds, baselines)
        place = {"round": one["round"], "attempt": one["attempt"]}
        arguments = _prefixed("argument", one["arguments"])
        for site, part in sorted(one["sites"].items()):
            counts = {"state": part["state"], "samples": part["samples"], "seconds": part["seconds"]}
            values = {**part["metrics"], **_prefixed("validation", part["validation"])}
            values |= _prefixed("model", after.get(site, {}))
            rows.append({**place, "site": site, **counts, **values, **arguments})
        samples = sum(one["sites"][site]["samples"] for site in one["contributors"] if site in one["sites"])
        counts = {"state": one["state"], "samples": samples, "seconds": one["seconds"]}
        values = {**one["metrics"], **_prefixed("validation", one["validation"])}
        values |= _prefixed("model", one["model_validation"])
        rows.append({**place, "site": ALL_SITES, **counts, **values, **arguments})
    fixed = ["round", "attempt", "site", "state", "samples", "seconds"]
    return frame(rows, columns=fixed + sorted({key for row in rows for key in row} - set(fixed)))


def failures(events: Sequence[Mapping[str, Any]]) -> DataFrame:
    """``failure_rows`` as a frame."""
    return frame(failure_rows(events), columns=["round", "attempt", "stage", "site", *_OF_A_FAILURE, "detail"])


def failure_rows(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every failure of a site, oldest first, of training and of the stages after it.

    The code and the sentence are its agent's; ``exception`` is the error's class, ``line`` the plan's line; ``detail``
    is the error's full text where a person at the site released it, else empty.
    """
    details: dict[tuple[Any, ...], list[str]] = {}
    for event in events:
        if event["kind"] == "error-released":
            details.setdefault(_task(event["body"]), []).append(str(event["body"]["detail"]))
    rows = []
    for event in events:
        if event["kind"] == "site-failed":
            body = event["body"]
            stage = " ".join(str(body[name]) for name in ("kind", "about") if body.get(name))
            place = {"round": body["round"], "attempt": body["attempt"], "stage": stage, "site": body["site"]}
            failure = {key: body["failure"].get(key) for key in _OF_A_FAILURE}
            rows.append({**place, **failure, "detail": "\n".join(details.get(_task(body), ()))})
    return rows


def _task(body: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(body.get(name) for name in ("site", "round", "attempt", "kind", "about"))


def measured_after(
    one: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]], baselines: Mapping[str, Any] | None
) -> dict[str, Mapping[str, float]]:
    """What each site measured of the model that this round produced: at the start of the next round, or at the end."""
    if one["state"] != "committed":
        return {}
    later = [other for other in rounds if other["round"] == one["round"] + 1 and other["state"] == "committed"]
    if later:
        return {site: part["validation"] for site, part in later[0]["sites"].items()}
    last = max(other["round"] for other in rounds)
    federated = (baselines or {}).get("federated")
    return dict(federated["per_site"]) if federated and one["round"] == last else {}


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in values.items()}


def baselines(found: Mapping[str, Any] | None) -> DataFrame:
    """One row a model and metric: its mean over all subjects (``all_sites``), then at each site."""
    measured = {name: (found or {})[name] for name in ("federated", "ensemble") if name in (found or {})}
    measured |= {f"{site} alone": one for site, one in sorted((found or {}).get("local", {}).items())}
    rows = [
        {
            "model": model,
            "metric": metric,
            ALL_SITES: value,
            **{site: values[metric] for site, values in sorted(one["per_site"].items()) if metric in values},
        }
        for model, one in measured.items()
        for metric, value in sorted(one["validation"].items())
    ]
    return frame(rows, columns=None if rows else ["model", "metric", ALL_SITES])
