"""``archipel simulate``, ``predict`` and ``evaluate``, as they are typed: files in, files and JSON out."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from archipel.data import scan
from archipel.tensors import decode, encode
from archipel.vocabulary import ArchipelError, BadInput

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_FILES = Path(__file__).parents[1] / "federation" / "two_files"
PLAN = """
import torch
from archipel.plans import SegmentationPlan
from archipel.vocabulary import DataNeeds


class Threshold(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        certainty = 50 * (images - self.level)
        return torch.cat([-certainty, certainty], dim=1)


class Bright(SegmentationPlan):
    needs = DataNeeds(kind="volumes", labels={"1": "lamp"}, minimum_subjects=1)
    shape = (8, 8, 8)
    divisor = 4

    def build_model(self):
        return Threshold()

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=1e-3)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets[:, 0])
"""

OBLIQUE = np.array([[0, 0, -1.0, 20], [1.0, 0, 0, -5], [0, 1.0, 0, 3], [0, 0, 0, 1]])


def typed(command: str, *words: object) -> Result:
    app = importlib.import_module(f"archipel.cli.{command}").app
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a plan, a model of it, and two labelled volumes: 8 bright voxels, one of them not in the label."""
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "model.safetensors").write_bytes(encode({"level": np.float32(1).reshape(())}))
    numbers = np.random.default_rng(0)
    for subject in ("sub-0", "sub-1"):
        image, label = numbers.normal(0, 0.1, (6, 9, 7)).astype(np.float32), np.zeros((6, 9, 7), np.uint8)
        image[2:4, 4:6, 3:5] = 50
        label[2:4, 4:6, 3:5] = 1
        label[3, 5, 4] = 0
        for part, values in (("images", image), ("labels", label)):
            path = tmp_path / "data" / part / f"{subject}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values, OBLIQUE).to_filename(path)
    return tmp_path


def options(place: Path) -> tuple[object, ...]:
    return "--model", place / "model.safetensors", "--plan", place / "plan.py"


def test_predict_writes_labels_on_the_grid_of_each_volume(place: Path) -> None:
    done = typed("predict", *options(place), place / "data", place / "out")
    assert done.exit_code == 0, done.output
    written = sorted((place / "out").iterdir())
    assert done.stdout.split() == [str(path) for path in written]
    assert [path.name for path in written] == ["sub-0.nii.gz", "sub-1.nii.gz"]
    found = nibabel.load(written[0])
    image = nibabel.load(place / "data/images/sub-0.nii.gz")
    assert found.shape == image.shape and np.array_equal(found.affine, image.affine)
    assert np.array_equal(np.asarray(found.dataobj) == 1, image.get_fdata() > 25)


def test_predict_names_a_place_where_it_cannot_write(place: Path) -> None:
    for target in (place / "model.safetensors" / "out", Path("/proc/out")):
        done = typed("predict", *options(place), place / "data", target)
        assert isinstance(done.exception, ArchipelError) and "cannot be written" in str(done.exception)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_plan_with_an_error_in_it_is_one_sentence(place: Path, command: str) -> None:
    (place / "plan.py").write_text("import nibabbel\n" + PLAN)
    where = (place / "data", place / "out") if command == "predict" else ("--data", place / "data")
    done = typed(command, *options(place), *where)
    assert isinstance(done.exception, BadInput)
    assert "plan.py:1: ModuleNotFoundError: No module named 'nibabbel'" in str(done.exception)


