"""Names of labels that contradict the data, and masks that were saved as pictures, as a site meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archipel.data import DataMapping
from archipel.site.datasets import DatasetProblems, catalog
from archipel.site.services import datasets
from archipel.site.state import StateFolder
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA
from worlds.site import Terminal


def labelled(root: Path, values: tuple[int, ...], names: dict[str, str] | None = None) -> Path:
    """A Decathlon task of two subjects whose labels hold these values."""
    for number in range(2):
        image = np.random.default_rng(number).normal(100, 20, (6, 7, 8)).astype(np.float32)
        label = np.zeros((6, 7, 8), np.uint8)
        for at, value in enumerate(values):
            label[1:4, 1:5, 1 + 3 * at : 3 + 3 * at] = value
        write_volume(root / f"imagesTr/s{number}.nii.gz", image)
        write_volume(root / f"labelsTr/s{number}.nii.gz", label)
    known = {"0": "background"} | (names or {str(value): f"value {value}" for value in values})
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": known}))
    return root


SWAPPED = {"1": "anterior", "2": "posterior"}


def test_a_mapping_that_swaps_the_names_of_the_files_is_refused(hospital: StateFolder, tmp_path: Path) -> None:
    root = labelled(tmp_path / "d", (1, 2), {"1": "posterior", "2": "anterior"})
    with pytest.raises(DatasetProblems) as caught:
        datasets.add(hospital, "brains", root, "msd", mapping=DataMapping(label_names=SWAPPED), by=ANNA)
    first, second = map(str, caught.value.problems)
    assert first == (
        "label 1: is called anterior by the mapping; the files call 1 posterior, and 2 anterior; map by name: 2 = 1 "
        "and 1 = another value under [labels] in the mapping"
    )
    assert second.startswith("label 2: is called posterior by the mapping; the files call 2 anterior")
    assert catalog.datasets(hospital.database) == []
    # The remedy, done.
    by_name = DataMapping(label_names=SWAPPED, labels={"2": 1, "1": 2})
    datasets.add(hospital, "brains", root, "msd", mapping=by_name, by=ANNA)
    with pytest.raises(DatasetProblems, match="the files call 1 posterior"):
        catalog.remap(hospital.database, hospital.cohort_key, "brains", DataMapping(label_names=SWAPPED), by=ANNA)
    assert catalog.dataset(hospital.database, "brains").mapping == by_name


def test_a_name_in_another_language_is_the_persons_to_give(hospital: StateFolder, tmp_path: Path) -> None:
    root = labelled(tmp_path / "d", (1, 2), {"1": "Leber", "2": "Tumor"})
    names = DataMapping(label_names={"1": "liver", "2": "tumour"})
    assert datasets.add(hospital, "livers", root, "msd", mapping=names, by=ANNA).dataset.mapping == names


def test_label_names_without_label_volumes_are_an_error(terminal: Terminal, tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows"))
    result = terminal("dataset", "add", "rows", rows, "--label", "1=sick")
    assert "labels: are named (1 sick), and the dataset has no label volumes; leave out --label" in result.output
    assert result.exit_code == 1 and len(terminal.json("dataset", "list")) == 1
    assert terminal("dataset", "add", "rows", rows).exit_code == 0
    assert "are named (1 sick)" in str(terminal("dataset", "map", "rows", "--label", "1=sick").exception)


def test_the_tolerance_that_an_error_names_is_typed_as_it_is(terminal: Terminal, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "d", 2)
    moved = np.eye(4)
    moved[0, 3] = 0.3
    write_volume(root / "labels/sub-01.nii.gz", np.ones((6, 7, 8), np.uint8), moved)
    refused = terminal("dataset", "add", "brains", str(root))
    assert refused.exit_code == 1 and "are up to 0.3 mm apart at their corners" in refused.output
    option = " ".join(refused.output.split()).partition("add the dataset with ")[2].split()[:2]
    assert option == ["--option", "grid_tolerance=0.31"]
    added = terminal("dataset", "add", "brains", str(root), *option)
    assert added.exit_code == 0 and "dataset brains added: 2 subjects" in added.output
    assert terminal("dataset", "check", "brains").exit_code == 0
