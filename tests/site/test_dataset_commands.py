"""``archipel site dataset``: what a data manager reads and is told to do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from archipel.cli.dataset_display import describe_extent, joined
from archipel.data import Cohort, DataIssue, scan
from archipel.site.datasets import catalog, integrity
from archipel.site.services import cohorts, datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import RosterEntry
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA
from worlds.site import Terminal, take_offer


@contextmanager
def as_an_ordinary_user(folder: Path) -> Iterator[None]:
    """Root may do everything; what is in ``folder`` becomes nobody's meanwhile, who may not."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65_534
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_looked_at_are_said_and_crash_no_command(template: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        shutil.copytree(template, home / "state")
        root = write_pairs(home / "brain")
        (home / "closed").mkdir()
        (home / "closed" / "leak.nii.gz").write_bytes(b"of somebody else")
        (root / "images" / "leak.nii.gz").symlink_to(home / "closed" / "leak.nii.gz")
        (root / "locked").mkdir()
        (root / "locked" / "x.nii.gz").write_bytes(b"no volume")
        terminal = Terminal(home / "state")
        with as_an_ordinary_user(home):
            (home / "closed").chmod(0)
            (root / "locked").chmod(0o444)
            refused = terminal("dataset", "add", "brain", str(root))
            assert "has 1 problem; fix the data" in str(refused.exception)
            assert "- images/leak.nii.gz: is a link to a place outside the dataset" in refused.stdout
            added = terminal("dataset", "add", "brain", str(root), "--leave-out-faulty")
            assert "dataset brain added: 3 subjects" in added.stdout
            assert terminal("dataset", "check", "brain").exit_code == 1
            assert "3 subjects" in terminal("cohort", "freeze", "brain").stdout
            (home / "closed").chmod(0o700)
            (root / "locked").chmod(0o700)


def test_what_lies_in_a_folder_is_counted_without_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "one").write_bytes(bytes(2 << 20))
    for name, target in (("out", "large"), ("nowhere", "gone"), ("round", "data/round"), ("folder", "data/deep")):
        (tmp_path / "data" / name).symlink_to(tmp_path / target)
    assert describe_extent(datasets.folder_extent(tmp_path / "data")) == "1 file (2 MiB)"
    assert describe_extent(datasets.folder_extent(tmp_path / "nowhere")) == "0 files (0 MiB)"


def test_a_dataset_is_added_with_everything_a_person_should_look_at(terminal: Terminal, tmp_path: Path) -> None:
    root = tmp_path / "rows"
    root.mkdir()
    (root / "table.csv").write_text("id,age,weight\na,40,1\nb,-9999,2\nc,41,3\n")
    said = terminal("dataset", "add", "rows", str(root)).stdout
    assert "- table.csv: column age holds -9999 in 1 row;" in said
    assert "1 warning: archipel site dataset check rows" in said
    assert "dataset rows added: 3 subjects; columns age, weight" in said
    brain = write_pairs(tmp_path / "brain", 30)
    for number in range(25):
        (brain / "labels" / f"sub-{number:02}.nii.gz").unlink()
    said = terminal("dataset", "add", "brain", str(brain), "--leave-out-faulty").stdout
    assert said.count("no label beside the image") == 20
    assert "25 errors, left out (20 are shown): archipel site dataset check brain" in said


def test_data_that_is_refused_is_a_few_lines_of_each_kind_and_says_how_to_go_on(
    terminal: Terminal, tmp_path: Path
) -> None:
    brain = write_pairs(tmp_path / "brain", 30)
    for number in range(25):
        (brain / "labels" / f"sub-{number:02}.nii.gz").unlink()
    refused = terminal("dataset", "add", "brain", str(brain))
    assert "format nifti-pairs: " in refused.stdout
    assert refused.stdout.count("no label beside the image") == 5
    assert "- and 20 more of this kind: add the file or leave the subject out" in refused.stdout
    said = str(refused.exception)
    assert "dataset brain: has 25 problems; fix the data and add it again" in said
    assert "usable subjects: 5 of 30 (--leave-out-faulty)" in said and "no label" not in said


