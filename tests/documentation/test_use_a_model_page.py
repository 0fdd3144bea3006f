"""The commands and the Python of the page on models work as they are typed, beside a downloaded model."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archipel.plans import load
from archipel.tensors import encode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "use-a-model.md").read_text("utf-8")
PLAN = ROOT / "examples" / "heart_disease.py"
PAIN = ("typical angina", "atypical angina", "non-anginal pain", "asymptomatic")


def write_patients(path: Path, *, truth: bool) -> None:
    """Twenty patients; the longer their chest pain is a symptom, the older they are."""
    names = ["subject", "age", "trestbps", "chol", "thalach", "oldpeak", "sex", "exang", "cp"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *(["disease"] if truth else [])])
        for number in range(20):
            ill = number % 3 == 0
            row = [f"patient-{number:03}", 40 + number, 130, 200 + number, 150 - 30 * ill, 2 * ill]
            row += ["male" if number % 2 else "female", "yes" if ill else "no", PAIN[number % 4]]
            writer.writerow([*row, *([("yes" if ill else "no")] if truth else [])])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the download of the page, and two tables of patients."""
    root = tmp_path_factory.mktemp("models")
    (root / "download" / "best-plan").mkdir(parents=True)
    (root / "download" / "best-plan" / "heart_disease.py").write_bytes(PLAN.read_bytes())
    model = load(PLAN).initial_model(0)
    (root / "download" / "best.safetensors").write_bytes(encode({name: one * 3 for name, one in model.items()}))
    write_patients(root / "our-patients.csv", truth=True)
    return root


def typed(line: str) -> str:
    _, command, *words = shlex.split(line)
    done = CliRunner().invoke(importlib.import_module(f"archipel.cli.{command}").app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.stdout


def test_the_commands_and_the_python_of_the_page_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    write_patients(place / "new-patients.csv", truth=False)
    predict, evaluate = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)
    assert typed(predict).strip() == "predictions.csv"
    with (place / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["subject", "session", "chance of disease"] and len(rows) == 20
    shown = typed(evaluate)
    assert "accuracy" in shown and "auc" in shown and "patient-007" in shown and "all 20 subjects" in shown
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)  # the page's own text
    assert [float(row["chance of disease"]) for row in rows] == pytest.approx(np.asarray(names["chances"]).tolist())


def test_an_auc_has_an_interval_and_no_value_of_a_subject(place: Path) -> None:
    import archipel

    found = archipel.evaluate(place / "download", place / "our-patients.csv", resamples=50)
    auc = found.metrics["auc"]
    assert auc.counts == "site" and auc.weight == 1 and auc.value is not None
    assert auc.low is not None and auc.high is not None and auc.low < auc.value < auc.high
    assert found.subjects["patient-007"].keys() == {"accuracy", "validation_loss"}
