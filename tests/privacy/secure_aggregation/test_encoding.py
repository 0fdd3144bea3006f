"""A sum of encoded vectors is the encoding of the sum, bit for bit, and no sum can wrap."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.privacy.secure_aggregation.decoding import limited_share, mean_difference, totals
from archipel.privacy.secure_aggregation.encoding import CONSTANT, Own, encoded
from archipel.privacy.secure_aggregation.layout import Form, Layout, bits, long_tensors
from archipel.privacy.secure_aggregation.ranges import QUIET_ROUNDS, Range, exponents, first_range, moved
from archipel.vocabulary import ArchipelError, BadInput, TensorSchema, TensorSpec


class Pair:
    """Two models in memory."""

    def __init__(self, received: dict[str, np.ndarray[Any, Any]], trained: dict[str, np.ndarray[Any, Any]]) -> None:
        self.received, self.trained = received, trained

    def read(self, name: str, start: int, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return self.received[name][start : start + count], self.trained[name][start : start + count]


SCHEMA = TensorSchema.of(
    [
        TensorSpec(name="weight", dtype="float32", shape=(201,)),
        TensorSpec(name="bias", dtype="float32", shape=(1,)),
        TensorSpec(name="mean", dtype="float32", shape=(3,)),
        TensorSpec(name="seen", dtype="int64", shape=(2,)),
    ]
)


def layout(sites: int, exponent: int = 0) -> Layout:
    places = {"weight": exponent, "bias": 8, "mean": 8}
    return Layout.of(SCHEMA, places, sites=sites, buffers=["mean"], counts=["cases"], metrics={"loss": 10})


def vector(where: Layout, pair: Pair, own: Own, chunk: int = 50) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    chunks = list(encoded(where, pair, own, chunk))
    short = np.concatenate([words for words in chunks if words.dtype == np.uint32])
    assert [words.dtype.itemsize for words in chunks] == sorted(words.dtype.itemsize for words in chunks)
    return short, np.concatenate([words for words in chunks if words.dtype == np.uint64])


def word(value: float, share: Fraction | float, exponent: int, size: int) -> int:
    """The oracle: one coordinate in exact arithmetic after the two float64 operations that the protocol names."""
    exact = Fraction(value * share) * Fraction(2) ** (size - exponent)
    rounded = round(exact)
    return max(-(2**size), min(2**size, rounded))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 100), st.integers(-20, 4), st.integers(0, 2**32), st.data())
def test_the_sum_of_encoded_vectors_is_that_of_python_integers(n: int, exponent: int, seed: int, data: Any) -> None:
    generator = np.random.default_rng(seed)
    where, few = layout(n, exponent), data.draw(st.integers(1, min(n, 4)))
    short, long = np.zeros(where.short_words, np.uint32), np.zeros(where.long_words, np.uint64)
    oracle = [0] * 201
    seen = [0, 0]
    weights = [int(generator.integers(1, 51)) for _ in range(few)]
    for weight in weights:
        old = {spec.name: generator.normal(size=spec.elements).astype(spec.dtype) for spec in SCHEMA.tensors}
        new = {
            name: (one + generator.normal(size=one.size) * 2.0**exponent).astype(one.dtype) for name, one in old.items()
        }
        old["seen"], new["seen"] = np.array([3, 2**62]), np.array([1, 2**62 + 7])
        front, back = vector(where, Pair(old, new), Own(weight, 50, {"cases": weight}, {"loss": 1.5}))
        short += front
        long += back
        differences = new["weight"].astype(np.float64) - old["weight"].astype(np.float64)
        for place, value in enumerate(differences.tolist()):
            oracle[place] += word(value, weight / 50, exponent, where.bits(Form.SHORT))
        seen = [seen[0] - 2 * weight, seen[1] + 7 * weight]
    assert short.view(np.int32)[:201].tolist() == oracle
    found = totals(where, long, few)
    assert found.weight == sum(weights) == found.counts["cases"] and found.metrics == {"loss": 1.5 * few}
    assert found.limited["weight"] <= found.beyond_half["weight"] <= few * 201
    whole = next(part for part in where.tensors if part.name == "seen")
    assert mean_difference(where, whole, long[4:6], found.weight, 50).tolist() == [one / sum(weights) for one in seen]


@pytest.mark.parametrize("n", [2, 3, 4, 7, 63, 64, 65, 100])
@pytest.mark.parametrize("width", [32, 64])
def test_so_many_largest_words_do_not_wrap_and_one_bit_more_would(n: int, width: int) -> None:
    size = bits(n, width)
    assert n * 2**size <= 2 ** (width - 1) - 1 < n * 2 ** (size + 1)


def models(new: float, old: float = 0.0) -> Pair:
    trained = {spec.name: np.zeros(spec.elements, spec.dtype) for spec in SCHEMA.tensors}
    received = {name: one.copy() for name, one in trained.items()}
    trained["weight"][:], received["weight"][:] = new, old
    return Pair(received, trained)


OWN = Own(10, 10, {"cases": 0}, {"loss": 0.0})


def test_a_coordinate_beyond_its_range_is_limited_and_counted() -> None:
    where = layout(4, exponent=-3)
    short, long = vector(where, models(1.0), OWN)
    found = totals(where, long, 1)
    assert short[0] == 2 ** where.bits(Form.SHORT) and found.limited["weight"] == 201
    assert limited_share(where, found, 1) == pytest.approx(201 / 205)
    weight = where.tensors[0]
    assert (mean_difference(where, weight, short[:201], 10, 10) == 0.125).all()


def test_halves_are_rounded_to_even() -> None:
    where = layout(4)
    pair = models(0.0)
    step = 2.0 ** -where.bits(Form.SHORT)
    pair.trained["weight"][:4] = np.array([0.5, 1.5, 2.5, -0.5], np.float32) * np.float32(step)
    short, _ = vector(where, pair, OWN)
    assert short[:4].tolist() == [0, 2, 2, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("tensor", ["weight", "bias", "mean"])
def test_what_is_not_finite_is_refused_before_it_is_masked(value: float, tensor: str) -> None:
    pair = models(0.0)
    pair.trained[tensor][-1] = value
    with pytest.raises(ArchipelError, match="NaN or an infinity") as error:
        vector(layout(4), pair, OWN)
    assert error.value.code == "not-finite" and tensor in error.value.thing


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (replace(OWN, counts={}), "count:cases"),
        (replace(OWN, counts={"cases": 2**62}), "not an integer of at most"),
        (replace(OWN, metrics={"loss": 2000.0}), "beyond 2\\^10"),
    ],
)
def test_numbers_that_are_missing_or_too_large_are_refused(own: Own, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        vector(layout(4), models(0.0), own)


def test_a_weight_beyond_its_bound_is_refused() -> None:
    with pytest.raises(BadInput, match="a weight of 11: is not from 1 to the job's most, 10"):
        Own(11, 10)


def test_an_integer_that_cannot_be_summed_is_refused() -> None:
    pair = models(0.0)
    pair.trained["seen"][0] = 2**62
    with pytest.raises(BadInput, match="seen"):
        vector(layout(4), pair, OWN)


def test_a_sum_that_did_not_unmask_is_recognised() -> None:
    where = layout(4)
    _, long = vector(where, models(0.0), OWN)
    with pytest.raises(ArchipelError, match="did not unmask") as error:
        totals(where, long + np.uint64(1), 1)
    assert error.value.code == "bad-update"
    with pytest.raises(ArchipelError, match="did not unmask"):
        totals(where, long, 2)
    assert (long[-2:] == CONSTANT).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32))
def test_the_size_of_chunks_changes_no_bit(chunk: int, seed: int) -> None:
    pair = models(0.0)
    pair.trained["weight"][:] = np.random.default_rng(seed).normal(size=201)
    one, other = vector(layout(3), pair, OWN, 500), vector(layout(3), pair, OWN, chunk)
    assert (one[0] == other[0]).all() and (one[1] == other[1]).all()


def test_small_tensors_travel_as_64_bits_while_they_are_few() -> None:
    many = [TensorSpec(name=f"bias{number:03}", dtype="float32", shape=(10,)) for number in range(100)]
    schema = TensorSchema.of([TensorSpec(name="weight", dtype="float32", shape=(9000,)), *many])
    assert long_tensors(schema) == {f"bias{number:03}" for number in range(20)}
    where = Layout.of(schema, dict.fromkeys([spec.name for spec in schema.tensors], 0), sites=4)
    assert where.nbytes - 16 * len(where.fixed) < 1.03 * schema.nbytes
    small = Layout.of(SCHEMA, {"weight": 0, "bias": 0, "mean": 0}, sites=4)
    assert [part.name for part in small.tensors if part.form is Form.LONG] == ["bias"]


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_floating_types_are_encoded_by_their_value(dtype: str) -> None:
    schema = TensorSchema.of([TensorSpec(name="w", dtype=dtype, shape=(2,))])  # type: ignore[arg-type]
    where = Layout.of(schema, {"w": 2}, sites=4)
    pair = Pair({"w": np.zeros(2, dtype)}, {"w": np.array([0.75, -1.5]).astype(dtype)})
    short, _ = vector(where, pair, Own(1, 1))
    assert mean_difference(where, where.tensors[0], short, 1, 1).tolist() == [0.75, -1.5]


def test_a_tensor_without_a_range_is_refused() -> None:
    with pytest.raises(BadInput, match="range bias: is not given"):
        Layout.of(SCHEMA, {"weight": 0, "mean": 0}, sites=4)


def test_ranges_double_when_limited_and_halve_after_quiet_rounds() -> None:
    ranges = {"w": first_range(0.7, 0.001, Form.SHORT)}
    assert exponents(ranges) == {"w": 0}
    assert moved(ranges, {"w": 1}, {"w": 1}) == {"w": Range(1)}
    for _ in range(QUIET_ROUNDS - 1):
        ranges = moved(ranges, {"w": 0}, {"w": 0})
    assert moved(ranges, {"w": 0}, {"w": 1}) == {"w": Range(0)}
    assert moved(ranges, {"w": 0}, {"w": 0}) == {"w": Range(-1)}
