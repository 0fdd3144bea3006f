"""The results of models as people read them in a terminal: one row per model, one column per site, and all sites
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from archipel.simulation.scores import ModelScores
    from archipel.vocabulary import MetricSpec, Value


def print_scores(scores: Sequence[ModelScores], metrics: Sequence[MetricSpec]) -> None:
    """One table per metric, which says what its means are means of, and at which site each model is worst."""
    from rich.table import Table
    from rich.text import Text

    from archipel.cli.screens import screen_for
    from archipel.vocabulary import worst_site
    from archipel.vocabulary.visible import escape_hidden

    declared = {metric.name: metric for metric in metrics}
    sites = sorted({site for scored in scores for site in scored.per_site})
    for metric in sorted({metric for scored in scores for metric in scored.all_sites}):
        spec = declared.get(metric)
        title = escape_hidden(metric if spec is None else f"{metric}, {spec.average_in_words}")
        spreads = [detail.spread if (detail := scored.details.get(metric)) else None for scored in scores]
        beside: tuple[str, ...] = ("standard deviation", "95 % interval", "over") if any(spreads) else ()
        pooled = [detail.pooled_auc if (detail := scored.details.get(metric)) else None for scored in scores]
        beside = next(((one.title, "over") for one in pooled if one is not None), beside)
        table = Table("model", "all sites", *beside, *map(escape_hidden, sites), "worst site", title=title)
        for scored, spread, auc in zip(scores, spreads, pooled, strict=True):
            worst = worst_site(spec, scored.per_site) if spec is not None else None
            differs = () if not beside else ("-",) * len(beside)
            if spread is not None:
                differs = (f"{spread.deviation:.4f}", spread.interval_in_words, escape_hidden(spread.over(spec)))
            if auc is not None:
                differs = (auc.in_words, auc.over)
            table.add_row(
                Text(escape_hidden(scored.model)),
                _cell(scored.all_sites.get(metric)),
                *differs,
                *(_cell(scored.per_site.get(site, {}).get(metric)) for site in sites),
                Text("-" if worst is None else escape_hidden(f"{worst[0]} {worst[1]:.4f}")),
            )
        screen_for().print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def as_document(scores: Sequence[ModelScores]) -> list[dict[str, JsonValue]]:
    """The same for programs."""
    return [one.model_dump(mode="json") for one in scores]


def arguments(texts: Sequence[str] | None, option: str = "--set ") -> dict[str, Value]:
    """Hyper-parameters given as NAME=VALUE, each once. Raises BadInput for another text.

    ``option`` stands before each of them on the command line, with its blank.
    """
    import json

    from archipel.vocabulary import BadInput

    values: dict[str, Value] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadInput(f"{option}{text}", "is not NAME=VALUE", f"give for example {option}learning_rate=0.01")
        if name in values:
            raise BadInput(f"{option}{text}", f"gives {name} a second value", "give each hyper-parameter one value")
        try:
            values[name] = json.loads(value)
        except (ValueError, RecursionError):
            values[name] = value
    return values
