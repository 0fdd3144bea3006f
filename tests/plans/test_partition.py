"""A part of a model is frozen: what a plan may do with it, and that an update has no place for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plan_jobs import job_for, table, task_for

from archipel.governance import canonical
from archipel.plans import Part, Plan, TorchPlan, TrainingResult, draft
from archipel.plans.partition import parts_of, same_bits
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import blob_hash, decode, encode, joined, schema_of
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    DataNeeds,
    ErrorCode,
    FrozenPart,
    Job,
    OptimiserState,
    RosterEntry,
    RoundTerms,
    TaskKind,
)

KEY = "ed25519:" + "0" * 64


class Chained(torch.nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, inputs):
        return self.head(self.backbone(inputs))


class Head(TorchPlan):
    """A backbone with batch normalisation and dropout that is frozen, and a head that is trained."""

    needs = DataNeeds(kind="arrays")
    batch_size = 8
    optimiser_state = OptimiserState.CONTINUE_LOCAL

    def build_model(self):
        backbone = [torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5), torch.nn.ReLU()]
        return Chained(torch.nn.Sequential(*backbone), torch.nn.Linear(6, 2))

    def partition(self, name, array):
        return Part.SENT if name.startswith("head.") else Part.FROZEN

    def build_optimiser(self, network, context):
        return torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=0.1)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)


class Adapter(torch.nn.Module):
    """A linear layer that stays, and a change of low rank beside it (LoRA, Hu et al. 2021)."""

    def __init__(self, base, rank=1):
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(base.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, base.out_features, bias=False)
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, inputs):
        return self.base(inputs) + self.up(self.down(inputs))


class Adapters(Head):
    def build_model(self):
        layers = torch.nn.Linear(8, 6), torch.nn.Linear(6, 2)
        return torch.nn.Sequential(Adapter(layers[0]), torch.nn.ReLU(), Adapter(layers[1]))

    def partition(self, name, array):
        return Part.FROZEN if ".base." in name else Part.SENT


class Rows(Plan):
    """A numpy plan; ``act`` does something with the model's arrays during training."""

    needs = DataNeeds(kind="arrays")

    def initial_model(self, seed):
        return {"backbone": np.arange(64.0).reshape(8, 8), "head": np.zeros(8), "steps": np.zeros((), np.int64)}

    def partition(self, name, array):
        return Part.FROZEN if name == "backbone" else Part.SENT

    def prepare(self, training, validation, context):
        self.mean = training.table()[0].mean(axis=0)

    def train(self, model, context):
        self.act(model)
        model["head"] += self.mean @ model["backbone"]
        model["steps"] += 1
        return TrainingResult()

    def act(self, model):
        pass


def runtime_of(plan, root, **changes):
    """A runtime that was given the parts of the plan's model, and the tensor files of both."""
    parts = parts_of(plan, plan.initial_model(0))
    sent, frozen = encode(parts.sent), encode(parts.frozen)
    part = FrozenPart(tensors=schema_of(parts.frozen), blob=blob_hash(frozen))
    named = {"tensors": schema_of(parts.sent), "initial_model": blob_hash(sent), "frozen": part}
    runtime = PlanRuntime(plan, job_for(plan, **(named | changes)), "site-a", root, table(root))
    runtime.freeze(memoryview(frozen))
    runtime.prepare()
    return runtime, sent, frozen


def train(runtime, sent, round_=1, state=None):
    result = memoryview(bytearray(len(sent)))
    outcome = runtime.train(task_for(runtime.job, TaskKind.TRAIN, round_), memoryview(sent), result, state)
    return outcome, bytes(result)


def drafted(folder, source):
    (folder / "plan.py").write_text(source)
    return draft(
        folder / "plan.py",
        experiment="parts",
        roster=[RosterEntry(site="site-a", identity_key=KEY, dataset="data")],
        server_key=KEY,
        terms=RoundTerms(rounds=1, quorum=1),
    )


SOURCE = """
import numpy as np
from archipel.plans import Part, Plan
from archipel.vocabulary import DataNeeds
class Small(Plan):
    needs = DataNeeds(kind="arrays")
    def initial_model(self, seed):
        return {"backbone": np.ones((4, 4)), "head": np.zeros(4)}
"""
FREEZES = f"""{SOURCE}
    def partition(self, name, array):
        return Part.FROZEN if array.ndim == 2 else Part.SENT
"""


