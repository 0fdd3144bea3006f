"""An ensemble is measured on outputs, whatever its networks' outputs are averaged as: numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from plan_jobs import job_for, table, task_for

from archipel.plans import SegmentationPlan, TorchPlan, load
from archipel.plans.packaging import check_declarations
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import encode
from archipel.vocabulary import BadInput, DataNeeds, MetricSpec, MetricSum, TaskKind

CHEST = Path(__file__).parents[2] / "examples" / "chest_pictures.py"
LOG9 = math.log(9)


class Softmax(TorchPlan):
    needs = DataNeeds(kind="arrays")
    validation = (MetricSpec(name="validation_loss", better="lower"), MetricSpec(name="accuracy", better="higher"))
    channels = 2

    def build_model(self):
        return torch.nn.Linear(8, self.channels)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    def right(self, outputs, targets):
        return outputs.argmax(1) == targets

    def measure(self, outputs, targets):
        right = MetricSum(total=int(self.right(outputs, targets).sum()), weight=len(targets))
        return super().measure(outputs, targets) | {"accuracy": right}

    def activate(self, outputs):
        return outputs.softmax(1)

    def undo_activation(self, averaged):
        return averaged.clamp_min(1e-30).log()


class Sigmoid(Softmax):
    channels = 1

    def loss(self, outputs, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())

    def right(self, outputs, targets):
        return (outputs[:, 0] > 0) == (targets > 0)

    def activate(self, outputs):
        return outputs.sigmoid()

    def undo_activation(self, averaged):
        return averaged.logit(1e-6)


def constant(plan, *biases):
    return {"weight": np.zeros((plan.channels, 8), np.float32), "bias": np.array(biases, np.float32)}


@pytest.mark.parametrize(("kind", "biases"), [(Softmax, ((LOG9, 0), (0, 0))), (Sigmoid, ((-LOG9,), (0,)))])
def test_the_loss_of_an_ensemble_is_that_of_its_mean_probability(tmp_path, kind, biases):
    """Class 0 has 9/10 in one network and 1/2 in the other, so 7/10 in the ensemble."""
    plan = kind()
    runtime = PlanRuntime(plan, job_for(plan, validation_fraction=0.5), "site-a", tmp_path, table(tmp_path))
    runtime.prepare()
    models = [memoryview(encode(constant(plan, *bias))) for bias in biases]
    found = runtime.evaluate(task_for(runtime.job, TaskKind.EVALUATE), models).validation
    ones = int(plan.held_out.targets.sum())
    zeros = len(plan.held_out) - ones
    assert zeros and ones
    loss = -(zeros * math.log(0.7) + ones * math.log(0.3))
    assert found["validation_loss"].total == pytest.approx(loss, rel=1e-5)
    assert found["accuracy"].total == zeros


def test_an_ensemble_predicts_from_the_same_outputs():
    plan, inputs = Softmax(), torch.zeros(1, 8)
    networks = plan.networks([constant(plan, LOG9, 0), constant(plan, 0, 0)])
    assert plan.ensemble(networks, inputs).softmax(1).tolist()[0] == pytest.approx([0.7, 0.3], rel=1e-6)
    assert plan.ensemble(networks[:1], inputs).tolist()[0] == pytest.approx([LOG9, 0])


@pytest.mark.parametrize("certain", [1.0, 0.0])
def test_a_certain_ensemble_has_a_finite_loss(certain):
    averaged = torch.tensor([[certain, 1 - certain]])
    assert math.isfinite(float(Softmax().loss(Softmax().undo_activation(averaged), torch.tensor([0]))))
    assert math.isfinite(float(Sigmoid().loss(Sigmoid().undo_activation(averaged[:, :1]), torch.tensor([0]))))
    assert math.isfinite(float(load(CHEST).loss(load(CHEST).undo_activation(averaged), torch.tensor([0]))))


class Voxels(SegmentationPlan):
    needs = DataNeeds(kind="volumes", labels={"1": "lesion"})
    shape = (8, 8, 8)

    def build_model(self):
        return torch.nn.Conv3d(1, 2, 1)


@pytest.mark.parametrize("plan", [Voxels(), load(CHEST)], ids=["segmentation", "chest"])
def test_the_averages_are_undone_to_outputs_that_have_them(plan):
    averaged = torch.tensor([[0.7, 0.3], [0.01, 0.99]])
    assert torch.allclose(plan.activate(plan.undo_activation(averaged)), averaged, atol=1e-6)


def test_a_plan_that_activates_and_does_not_undo_it_is_refused():
    class Half(Voxels):
        def activate(self, outputs):
            return outputs.sigmoid()

    with pytest.raises(BadInput, match=r"Half: defines activate\(\) and no undo_activation\(\).*averaged.logit"):
        check_declarations(Half())
    check_declarations(Voxels())
    check_declarations(type("Renamed", (Softmax,), {"build_model": lambda self: None})())
