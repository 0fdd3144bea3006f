"""Records of rounds as a pandas frame: one row for each round and site, and one for all sites together."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archipel.vocabulary import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame

POOLED = "pooled"
"""The row of a round that stands for all its sites together."""


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> DataFrame:
    """Rows as a pandas frame. Raises BadInput with the remedy when pandas is not installed."""
    made: DataFrame = _optional("pandas").DataFrame(rows, columns=columns)
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

    Columns: ``round``, ``attempt``, ``site`` (or ``pooled``), ``state``, ``samples``, ``seconds``, each training
    metric by its name, each validation metric as ``validation_<name>`` (of the model that the round started from)
    and as ``model_<name>`` (of the model that the round produced, known once a later exchange has measured it).
    """
    rows: list[dict[str, Any]] = []
    for one in rounds:
        after = _measured_after(one, rounds, baselines)
        place = {"round": one["round"], "attempt": one["attempt"]}
        for site, part in sorted(one["sites"].items()):
            counts = {"state": part["state"], "samples": part["samples"], "seconds": part["seconds"]}
            values = {**part["metrics"], **_prefixed("validation", part["validation"])}
            rows.append({**place, "site": site, **counts, **values, **_prefixed("model", after.get(site, {}))})
        samples = sum(one["sites"][site]["samples"] for site in one["contributors"] if site in one["sites"])
        counts = {"state": one["state"], "samples": samples, "seconds": one["seconds"]}
        values = {**one["metrics"], **_prefixed("validation", one["validation"])}
        rows.append({**place, "site": POOLED, **counts, **values, **_prefixed("model", one["model_validation"])})
    fixed = ["round", "attempt", "site", "state", "samples", "seconds"]
    return frame(rows, columns=fixed + sorted({key for row in rows for key in row} - set(fixed)))


def failures(rounds: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Every failure of a site: the code and the sentence its agent wrote, the exception's class and the plan's line."""
    keys = ("code", "sentence", "exception", "line")
    rows = [
        {"round": one["round"], "attempt": one["attempt"], "site": site, **{key: part["failure"][key] for key in keys}}
        for one in rounds
        for site, part in sorted(one["sites"].items())
        if part["failure"]
    ]
    return frame(rows, columns=["round", "attempt", "site", *keys])


def _measured_after(
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


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def baselines(found: Mapping[str, Any] | None) -> DataFrame:
    """One row a model and metric: its mean over all subjects (``all_sites``), then at each site."""
    measured = {name: (found or {})[name] for name in ("federated", "ensemble") if name in (found or {})}
    measured |= {f"{site} alone": one for site, one in sorted((found or {}).get("local", {}).items())}
    rows = [
        {
            "model": model,
            "metric": metric,
            "all_sites": value,
            **{site: values[metric] for site, values in sorted(one["per_site"].items()) if metric in values},
        }
        for model, one in measured.items()
        for metric, value in sorted(one["validation"].items())
    ]
    return frame(rows, columns=None if rows else ["model", "metric", "all_sites"])