def test_a_job_names_the_tensors_of_both_parts_and_without_a_partition_it_is_the_job_that_it_was(tmp_path):
    whole, made = drafted(tmp_path, SOURCE), drafted(tmp_path, FREEZES)
    assert whole.job.frozen is None and whole.frozen is None and b"frozen" not in canonical(whole.job)
    assert [spec.name for spec in whole.job.tensors.tensors] == ["backbone", "head"]
    assert [spec.name for spec in made.job.tensors.tensors] == ["head"]
    assert [spec.name for spec in made.job.frozen.tensors.tensors] == ["backbone"]
    assert made.job.blobs == made.blobs.keys() and made.job.frozen.blob in made.blobs
    assert joined(made.initial_model, made.frozen) == whole.initial_model


@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        ("'frozen'", "returns 'frozen' for tensor backbone, which is not a Part"),
        ("Part.FROZEN", "freezes every tensor, so a site would send nothing"),
    ],
)
def test_a_partition_that_names_no_part_or_sends_nothing_is_refused(tmp_path, returned, cause):
    with pytest.raises(BadInput) as error:
        drafted(tmp_path, f"{SOURCE}    def partition(self, name, array):\n        return {returned}\n")
    assert error.value.cause == f"partition() {cause}" and "return Part.SENT" in error.value.remedy


def test_no_tensor_is_in_both_parts_of_a_job_and_no_part_is_empty(tmp_path):
    job = drafted(tmp_path, FREEZES).job
    empty = schema_of({})
    nothing = {"tensors": empty, "blob": job.initial_model}
    for change in ({"tensors": job.frozen.tensors}, {"tensors": empty}, {"frozen": nothing}):
        with pytest.raises(ValueError, match=r"cannot be both sent and frozen|must have tensors in both parts"):
            Job.model_validate(job.model_dump() | change)


@pytest.mark.parametrize("plan", [Head, Adapters])
def test_a_network_trains_what_is_sent_and_the_rest_keeps_its_bits(tmp_path, plan):
    runtime, sent, frozen = runtime_of(plan(), tmp_path)
    outcome, result = train(runtime, sent)
    before, after = decode(sent), decode(result)
    assert after.keys() == before.keys() and len(frozen) > 0
    assert all(not np.array_equal(before[name], after[name]) for name in before)
    network = runtime.plan.network
    kept = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert all(same_bits(kept[name], array) for name, array in decode(frozen).items())
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert sorted(trainable) == sorted(after)
    moments = {key.partition(".")[0] for key in decode(outcome.state)}
    assert len(moments) == len(trainable), "the optimiser has a state of what is trained only"
    again, _, _ = runtime_of(plan(), tmp_path)
    assert train(again, sent)[1] == result
    assert train(again, result, 2, outcome.state)[1] != result


def test_a_frozen_part_computes_in_training_what_it_computes_later(tmp_path):
    runtime, sent, _ = runtime_of(Head(), tmp_path)
    train(runtime, sent)
    modules = dict(runtime.plan.network.named_modules())
    training = sorted(path for path, module in modules.items() if module.training)
    assert training == ["", "head"] and {"backbone.1", "backbone.2"} < modules.keys()


def test_a_plan_measures_the_whole_model_and_an_ensemble_of_whole_models(tmp_path):
    runtime, sent, frozen = runtime_of(Head(), tmp_path)
    whole, first, second = Head(), sent, train(runtime, sent)[1]
    plain = PlanRuntime(whole, job_for(whole), "site-a", tmp_path, table(tmp_path))
    whole.partition = lambda name, array: Part.SENT
    plain.prepare()
    for files in ([first], [second], [first, second]):
        task = task_for(runtime.job, TaskKind.EVALUATE)
        found = runtime.evaluate(task, [memoryview(one) for one in files]).validation
        joint = plain.evaluate(task, [memoryview(joined(one, frozen)) for one in files]).validation
        assert found == joint and found["validation_loss"].weight


def unfreezes(network, context):
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return torch.optim.SGD(network.parameters(), lr=0.5)


def test_a_network_that_trains_its_frozen_part_fails_and_the_next_round_starts_from_the_jobs(tmp_path):
    plan = Head()
    runtime, sent, _ = runtime_of(plan, tmp_path)
    honest = plan.build_optimiser
    plan.build_optimiser = unfreezes
    with pytest.raises(BadInput, match=r"parameter backbone\.\S+: is frozen and was changed") as error:
        train(runtime, sent)
    assert error.value.code is ErrorCode.MODEL_CHANGED
    plan.build_optimiser = honest
    fresh, _, _ = runtime_of(Head(), tmp_path)
    assert train(runtime, sent)[1] == train(fresh, sent)[1]


