"""What torch, or a plan itself, warns of reaches its author in `archipel simulate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PLAN = """
import logging, warnings
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds

class Warns(Plan):
    needs = DataNeeds(kind="arrays", minimum_subjects=1)

    def initial_model(self, seed):
        return {"w": np.zeros(1)}

    def prepare(self, training, validation, context):
        pass

    def train(self, model, context):
        warnings.warn("a target size that differs from the input size")
        logging.getLogger("mine").warning("a line of the plan's own")
        return TrainingResult()
"""


@pytest.mark.processes
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_of_a_plan_is_one_line_that_names_the_line_of_the_plan(tmp_path: Path, workers: str) -> None:
    text = PLAN.replace("return TrainingResult()", 'return {}["rate"]')
    (tmp_path / "plan.py").write_text(text)
    for site in ("a", "b"):
        (tmp_path / "data" / site).mkdir(parents=True)
        rows = [f"{site}{number}" for number in range(8)]
        np.savez(tmp_path / "data" / site / "table.npz", x=np.ones((8, 2)), y=np.zeros(8), subject=rows)
    words = ["simulate", "plan.py", "data", "--workers", workers]
    done = subprocess.run([sys.executable, "-m", "archipel", *words], cwd=tmp_path, capture_output=True, text=True)
    line = text[: text.index("return {}")].count("\n") + 1
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"error: plan.py:{line}: KeyError: 'rate'; fix the plan"


@pytest.mark.processes
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_plan_warns_of_is_shown(tmp_path: Path, workers: str) -> None:
    (tmp_path / "plan.py").write_text(PLAN)
    for site in ("a", "b"):
        (tmp_path / "data" / site).mkdir(parents=True)
        rows = [f"{site}{number}" for number in range(8)]
        np.savez(tmp_path / "data" / site / "table.npz", x=np.ones((8, 2)), y=np.zeros(8), subject=rows)
    words = ["simulate", "plan.py", "data", "--rounds", "1", "--workers", workers, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "archipel", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "a target size that differs from the input size" in done.stderr
    assert "a line of the plan's own" in done.stderr
    assert "target size" not in done.stdout
