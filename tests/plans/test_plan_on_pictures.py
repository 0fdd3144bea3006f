"""The example on pictures, trained at two hospitals whose folders have other names and another order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from archipel.cli.simulate import app
from archipel.data import Cohort, RawSource, SubjectSet, scan
from archipel.plans import load

PLAN = Path(__file__).parents[2] / "examples" / "chest_pictures.py"
SITES = """
[zurich]
path = "zurich"
format = "class-folders"

[bern]
path = "bern"
format = "class-folders"
mapping = "bern.toml"
"""


def pictures(root: Path, classes: dict[str, int], seed: int) -> None:
    """Class by folder: a class is where the bright half of a picture is."""
    draw = np.random.default_rng(seed)
    for name, side in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(24):
            values = draw.integers(0, 120, (28, 28), np.uint8)
            values[:, 14 * side : 14 * side + 14] += 100
            Image.fromarray(values).save(root / name / f"{name}{number:02}.png")


def test_the_classes_of_two_hospitals_are_one_list_though_their_folders_sort_differently(tmp_path: Path) -> None:
    pictures(tmp_path / "zurich", {"normal": 0, "pneumonia": 1}, 1)
    pictures(tmp_path / "bern", {"a_pneumonie": 1, "b_ohne_befund": 0}, 2)
    (tmp_path / "sites.toml").write_text(SITES)
    (tmp_path / "bern.toml").write_text('[columns.class.values]\na_pneumonie = "pneumonia"\nb_ohne_befund = "normal"\n')
    words = [str(PLAN), str(tmp_path), "--sites", str(tmp_path / "sites.toml"), "--rounds", "6", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (federated,) = json.loads(done.stdout)
    # With each hospital's own numbers, every picture of one of the two would be learnt as the other class.
    assert {site: scores["accuracy"] for site, scores in federated["per_site"].items()} == {"bern": 1.0, "zurich": 1.0}


def test_pictures_of_16_bits_are_refused_by_the_plan_with_the_way_out(tmp_path: Path) -> None:
    for number, name in enumerate(("normal", "pneumonia")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((28, 28), 500 * number + 7, np.uint16)).save(tmp_path / name / f"{number}.png")
    plan = load(PLAN)
    for options, taken in (({}, False), ({"window": "0,1000"}, True)):
        cohort = Cohort(
            dataset="t",
            format="class-folders",
            options=options,
            samples=scan("class-folders", tmp_path, options).samples,
        )
        subjects = SubjectSet(RawSource(tmp_path, cohort), cohort.samples, plan.needs)
        if taken:
            inputs, targets = plan.examples(subjects)
            assert inputs.shape == (2, 1, 28, 28) and targets.tolist() == [0, 1] and float(inputs.max()) <= 1
        else:
            with pytest.raises(ValueError, match="the pictures are uint16, the plan needs 8 bits"):
                plan.examples(subjects)