def test_the_folder_above_or_below_a_dataset_is_told_from_it(terminal: Terminal, tmp_path: Path) -> None:
    for site in ("charite", "tum"):
        write_pairs(tmp_path / "sites" / site)
    said = str(terminal("dataset", "add", "brain", str(tmp_path / "sites")).exception)
    assert "holds 2 folders that look like a dataset each" in said
    assert f"name one, for example {tmp_path / 'sites' / 'charite'} (nifti-pairs)" in said
    part = tmp_path / "sites" / "tum" / "images"
    said = str(terminal("dataset", "add", "brain", str(part)).exception)
    assert f"looks like a part of a dataset; name the folder above, {part.parent} (nifti-pairs" in said
    assert terminal("dataset", "add", "brain", str(part.parent)).exit_code == 0


def test_a_folder_of_subjects_is_no_wrong_folder(terminal: Terminal, tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02"):
        for modality in ("T1", "T2"):
            write_volume(tmp_path / "mri" / subject / modality / "a.nii.gz", np.ones((4, 5, 6), np.float32))
    assert "format medical-folder" in terminal("dataset", "add", "mri", str(tmp_path / "mri")).stdout


def test_an_option_that_only_one_format_has_says_the_format(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "heart.data").write_text("id,age\na,40\nb,41\n")
    refused = str(terminal("dataset", "add", "rows", str(tmp_path / "rows")).exception)
    assert "holds a text that may be a table (heart.data: columns id, age)" in refused
    said = terminal("dataset", "add", "rows", str(tmp_path / "rows"), "--option", "file=heart.data").stdout
    assert "format table: no other has the option file" in said and "2 subjects" in said


def test_a_name_that_differs_in_large_letters_only_is_taken(terminal: Terminal, tmp_path: Path) -> None:
    said = str(terminal("dataset", "add", "Table", str(tmp_path / "data")).exception)
    assert "dataset Table: is in the catalog already as table" in said
    assert "scan its folder again (archipel site dataset check table)" in said


def test_a_folder_that_is_a_dataset_already_is_said(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal("dataset", "add", "again", str(tmp_path / "data")).stdout
    assert "dataset table uses the same folder; a plan that trains on both would see these patients twice" in said


def test_a_mapping_that_names_what_is_not_there_is_said(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text('[labels]\n1 = 2\n77 = 1\n[modalities]\nT1 = "nope"\n[columns.age]\nsource = "years"\n')
    words = (
        "- mapping: labels.77: no sample has value 77 (there: 0, 1, 2)",
        "- mapping: modalities.T1: the dataset has no image nope (there: image)",
        "- mapping: columns.age: the dataset has no column years (there: none)",
    )
    added = terminal("dataset", "add", "brain", str(write_pairs(tmp_path / "b")), "--mapping", str(file)).stdout
    assert [line for line in added.splitlines() if line.startswith("- mapping")] == list(words)
    terminal("dataset", "map", "brain", "--label", "1=front")
    again = terminal("dataset", "map", "brain", "--mapping", str(file)).stdout
    assert [line for line in again.splitlines() if line.startswith("- mapping")] == list(words)
    assert "has a new mapping" in again


def test_a_dataset_whose_folder_is_gone_is_named_with_what_to_do(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA)
    (tmp_path / "data").rename(tmp_path / "unmounted")
    for words in (("dataset", "check"), ("dataset", "report"), ("cohort", "freeze"), ("cohort", "diff")):
        gone = str(terminal(*words, "table", *(("1",) if words[1] == "diff" else ())).exception)
        assert gone.startswith(f"dataset table: its folder {tmp_path / 'data'} is not there; mount it again, or remove")
    missing = terminal("dataset", "add", "other", str(tmp_path / "nowhere"), "--format", "npz").exception
    assert "is not a folder; name the folder that holds the dataset" in str(missing)


def test_a_dataset_is_shown_a_column_a_line_with_its_unit_and_categories(terminal: Terminal, tmp_path: Path) -> None:
    root = tmp_path / "rows"
    root.mkdir()
    columns = ",".join(f"c{number}" for number in range(40))
    rows = "".join(f"p{row},{row % 2},{'?' if row == 3 else 150 + row},{','.join(['7'] * 40)}\n" for row in range(8))
    (root / "table.csv").write_text(f"id,sex,chol,{columns}\n{rows}")
    (root / "words.toml").write_text(
        '[column.sex]\ntype = "category"\ncategories = {0 = "female", 1 = "male"}\n'
        '[column.chol]\ntype = "number"\nunit = "mg/dl"\nmissing = ["?"]\n'
    )
    (tmp_path / "m.toml").write_text('[columns.gender]\nsource = "sex"\nvalues = {female = "f", male = "m"}\n')
    said = ["--option", "file=table.csv", "--option", "dictionary=words.toml", "--mapping", str(tmp_path / "m.toml")]
    added = terminal("dataset", "add", "rows", str(root), "--format", "table", *said).stdout
    shown = terminal("dataset", "show", "rows").stdout
    for line in (
        "  column sex: category: female (4), male (4)",
        "  column chol: number in mg/dl, 150 to 157; 1 missing (codes: ? (1))",
        "  1 samples lack chol",
        "options: file=table.csv, dictionary=(stored with the dataset)",
        "  column gender: from sex, with female = f, male = m",
        "disclosed: name rows, kind table, subjects 8",
        "  column chol in mg/dl",
        "  column sex: female, male",
        "  column gender: f, m",
    ):
        assert line in shown.splitlines(), (line, shown)
    version = terminal("cohort", "freeze", "rows") and terminal("cohort", "show", "rows").stdout
    assert "  column gender: from sex, with female = f, male = m" in version.splitlines()
    for text in (added, shown, version, terminal("dataset", "list").stdout, terminal("status").stdout):
        assert "{" not in text and "'" not in text
    assert "42 columns" in added and "42 columns" in terminal("dataset", "list").stdout
    assert len(terminal("dataset", "list").stdout.splitlines()) < 12


def test_a_list_of_names_is_cut_and_says_how_many_more_there_are(terminal: Terminal, tmp_path: Path) -> None:
    labels = [part for number in range(1, 10) for part in ("--label", f"{number}=region {number}")]
    terminal("dataset", "add", "brain", str(write_pairs(tmp_path / "b")), *labels)
    listed = " ".join(terminal("dataset", "list").stdout.replace("│", " ").split())
    assert "6 region 6 and 3 more" in listed
    assert "9 region 9" in terminal("dataset", "show", "brain").stdout


def test_counts_from_before_a_withdrawal_are_not_shown_as_if_they_held(terminal: Terminal) -> None:
    assert "6 subjects, 6 samples" in terminal("dataset", "show", "table").stdout
    terminal("cohort", "withdraw", "p-001")
    said = " ".join(terminal("dataset", "show", "table").stdout.split())
    assert "5 subjects; patients were withdrawn after the last scan" in said
    assert "archipel site dataset check table counts again" in said
    assert "6 samples" not in said
    assert terminal.json("dataset", "show", "table")["counts_are_from_before_a_withdrawal"] is True
    terminal("dataset", "check", "table")
    assert "5 subjects, 5 samples" in terminal("dataset", "show", "table").stdout


def test_plans_that_ask_for_another_dataset_are_not_among_its_needs(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    take_offer(with_table)
    datasets.add(with_table, "bp", write_rows(tmp_path / "bp"), "npz", by=ANNA)
    assert terminal.json("dataset", "show", "bp")["needs"] == {}
    assert list(terminal.json("dataset", "show", "table")["needs"]) == ["heart"]
    assert terminal("approve", "heart", "--dataset", "bp", "--yes").exit_code == 0
    assert list(terminal.json("dataset", "show", "bp")["needs"]) == ["heart"]
    assert terminal.json("dataset", "show", "table")["needs"] == {}
    take_offer(with_table, experiment="lungs", roster=(with_table_entry(with_table, "chest"),))
    assert list(terminal.json("dataset", "show", "table")["needs"]) == ["lungs"], "no dataset here has this name"


def with_table_entry(site: StateFolder, dataset: str) -> RosterEntry:
    return RosterEntry(site=site.name, identity_key=site.identity.public, dataset=dataset)


def write_organs(root: Path) -> Path:
    for number, subject in enumerate(("s0", "s1", "s2")):
        drawn = np.zeros((4, 5, 6), np.uint8)
        drawn[number] = 1
        write_volume(root / subject / "ct.nii.gz", np.full((4, 5, 6), number, np.float32))
        for at, organ in enumerate(("liver", "spleen")):
            write_volume(root / subject / "segmentations" / f"{organ}.nii.gz", np.roll(drawn, at, 0))
    return root


def test_a_dataset_of_masks_of_organs_is_added_frozen_and_every_file_is_compared(
    terminal: Terminal, tmp_path: Path
) -> None:
    root = write_organs(tmp_path / "organs")
    said = terminal("dataset", "add", "organs", str(root)).stdout
    assert "format layout: TotalSegmentator" in said
    assert "3 subjects; images image; labels 0 background, 1 liver, 2 spleen" in said
    assert terminal("cohort", "freeze", "organs").exit_code == 0
    report = terminal("dataset", "report", "organs")
    assert report.exit_code == 0, report.exception
    site = StateFolder.open(terminal.state)
    entry = catalog.dataset(site.database, "organs")
    samples = scan(entry.format, root, entry.options).samples
    cohort = Cohort(dataset="organs", format=entry.format, options=entry.options, samples=samples)
    assert integrity.faults(site.database, entry, cohort) == ()
    shutil.copyfile(root / "s0/segmentations/spleen.nii.gz", root / "s1/segmentations/spleen.nii.gz")
    (fault,) = integrity.faults(site.database, entry, cohort)
    assert fault.thing == "s1/segmentations/spleen.nii.gz" and "has other content" in fault.cause


def test_a_sites_own_templates_come_from_options_or_a_file(terminal: Terminal, tmp_path: Path) -> None:
    for subject in ("p1", "p2"):
        for visit in ("a", "b"):
            folder = tmp_path / "own" / subject / visit
            write_volume(folder / "scan.nii.gz", np.full((4, 5, 6), ord(visit) + ord(subject[1]), np.float32))
            write_volume(folder / "truth.nii.gz", np.eye(5, 6, dtype=np.uint8)[None].repeat(4, 0))
    folder = str(tmp_path / "own")
    image, mask = "{subject}/{session}/scan", "{subject}/{session}/truth"
    refused = str(terminal("dataset", "add", "own", folder).exception)
    assert "holds 8 volumes that no known layout explains" in refused and "--image '" in refused
    said = terminal("dataset", "add", "own", folder, "--image", image, "--mask", mask).stdout
    assert "dataset own added: 2 subjects; images image; labels 0, 1" in said
    (tmp_path / "own.toml").write_text(f'image = "{image}"\nlabel = "{mask}"\n')
    said = terminal("dataset", "add", "again", folder, "--layout", str(tmp_path / "own.toml")).stdout
    assert "dataset again added: 2 subjects; images image; labels 0, 1" in said
    unknown = str(terminal("dataset", "add", "third", folder, "--layout", "brots").exception)
    assert "layout brots: is unknown; name a .toml file, or one of brats" in unknown


def test_a_fault_of_the_whole_table_is_not_waived_with_faulty_patients(terminal: Terminal, tmp_path: Path) -> None:
    rows = [f"p{number:03},{40 + number},{number % 2}" for number in range(1, 13)]
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "table.csv").write_text("Patient,Lab,Outcome\npatient_id,age,disease\n" + "\n".join(rows) + "\n")
    ids = tmp_path / "ids"
    ids.mkdir()
    (ids / "table.csv").write_text(
        "patient_id,age,disease\n" + "\n".join(f"1.2E+{number},{40 + number},{number % 2}" for number in range(11, 23))
    )
    for name, folder, cause in (
        ("headers", headers, "holds columns' names"),
        ("ids", ids, "a spreadsheet rounded them"),
    ):
        refused = terminal("dataset", "add", name, str(folder))
        said = f"{refused.output}{refused.exception}"
        assert refused.exit_code == 1 and cause in said and "--leave-out-faulty" not in said
        assert terminal("dataset", "add", name, str(folder), "--leave-out-faulty").exit_code == 1
    added = terminal("dataset", "add", "headers", str(headers), "--option", "header=2")
    assert added.exit_code == 0, added.output


def test_a_warning_that_proposes_an_option_says_how_to_add_the_dataset_again(
    terminal: Terminal, tmp_path: Path
) -> None:
    rows = [f"p{number:03},{'<50' if number == 2 else 200 + number},{number % 2}" for number in range(1, 13)]
    (tmp_path / "table.csv").write_text("patient_id,chol,disease\n" + "\n".join(rows) + "\n")
    said = terminal("dataset", "add", "lab", str(tmp_path)).stdout
    assert "--option censored=chol" in said and "archipel site dataset remove lab" in said
    assert terminal("dataset", "remove", "lab").exit_code == 0
    again = terminal("dataset", "add", "lab", str(tmp_path), "--option", "censored=chol")
    assert again.exit_code == 0 and "dataset remove" not in again.stdout


def test_stretched_masks_are_a_warning_until_the_mapping_knows_them(template: Path, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", 3)
    for path in sorted((root / "labels").iterdir()):
        write_volume(path, (np.arange(336).reshape(6, 7, 8) % 2 * 255).astype(np.uint8))
    terminal = Terminal(Path(shutil.copytree(template, tmp_path / "state")))
    added = terminal("dataset", "add", "brain", str(root))
    assert "- brain: its masks hold 0, 255, as pictures do (255 in 3 of 3 samples)" in added.stdout
    assert "1 warning" in added.stdout and "(warning)" in added.stdout
    assert "1 warning\n" in terminal("dataset", "check", "brain").stdout
    # Each of the two remedies as it is typed.
    assert terminal("dataset", "map", "brain", "--label", "255=tumour").exit_code == 0
    assert "0 warnings" in terminal("dataset", "check", "brain").stdout
    (tmp_path / "mapping.toml").write_text("[labels]\n255 = 1\n")
    assert terminal("dataset", "map", "brain", "--mapping", str(tmp_path / "mapping.toml")).exit_code == 0
    assert "0 warnings" in terminal("dataset", "check", "brain").stdout


def test_a_subject_is_left_out_by_what_each_moment_offers(template: Path, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", 3)
    (root / "images/sub-01.nii.gz").write_bytes(b"damaged")
    terminal = Terminal(Path(shutil.copytree(template, tmp_path / "state")))
    refused = terminal("dataset", "add", "brain", str(root))
    # The dataset is not there yet, so that no command can exclude a subject of it.
    assert "exclude" not in refused.output + str(refused.exception)
    assert "leave the subject out" in refused.output and "--leave-out-faulty" in str(refused.exception)
    assert terminal("dataset", "add", "brain", str(root), "--leave-out-faulty").exit_code == 0
    checked = terminal("dataset", "check", "brain")
    assert "to leave subjects out: archipel site dataset exclude brain sub-01" in checked.stdout
    assert terminal("dataset", "exclude", "brain", "sub-01").exit_code == 0
    assert terminal("dataset", "check", "brain").exit_code == 0


def test_problems_of_one_cause_and_one_remedy_are_one_line() -> None:
    issues = [DataIssue(thing=f"p{number}.jpg", cause="stores CMYK", remedy="save it in RGB") for number in range(12)]
    other = DataIssue(thing="q.jpg", cause="stores CMYK", remedy="save it in RGB", severity="warning")
    first, second = joined([*issues, other], 5)
    assert str(first) == "p0.jpg, p1.jpg, p2.jpg, p3.jpg, p4.jpg and 7 more: stores CMYK; save it in RGB"
    assert second == other
