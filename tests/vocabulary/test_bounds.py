"""What a record may hold is bounded, far above real work and far below what stops a machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.vocabulary import (
    DataNeeds,
    HyperParameter,
    MetricSum,
    TensorSchema,
    TensorSpec,
    TrainingPass,
    check_arguments,
)
from archipel.vocabulary.bounds import (
    EXACT,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_DIMENSIONS,
    MOST_LABELS,
    MOST_PARAMETERS,
    MOST_SITES,
)

CHOICE: dict[str, Any] = {"name": "mode", "kind": "choice", "default": "a", "choices": ("a",)}


def tensor(shape: Any) -> TensorSchema:
    return TensorSchema(tensors=(TensorSpec(name="w", dtype="float32", shape=shape),))


def test_a_shape_of_a_hundred_thousand_dimensions_is_refused_before_they_are_multiplied() -> None:
    with pytest.raises(ValidationError, match=f"at most {MOST_DIMENSIONS} items"):
        tensor([9] * 100_000)
    with pytest.raises(ValidationError, match="less than 9007199254740992"):
        tensor([EXACT])


@pytest.mark.parametrize("shape", [(2**26, 2**26), (EXACT - 1,), (9,) * MOST_DIMENSIONS])
def test_a_model_that_fits_on_no_disk_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"2\*\*53 bytes or more"):
        tensor(shape)


@pytest.mark.parametrize("shape", [(), (0, EXACT - 1), (1,) * MOST_DIMENSIONS, (2**25, 2**25)])
def test_every_model_that_fits_somewhere_is_taken(shape: tuple[int, ...]) -> None:
    assert tensor(shape).nbytes < EXACT


@pytest.mark.parametrize(
    "change",
    [
        {"description": "y" * (LONGEST_TEXT + 1)},
        {"choices": ("a", "y" * (LONGEST_NAME + 1))},
        {"choices": tuple(f"a{number}" for number in range(1001))},
    ],
    ids=["description", "choice", "choices"],
)
def test_a_hyper_parameter_tells_no_novel(change: dict[str, Any]) -> None:
    assert HyperParameter.model_validate(CHOICE)
    with pytest.raises(ValidationError, match="at most"):
        HyperParameter.model_validate(CHOICE | change)


def test_labels_and_arguments_are_words() -> None:
    assert DataNeeds(kind="volumes", labels={str(value): "x" * LONGEST_NAME for value in range(1, MOST_LABELS)})
    with pytest.raises(ValidationError, match="at most"):
        DataNeeds(kind="volumes", labels={"1": "x" * (LONGEST_NAME + 1)})
    with pytest.raises(ValidationError, match="at most"):
        DataNeeds(kind="volumes", labels={str(value): "x" for value in range(MOST_LABELS + 1)})
    with pytest.raises(ValidationError, match="at most"):
        TrainingPass(round=1, arguments={f"a{number}": 1 for number in range(MOST_PARAMETERS + 1)})
    assert check_arguments((HyperParameter.model_validate(CHOICE),), {"mode": "a"}) == {"mode": "a"}


@pytest.mark.parametrize(("total", "weight"), [(1e200, 1e-200), (-1e200, 1e-200), (1e201, 1.0), (1.0, 2.0**54)])
def test_a_metric_whose_mean_is_infinite_or_sums_could_overflow_does_not_add_up(total: float, weight: float) -> None:
    assert not MetricSum(total=total, weight=weight).adds_up


@given(st.lists(st.builds(MetricSum, total=st.floats(-1e200, 1e200), weight=st.floats(0, EXACT)), min_size=1))
def test_what_adds_up_has_a_finite_mean_at_any_number_of_sites(sums: list[MetricSum]) -> None:
    total = MetricSum(total=0.0, weight=0.0)
    for one in sums:
        total = total + one if one.adds_up else total
    for _ in range(MOST_SITES.bit_length()):
        total += total
    assert total.weight == 0 or abs(total.mean()) < float("inf")


def test_metrics_of_real_work_add_up() -> None:
    for total, weight in ((0.0, 0.0), (3.5, 4.0), (-7.0, 1e-9), (1e30, 2.0**52)):
        assert MetricSum(total=total, weight=weight).adds_up
