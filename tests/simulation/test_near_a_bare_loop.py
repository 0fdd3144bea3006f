"""What makes a simulated round cheap changes none of its bits: files that are not synced, values formed once."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch

from archipel.governance import record_hash, task_hash
from archipel.plans.seeding import seed_torch
from archipel.simulation.collecting import settled_objects
from archipel.tasks import seal
from archipel.tensors import encode, schema_of
from archipel.vocabulary import Task, TaskKey, TrainingPass
from archipel.vocabulary.once import Once


def test_seeding_gives_the_numbers_of_torchs_own() -> None:
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.rand(3)
    seed_torch(7)
    assert torch.equal(torch.rand(5), expected)


def test_a_value_is_formed_once_for_one_object_and_again_for_an_equal_one() -> None:
    asked: list[list[int]] = []

    def total(numbers: list[int]) -> int:
        asked.append(numbers)
        return sum(numbers)

    once, numbers = Once(total, most=2), [1, 2]
    assert [once(numbers), once(numbers), once([1, 2])] == [3, 3, 3] and len(asked) == 2
    # The last two are known, and the one before them is forgotten.
    once([5])
    assert once(numbers) == 3 and len(asked) == 4


def test_the_hash_of_a_task_is_that_of_its_document() -> None:
    key = TaskKey(experiment="heart", round=1)
    one, other = [
        Task(key=key, job_hash="sha256:" + "0" * 64, models=("blake3:" + "1" * 64,),
             passes=(TrainingPass(round=1, arguments={"learning_rate": rate}),))
        for rate in (0.1, 0.2)
    ]  # fmt: skip
    for task in (one, other, one):
        assert task_hash(task) == record_hash(task)


def test_only_a_durable_file_is_synced_and_both_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"weight": torch.arange(6, dtype=torch.float32).numpy()}
    schema, result = schema_of(model), memoryview(bytearray(encode(model)))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    memory = seal(schema, result, tmp_path / "memory.safetensors", durable=False)
    assert not synced
    disk = seal(schema, result, tmp_path / "disk.safetensors")
    assert synced
    assert memory == disk
    assert (tmp_path / "memory.safetensors").read_bytes() == (tmp_path / "disk.safetensors").read_bytes() == result


def test_what_a_program_left_out_of_collections_itself_stays_out() -> None:
    # Whoever ran before may have left some out.
    gc.unfreeze()
    with settled_objects():
        assert gc.get_freeze_count() > 0
        with settled_objects():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
