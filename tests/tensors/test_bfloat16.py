"""bfloat16 numbers in tensor files, in sums, and against torch, which rounds them by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from archipel.tensors import BFLOAT16, NotFiniteUpdate, decode, encode, fold, read_schema, schema_of


def test_a_file_is_the_one_that_safetensors_reads_and_writes() -> None:
    values = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    array = values.view(torch.int16).numpy().view(BFLOAT16)
    assert safetensors.torch.load(encode({"w": array}))["w"].equal(values)
    again = decode(safetensors.torch.save({"w": values}))["w"]
    assert again.dtype == BFLOAT16 and again.tobytes() == array.tobytes()
    assert read_schema(encode({"w": array})).nbytes == 12


@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(1, 10_000)), min_size=1, max_size=5))
def test_a_mean_is_rounded_once_as_torch_rounds_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[float, int]]
) -> None:
    folder, weights = tmp_path_factory.mktemp("short"), [float(weight) for _, weight in parts]
    arrays = [np.array([value]).astype(BFLOAT16) for value, _ in parts]
    paths = files(folder, arrays)
    fold(schema_of({"w": arrays[0]}), paths, weights, folder / "out")
    exact = sum(float(array[0]) * weight for array, weight in zip(arrays, weights, strict=True)) / sum(weights)
    expected = torch.tensor([exact], dtype=torch.float64).bfloat16().float().numpy()
    assert decode((folder / "out").read_bytes())["w"].astype(np.float32) == expected


def test_a_number_that_is_not_finite_is_named(tmp_path: Path) -> None:
    arrays = [np.ones(4).astype(BFLOAT16), np.array([1, np.inf, 1, 1]).astype(BFLOAT16)]
    with pytest.raises(NotFiniteUpdate, match="tensor w of update 1"):
        fold(schema_of({"w": arrays[0]}), files(tmp_path, arrays), [1.0, 1.0], tmp_path / "out")


def files(folder: Path, arrays: list[np.ndarray]) -> list[Path]:  # type: ignore[type-arg]
    """A tensor file of each array."""
    paths = [folder / f"{number}.tensors" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(encode({"w": array}))
    return paths
