"""``archipel simulate --start-from``: a file, or an experiment at a server."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from archipel.tensors import encode
from archipel.vocabulary import BadInput

TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"


def simulate(*words: object) -> Result:
    app = importlib.import_module("archipel.cli.simulate").app
    nowhere = {"COLUMNS": "200", "ARCHIPEL_SERVER": "", "ARCHIPEL_TOKEN": "", "ARCHIPEL_CA": ""}
    return CliRunner().invoke(app, [str(TINY), *map(str, words)], env=nowhere)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for site in ("a", "b"):
        (folder / site).mkdir()
        x = np.random.default_rng(ord(site)).normal(size=(20, 8))
        names = np.array([f"{site}-{row:02d}" for row in range(20)])
        np.savez(folder / site / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


def test_a_simulation_starts_from_a_file_and_its_baselines_too(data: Path, tmp_path: Path) -> None:
    start, words = tmp_path / "start.safetensors", (data, "--rounds", 1, "--set", "learning_rate=0", "--json")
    chosen = {"bias": np.zeros(1), "steps_taken": np.full((), 30, np.int64), "weight": np.eye(8)[0]}
    start.write_bytes(encode(chosen))
    begun = simulate(*words, "--start-from", start, "--baselines", "--pooled")
    assert begun.exit_code == 0, begun.output
    # Nothing is learned, so every model is the one that they started from, which knows the answer.
    reached = {one["model"]: one["all_sites"]["accuracy"] for one in json.loads(begun.stdout)}
    assert len(reached) == 5 and set(reached.values()) == {1.0}, reached
    [plain] = json.loads(simulate(*words).stdout)
    assert plain["all_sites"]["accuracy"] < 1.0


def test_a_model_that_does_not_fit_names_the_tensor(data: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(encode({"bias": np.zeros(1), "steps_taken": np.zeros((), np.int64), "weight": np.zeros(9)}))
    with pytest.raises(BadInput, match=r"tensor weight is float64 \[9\], in the plan's model float64 \[8\]"):
        raise simulate(data, "--start-from", start).exception or AssertionError("it fits")


def test_an_experiment_needs_a_server(data: Path) -> None:
    refused = simulate(data, "--start-from", "heart-1:best").exception
    assert isinstance(refused, BadInput) and "ARCHIPEL_SERVER" in refused.remedy
