"""A plan without a hook that its tasks need is refused where its author loads it, in one sentence with the remedy."""

from __future__ import annotations

import pytest
import torch

from archipel.plans import Plan, SegmentationPlan, TorchPlan, TrainingResult
from archipel.plans.hooks import check_hooks
from archipel.plans.loading import load_to_train
from archipel.plans.packaging import package
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, MetricSpec, OptimiserState

ARRAYS = DataNeeds(kind="arrays")
ACCURACY = (MetricSpec(name="accuracy", better="higher"),)


class Mean(Plan):
    needs = ARRAYS

    def initial_model(self, seed):
        return {}

    def prepare(self, training, validation, context):
        self.values = training

    def train(self, model, context):
        return TrainingResult()


class Line(TorchPlan):
    needs = ARRAYS

    def build_model(self):
        return torch.nn.Linear(1, 1)

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=0.1)

    def loss(self, outputs, targets):
        return outputs.sum()


def without(kind: type[Plan], name: str) -> Plan:
    """The plan with that hook as its base of the product has it."""
    base = TorchPlan if issubclass(kind, TorchPlan) else Plan
    own = {key: value for key, value in vars(kind).items() if key != name and not key.startswith("__")}
    return type("Forgetful", (base,), own)()


def test_complete_plans_are_taken() -> None:
    for plan in (Mean(), Line(), type("Same", (Line,), {})(), type("Named", (Line,), {"loss": torch.nn.MSELoss()})()):
        check_hooks(plan)


@pytest.mark.parametrize(
    ("kind", "name", "remedy"),
    [
        (Mean, "initial_model", "define initial_model(self, seed), which makes the model of round 0"),
        (Mean, "prepare", "define prepare(self, training, validation, context), which reads what training needs"),
        (Mean, "train", "define train(self, model, context), which trains for one round"),
        (Line, "build_model", "define build_model(self), which returns the network"),
        (
            Line,
            "build_optimiser",
            "define build_optimiser(self, network, context), which returns the optimiser of a ro",
        ),
        (Line, "loss", "define loss(self, outputs, targets), the mean loss of a batch"),
    ],
)
def test_a_missing_hook_is_named_with_what_it_takes(kind: type[Plan], name: str, remedy: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_hooks(without(kind, name))
    assert str(refused.value).startswith(f"plan Forgetful: does not define {name}; {remedy}")
    assert refused.value.code is ErrorCode.BAD_PLAN


def test_what_is_declared_needs_the_hook_that_does_it() -> None:
    with pytest.raises(
        BadInput, match=r"declares the validation metrics accuracy and does not define evaluate; define"
    ):
        check_hooks(type("Unmeasured", (Mean,), {"validation": ACCURACY})())
    with pytest.raises(BadInput, match=r"metrics accuracy and does not define measure; define measure\(self, outputs"):
        check_hooks(type("Unmeasured", (Line,), {"validation": ACCURACY})())
    check_hooks(type("Measured", (Line,), {"validation": ACCURACY, "measure": lambda self, outputs, targets: {}})())
    with pytest.raises(BadInput, match="continues from its own state and does not define state; define"):
        check_hooks(type("Stateless", (Mean,), {"optimiser_state": OptimiserState.CONTINUE_LOCAL})())
    volumes = DataNeeds(kind="volumes", labels={"1": "heart"})
    own = {key: value for key, value in vars(Line).items() if not key.startswith("__")} | {"needs": volumes}
    with pytest.raises(BadInput, match=r"does not declare its shape; set shape = \(40, 56, 40\), for example"):
        check_hooks(type("Shapeless", (SegmentationPlan,), own)())
    check_hooks(type("Shaped", (SegmentationPlan,), own | {"shape": (8, 8, 8)})())


def test_a_plan_with_a_training_step_of_its_own_needs_neither_loss_nor_optimiser() -> None:
    own = {"needs": ARRAYS, "build_model": Line.build_model, "train": Mean.train}
    check_hooks(type("Own", (TorchPlan,), own)())


def test_a_hook_that_cannot_be_called_is_named() -> None:
    with pytest.raises(
        BadInput,
        match=r"its train takes \(model\) and is called with \(model, context\); define train\(self, model, con",
    ):
        check_hooks(type("Short", (Mean,), {"train": lambda self, model: None})())
    with pytest.raises(BadInput, match=r"its build_model is list, not a method; define build_model\(self\)"):
        check_hooks(type("NotOne", (Line,), {"build_model": []})())
    check_hooks(type("Free", (Mean,), {"train": lambda self, *given, **named: None})())


def test_it_is_refused_when_the_plan_is_loaded_by_its_author(tmp_path) -> None:
    file = tmp_path / "plan.py"
    file.write_text(
        "from archipel import DataNeeds, Plan\n\n\nclass Empty(Plan):\n    needs = DataNeeds(kind='arrays')\n"
    )
    with pytest.raises(
        BadInput, match=r"plan Empty: does not define initial_model; define initial_model\(self, seed\)"
    ):
        load_to_train(package(file))
