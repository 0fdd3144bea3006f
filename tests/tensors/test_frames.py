"""Tensor files are safetensors files whose header follows from the schema."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from archipel.tensors import check_header, decode, encode, read_schema, schema_of, tensor_file_size, views
from archipel.vocabulary import BadInput

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
arrays = st.dictionaries(
    st.text(
        st.characters(codec="utf-8", exclude_characters='"\\', categories=("L", "N", "P")), min_size=1, max_size=12
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    ),
    max_size=5,
)


@given(arrays)
def test_a_frame_is_read_by_the_safetensors_library_and_back(tree):
    tensor_file = encode(tree)
    assert tensor_file_size(schema_of(tree)) == len(tensor_file)
    theirs = load(tensor_file)
    for mine in (theirs, decode(tensor_file), decode(save(tree))):
        assert set(mine) == set(tree)
        for name, array in tree.items():
            np.testing.assert_array_equal(mine[name], array)
            assert mine[name].dtype == array.dtype
            assert mine[name].shape == array.shape


@given(arrays)
def test_the_header_follows_from_the_schema_alone(tree):
    zeros = {name: np.zeros_like(array) for name, array in reversed(list(tree.items()))}
    assert schema_of(zeros) == schema_of(tree) == read_schema(encode(tree))
    check_header(schema_of(tree), encode(zeros))


@given(arrays, st.data())
def test_a_damaged_frame_is_refused_or_still_one_of_its_schema(tree, data):
    tensor_file = bytearray(encode(tree))
    position = data.draw(st.integers(0, len(tensor_file) - 1))
    tensor_file[position] ^= data.draw(st.integers(1, 255))
    try:
        schema = read_schema(tensor_file)
    except BadInput:
        return
    # Damage that still reads as a tensor file is one in every way: its values have the shapes and the size it declares.
    assert tensor_file_size(schema) == len(tensor_file)
    assert schema_of(decode(tensor_file)) == schema


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"w": np.zeros((2, 3), "float32")}, "b is missing"),
        ({"w": np.zeros((3, 2), "float32"), "b": np.zeros(3, "float32")}, r"w is float32 \[3, 2\]"),
        ({"w": np.zeros((2, 3), "float64"), "b": np.zeros(3, "float32")}, "w is float64"),
        ({"w": np.zeros((2, 3), "float32"), "b": np.zeros(3, "float32"), "c": np.zeros(1)}, "c is not in the job"),
    ],
)
def test_the_first_difference_to_the_job_is_named(other, named):
    schema = schema_of({"w": np.zeros((2, 3), "float32"), "b": np.zeros(3, "float32")})
    with pytest.raises(BadInput, match=named):
        check_header(schema, encode(other))


def test_a_frame_cut_short_is_refused():
    tree = {"w": np.ones(10, "float32")}
    with pytest.raises(BadInput, match="expected"):
        check_header(schema_of(tree), encode(tree)[:-1])


def test_views_share_the_frames_memory_and_are_read_only_unless_asked():
    tree = {"w": np.arange(4, dtype="float32")}
    tensor_file = bytearray(encode(tree))
    views(schema_of(tree), tensor_file, writable=True)["w"][0] = 7
    assert decode(tensor_file)["w"][0] == 7
    with pytest.raises(ValueError, match="read-only"):
        views(schema_of(tree), tensor_file)["w"][0] = 1


def test_a_type_that_no_frame_holds_is_named():
    with pytest.raises(BadInput, match="parameter z: has type complex128"):
        encode({"z": np.zeros(1, "complex128")})
