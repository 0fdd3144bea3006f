"""The Python and the commands of the page on simulation work as they are typed, on one table of patients."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text("utf-8")
PAIN = ("typical angina", "atypical angina", "non-anginal pain", "asymptomatic")
NAMES = "subject,age,trestbps,chol,thalach,oldpeak,sex,exang,cp,disease,hospital"


def write_table(folder: Path, patients: int, seed: int) -> None:
    folder.mkdir(parents=True)
    draw, rows = np.random.default_rng(seed), [NAMES]
    for number in range(patients):
        ill = bool(draw.random() < 0.4)
        numbers = [30 + number % 40, 130, 200 + number, 160 - 30 * ill, 2 * ill]
        words = ["male" if number % 2 else "female", "yes" if ill else "no", PAIN[number % 4], "yes" if ill else "no"]
        rows.append(",".join(map(str, [f"p{seed}-{number:03}", *numbers, *words, "Ulm" if number % 3 else "Jena"])))
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page names."""
    root = tmp_path_factory.mktemp("simulation")
    shutil.copy(ROOT / "examples" / "heart_disease.py", root)
    write_table(root / "patients", 120, 0)
    for seed, name in enumerate(("ulm", "jena"), start=1):
        write_table(root / "hospitals" / name, 40, seed)
    return root


def test_the_python_of_the_page_works(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    [code] = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
    known: dict[str, Any] = {}
    exec(code, known)
    run = known["run"]
    words = "4 virtual sites by label skew, alpha 0.5, seed 1"
    assert run.sites["patients"].sum() == 120 and len(run.sites) == 4
    assert set(run.history["split"]) == {words} and run.history["round"].max() == 3
    assert {"federated", "ensemble"} < set(run.baselines["model"])
    assert words in Path("results/simulation.html").read_text("utf-8")
    card = Path("results/simulation-last.md").read_text("utf-8")
    assert words in card and "Nobody signed the job: it was simulated." in card
    assert Path("results/simulation-last.safetensors").is_file()
    assert Path("results/simulation-last-plan/heart_disease.py").is_file()
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told[:3]] == [f"round {number} of 3" for number in (1, 2, 3)]


def test_the_commands_of_the_page_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for line in re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL):
        _, command, *words = shlex.split(line)
        done = CliRunner().invoke(importlib.import_module(f"archipel.cli.{command}").app, words, env={"COLUMNS": "200"})
        assert done.exit_code == 0, (line, done.output, done.exception)
        assert ("virtual sites" in done.stderr) == ("--split" in line)
