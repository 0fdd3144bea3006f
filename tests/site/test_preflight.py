"""The step of the checks that runs no plan: data, rules and machine, from what is known of the files."""

from __future__ import annotations

import csv
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.data import Preprocessing, validation_ids
from archipel.site.checks.dry_run import Checks
from archipel.site.checks.findings import CheckResult, CheckStep, Sign
from archipel.site.services import cohorts, datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput, NotFound
from opened_files import opens_under
from worlds.data_files import write_pairs, write_rows
from worlds.offers import VOXELS, findings, offered
from worlds.people import ANNA, approve

NAMES = [f"p-{number:03}" for number in range(12)]
HELD_OUT = sorted(validation_ids(NAMES, 0.2))[0]
TRAINED = sorted(set(NAMES) - validation_ids(NAMES, 0.2))[0]
COLUMNS = ("a", "b", "c", "d", "sick")
DUMMY = {"dummy_round_s": 0.5, "dummy_training_samples": 4, "dummy_voxels": 1000, "dummy_peak_mib": 50}


def rows_of(root: Path, columns: tuple[str, ...] = COLUMNS) -> Path:
    """A table in which a patient who trains and one who validates have equal values."""
    draw = np.random.default_rng(3)
    values = {name: [f"{value:.3f}" for value in draw.normal(size=len(columns))] for name in NAMES}
    values[HELD_OUT] = values[TRAINED]
    root.mkdir()
    with (root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", *columns), *((name, *values[name]) for name in NAMES)])
    return root


def arrays_of(root: Path) -> Path:
    """An npz in which the same two have one x and another y."""
    draw = np.random.default_rng(4)
    x = draw.normal(size=(len(NAMES), 6, 6))
    x[NAMES.index(HELD_OUT)] = x[NAMES.index(TRAINED)]
    y = np.zeros(len(NAMES), int)
    y[NAMES.index(HELD_OUT)] = 1
    root.mkdir()
    np.savez(root / "table.npz", x=x, y=y, subject=np.array(NAMES))
    return root


def pictures_of(root: Path) -> Path:
    """Class folders in which the same two have one picture, in files of other bytes."""
    draw = np.random.default_rng(5)
    pixels = {name: draw.integers(0, 255, (7, 5), dtype=np.uint8) for name in NAMES}
    pixels[HELD_OUT] = pixels[TRAINED]
    for number, name in enumerate(NAMES):
        place = root / ("ill" if number % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[name]).save(place / f"{name}.png", compress_level=0 if name == HELD_OUT else 9)
    assert zlib.crc32(next(root.glob(f"*/{HELD_OUT}.png")).read_bytes()) != zlib.crc32(
        next(root.glob(f"*/{TRAINED}.png")).read_bytes()
    )
    return root


def brains_of(root: Path) -> Path:
    """NIfTI pairs in which the same two have one image, stored as another type."""
    write_pairs(root, len(NAMES))
    for part in ("images", "labels"):
        for number, name in enumerate(NAMES):
            (root / part / f"sub-{number:02}.nii.gz").rename(root / part / f"{name}.nii.gz")
    image = nibabel.load(root / "images" / f"{TRAINED}.nii.gz")
    values = np.asarray(image.dataobj, dtype=np.float64)
    nibabel.Nifti1Image(values, image.affine).to_filename(root / "images" / f"{HELD_OUT}.nii.gz")
    return root


NEEDS = {
    "table": 'kind="table", columns=({"name": "a"},), target={"name": "sick"}',
    "npz": 'kind="arrays"',
    "class-folders": 'kind="arrays"',
    "nifti-pairs": 'kind="volumes"',
}
MADE: dict[str, Callable[[Path], Path]] = {
    "table": rows_of,
    "npz": arrays_of,
    "class-folders": pictures_of,
    "nifti-pairs": brains_of,
}


def asked(site: StateFolder, folder: Path, layout: str, *, approved: bool = False, rounds: int = 3) -> Path:
    """The site with a dataset of this format, and a job on it; returns the dataset's folder."""
    root = MADE[layout](folder / "there")
    datasets.add(site, "there", root, layout, by=ANNA)
    offered(site, folder, dataset="there", needs=NEEDS[layout], rounds=rounds)
    if approved:
        approve(site, "heart")
    return root


def checked(site: StateFolder, figures: dict[str, float] | None = None) -> CheckResult:
    """What preflight finds, after a dummy run with these figures."""
    return Checks(site, "heart", by=ANNA).preflight(
        figures and CheckResult(step=CheckStep.DUMMY, findings=(), figures=figures)
    )


def test_each_thing_is_said_to_be_met(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    rung = checked(with_table, DUMMY)
    assert rung.go, rung
    said = findings(rung, Sign.GO)
    assert said["split"] == "5 subjects train, 1 validate"
    assert "per round" in said["time"] and "MiB" in said["memory"] and "MiB" in said["disk"]
    assert said["files"] == "all are the same as when they were frozen"
    assert said["duplicates"] == "no row is on both sides of the split"


@pytest.mark.parametrize("layout", ["npz", "class-folders", "nifti-pairs"])
def test_the_same_image_under_two_ids_on_both_sides_is_named(
    hospital: StateFolder, tmp_path: Path, layout: str
) -> None:
    asked(hospital, tmp_path, layout)
    rung = checked(hospital)
    assert not rung.go
    both = f"{TRAINED} (trains) and {HELD_OUT} (validates)"
    assert findings(rung, Sign.FIX)["duplicates"] == f"{both} hold the same image; exclude one of them"
    datasets.exclude(hospital, "there", [HELD_OUT], by=ANNA)
    assert findings(checked(hospital), Sign.GO)["duplicates"] == "no image is on both sides of the split"


def test_equal_rows_under_two_ids_on_both_sides_are_to_be_looked_at(hospital: StateFolder, tmp_path: Path) -> None:
    asked(hospital, tmp_path, "table")
    rung = checked(hospital)
    said = findings(rung, Sign.LOOK)["duplicates"]
    both = f"{TRAINED} (trains) and {HELD_OUT} (validates)"
    assert said == f"{both} are equal in every column; exclude one of them if they are one patient"
    assert rung.go, "two patients may have equal rows"


def test_rows_of_few_values_are_not_said_to_differ(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "there", rows_of(tmp_path / "there", ("a", "sick")), "table", by=ANNA)
    offered(hospital, tmp_path, dataset="there", needs=NEEDS["table"])
    said = findings(checked(hospital), Sign.LOOK)["duplicates"]
    assert said == "no row was found on both sides of the split; 12 samples are too small to be compared"


@pytest.mark.parametrize("layout", MADE)
@pytest.mark.parametrize("approved", [True, False], ids=["approved", "offered"])
def test_a_second_preflight_opens_no_file(hospital: StateFolder, tmp_path: Path, layout: str, approved: bool) -> None:
    root = asked(hospital, tmp_path, layout, approved=approved)
    with opens_under(root) as opened:
        first = checked(hospital)
    assert layout != "nifti-pairs" or not opened, "a scan knows all of volumes"
    with opens_under(root) as opened:
        assert checked(hospital).findings == first.findings
    assert not opened


@pytest.mark.parametrize("layout", MADE)
def test_a_folder_that_is_gone_is_to_be_mended(hospital: StateFolder, tmp_path: Path, layout: str) -> None:
    root = asked(hospital, tmp_path, layout, approved=True)
    shutil.rmtree(root)
    rung = checked(hospital, DUMMY)
    assert not rung.go
    gone = f"its folder {root} is not there; mount it again, or remove the dataset"
    assert findings(rung, Sign.FIX)["dataset there"] == gone
    # Nothing is said of what nobody can know.
    assert not {"files", "duplicates", "disk", "time"} & {one.what for one in rung.findings}


def test_a_folder_that_is_gone_before_anything_is_approved_is_to_be_mended(
    hospital: StateFolder, tmp_path: Path
) -> None:
    root = asked(hospital, tmp_path, "nifti-pairs")
    shutil.rmtree(root)
    rung = checked(hospital)
    assert not rung.go and "there" in str(rung.findings)


def remove(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html><body>Your session has expired.</body></html>")


def other_content(path: Path) -> None:
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace(f"{TRAINED},", f"{TRAINED},9"))
    elif path.suffix == ".npz":
        with np.load(path) as held:
            arrays = dict(held)
        np.savez(path, **arrays | {"x": arrays["x"] + 1})
    elif path.suffix == ".png":
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    else:
        image = nibabel.load(path)
        nibabel.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine).to_filename(path)


@pytest.mark.parametrize("layout", MADE)
@pytest.mark.parametrize("happened", [remove, spoil, other_content])
def test_a_file_that_is_not_what_was_approved_is_named(
    hospital: StateFolder, tmp_path: Path, layout: str, happened: Callable[[Path], None]
) -> None:
    root = asked(hospital, tmp_path, layout, approved=True)
    one = next(path for path in sorted(root.rglob(f"{TRAINED}.*")) or root.iterdir() if path.is_file())
    happened(one)
    for _ in range(2):
        rung = checked(hospital, DUMMY)
        assert not rung.go
        assert list(findings(rung, Sign.FIX)) == [one.relative_to(root).as_posix()]
    assert "disk" not in findings(rung, Sign.GO)


def test_many_faulty_files_are_counted(hospital: StateFolder, tmp_path: Path) -> None:
    root = asked(hospital, tmp_path, "nifti-pairs", approved=True)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "labels")
    rung = checked(hospital)
    said = [one for one in rung.findings if one.sign is Sign.FIX]
    assert len(said) == 21 and said[-1].message.startswith(f"{2 * len(NAMES) - 20} more")