def replaces(model):
    model["backbone"] = model["backbone"] + 1


def adds(model):
    model["backbone"] += 1


def unlocks(model):
    model["backbone"].flags.writeable = True


def removes(model):
    del model["backbone"]
    model["backbone"] = np.ones((8, 8))


def rounds(model):
    model["backbone"] = model["backbone"].astype(np.float32)


@pytest.mark.parametrize("act", [replaces, adds, unlocks, removes, rounds])
def test_what_a_plan_does_to_the_frozen_part_fails_and_does_not_last(tmp_path, act):
    plan = Rows()
    runtime, sent, frozen = runtime_of(plan, tmp_path)
    plan.act = act
    with pytest.raises((ArchipelError, ValueError), match=r"frozen and was changed|read-only|WRITEABLE|changed from"):
        train(runtime, sent)
    plan.act = lambda model: None
    _, result = train(runtime, sent)
    assert np.array_equal(decode(result)["head"], plan.mean @ decode(frozen)["backbone"])


def test_an_equal_array_in_place_of_a_frozen_one_is_no_change(tmp_path):
    plan = Rows()
    runtime, sent, _ = runtime_of(plan, tmp_path)
    _, expected = train(runtime, sent)
    plan.act = lambda model: model.update(backbone=model["backbone"].copy())
    assert train(runtime, sent)[1] == expected


def test_a_plan_that_divides_its_model_otherwise_than_the_job_does_not_train(tmp_path):
    plan = Rows()
    runtime, sent, _ = runtime_of(plan, tmp_path)
    plan.partition = lambda name, array: Part.FROZEN if name == "head" else Part.SENT
    with pytest.raises(ArchipelError, match=r"what partition\(\) freezes: is not what the job says"):
        train(runtime, sent)


def test_a_frozen_part_is_needed_before_a_task_and_has_the_jobs_tensors(tmp_path):
    runtime, sent, _ = runtime_of(Rows(), tmp_path)
    with pytest.raises(BadInput, match="tensor backbone is float32"):
        runtime.freeze(memoryview(encode({"backbone": np.zeros((8, 8), np.float32)})))
    bare = PlanRuntime(runtime.plan, runtime.job, "site-a", tmp_path, runtime.cohort)
    with pytest.raises(ValueError, match="was not given"):
        train(bare, sent)
    with pytest.raises(ValueError, match="no frozen part"):
        PlanRuntime(Rows(), job_for(Rows()), "site-a", tmp_path, runtime.cohort).freeze(memoryview(b""))


def test_a_rehearsal_makes_both_parts_and_works_with_them(tmp_path):
    first, sent, frozen = runtime_of(Rows(), tmp_path)
    runtime = PlanRuntime(Rows(), first.job, "site-a", tmp_path, first.cohort)
    runtime.prepare()
    places = memoryview(bytearray(len(sent))), memoryview(bytearray(len(frozen)))
    runtime.begin(*places)
    assert tuple(map(bytes, places)) == (sent, frozen)
    assert train(runtime, sent)[1] == train(first, sent)[1]
    runtime.plan.partition = lambda name, array: Part.SENT
    with pytest.raises(ArchipelError, match="initial_model returned other tensors"):
        runtime.begin(*places)


def test_one_tensor_under_two_names_has_one_part(tmp_path):
    class Tied(Head):
        def build_model(self):
            first, second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)
            second.weight = first.weight
            return torch.nn.Sequential(first, second, torch.nn.Linear(8, 2))

        def partition(self, name, array):
            return Part.FROZEN if name.startswith("0.") else Part.SENT

    runtime, sent, _ = runtime_of(Tied(), tmp_path)
    with pytest.raises(BadInput, match=r"parameter 0\.weight: is frozen and is the same tensor as 1\.weight"):
        train(runtime, sent)


def test_frozen_numbers_may_be_of_any_kind_and_value():
    odd = np.array([np.nan, -0.0, np.inf], np.float16)
    assert same_bits(odd, odd.copy()) and not same_bits(odd, np.array([np.nan, 0.0, np.inf], np.float16))
    assert same_bits(np.zeros(()), np.zeros(())) and same_bits(np.zeros((0, 3)), np.zeros((0, 3)))
