"""Curves of an experiment: loss and validation over the rounds, with its baselines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archipel.researcher.display import in_notebook
from archipel.researcher.tables import ALL_SITES, pyplot
from archipel.transport.rest import BaselinesView

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Okabe and Ito (2008): eight colours that colour-blind readers can distinguish.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#555555")
INK = "#12343B"


def curves(history: DataFrame, validation: Sequence[str], baselines: BaselinesView | None = None) -> Figure:
    """One panel for the training loss and one for each validation metric of the rounds' models.

    Thin lines are sites, the thick one all of them together. Dotted lines in a site's colour are its local model,
    the dashed line is the ensemble of these models.
    """
    plt, measured = pyplot(), baselines or BaselinesView()
    committed = history[history["state"].isin(["committed", "delivered"])]
    panels = [name for name in ("loss",) if name in committed] + [
        f"model_{name}" for name in validation if f"model_{name}" in committed
    ]
    colours = _colours(set(history["site"]) | set(measured.local))
    figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(5.2 * max(1, len(panels)), 3.6), squeeze=False)
    for axis, column in zip(axes[0], panels, strict=False):
        for site, rows in committed.groupby("site"):
            together = site == ALL_SITES
            axis.plot(
                rows["round"],
                rows[column],
                color=INK if together else colours[str(site)],
                linewidth=2.4 if together else 1.0,
                marker="o" if len(rows) == 1 else None,
                label="all sites" if together else site,
                zorder=3 if together else 2,
            )
        metric = column.removeprefix("model_")
        if column != metric:
            _baselines(axis, metric, measured, colours)
        axis.set_xlabel("round")
        axis.set_title("training loss" if column == "loss" else f"validation {metric}", loc="left", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e3e8e8", linewidth=0.8)
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    handles, labels = axes[0][-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="lower center", ncols=min(6, len(labels)), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    if in_notebook():
        # A figure that stays open is drawn a second time when the cell ends.
        plt.close(figure)
    made: Figure = figure
    return made


def _colours(sites: Collection[str]) -> dict[str, str]:
    """A site has one colour wherever it is drawn."""
    return {site: PALETTE[number % len(PALETTE)] for number, site in enumerate(sorted(set(sites) - {ALL_SITES}))}


def _baselines(axis: Any, metric: str, baselines: BaselinesView, colours: Mapping[str, str]) -> None:
    lines = [("ensemble", "#777777", "--", baselines.ensemble)]
    lines += [(f"{site} alone", colours[site], ":", found) for site, found in sorted(baselines.local.items())]
    for name, colour, style, found in lines:
        value = found.validation.get(metric) if found is not None else None
        if value is not None:
            axis.axhline(value, color=colour, linewidth=1.4, linestyle=style, label=name)
