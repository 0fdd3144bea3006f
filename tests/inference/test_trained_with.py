"""A downloaded model is used with the hyper-parameters with which it was trained, and what was used is said."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import archipel
from archipel.plans.files import TRAINED_WITH, TrainedWith
from archipel.tensors import encode
from archipel.vocabulary import BadInput

PLAN = """
import numpy as np
from archipel.plans import Plan
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum


class Other(Plan):
    needs = DataNeeds(kind="arrays")
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="score", better="higher"),)
    hyper_parameters = (HyperParameter(name="depth", kind="int", default=1, minimum=1, maximum=9),)

    def initial_model(self, seed):
        return {"w": np.zeros(1)}

    def prepare(self, training, validation, context):
        self.count = len(validation)

    def evaluate(self, models, context):
        return {"score": MetricSum.of([float(context.arguments["depth"])] * self.count)}


class Scaled(Plan):
    needs = DataNeeds(kind="arrays")
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="score", better="higher"),)
    hyper_parameters = (
        HyperParameter(name="scale", kind="float", default=1.0, minimum=0.0, maximum=9.0),
        HyperParameter(name="shift", kind="float", default=0.0, minimum=0.0, maximum=9.0),
    )

    def initial_model(self, seed):
        return {"w": np.zeros(1)}

    def prepare(self, training, validation, context):
        self.count = len(validation)

    def evaluate(self, models, context):
        return {"score": MetricSum.of([context.arguments["scale"] + context.arguments["shift"]] * self.count)}

    def predict(self, models, subjects, context):
        return {"score": np.full(len(subjects), context.arguments["scale"] + context.arguments["shift"])}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A downloaded model of the second class of its plan, trained with a scale of 3."""
    folder = tmp_path / "m-plan"
    folder.mkdir()
    (folder / "plan.py").write_text(PLAN)
    known = TrainedWith(entry="plan.py", class_name="Scaled", arguments={"scale": 3.0})
    (folder / TRAINED_WITH).write_text(known.model_dump_json())
    (tmp_path / "m.safetensors").write_bytes(encode({"w": np.zeros(1)}))
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 1)), y=[0, 1], subject=["p-1", "p-2"])
    return tmp_path / "m.safetensors"


def typed(command: str, *words: object) -> Result:
    app = importlib.import_module(f"archipel.cli.{command}").app
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_they_are_used_unless_others_are_given_and_both_are_said(model: Path) -> None:
    data = model.with_name("d.npz")
    done = typed("evaluate", "--model", model, "--data", data, "--json")
    found = json.loads(done.stdout)
    assert found["metrics"]["score"]["value"] == 3.0 and found["arguments"] == {"scale": 3.0, "shift": 0.0}
    said = "hyper-parameters: scale=3.0 (as the model was trained), shift=0.0 (the plan's default)\n"
    assert done.stderr == said
    out = model.with_name("out.csv")
    done = typed("predict", data, out, "--model", model, "--set", "shift=2")
    assert done.stdout == f"{out}\n" and "scale=3.0 (as the model was trained), shift=2.0 (--set)" in done.stderr
    assert archipel.predict(model, data, arguments={"scale": 5}).columns["score"].tolist() == [5.0] * 2


def test_those_of_another_class_of_the_plan_are_not_used(model: Path) -> None:
    other = archipel.evaluate(model, model.with_name("d.npz"), plan_class="Other")
    assert other.metrics["score"].value == 1.0 and other.as_document()["arguments"] == {"depth": 1}
    (model.with_name("m-plan") / TRAINED_WITH).unlink()
    found = archipel.evaluate(model, model.with_name("d.npz"), plan_class="Scaled")
    assert found.metrics["score"].value == 1.0 and {one.source for one in found.arguments.values()} == {"plan"}


@pytest.mark.parametrize("text", ["", "{}", '{"entry": "plan.py", "class_name": "Scaled", "arguments": [1]}'])
def test_a_damaged_file_is_an_error_that_names_it(model: Path, text: str) -> None:
    (model.with_name("m-plan") / TRAINED_WITH).write_text(text)
    with pytest.raises(
        BadInput, match=r"trained-with.json: does not say how the model was trained; download the model"
    ):
        archipel.predict(model, model.with_name("d.npz"))
