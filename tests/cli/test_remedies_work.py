"""What an error tells a person to type is typed here, on the input that raised it, and the error is gone.

Each case makes an input, gives the command that fails on it, and reads the remedy out of the error's own words: the
options to add, the command to give before trying again, or the name that was meant.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import ArchipelError, ColumnNeed, DataNeeds, InputValues, RosterEntry
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA
from worlds.site import Terminal, make_site, take_offer

Words = list[str]


@dataclass(frozen=True)
class Input:
    """A site and a folder for data."""

    site: StateFolder
    folder: Path

    def data(self, name: str = "data") -> str:
        return str(self.folder / name)

    def offer(self, dataset: str, needs: DataNeeds) -> None:
        entry = RosterEntry(site=self.site.name, identity_key=self.site.identity.public, dataset=dataset)
        take_offer(self.site, needs=needs, roster=(entry,))


Make = Callable[[Input], Words]
Remedy = Callable[[str, Words, Input], Sequence[Words]]
"""From the error's text and the words that failed to the commands that the text tells to give."""


def retyped(pattern: str) -> Remedy:
    """The failed words again, with the options that the pattern finds in the text."""

    def commands(said: str, words: Words, given: Input) -> Sequence[Words]:
        return [[*words, *shlex.split(found(pattern, said))]]

    return commands


def replaced(old: str, pattern: str) -> Remedy:
    """The failed words again, with what the pattern finds in place of one of them."""
    return lambda said, words, given: [[found(pattern, said) if word == old else word for word in words]]


def before(pattern: str, *more: str) -> Remedy:
    """A command of ``archipel site`` that the pattern finds, and then the failed words again."""
    return lambda said, words, given: [[*shlex.split(found(pattern, said)), *more], words]


def mapped(dataset: str, *patterns: str, value: str = "") -> Remedy:
    """A mapping of the lines that the patterns find in the text, given to the dataset; then the failed words again."""

    def commands(said: str, words: Words, given: Input) -> Sequence[Words]:
        file = given.folder / "mapping.toml"
        file.write_text("".join(f"{found(pattern, said)}{value}\n" for pattern in patterns))
        return [["dataset", "map", dataset, "--mapping", str(file)], words]

    return commands


def found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    assert match is not None, f"{pattern} is not in: {said}"
    return match[1]


# Inputs -------------------------------------------------------------------------------------------------------


def a_damaged_image(given: Input) -> Words:
    write_pairs(given.folder / "data", 3)
    (given.folder / "data/images/sub-01.nii.gz").write_bytes(b"damaged")
    return ["dataset", "add", "brain", given.data()]


def names_with_endings(given: Input) -> Words:
    write_pairs(given.folder / "data", 3)
    for part, ending in (("images", "_ds"), ("labels", "_ds_seg")):
        for path in sorted((given.folder / "data" / part).iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", f"{ending}.nii.gz")))
    return ["dataset", "add", "brain", given.data(), "--format", "nifti-pairs"]


def visits_in_names(given: Input) -> Words:
    for subject in ("P00_L", "P00_R", "P01_L"):
        write_volume(given.folder / "data/images" / f"{subject}.nii.gz", np.ones((4, 5, 6), np.float32) * len(subject))
        write_volume(
            given.folder / "data/labels" / f"{subject}.nii.gz", np.eye(6, dtype=np.uint8)[None].repeat(4, 0)[:, :5]
        )
    return ["dataset", "add", "brain", given.data()]


def a_session_without_a_subject(given: Input) -> Words:
    return [*visits_in_names(given), "--format", "nifti-pairs", "--option", "session=[^_]+$"]


def an_unknown_format(given: Input) -> Words:
    write_rows(given.folder / "data")
    return ["dataset", "add", "rows", given.data(), "--format", "numpy"]


def a_folder_of_datasets(given: Input) -> Words:
    write_pairs(given.folder / "data/first", 3)
    write_pairs(given.folder / "data/second", 3)
    return ["dataset", "add", "brain", given.data()]


def a_part_of_a_dataset(given: Input) -> Words:
    write_pairs(given.folder / "data", 3)
    return ["dataset", "add", "brain", given.data("data/labels")]


def two_tables(given: Input) -> Words:
    (given.folder / "data").mkdir()
    for name in ("a.csv", "b.csv"):
        (given.folder / "data" / name).write_text("subject,age\np1,50\np2,60\np3,70\n")
    return ["dataset", "add", "ages", given.data()]


def pictures_of_two_sizes(given: Input) -> Words:
    for number, size in enumerate([(8, 8), (8, 8), (9, 9), (8, 8)]):
        place = given.folder / "data" / ("sick" if number % 2 else "well") / f"p{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, size).astype(np.uint8)).save(place)
    return ["dataset", "add", "xray", given.data()]


def a_table_as_text(given: Input) -> Words:
    (given.folder / "data").mkdir()
    (given.folder / "data/cohort.txt").write_text("patient_id\tage\np1\t50\np2\t60\np3\t70\n")
    return ["dataset", "add", "ages", given.data()]


def pictures_that_are_divided(given: Input) -> Words:
    for number in range(12):
        place = (
            given.folder
            / f"data/{'train' if number < 6 else 'val'}/{'sick' if number % 2 else 'well'}/{number % 6}.png"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8)).astype(np.uint8)).save(place)
    return ["dataset", "add", "xray", given.data()]


