"""The page's columns: numbers as histograms, categories as bars, each divided by class."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.data.quality.charts import class_colours, histogram_svg
from archipel.data.quality.figures import number
from archipel.data.quality.markup import Html, element, joined, swatch
from archipel.data.quality.records import ColumnReport, QualityReport

CLASSES = 8
"""More classes than this do not get a colour each."""
CATEGORIES = 12


def columns_section(report: QualityReport) -> Html:
    """Every column."""
    if not report.columns:
        return Html("")
    classes = list(report.counts.classes)
    colours = class_colours([*classes, ""]) if 1 < len(classes) <= CLASSES else {}
    parts: list[object] = [element("h2", "Columns")]
    if colours:
        shown = [swatch(colours[name], name) for name in classes]
        parts += [
            element("p", f"Colours stand for {report.class_column}.", kind="soft"),
            element("div", *shown, kind="legend"),
        ]
    total = report.counts.samples
    parts.append(element("div", *(_column(one, total, colours) for one in report.columns), kind="columns"))
    return joined(parts)


def _column(column: ColumnReport, total: int, colours: Mapping[str, str]) -> Html:
    words = []
    if column.spread is not None:
        words.append(f"median {number(column.spread.median)} {column.unit}".strip())
    if column.missing:
        share = f"{100 * column.missing / total:.0f} %" if total else ""
        codes = ", ".join(f"{code} in {count}" for code, count in column.missing_codes.items())
        words.append(f"{column.missing} missing ({share})" + (f", written {codes}" if codes else ""))
    if column.type == "text":
        words.append("text")
    parts: list[object] = [element("h3", column.name), element("p", "; ".join(words) or Html("&nbsp;"), kind="soft")]
    if column.histogram is not None:
        parts.append(Html(histogram_svg(column.histogram, colours, f"histogram of {column.name}")))
    parts += _bars(column, colours)
    return element("section", *parts)


def _bars(column: ColumnReport, colours: Mapping[str, str]) -> list[Html]:
    highest = max((sum(counts.values()) for counts in column.categories.values()), default=1)
    bars = []
    for category, counts in list(column.categories.items())[:CATEGORIES]:
        pieces = [
            element("i", style=f"width:{100 * count / highest:.1f}%;background:{colours.get(name, '#0072b2')}")
            for name, count in counts.items()
        ]
        words = f"{category}: {sum(counts.values())}"
        bars.append(element("div", words, element("div", *pieces, kind="bar"), kind="category"))
    more = len(column.categories) - CATEGORIES
    if more > 0:
        bars.append(element("p", f"and {more} more categories", kind="soft"))
    return bars
