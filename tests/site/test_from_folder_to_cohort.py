"""The page "From folder to cohort", command by command, on a folder like the one it speaks of."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.site.approval import authorisation
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import DataNeeds, RosterEntry
from worlds.data_files import write_volume
from worlds.people import ANNA
from worlds.site import take_offer

PAGE = Path(__file__).parents[2] / "docs" / "from-folder-to-cohort.md"
EXPERIMENT = "hippocampus-3fa9c1"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def brains(root: Path) -> Path:
    """Eight subjects; one of them has no label."""
    for number in range(8):
        numbers = np.random.default_rng(number)
        write_volume(root / "images" / f"sub-{number:02}.nii.gz", numbers.normal(9, 2, (6, 7, 8)).astype(np.float32))
        write_volume(root / "labels" / f"sub-{number:02}.nii.gz", numbers.integers(0, 4, (6, 7, 8)).astype(np.uint8))
    (root / "labels" / "sub-03.nii.gz").unlink()
    return root


def test_every_command_of_the_page_does_what_the_page_says(
    hospital: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = brains(tmp_path / "brains")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mapping.toml").write_text(blocks("toml")[0])
    (tmp_path / "opt-out.txt").write_text("sub-05\n")
    roster = (RosterEntry(site=hospital.name, identity_key=hospital.identity.public, dataset="brains"),)
    needs = DataNeeds(kind="volumes", labels={"1": "anterior", "2": "posterior"})
    _, hashed = take_offer(hospital, experiment=EXPERIMENT, roster=roster, needs=needs)
    said: dict[str, str] = {}
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    for line in commands:
        first, second, *words = [word.replace("/data/brains", str(root)) for word in shlex.split(line, comments=True)]
        assert (first, second) == ("archipel", "site")
        environment = {"ARCHIPEL_SITE_STATE": str(hospital.folder), "COLUMNS": "200"}
        done = CliRunner().invoke(app, words, input="y\n", env=environment)
        # The faulty subject is there until it is excluded.
        fails = words[:2] == ["dataset", "check"] and "brains" in words and "exclude" not in " ".join(said)
        assert done.exit_code == int(fails), (line, done.output, done.exception)
        said[f"{len(said)} {' '.join(words)}"] = done.stdout
    output = "\n".join(said.values())
    for words in (
        "format nifti-pairs",
        "- sub-03: no label beside the image",
        "brains now leaves out sub-03: 7 subjects",
        "- labels: nothing -> 3=0",
        f"needs of {EXPERIMENT}:",
        "dataset brains version 1 spring 2027: 7 subjects",
        "warning: only ",
        "changed: pseudonyms: no -> yes",
        "nothing differs",
        "Does the data fit?",
        "- label 1 anterior: met",
        f"approved {EXPERIMENT} for 7 subjects of dataset brains version 1",
        "dataset brains version 1 has 6 subjects left",
        "disclosed: name brains, kind volumes, subjects 5",
    ):
        assert words in output, words
    allowed = authorisation.authorise(hospital, EXPERIMENT, hashed)
    assert allowed.cohort.subjects == ("sub-00", "sub-02", "sub-04", "sub-06", "sub-07")
    assert allowed.cohort.mapping.orientation == "RAS"
    assert catalog.dataset(hospital.database, "brains").subjects == 5
    assert [one.remaining for one in cohort_versions.versions(hospital.database, hospital.cohort_key)] == [5, 5]


def run(site: StateFolder, *words: str) -> str:
    done = CliRunner().invoke(app, list(words), env={"ARCHIPEL_SITE_STATE": str(site.folder), "COLUMNS": "200"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_the_commands_answer_programs_too(with_table: StateFolder, tmp_path: Path) -> None:
    frozen = json.loads(run(with_table, "cohort", "freeze", "table", "--pseudonymise", "--json"))
    assert (frozen["version"], frozen["pseudonyms"], frozen["remaining"]) == (1, True, 6)
    assert json.loads(run(with_table, "cohort", "list", "--json")) == [
        {key: value for key, value in frozen.items() if key not in ("is_new", "warnings")}
    ]
    shown = json.loads(run(with_table, "cohort", "show", "table", "--json"))
    assert [row["subject"] for row in shown["members"]] == [f"p-{n:03}" for n in range(6)]
    assert {row["side"] for row in shown["members"]} == {"training", "validation"}
    assert json.loads(run(with_table, "cohort", "diff", "table", "1", "--json"))["added"] == []
    assert json.loads(run(with_table, "dataset", "check", "table", "--json"))["problems"] == []
    take_offer(with_table)
    document = json.loads(run(with_table, "dataset", "show", "table", "--json"))
    assert document["disclosed"]["subjects"] == 6
    assert [row["verdict"] for row in document["needs"]["heart"]] == ["met", "met"]
    needs = json.loads(run(with_table, "plans", "heart", "--json"))["needs"]
    assert needs == document["needs"]["heart"]


def test_needs_that_are_not_met_say_why_before_anybody_is_asked(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "table", brains(tmp_path / "brains"), "nifti-pairs", leave_out_faulty=True, by=ANNA)
    labels = {"1": "anterior", "2": "posterior", "3": "cyst", "9": "tumour"}
    take_offer(hospital, needs=DataNeeds(kind="volumes", modalities=("T1",), labels=labels))
    shown = run(hospital, "plans", "heart")
    assert "- image T1: not met (the dataset has image; map one of them with modalities.T1)" in shown
    assert "- label 9 tumour: not met (no sample has value 9" in shown
    (tmp_path / "m.toml").write_text('[modalities]\nT1 = "image"\n[labels]\n3 = 9\n[label_names]\n9 = "tumour"\n')
    answer = run(hospital, "dataset", "map", "table", "--mapping", str(tmp_path / "m.toml"))
    assert "- image T1: met by mapping (from image)" in answer
    assert "- label 9 tumour: met by mapping (from value 3)" in answer
    assert "- label 3 cyst: not met" in answer
    assert "this mapping already" in run(hospital, "dataset", "map", "table", "--mapping", str(tmp_path / "m.toml"))
