"""A model of which a part is local to each site is not whole at home, and says so; a job may start from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import archipel
from archipel.cli.main import app
from archipel.vocabulary import BadInput

PLAN = Path(__file__).parents[1] / "federation" / "local_plan.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    for place, name in enumerate(("north", "south")):
        (root / name).mkdir()
        x = np.random.default_rng(place).normal(size=(12, 8))
        subject = np.array([f"{name}-{number}" for number in range(12)])
        np.savez(root / name / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=subject)
    return root


def simulate(data: Path, out: Path, *more: str) -> str:
    words = ["simulate", str(PLAN), str(data), "--rounds", "1", "--out", str(out), *more]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_it_is_refused_in_one_sentence_and_a_simulation_starts_from_it(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    simulate(data, model)
    for use in (archipel.predict, archipel.evaluate):
        with pytest.raises(
            BadInput, match=r"keeps 1 tensor local to each site \(such as own\), and the file has"
        ) as error:
            use(model, data / "north", plan=PLAN)
        assert "--start-from" in error.value.remedy
    words = ["evaluate", "--model", str(model), "--data", str(data / "north"), "--plan", str(PLAN)]
    assert "is not whole" in str(CliRunner().invoke(app, words).exception)
    assert "own" in simulate(data, tmp_path / "on.safetensors", "--start-from", f"{model}")