def a_wrong_mode(given: Input) -> Words:
    words = pictures_of_two_sizes(given)
    return [*words, "--option", "size=8x8", "--option", "mode=grey"]


def a_label_without_a_value(given: Input) -> Words:
    write_pairs(given.folder / "data", 3)
    return ["dataset", "add", "brain", given.data(), "--label", "anterior"]


def a_name_that_is_taken(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    return ["dataset", "add", "brain", given.data()]


def no_mapping(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    return ["dataset", "map", "brain"]


def a_stranger_excluded(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    return ["dataset", "exclude", "brain", "sub-1"]


def a_stranger_withdrawn(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    return ["cohort", "withdraw", "1"]


def nobody_withdrawn(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    (given.folder / "list.txt").write_text("sub-01\n")
    return ["cohort", "withdraw"]


def a_withdrawal_from_an_unknown_dataset(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    return ["cohort", "withdraw", "sub-01", "--dataset", "brains"]


def a_version_of_that_name(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    terminal = Terminal(given.site.folder)
    assert terminal("cohort", "freeze", "brain", "--name", "first").exit_code == 0
    shutil.copy(given.folder / "data/images/sub-00.nii.gz", given.folder / "data/images/sub-07.nii.gz")
    shutil.copy(given.folder / "data/labels/sub-00.nii.gz", given.folder / "data/labels/sub-07.nii.gz")
    return ["cohort", "freeze", "brain", "--name", "first"]


def a_second_name_for_a_version(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    assert Terminal(given.site.folder)("cohort", "freeze", "brain", "--name", "first").exit_code == 0
    return ["cohort", "freeze", "brain", "--name", "second"]


def data_that_became_faulty(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    (given.folder / "data/images/sub-01.nii.gz").write_bytes(b"damaged")
    return ["cohort", "freeze", "brain"]


def a_folder_that_is_gone(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    (given.folder / "data").rename(given.folder / "moved")
    return ["dataset", "check", "brain"]


def other_label_values(given: Input) -> Words:
    root = write_pairs(given.folder / "data", 3)
    datasets.add(given.site, "brain", root, by=ANNA)
    assert Terminal(given.site.folder)("dataset", "map", "brain", "--label", "2=lesion").exit_code == 0
    given.offer("brain", DataNeeds(kind="volumes", labels={"1": "organ", "3": "lesion"}))
    return ["approve", "heart", "--yes"]


def another_modality(given: Input) -> Words:
    datasets.add(given.site, "brain", write_pairs(given.folder / "data", 3), by=ANNA)
    given.offer("brain", DataNeeds(kind="volumes", modalities=("T1",)))
    return ["approve", "heart", "--yes"]


def a_dataset_of_another_name(given: Input) -> Words:
    datasets.add(given.site, "rows", write_rows(given.folder / "data"), by=ANNA)
    take_offer(given.site)
    return ["approve", "heart", "--yes"]


def a_mistyped_experiment(given: Input) -> Words:
    take_offer(given.site)
    return ["plans", "haert"]


def an_experiment_of_another_kind(given: Input) -> Words:
    take_offer(given.site)
    return ["plans", "zzz"]


def structures_that_overlap(given: Input) -> Words:
    drawn = np.zeros((4, 5, 6), np.uint8)
    drawn[1:3] = 1
    write_volume(given.folder / "data/s1/ct.nii.gz", np.ones((4, 5, 6), np.float32))
    write_volume(given.folder / "data/s1/segmentations/liver.nii.gz", drawn)
    write_volume(given.folder / "data/s1/segmentations/tumour.nii.gz", drawn[::-1].copy())
    return ["dataset", "add", "organs", given.data()]


def numbers_without_names(given: Input) -> Words:
    datasets.add(given.site, "rows", write_rows(given.folder / "data"), by=ANNA)
    classes = ColumnNeed(name="class", categories=("normal", "ill"))
    given.offer("rows", DataNeeds(kind="arrays", target=classes))
    return ["approve", "heart", "--yes"]


def another_scale(given: Input) -> Words:
    datasets.add(given.site, "rows", write_rows(given.folder / "data"), by=ANNA)
    given.offer("rows", DataNeeds(kind="arrays", values={"x": InputValues(minimum=-1024, maximum=3071)}))
    return ["approve", "heart", "--yes"]


def two_tables_beside_pictures(given: Input) -> Words:
    pictures_of_two_sizes(given)
    for name in ("a.csv", "b.csv"):
        (given.folder / "data" / name).write_text("image,label\np0,0\np1,1\np3,1\n")
    return ["dataset", "add", "xray", given.data(), "--format", "picture-table"]


CASES: list[tuple[Make, str, Remedy]] = [
    (structures_that_overlap, "liver and tumour share voxels", retyped(r"(--option on_top=tumour) or")),
    (structures_that_overlap, "liver and tumour share voxels", retyped(r"with (--option on_top=liver);")),
    (numbers_without_names, "numbers without names", lambda said, words, given: [
        ["dataset", "remove", "rows"],
        ["dataset", "add", "rows", given.data(), *shlex.split(found(r"(--option \S+)\)", said))],
        words]),
    (another_scale, "looks like another scale",
        mapped("rows", r"under (\[values\.x\])", r"(minimum = -1024)", r"(maximum = 3071)")),
    (two_tables_beside_pictures, "holds 2 tables", retyped(r"(--option table=a.csv)")),
    (a_damaged_image, "sub-01", retyped(r"\((--leave-out-faulty)\)")),
    (names_with_endings, "no label has the name of an image", retyped(r"(--option image_suffix=.*)\n")),
    (visits_in_names, "share all but a side", retyped(r"one patient's, add (.*); if each")),
    (visits_in_names, "share all but a side", retyped(r"each name is a patient, add (.*)$")),
    (a_session_without_a_subject, "needs the option subject",
        lambda said, words, given: [[*words, "--option", f"subject={found('for example (.*)$', said)}"]]),
    (an_unknown_format, "is unknown", replaced("numpy", r"(npz)")),
    (a_folder_of_datasets, "2 folders that look like a dataset each",
        lambda said, words, given: [[*words[:3], found(r"for example (\S+) \(", said)]]),
    (a_part_of_a_dataset, "a part of a dataset",
        lambda said, words, given: [[*words[:3], found(r"name the folder above, (\S+) \(", said)]]),
    (two_tables, "holds 2 tables",
        lambda said, words, given: [[*words, "--option", found(r"(file=)", said) + found(r"\((\S+),", said)]]),
    (pictures_of_two_sizes, "most have uint8",
        retyped(r"with (--option size=8x8) ")),
    (a_table_as_text, "may be a table", retyped(r"(--option file=\S+)")),
    (pictures_that_are_divided, "are there several times",
        retyped(r"dataset with\s+(--option\s[\s\S]*)\s\(train on train")),
    (a_wrong_mode, "mode=grey", replaced("mode=grey", r"give (mode=gray) or")),
    (a_label_without_a_value, "is not VALUE=NAME",
        lambda said, words, given: [[*words[:-2], *found(r"for example (--label \S+)$", said).split()]]),
    (a_name_that_is_taken, "is in the catalog already", replaced("brain", r"use (an)other name")),
    (a_name_that_is_taken, "is in the catalog already",
        lambda said, words, given: [found(r"archipel site (dataset check brain)", said).split()]),
    (no_mapping, "is not given", retyped(r"(--label 1=anterior)$")),
    (a_stranger_excluded, "is not in dataset brain", replaced("sub-1", r"did you mean (sub-01)\?")),
    (a_stranger_excluded, "is not in dataset brain",
        lambda said, words, given: [found(r"see archipel site (dataset check brain)", said).split()]),
    (a_stranger_withdrawn, "matches no subject", replaced("1", r"did you mean (sub-01)\?")),
    (nobody_withdrawn, "names no subject",
        lambda said, words, given: [[*words, found(r"(--file)$", said), str(given.folder / "list.txt")]]),
    (a_withdrawal_from_an_unknown_dataset, "is not in the catalog",
        lambda said, words, given: [found(r"see archipel site (dataset list)", said).split(), [*words[:-1], "brain"]]),
    (a_version_of_that_name, "is that of version 1",
        lambda said, words, given: [[*words[:-2], found(r"choose another (--name)", said), "later"]]),
    (a_second_name_for_a_version, "holds nothing new",
        lambda said, words, given: [words[: words.index(found(r"freeze without (--name)", said))]]),
    (data_that_became_faulty, "sub-01", before(r"archipel site (dataset exclude)", "brain", "sub-01")),
    (a_folder_that_is_gone, "is not there",
        lambda said, words, given: [found(r"\(archipel site (dataset remove brain)\)", said).split(),
                                    ["dataset", "add", "brain", given.data("moved")], words]),
    (other_label_values, "no sample has value 3", mapped("brain", r"map it with (labels\.2 = 3)")),
    (another_modality, "image T1: not met",
        mapped("brain", r"map one of them with (modalities\.T1)", value=' = "image"')),
    (a_dataset_of_another_name, "is not in the catalog",
        lambda said, words, given: [[*words, found(r"choose another one with (--dataset)", said),
                                     found(r"\(there: (\S+)\)", said)]]),
    (a_mistyped_experiment, "heart", replaced("haert", r"did you mean (heart)\?")),
    (an_experiment_of_another_kind, "was not offered", lambda said, words, given: [
        found(r"see archipel site (plans)", said).split()]),
]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "state"
    make_site(folder).close()
    return folder


@pytest.mark.parametrize(
    ("make", "said", "remedy"), CASES, ids=[f"{make.__name__}-{n}" for n, (make, *_) in enumerate(CASES)]
)
def test_what_an_error_tells_to_type_ends_the_error(
    tmp_path: Path, template: Path, make: Make, said: str, remedy: Remedy
) -> None:
    site = StateFolder.open(shutil.copytree(template, tmp_path / "state"))
    try:
        given, terminal = Input(site, tmp_path), Terminal(site.folder)
        words = make(given)
        refused = terminal(*words)
        assert refused.exit_code == 1, refused.output
        text = (
            f"{refused.output}\n{refused.exception}".strip()
            if isinstance(refused.exception, ArchipelError)
            else refused.output.strip()
        )
        assert said in text
        for command in remedy(text, words, given):
            done = terminal(*command)
            assert done.exit_code == 0, (command, done.output, done.exception)
    finally:
        site.close()


def test_every_command_that_an_error_gives_to_programs_runs_there(tmp_path: Path, template: Path) -> None:
    """The same inputs: where the error names a command for programs that takes no choice of a person, it runs."""
    tried = set()
    for number, make in enumerate(dict.fromkeys(make for make, *_ in CASES)):
        place = tmp_path / str(number)
        site = StateFolder.open(shutil.copytree(template, place / "state"))
        try:
            terminal = Terminal(site.folder)
            error = terminal(*make(Input(site, place))).exception
            told = error.command if isinstance(error, ArchipelError) else None
            command = told.command_line() if told is not None else None
            if command is not None:
                assert command[0] == "site"
                done = terminal(*command[1:])
                assert done.exit_code == 0, (make.__name__, command, done.output, done.exception)
                tried.add(type(told).__name__)
        finally:
            site.close()
    assert {"ListDatasets", "ListOffers", "CheckDataset", "ExcludeSubjects"} <= tried
