"""Sealing through steps: the numbers of numpy, the same bytes in both passes, nothing changed without steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip import Clip

from archipel.privacy import Addend
from archipel.tasks import reusable_file, seal
from archipel.tensors import Array, blob_hash, decode, encode, schema_of
from archipel.vocabulary import BadInput, TensorSchema, TensorSpec

DRAW = np.random.default_rng(5)
GIVEN = {"a": DRAW.normal(size=(40, 5)).astype("float32"), "b": DRAW.normal(size=17)}
RESULT = {name: value + DRAW.normal(size=value.shape).astype(value.dtype) for name, value in GIVEN.items()}
SCHEMA = schema_of(GIVEN)


def norm(tree: dict[str, Array]) -> float:
    return float(np.sqrt(sum(np.sum((tree[name].astype(float) - GIVEN[name]) ** 2) for name in GIVEN)))


def sealed(folder: Path, *steps: Clip, result: bytes | bytearray | None = None, **terms: int) -> dict[str, Array]:
    tensor_file = folder / "x.frame"
    digest = seal(SCHEMA, memoryview(result or encode(RESULT)), tensor_file, steps, memoryview(encode(GIVEN)), **terms)
    assert digest == blob_hash(tensor_file.read_bytes())
    return decode(tensor_file.read_bytes())


@pytest.mark.parametrize("chunk", [3, 1 << 17])
def test_the_norm_is_of_the_whole_update(tmp_path: Path, chunk: int) -> None:
    step = Clip(0.5)
    found = sealed(tmp_path, step, chunk_elements=chunk)
    assert norm(found) == pytest.approx(0.5, rel=1e-5)
    assert step.report()["update_norm"].mean() == pytest.approx(norm(RESULT))
    for name, given in GIVEN.items():
        oracle = given + (RESULT[name].astype(float) - given) * (0.5 / norm(RESULT))
        np.testing.assert_allclose(found[name], oracle.astype(given.dtype), rtol=1e-5, atol=1e-6)


def test_a_second_step_measures_what_the_first_one_made(tmp_path: Path) -> None:
    first, second = Clip(2.0), Clip(1.0)
    assert norm(sealed(tmp_path, first, second)) == pytest.approx(1.0, rel=1e-5)
    assert second.report()["update_norm"].mean() == pytest.approx(2.0)


def test_no_step_changes_no_bit(tmp_path: Path) -> None:
    sealed(tmp_path)
    assert (tmp_path / "x.frame").read_bytes() == encode(RESULT)


def test_a_plan_that_writes_between_the_passes_does_not_get_past_the_bound(tmp_path: Path) -> None:
    memory = bytearray(encode(RESULT))

    class Raced(Clip):
        def apply(self, leaf: TensorSpec, start: int, delta: Array) -> Array:
            memory[-8 * 100 :] = np.full(100, 1e9).tobytes()
            return super().apply(leaf, start, delta)

    found = sealed(tmp_path, Raced(0.5), result=memory)
    assert bytes(memory) != encode(RESULT), "the plan did write"
    assert norm(found) == pytest.approx(0.5, rel=1e-5)


def test_a_step_measures_what_was_written_whatever_the_plan_writes_meanwhile(tmp_path: Path) -> None:
    memory = bytearray(encode(RESULT))

    class Raced(Clip):
        def measure(self, leaf: TensorSpec, start: int, delta: Array) -> None:
            memory[-4 * 150 :] = np.full(150, 1e9, "float32").tobytes()
            super().measure(leaf, start, delta)

    step = Raced(0.5)
    found = sealed(tmp_path, step, result=memory, chunk_elements=5)
    assert step.report()["update_norm"].mean() > 1e9, "the plan did write"
    assert norm(found) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("steps", [(), (Clip(0.5),)])
def test_an_earlier_rounds_longer_file_is_written_over(tmp_path: Path, steps: tuple[Clip, ...]) -> None:
    spare = reusable_file(tmp_path / "x.frame")
    spare.write_bytes(b"?" * 10_000)
    number = spare.stat().st_ino
    sealed(tmp_path, *steps)
    assert (tmp_path / "x.frame").stat().st_ino == number


def test_without_steps_each_piece_of_an_addend_is_copied_once(tmp_path: Path) -> None:
    weighted = TensorSchema.of([spec.model_copy(update={"dtype": "float64"}) for spec in SCHEMA.tensors])
    file = tmp_path / "x.frame"
    reusable_file(file).write_bytes(b"?" * 10_000)
    number = reusable_file(file).stat().st_ino
    digest = seal(SCHEMA, memoryview(encode(RESULT)), file, addend=lambda: Addend(weighted, 3.0, {}), chunk_elements=7)
    assert digest == blob_hash(file.read_bytes())
    for name, numbers in decode(file.read_bytes()).items():
        np.testing.assert_array_equal(numbers, RESULT[name].astype(float) * 3.0)
    assert [(path, path.stat().st_ino) for path in tmp_path.iterdir()] == [(file, number)]


def test_an_update_that_no_norm_can_bound_does_not_leave(tmp_path: Path) -> None:
    bad = {**RESULT, "b": np.full(17, np.nan)}
    with pytest.raises(BadInput, match="holds NaN or infinite values"):
        sealed(tmp_path, Clip(0.5), result=encode(bad))
    assert not list(tmp_path.iterdir())
