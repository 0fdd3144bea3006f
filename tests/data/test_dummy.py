"""Dummy samples: of the shape and in the ranges that a dataset declares, as a plan would get them."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.data import Cohort, ColumnMapping, ColumnSummary, DataMapping, DataSchema, Preprocessing
from archipel.data.synthetic.dummy import Dummies, as_given
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


LYING = np.array([[0, 0, -3.0, 90], [0.8, 0, 0, -20], [0, 0.4, 0, 5], [0, 0, 0, 1]])
"""Voxels of 0.8 x 0.4 x 3 mm whose axes run to the front, the top and the left."""
SCHEMA = DataSchema(
    kind="volumes", shape_smallest=(50, 60, 14), shape_largest=(50, 80, 20), spacing_mm_median=(0.8, 0.4, 3)
)


def cohort(orientation: str = "", spacing: tuple[float, float, float] | None = None) -> Cohort:
    mapping, recipe = DataMapping(orientation=orientation), Preprocessing(spacing_mm=spacing)
    return Cohort(dataset="heads", format="nifti-pairs", mapping=mapping, recipe=recipe, samples=())


@pytest.mark.parametrize(
    ("how", "smallest", "largest", "spacing"),
    [
        (cohort(), (50, 60, 14), (50, 80, 20), (0.8, 0.4, 3)),
        (cohort("RAS"), (14, 50, 60), (20, 50, 80), (3, 0.8, 0.4)),
        (cohort(spacing=(1, 1, 1)), (40, 24, 42), (40, 32, 60), (1, 1, 1)),
        (cohort("RAS", (1.5, 0.8, 0.8)), (28, 50, 30), (40, 50, 40), (1.5, 0.8, 0.8)),
    ],
    ids=["as stored", "turned", "resampled", "both"],
)
def test_sizes_are_those_that_mapping_and_recipe_make_of_the_stored_ones(
    how: Cohort, smallest: tuple[int, ...], largest: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    given = as_given(SCHEMA, how, [((50, 60, 14), LYING), ((50, 80, 20), LYING)])
    assert (given.shape_smallest, given.shape_largest) == (smallest, largest)
    assert given.spacing_mm_median == pytest.approx(spacing)
    dummies = Dummies(DataNeeds(kind="volumes"), given, how.mapping, "nifti-pairs")
    assert {reading.images["image"].shape for reading in dummies.readings()} == {smallest, largest}
    assert dummies.voxels == (np.prod(smallest) + np.prod(largest)) / 2


def test_where_no_volume_is_known_the_declared_sizes_are_resampled() -> None:
    given = as_given(SCHEMA, cohort(spacing=(1, 1, 1)), ())
    assert (given.shape_smallest, given.shape_largest) == ((40, 24, 42), (40, 32, 60))
    unknown = DataSchema(kind="volumes")
    assert as_given(unknown, cohort("RAS"), ()) == unknown
