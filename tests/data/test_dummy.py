"""Dummy samples: of the shape and in the ranges that a dataset declares, as a plan would get them."""

from __future__ import annotations

import pytest

from archipel.data import ColumnMapping, ColumnSummary, DataMapping, DataSchema
from archipel.data.dummy import Dummies
from archipel.vocabulary import ColumnNeed, DataNeeds

TARGET = ColumnNeed(name="sick", categories=("no", "yes"))


def numbers(rule: ColumnMapping | None, stored: str) -> list[float]:
    """What a plan is given as ``age`` where the dataset has a column from 20 to 30."""
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age"),), target=TARGET)
    columns = {stored: ColumnSummary(type="number", minimum=20, maximum=30)}
    mapping = DataMapping(columns={} if rule is None else {"age": rule})
    dummies = Dummies(needs, DataSchema(kind="table", columns=columns), mapping, "table")
    return [float(reading.values["age"]) for reading in dummies.readings()]


@pytest.mark.parametrize(
    ("rule", "stored", "low", "high"),
    [
        (None, "age", 20, 30),
        (ColumnMapping(scale=12), "age", 240, 360),
        (ColumnMapping(fill=50.0), "age", 20, 30),
        (ColumnMapping(source="years", scale=12, offset=1), "years", 241, 361),
    ],
    ids=["not mapped", "same name, other unit", "same name, filled", "another name"],
)
def test_dummy_values_lie_in_the_columns_range_as_it_is_mapped(
    rule: ColumnMapping | None, stored: str, low: float, high: float
) -> None:
    found = numbers(rule, stored)
    assert len(set(found)) == len(found), "drawn, not constant"
    assert low <= min(found) and max(found) <= high
    assert max(found) - min(found) > (high - low) / 4