def test_what_the_dataset_the_policy_and_the_settings_do_not_give_is_named(
    hospital: StateFolder, tmp_path: Path
) -> None:
    datasets.add(hospital, "table", write_rows(tmp_path / "rows"), "npz", by=ANNA)
    offered(hospital, tmp_path, needs='kind="arrays", minimum_subjects=50', rounds=20_000)
    said = findings(checked(hospital), Sign.FIX)
    assert said["at least 50 subjects"] == "not met: it has 6"
    assert "20000 rounds" in said["this site's rules"] or "rounds" in said["this site's rules"]


def test_a_cohort_larger_than_the_cache_is_known_before_it_is_prepared(hospital: StateFolder, tmp_path: Path) -> None:
    hospital.settings = hospital.settings.model_copy(update={"cache_mb": 0})
    datasets.add(hospital, "table", write_rows(tmp_path / "rows"), "npz", by=ANNA)
    offered(hospital, tmp_path)
    said = findings(checked(hospital), Sign.FIX)
    assert "cache_mb in site.toml allows 0; raise it" in said["disk"]


def test_the_time_of_a_round_grows_with_samples_and_with_their_prepared_voxels(
    hospital: StateFolder, tmp_path: Path
) -> None:
    root = write_pairs(tmp_path / "brains", 10)
    datasets.add(hospital, "there", root, "nifti-pairs", by=ANNA)
    offered(hospital, tmp_path, dataset="there", needs='kind="volumes"', values=VOXELS)
    stored = checked(hospital, DUMMY).figures
    assert stored["round_s"] == pytest.approx(0.5 * stored["training_samples"] / 4 * (6 * 7 * 8) / 1000, abs=1e-4)
    cohorts.freeze_version(hospital, "there", recipe=Preprocessing(spacing_mm=(0.5, 0.5, 0.5)), by=ANNA)
    prepared = checked(hospital, DUMMY).figures
    assert prepared["round_s"] == pytest.approx(8 * stored["round_s"], abs=1e-3)


