"""What makes a simulated round cheap changes none of its bits: files that are not synced, values formed once."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from archipel.governance import record_hash, task_hash
from archipel.plans.devices import Computing
from archipel.plans.network_weights import import_model
from archipel.plans.seeding import seed_torch
from archipel.plans.training_steps import LossMean, train_on
from archipel.rounds import model_path
from archipel.simulation.collecting import settled_objects
from archipel.simulation.site_specs import ModelsOfSite
from archipel.tasks import seal
from archipel.tensors import Array, Between, encode, fold, schema_of
from archipel.tensors.sums import WeightedMean
from archipel.vocabulary import BadInput, Task, TaskKey, TensorSpec, TrainingPass
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


class RemembersTheMean(WeightedMean):
    """The mean, which is also kept as a memory."""

    memory = ("mean",)

    def step(self, leaf: TensorSpec, start: int, model: Array, aggregate: Array, memory: Mapping[str, Array]) -> Any:
        """The mean, twice."""
        return aggregate, {"mean": aggregate}


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_fold_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    model = {"weight": torch.arange(6, dtype=torch.float32).numpy()}
    (tmp_path / "update").write_bytes(encode(model))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    rule = RemembersTheMean()
    between = Between(tmp_path / "update", {}, {name: tmp_path / name for name in rule.memory})
    fold(schema_of(model), [tmp_path / "update"], [1.0], tmp_path / "out", rule, between, durable=durable)
    assert len(synced) == (1 + len(rule.memory) if durable else 0)
    assert (tmp_path / "out").read_bytes() == encode(model)


def test_all_sites_of_a_process_share_the_memory_of_a_model_and_let_go_of_one_that_none_reads(tmp_path: Path) -> None:
    for name in ("old", "new"):
        model_path(tmp_path, f"blake3:{name}").write_bytes(name.encode())
    one, other = ModelsOfSite(tmp_path), ModelsOfSite(tmp_path)
    assert one.read("blake3:old") is other.read("blake3:old")
    assert bytes(one.read("blake3:new")) == b"new" and bytes(other.read("blake3:old")) == b"old"
    other.read("blake3:new")
    model_path(tmp_path, "blake3:old").write_bytes(b"again")
    assert bytes(one.read("blake3:old")) == b"again"


class Counted(torch.optim.SGD):
    """An optimiser that clears its gradients in a way of its own."""

    cleared = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Counted."""
        self.cleared += 1
        super().zero_grad(set_to_none)


@pytest.mark.parametrize("kind", [torch.optim.SGD, Counted])
def test_each_step_has_the_gradients_of_its_batch_alone(kind: Callable[..., Any]) -> None:
    network = torch.nn.Linear(2, 1, bias=False)
    optimiser, seen = kind(network.parameters(), lr=0.0), []
    batches = [(torch.full((1, 2), float(place)), torch.zeros(1, 1)) for place in (1, 2, 3)]
    losses = LossMean(1, Computing(torch.device("cpu")))

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).sum()

    def before_step() -> None:
        assert network.weight.grad is not None
        seen.append(network.weight.grad[0, 0].item())

    train_on(batches, network, optimiser, loss, before_step, Computing(torch.device("cpu")), 1, losses)
    assert seen == [1.0, 2.0, 3.0]
    assert getattr(optimiser, "cleared", 3) == 3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"weight": torch.zeros(1, 3).numpy()}, r"float32 \[1, 2\] in the plan's network and float32 \[1, 3\]"),
        ({"weight": torch.zeros(1, 2).double().numpy()}, r"float32 \[1, 2\] in .* and float64 \[1, 2\] in the model"),
        ({"weight": torch.zeros(1, 2).numpy(), "bias": torch.zeros(1).numpy()}, "bias: is absent in"),
    ],
    ids=["shape", "type", "name"],
)
def test_a_model_that_does_not_fit_is_told_as_before(model: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        import_model(torch.nn.Linear(2, 1, bias=False), model)


def test_what_a_program_left_out_of_collections_itself_stays_out() -> None:
    # Whoever ran before may have left some out.
    gc.unfreeze()
    with settled_objects():
        assert gc.get_freeze_count() > 0
        with settled_objects():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
