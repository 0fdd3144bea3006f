"""The report's pictures: curves over the rounds, and slices with the true and the predicted contour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from archipel.researcher.outcome import ExperimentResult, MiddleSlice, ModelKind
from archipel.researcher.plots import INK, PALETTE
from archipel.researcher.tables import ALL_SITES, pyplot

TRUE, FOUND = "#35C2FF", "#FF9F1C"
_GREY = "#6b7b7d"


def curves_png(result: ExperimentResult) -> bytes:
    """The validation metric and the training loss over the rounds, baselines as lines, as PNG."""
    plt = pyplot()
    panels = 2 if result.losses else 1
    figure, axes = plt.subplots(1, panels, figsize=(10, 3.9), squeeze=False, width_ratios=[1.6, 1][:panels])
    _metric(axes[0][0], result)
    if result.losses:
        _losses(axes[0][1], result)
    for axis in axes[0]:
        axis.set_xlabel("round", color=_GREY)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#c8d2d3")
        axis.tick_params(colors=_GREY, labelsize=9)
        axis.grid(axis="y", color="#e6ecec", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    figure.tight_layout(w_pad=3)
    return _png(figure, plt)


def _metric(axis: Any, result: ExperimentResult) -> None:
    axis.set_title(f"{result.metric_name} on held-out subjects after each round", loc="left", fontsize=11, color=INK)
    ends: list[tuple[float, str, str]] = []
    measured: dict[str, float] = {score.kind: score.value for score in result.scores}
    for name, values in result.curves.items():
        federated = name == ModelKind.FEDERATED
        colour = INK if federated else _GREY
        width, style = (2.6, "-") if federated else (1.6, (0, (5, 2)))
        axis.plot(
            range(1, len(values) + 1),
            values,
            color=colour,
            zorder=4 if federated else 3,
            linewidth=width,
            linestyle=style,
        )
        if federated:
            _error_bars(axis, result)
        finite = [value for value in values if np.isfinite(value)]
        if finite:
            ends.append((measured.get(name, finite[-1]), name, colour))
    colours = dict(zip([site.name for site in result.sites], PALETTE, strict=False))
    for score in result.scores:
        if score.kind in (ModelKind.LOCAL, ModelKind.ENSEMBLE):
            colour = colours.get(score.name, "#a05fb0")
            axis.axhline(score.value, color=colour, linewidth=1.1, linestyle=":", zorder=2)
            ends.append((score.value, f"{score.name} alone" if score.kind is ModelKind.LOCAL else "ensemble", colour))
        elif score.kind not in result.curves:
            axis.axhline(score.value, color=_GREY, linewidth=1.4, linestyle=(0, (5, 2)), zorder=2)
            ends.append((score.value, score.kind, _GREY))
    points = [value for line in result.curves.values() for value in line if np.isfinite(value)]
    low, high = _range([value for value, _, _ in ends], points, result.metric.better == "higher")
    axis.set_ylim(low, high)
    axis.set_xlim(left=0.5 if result.rounds > 1 else 0)
    for place, (value, name, colour) in _spread(ends, (high - low) * 0.052):
        axis.annotate(
            f"{name}  {value:.3f}",
            xy=(1, value),
            xycoords=("axes fraction", "data"),
            xytext=(1.02, place),
            textcoords=("axes fraction", "data"),
            color=colour,
            fontsize=9,
            fontweight="bold" if name == ModelKind.FEDERATED else "normal",
            va="center",
            annotation_clip=False,
        )


def _error_bars(axis: Any, result: ExperimentResult) -> None:
    """The 95 % interval of each round whose sites say how much the metric differs, where its own mean is."""
    for place, spread in result.intervals.items():
        axis.errorbar(
            place, spread.mean, [[spread.mean - spread.low], [spread.high - spread.mean]],
            fmt="none", ecolor=INK, elinewidth=1.0, capsize=2.5, alpha=0.55, zorder=3,
        )  # fmt: skip


def _range(ends: Sequence[float], values: Sequence[float], rising: bool) -> tuple[float, float]:
    """Limits that show the end well and also the way there: the tenth of the rounds that is worst may be outside of the
    picture. Of shares, which are between 0 and 1, nothing else is shown."""
    left_out = len(values) // 10
    ordered = sorted(values)
    shown = [*ends, *(ordered[left_out:] if rising else ordered[: len(ordered) - left_out])]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    margin = max(0.01, 0.06 * (high - low))
    if low >= 0 and high <= 1:
        return max(0.0, low - margin), min(1.0, high + margin)
    return low - margin, high + margin


def _spread(ends: list[tuple[float, str, str]], distance: float) -> list[tuple[float, tuple[float, str, str]]]:
    """A height for each label at least ``distance`` above the one below, centred on where they belong."""
    ordered = sorted(ends)
    places: list[float] = []
    for value, _, _ in ordered:
        places.append(max(value, places[-1] + distance) if places else value)
    shift = sum(place - value for place, (value, _, _) in zip(places, ordered, strict=True)) / max(1, len(places))
    return [(place - shift, end) for place, end in zip(places, ordered, strict=True)]


def _losses(axis: Any, result: ExperimentResult) -> None:
    title = "Training loss of all sites together" if set(result.losses) == {ALL_SITES} else "Training loss at each site"
    axis.set_title(title, loc="left", fontsize=11, color=INK)
    for number, (site, values) in enumerate(result.losses.items()):
        axis.plot(range(1, len(values) + 1), values, color=PALETTE[number % len(PALETTE)], linewidth=1.5, label=site)
    axis.legend(frameon=False, fontsize=9, labelcolor=_GREY)
    if all(value >= 0 for values in result.losses.values() for value in values if np.isfinite(value)):
        axis.set_ylim(bottom=0)


def slices_png(slices: Sequence[MiddleSlice], label_names: dict[int, str]) -> bytes:
    """The slices in a grid, the true contour and the predicted one drawn over each, as PNG."""
    plt = pyplot()
    columns = min(3, max(1, len(slices)))
    rows = -(-len(slices) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.5 * rows), squeeze=False)
    figure.patch.set_facecolor("#0c1a1d")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, middle in zip(axes.flat, slices, strict=False):
        low, high = np.percentile(middle.image, [1, 99.5])
        aspect = middle.spacing[1] / middle.spacing[0]
        axis.imshow(
            middle.image.T, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect, interpolation="bicubic"
        )
        for values, colour, style, width in (
            (middle.truth, TRUE, "solid", 1.9),
            (middle.predicted, FOUND, (0, (2.2, 1.3)), 1.9),
        ):
            for label in label_names or {1: ""}:
                mask = (values == label) if label_names else (values > 0)
                if mask.any():
                    axis.contour(
                        mask.T.astype(float), levels=[0.5], colors=[colour], linewidths=width, linestyles=[style]
                    )
        axis.set_title(
            f"{middle.site} · {middle.subject}\nDice {middle.dice:.3f}", color="#dfe9ea", fontsize=9.5, pad=6
        )
    figure.tight_layout(pad=1.0, h_pad=1.6)
    return _png(figure, plt)


def _png(figure: Any, plt: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, bbox_inches="tight", facecolor=figure.get_facecolor())
    plt.close(figure)
    return data.getvalue()
