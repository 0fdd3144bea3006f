"""Sums add: the law, and the streaming fold against it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from weighted_sum import WeightedSum

from archipel.tensors import NotFiniteUpdate, WeightedUpdates, blob_hash, decode, encode, fold, schema_of

finite = st.floats(-1e6, 1e6, width=32)
leaf = hnp.arrays("float32", 7, elements=finite)
weight = st.integers(1, 10_000)


@given(leaf, leaf, weight, weight)
def test_the_mean_of_a_sum_is_the_weighted_mean(a, b, n, m):
    mean = (WeightedSum.of({"w": a}, n) + WeightedSum.of({"w": b}, m)).mean()["w"]
    np.testing.assert_allclose(mean, np.average([a, b], axis=0, weights=[n, m]).astype("float64"), rtol=1e-6, atol=1e-6)


@given(leaf, leaf, leaf, weight, weight, weight)
def test_sums_are_associative_up_to_rounding(a, b, c, n, m, k):
    x, y, z = WeightedSum.of({"w": a}, n), WeightedSum.of({"w": b}, m), WeightedSum.of({"w": c}, k)
    left, right = (x + y) + z, x + (y + z)
    assert left.weight == right.weight
    np.testing.assert_allclose(left.total["w"], right.total["w"], rtol=1e-12, atol=1e-3)


@given(st.lists(st.tuples(leaf, weight), min_size=1, max_size=5), st.integers(1, 9))
def test_the_streaming_fold_is_the_sum_bit_for_bit(tmp_path_factory, parts, chunk):
    folder = tmp_path_factory.mktemp("fold")
    trees = [{"w": values, "steps": np.array([n * 3], "int64"), "flag": np.array(n % 2 == 0)} for values, n in parts]
    weights = [float(n) for _, n in parts]
    paths = []
    for index, tree in enumerate(trees):
        paths.append(folder / f"{index}.frame")
        paths[-1].write_bytes(encode(tree))
    total = WeightedSum.of(trees[0], weights[0])
    for tree, n in zip(trees[1:], weights[1:], strict=True):
        total = total + WeightedSum.of(tree, n)
    expected = total.mean({name: array.dtype for name, array in trees[0].items()})
    digest = fold(schema_of(trees[0]), paths, weights, folder / "out", chunk=chunk).model
    written = (folder / "out").read_bytes()
    assert digest == blob_hash(written)
    for name, array in decode(written).items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("chunk", [2, 100])
def test_finite_numbers_whose_sum_is_not_are_no_model(tmp_path, chunk):
    giant = np.array([0.0, 1.0, 2.0, 1.7e308, 4.0])
    trees = [{"w": np.array([9.0, 9, 9, 1e307, 9])}, {"w": giant}, {"w": np.ones(5)}, {"w": giant / 1.1}]
    paths = [tmp_path / f"{index}.frame" for index in range(len(trees))]
    for path, tree in zip(paths, trees, strict=True):
        path.write_bytes(encode(tree))
    with pytest.raises(NotFiniteUpdate) as found:
        fold(schema_of(trees[0]), paths, [1.0] * 4, tmp_path / "out", chunk=chunk)
    assert (found.value.index, found.value.tensor) == (1, "w")
    del paths[1]
    fold(schema_of(trees[0]), paths, [1.0] * 3, tmp_path / "out", chunk=chunk)
    np.testing.assert_allclose(decode((tmp_path / "out").read_bytes())["w"][3], (1e307 + 1.7e308 / 1.1) / 3)


@pytest.mark.parametrize("chunk", [2, 100])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_the_first_update_that_is_not_finite_is_named(tmp_path: Path, kind: str, chunk: int) -> None:
    trees = [{"u": np.ones(3, kind), "w": np.ones(5, kind)} for _ in range(4)]
    trees[2]["w"][1] = np.inf
    trees[1]["w"][1] = -np.inf
    trees[3]["w"][0] = np.nan
    paths = [tmp_path / str(index) for index in range(4)]
    for path, tree in zip(paths, trees, strict=True):
        path.write_bytes(encode(tree))
    for place, at_fault in ((paths, 1), ([paths[0], *paths[2:]], 1), ([paths[0], paths[3]], 1), (paths[2:], 0)):
        with pytest.raises(NotFiniteUpdate) as found:
            fold(schema_of(trees[0]), place, [3.0] * len(place), tmp_path / "out", chunk=chunk)
        assert (found.value.index, found.value.tensor) == (at_fault, "w")


def test_a_frame_that_ends_early_is_an_error_and_not_a_wrong_mean(tmp_path):
    tree = {"w": np.ones(100, "float32")}
    (tmp_path / "a").write_bytes(encode(tree)[:-8])
    with pytest.raises(OSError, match="ended"):
        fold(schema_of(tree), [tmp_path / "a"], [1.0], tmp_path / "out")


def test_integer_buffers_keep_their_type_and_are_rounded(tmp_path):
    for index, steps in enumerate([1, 2, 2]):
        (tmp_path / str(index)).write_bytes(encode({"steps": np.array(steps, "int64")}))
    schema = schema_of({"steps": np.array(0, "int64")})
    fold(schema, [tmp_path / str(index) for index in range(3)], [1, 1, 1], tmp_path / "out")
    steps = decode((tmp_path / "out").read_bytes())["steps"]
    assert steps == 2
    assert steps.dtype == np.int64


@pytest.mark.parametrize(
    ("of_the_model", "of_the_sum", "number", "divisor"),
    [
        ("float16", "float32", 1e30, 1.0),
        ("float32", "float32", 1e30, 1e-20),
        ("float64", "float64", 1e300, 1e-20),
        ("int8", "float64", 1000.0, 1.0),
        ("bool", "float64", 1e300, 1e-20),
    ],
)
def test_a_sum_that_the_models_type_cannot_hold_makes_no_model(
    tmp_path: Path, of_the_model: str, of_the_sum: str, number: float, divisor: float
) -> None:
    model = schema_of({"w": np.zeros(3, of_the_model)})
    honest, hostile = (encode({"w": np.full(3, one, of_the_sum)}) for one in (1.0, number))
    files = [tmp_path / "honest", tmp_path / "hostile"]
    for path, data in zip(files, (honest, hostile), strict=True):
        path.write_bytes(data)
    weighted = WeightedUpdates(schema_of({"w": np.zeros(3, of_the_sum)}), divisor)
    with pytest.raises(NotFiniteUpdate):
        fold(model, files, [1.0, 1.0], tmp_path / "out", weighted=weighted)