def test_the_time_of_a_round_is_told_in_units_of_people(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path, rounds=100)
    said = findings(checked(with_table, DUMMY | {"dummy_voxels": 0, "dummy_round_s": 0.004}), Sign.GO)["time"]
    assert said == (
        "less than a second per round, less than a second for 100 rounds, if each sample takes as long as in the "
        "dummy step"
    )
    said = findings(checked(with_table, DUMMY | {"dummy_voxels": 0, "dummy_round_s": 20}), Sign.GO)["time"]
    assert said.startswith("about 25 seconds per round, about 41.7 minutes for 100 rounds")
    said = findings(checked(with_table, DUMMY | {"dummy_voxels": 0, "dummy_round_s": 8000}), Sign.FIX)["time"]
    assert "a round may take 60 seconds: ask the researcher" in said


def test_the_command_takes_the_experiment_also_as_a_job(with_table: StateFolder, tmp_path: Path) -> None:
    """Its errors are those of the command line when it is named twice, differently, or not at all."""
    state = ["--state", str(with_table.folder)]
    for words in (["check", "heart"], ["check", "--job", "heart"], ["check", "heart", "--job", "heart"]):
        # Nothing is offered yet: that it is looked for shows that the name arrived.
        asked = CliRunner().invoke(app, [*words, *state])
        assert isinstance(asked.exception, NotFound) and "heart" in str(asked.exception), asked.output
    for words in (["check"], ["check", "heart", "--job", "lung"]):
        refused = CliRunner().invoke(app, [*words, *state])
        assert isinstance(refused.exception, BadInput) and "name one experiment" in str(refused.exception)


@pytest.mark.parametrize(("layout", "name", "scale"), [
    ("class-folders", "x", "minimum=0, maximum=100"),
    ("nifti-pairs", "image", "minimum=-1024, maximum=3071"),
    ("npz", "x", "minimum=0"),
])  # fmt: skip
def test_files_that_are_not_on_the_plans_scale_are_named_with_their_values(
    hospital: StateFolder, tmp_path: Path, layout: str, name: str, scale: str
) -> None:
    root = MADE[layout](tmp_path / "there")
    entry = datasets.add(hospital, "there", root, layout, by=ANNA).dataset
    needs = f'{NEEDS[layout]}, values={{"{name}": InputValues({scale})}}'
    offered(hospital, tmp_path, dataset="there", needs=needs)
    rung = checked(hospital)
    assert not rung.go
    (need,) = [one.message for one in rung.findings if one.what.startswith(f"values of {name}: ")]
    assert need.startswith("not met")
    named = [one.message for one in rung.findings if one.what == f"values of {name}"]
    found = entry.summary.values[name]
    assert any(said.endswith(f"to {found.maximum:.6g}") for said in named)
    assert all((root / said.partition(" holds ")[0]).is_file() for said in named) and named
