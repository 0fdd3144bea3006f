"""Checks of values: missing ones, columns with one value, and outliers in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archipel.data.quality.cohort_checks import named
from archipel.data.quality.figures import number
from archipel.data.quality.outliers import THRESHOLD, outliers
from archipel.data.quality.records import Code, ColumnReport, Finding, Severity
from archipel.data.samples import Sample

MOSTLY_MISSING = 0.5
SAID = 6
"""Columns whose outliers are named one by one."""


def missing_values(columns: Sequence[ColumnReport], samples: Sequence[Sample]) -> Iterator[Finding]:
    """Columns with missing values, and apart from them columns of which most are missing."""
    some = [column for column in columns if 0 < column.missing <= MOSTLY_MISSING * len(samples)]
    most = [column for column in columns if column.missing > MOSTLY_MISSING * len(samples)]
    cases: list[tuple[Code, list[ColumnReport], str, str]] = [
        (
            "missing-values", some, "values are missing",
            "fill them in at the source, give the column a fill in the mapping, or leave these subjects out",
        ),
        (
            "column-mostly-missing", most, "more than half of the values are missing",
            "do not offer a plan this column; leaving its subjects out would leave too few",
        ),
    ]  # fmt: skip
    for code, incomplete, what, remedy in cases:
        if incomplete:
            names = {column.name for column in incomplete}
            yield Finding(
                code=code,
                severity=Severity.WARNING,
                what=f"{what}: " + ", ".join(f"{column.name} ({column.missing})" for column in incomplete),
                count=sum(column.missing for column in incomplete),
                samples=named([sample for sample in samples if not names <= sample.values.keys()]),
                remedy=remedy,
            )


def constant_columns(columns: Sequence[ColumnReport], samples: Sequence[Sample]) -> Iterator[Finding]:
    """Columns in which all samples are the same."""
    constant = [
        column.name
        for column in columns
        if len(samples) - column.missing > 1
        and (
            (column.spread is not None and column.spread.minimum == column.spread.maximum)
            or (column.type == "category" and len(column.categories) == 1)
        )
    ]
    if constant:
        yield Finding(
            code="constant-column",
            severity=Severity.NOTE,
            what=f"columns with one value only: {', '.join(constant)}",
            count=len(constant),
            remedy="nothing to fix if that is so; a model learns nothing from them here",
        )


def value_outliers(columns: Sequence[ColumnReport], samples: Sequence[Sample]) -> Iterator[Finding]:
    """Numbers far from the rest of their column.

    A column of which more than half are one value (such as 0) is not checked: there is no spread to compare with.
    """
    lines, concerned = [], []
    for column in columns:
        if column.type not in ("number", "censored"):
            continue
        present = [(sample, float(sample.values[column.name])) for sample in samples if column.name in sample.values]
        values = [value for _, value in present]
        places = outliers(values, 0.0)
        if places:
            usual = sorted(values)[len(values) // 2]
            furthest = sorted(places, key=lambda place: -abs(values[place] - usual))
            words = ", ".join(f"{number(values[place])} in {present[place][0].name}" for place in furthest[:3])
            lines.append(f"{column.name} ({words}{' ...' if len(places) > 3 else ''}; usual {number(usual)})")
            concerned += [present[place][0] for place in places]
    if lines:
        more = f"; and in {len(lines) - SAID} more columns" if len(lines) > SAID else ""
        yield Finding(
            code="value-outlier",
            severity=Severity.WARNING,
            what=f"numbers far from the others (robust z-score above {THRESHOLD:g}): {'; '.join(lines[:SAID])}{more}",
            count=len(concerned),
            samples=named(concerned),
            remedy="check for a wrong unit, decimal comma or missing-value code; fix it at the source or in the "
            "data dictionary",
        )


def is_number(value: object) -> bool:
    """Whether it is a number that can be compared (a truth value is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