def test_evaluate_prints_dice_and_hd95_of_each_subject_and_their_mean(place: Path) -> None:
    done = typed("evaluate", *options(place), "--data", place / "data", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["count"] == 2 and list(found["subjects"]) == ["sub-0", "sub-1"]
    means = {name: one["value"] for name, one in found["metrics"].items()}
    for scores in (*found["subjects"].values(), means):
        assert scores["dice"] == scores["dice_lamp"] == pytest.approx(14 / 15)
        # The farthest border point is one voxel of 1 mm off.
        assert 0 < scores["hd95_mm"] == scores["hd95_mm_lamp"] <= 1
    table = typed("evaluate", *options(place), "--data", place / "data").stdout
    assert "all 2 subjects" in table and "0.9333 to 0.9333" in table


def test_several_folders_of_volumes_are_evaluated_together(place: Path) -> None:
    for site in ("a", "b"):
        shutil.copytree(place / "data", place / "sites" / site)
    done = typed("evaluate", *options(place), "--data", place / "sites", "--json")
    assert done.exit_code == 0, done.output
    assert list(json.loads(done.stdout)["subjects"]) == ["a:sub-0", "a:sub-1", "b:sub-0", "b:sub-1"]
    (place / "data/labels/sub-0.nii.gz").unlink()
    done = typed("evaluate", *options(place), "--data", place / "data")
    assert isinstance(done.exception, BadInput) and "sub-0" in str(done.exception)


@pytest.mark.parametrize(("content", "cause"), [(None, "cannot be read"), (b"PK not a model", "download it again")])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_file_that_is_no_model_is_named(place: Path, command: str, content: bytes | None, cause: str) -> None:
    (place / "model.safetensors").unlink()
    if content is not None:
        (place / "model.safetensors").write_bytes(content)
    where = (place / "data", place / "out") if command == "predict" else ("--data", place / "data")
    done = typed(command, *options(place), *where)
    assert isinstance(done.exception, BadInput)
    assert f"model {place}/model.safetensors: " in str(done.exception) and cause in str(done.exception)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with the tables of two sites."""
    numbers = np.random.default_rng(0)
    for site in ("north", "south"):
        folder = tmp_path / "data" / site
        folder.mkdir(parents=True)
        x = numbers.normal(size=(20, 8))
        subjects = [f"{site}-{number}" for number in range(20)]
        np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=subjects)
        assert not scan("npz", folder).problems
    return tmp_path / "data"


def test_simulate_runs_a_folder_of_files_and_the_entry_that_is_named(tmp_path: Path, tables: Path) -> None:
    plan = tmp_path / "plan"
    shutil.copytree(TWO_FILES, plan, ignore=shutil.ignore_patterns("__pycache__"))
    done = typed("simulate", plan, tables, "--rounds", 2, "--out", tmp_path / "model")
    assert done.exit_code == 0 and "round 2: " in done.stdout, done.output
    source = (plan / "plan.py").read_text()
    (plan / "mine.py").write_text(source.replace('json.loads("0.25")', "0.0"))
    still = typed("simulate", plan, tables, "--entry", "mine.py", "--rounds", 2, "--out", tmp_path / "still")
    assert still.exit_code == 0, still.output
    trained, untrained = (decode((tmp_path / name).read_bytes())["weight"] for name in ("model", "still"))
    np.testing.assert_allclose(untrained, np.random.default_rng(0).normal(0, 0.01, 8))
    assert not np.isclose(trained, untrained).any()
    (plan / "plan.py").rename(plan / "other.py")
    done = typed("simulate", plan, tables)
    assert isinstance(done.exception, BadInput) and "give it as the entry" in str(done.exception)


def test_simulate_ends_early_by_a_rule_of_patience_and_says_why(tables: Path) -> None:
    words = (EXAMPLES / "tiny_numpy.py", tables, "--rounds", 9, "--patience", "accuracy:1:0.9", "--json")
    done = typed("simulate", *words)
    assert done.exit_code == 0 and json.loads(done.stdout)
    reason = "ended early after round 2 of 9: no gain of 0.9 in accuracy for 1 round; best "
    assert reason in done.stderr
    refused = typed("simulate", *words[:-2], "dice:1")
    assert "patience metric dice is not a validation metric of the plan" in str(refused.exception)


def test_simulate_trains_over_the_folders_of_sites_and_writes_the_model(tmp_path: Path, tables: Path) -> None:
    words = (EXAMPLES / "tiny_numpy.py", tables, "--rounds", 2, "--baselines", "--out", tmp_path / "m")
    done = typed("simulate", *words)
    assert done.exit_code == 0, done.output
    assert "round 1: " in done.stdout and "round 2: " in done.stdout and "evaluate 2 of ensemble: " in done.stdout
    assert decode((tmp_path / "m").read_bytes()).keys() == {"bias", "steps_taken", "weight"}


def test_a_folder_without_sites_is_named(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "absent"):
        done = typed("simulate", EXAMPLES / "tiny_numpy.py", data)
        assert isinstance(done.exception, BadInput)
        assert f"{data}: contains no folder of a site" in str(done.exception)


def test_a_simulation_whose_model_can_go_nowhere_does_not_begin(tmp_path: Path) -> None:
    done = typed("simulate", EXAMPLES / "tiny_numpy.py", tmp_path, "--out", tmp_path / "absent" / "m.safetensors")
    assert isinstance(done.exception, BadInput)
    assert f"{tmp_path / 'absent'}: is not a folder that can be written to" in str(done.exception)
