"""A model of which a part is frozen predicts and is evaluated like any other: its file has both parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_every_plan import Trained, rows_of, tiny_rows, typed

import archipel
from archipel.tensors import decode, encode
from archipel.vocabulary import BadInput

HEAD = (Path(__file__).parents[1] / "federation" / "frozen_plan.py").read_text()
PREDICTS = """
    def predict(self, models, subjects, context):
        x = subjects.table().x
        return {"chance": sum(self.outputs(model, x)[1] for model in models) / len(models)}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("frozen")
    plan = root / "head.py"
    plan.write_text(HEAD + PREDICTS)
    return Trained(root, plan, "npz", tiny_rows)


def test_a_model_and_an_ensemble_are_evaluated_as_the_simulation_measured_them(trained: Trained) -> None:
    assert decode(trained.model.read_bytes()).keys() == {"backbone", "head.weight", "head.bias"}
    for models, name in ((trained.folder, "federated"), (trained.local, "ensemble")):
        for site, values in trained.scores[name].per_site.items():
            found = archipel.evaluate(
                models, trained.data / site, plan=trained.plan, validation_fraction=0.3, resamples=20
            )
            assert {metric: one.value for metric, one in found.metrics.items()} == values
            assert len(found.subjects) == found.count > 1


def test_the_commands_take_it_with_the_plan_beside_it(trained: Trained) -> None:
    out = trained.folder / "predicted.csv"
    done = typed("predict", "--model", trained.folder, trained.data / "south", out)
    assert done.exit_code == 0, done.output
    rows = rows_of(out)
    right = np.mean([(float(row["chance"]) > 0.5) == (float(row["truth"]) > 0.5) for row in rows])
    found = archipel.evaluate(trained.folder, trained.data / "south", resamples=0)
    assert found.samples == len(rows) == 30 and found.metrics["accuracy"].value == pytest.approx(right, abs=1e-6)
    done = typed("evaluate", "--model", trained.folder, "--data", trained.data / "south", "--total-only")
    assert done.exit_code == 0, done.output


def test_the_chance_of_an_ensemble_is_the_mean_of_its_models(trained: Trained) -> None:
    alone = [archipel.predict(model, trained.data / "north", plan=trained.plan) for model in trained.local]
    both = archipel.predict(trained.local, trained.data / "north", plan=trained.plan)
    assert len(alone) == 2 and not np.array_equal(alone[0].columns["chance"], alone[1].columns["chance"])
    assert both.columns["chance"] == pytest.approx(sum(one.columns["chance"] for one in alone) / 2)


def test_a_model_without_its_frozen_part_is_refused(trained: Trained, tmp_path: Path) -> None:
    arrays = {name: array for name, array in decode(trained.model.read_bytes()).items() if name != "backbone"}
    (tmp_path / "head.safetensors").write_bytes(encode(arrays))
    with pytest.raises(BadInput, match=r"tensor backbone is absent in the model and float64 \[8, 16384\] in the plan"):
        archipel.evaluate(tmp_path / "head.safetensors", trained.data / "north", plan=trained.plan)
