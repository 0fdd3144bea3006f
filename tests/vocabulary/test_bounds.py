"""What a record may hold is bounded, far above real work and far below what stops a machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.vocabulary import (
    ArchipelError,
    DataNeeds,
    ErrorCode,
    HyperParameter,
    MetricSpec,
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
    MOST_COUNTED,
    MOST_DIMENSIONS,
    MOST_LABELS,
    MOST_PARAMETERS,
    MOST_SITES,
)
from archipel.vocabulary.metrics import LARGEST_SUM
from archipel.vocabulary.wrong_values import BadTerms

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
    with pytest.raises(BadTerms, match="at most"):
        DataNeeds(kind="volumes", labels={"1": "x" * (LONGEST_NAME + 1)})
    with pytest.raises(BadTerms, match="at most"):
        DataNeeds(kind="volumes", labels={str(value): "x" for value in range(MOST_LABELS + 1)})
    with pytest.raises(ValidationError, match="at most"):
        TrainingPass(round=1, arguments={f"a{number}": 1 for number in range(MOST_PARAMETERS + 1)})
    assert check_arguments((HyperParameter.model_validate(CHOICE),), {"mode": "a"}) == {"mode": "a"}


@given(st.floats(-3.4028234663852886e38, 3.4028234663852886e38), st.integers(0, MOST_COUNTED))
def test_what_leaves_of_a_metric_is_a_float32_and_adds_up_exactly_over_any_number_of_sites(
    total: float, weight: int
) -> None:
    left = MetricSum(total=total, weight=weight).rounded("loss")
    assert left.total == float(np.float32(total)) and left.weight == weight and left.is_rounded
    assert MetricSum(total=0, weight=MOST_SITES * weight).weight < EXACT and abs(left.total) * MOST_SITES < LARGEST_SUM


@pytest.mark.parametrize("total", [1e39, -1e39, 3.4028236e38])
def test_a_total_beyond_float32_does_not_leave(total: float) -> None:
    metric = MetricSum(total=total, weight=1)
    with pytest.raises(ArchipelError, match="beyond float32") as caught:
        metric.rounded("loss")
    assert caught.value.code is ErrorCode.NOT_FINITE and not metric.is_rounded


def test_a_metric_says_what_it_counts_and_how_many_at_most() -> None:
    with pytest.raises(BadTerms, match="say in largest_weight how many"):
        MetricSpec(name="recall", better="higher", counts="lesion")
    with pytest.raises(BadTerms, match="leave out largest_weight"):
        MetricSpec(name="recall", better="higher", largest_weight=5)
    with pytest.raises(BadTerms, match=f"give at most {MOST_COUNTED}"):
        MetricSpec(name="recall", better="higher", counts="voxel", largest_weight=MOST_COUNTED + 1)
