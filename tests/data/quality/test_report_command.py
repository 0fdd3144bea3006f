from __future__ import annotations

import json
import re
import shlex
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from archipel.cli.site import app
from archipel.data.quality import QualityReport
from archipel.data.quality.records import Code
from archipel.site.membership.creation import create_site
from real_data import real_data
from worlds.data_files import write_pairs, write_volume

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "quality-report.md"


class Terminal:
    """The site's command line on one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, *words: str) -> Result:
        environment = {"ARCHIPEL_SITE_STATE": str(self.state), "COLUMNS": "200"}
        return CliRunner().invoke(app, list(words), env=environment, catch_exceptions=False)

    def added(self, name: str, *words: str) -> None:
        result = self("dataset", "add", name, *words)
        assert result.exit_code == 0, result.output

    def report(self, name: str, *words: str) -> QualityReport:
        result = self("dataset", "report", name, *words, "--json")
        assert result.exit_code == 0, result.output
        return QualityReport.model_validate(json.loads(result.stdout))


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    create_site(tmp_path / "site", "charite").close()
    return Terminal(tmp_path / "site")


_watching: list[tuple[Path, list[Path]]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watching and isinstance(arguments[0], str):
        for root, seen in _watching:
            if Path(arguments[0]).is_relative_to(root):
                seen.append(Path(arguments[0]))


@pytest.fixture
def opened_below(tmp_path: Path) -> Iterator[list[Path]]:
    """Every file below ``tmp_path / "data"`` that this process opens from now on."""
    if not getattr(sys, "archipel_notes_opens", False):
        sys.addaudithook(_note)
        sys.archipel_notes_opens = True
    seen: list[Path] = []
    _watching.append((tmp_path / "data", seen))
    yield seen
    _watching.clear()


def test_both_files_are_written_for_the_sites_user_only(terminal: Terminal, tmp_path: Path) -> None:
    terminal.added("brain", str(write_pairs(tmp_path / "data", 3)), "--format", "nifti-pairs")
    shown = terminal("dataset", "report", "brain")
    assert "dataset brain is ready" in shown.stdout
    folder = terminal.state / "reports" / "brain"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    written = QualityReport.model_validate_json((folder / "report.json").read_bytes())
    assert (written.dataset, written.counts.subjects) == ("brain", 3)


def test_a_report_opens_no_file_that_was_looked_at_before_and_another_one_only_what_changed(
    terminal: Terminal, tmp_path: Path, opened_below: list[Path]
) -> None:
    root = write_pairs(tmp_path / "data", 8)
    terminal.added("brain", str(root), "--format", "nifti-pairs")
    opened_below.clear()
    first = terminal.report("brain")
    assert opened_below == [], "each volume was opened once, when the dataset was added, and drawn then"
    again = terminal.report("brain")
    assert opened_below == []
    assert again.model_copy(update={"made_at": first.made_at}) == first
    write_volume(root / "labels" / "sub-03.nii.gz", np.zeros((6, 7, 8), np.uint8))
    third = terminal.report("brain")
    assert {path.name for path in opened_below} <= {"sub-03.nii.gz"}
    assert [finding.samples for finding in third.findings if finding.code == "empty-mask"] == [("sub-03",)]


def test_a_table_is_not_opened_for_a_second_report(
    terminal: Terminal, tmp_path: Path, opened_below: list[Path]
) -> None:
    numbers = np.random.default_rng(0)
    lines = [f"p-{number},{numbers.normal(60, 9):.1f},{'ab'[number % 2]}" for number in range(30)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").write_text("subject,age,group\n" + "\n".join(lines) + "\n")
    terminal.added("clinic", str(tmp_path / "data"), "--format", "table")
    report = terminal.report("clinic")
    assert (report.class_column, report.counts.classes) == ("group", {"a": 15, "b": 15})
    opened_below.clear()
    terminal.report("clinic")
    assert opened_below == []


def test_who_left_is_not_kept_among_what_is_remembered_of_a_table(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = "".join(f"p-{number},{7000 + number}\n" for number in range(30))
    (tmp_path / "data" / "t.csv").write_text("subject,income\n" + lines)
    terminal.added("clinic", str(tmp_path / "data"), "--format", "table")
    terminal.report("clinic")
    assert "7011" in remembered(terminal, "values/3")
    terminal("dataset", "exclude", "clinic", "p-11")
    terminal.report("clinic")
    assert "7012" in remembered(terminal, "values/3")
    assert "7011" not in remembered(terminal, "values/3")


def remembered(terminal: Terminal, purpose: str) -> str:
    with closing(sqlite3.connect(terminal.state / "site.db")) as database:
        rows = database.execute("select facts from files where purpose = ?", [purpose]).fetchall()
    assert len(rows) == 1
    return str(rows[0][0])


def test_an_excluded_subject_is_in_no_new_report(terminal: Terminal, tmp_path: Path) -> None:
    terminal.added("brain", str(write_pairs(tmp_path / "data", 3)), "--format", "nifti-pairs")
    terminal.report("brain")
    assert terminal("dataset", "exclude", "brain", "sub-01").exit_code == 0
    terminal.report("brain")
    for path in (terminal.state / "reports" / "brain").iterdir():
        assert b"sub-00" in path.read_bytes()
        assert b"sub-01" not in path.read_bytes()


def test_a_fault_that_came_after_the_dataset_was_added_is_reported(terminal: Terminal, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", 3)
    terminal.added("brain", str(root), "--format", "nifti-pairs")
    (root / "images" / "sub-01.nii.gz").write_bytes(b"<html>not found</html>")
    report = terminal.report("brain")
    assert report.verdict == "not ready"
    assert report.findings[0].samples == ("sub-01",)


def test_every_command_of_the_page_runs(terminal: Terminal, tmp_path: Path) -> None:
    clinic = tmp_path / "clinic"
    clinic.mkdir()
    (clinic / "t.csv").write_text("subject,num\n" + "".join(f"p-{n},{n % 2}\n" for n in range(12)))
    terminal.added("heart", str(clinic), "--format", "table")
    places = {"/data/hippocampus": write_pairs(tmp_path / "data", 12), "/srv/quality": tmp_path / "quality"}
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) >= 6
    for command in commands:
        for place, real in places.items():
            command = command.replace(place, str(real))
        result = terminal(*shlex.split(command)[2:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    assert (tmp_path / "quality" / "hippocampus" / "report.html").is_file()


def test_the_page_explains_every_finding_there_is() -> None:
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", DOCS.read_text(), re.MULTILINE))
    assert explained == set(get_args(Code))


def test_hippocampi_of_one_scanner_are_ready(terminal: Terminal) -> None:
    root = real_data("msd_hippocampus", "site-a")
    terminal.added("hippocampus", str(root), "--label", "1=anterior", "--label", "2=posterior")
    report = terminal.report("hippocampus")
    assert report.verdict == "ready", report.findings
    assert [label.name for label in report.labels] == ["anterior", "posterior"]
    for label in report.labels:
        # A hippocampus has about 3 ml, both parts about half of it.
        assert 0.8 < label.volume_ml.median < 2.5


def test_the_chest_pictures_that_pneumoniamnist_holds_twice_are_found(terminal: Terminal, tmp_path: Path) -> None:
    place = real_data("medmnist")
    terminal.added("chest", str(place), "--format", "npz")
    report = terminal.report("chest")
    (finding,) = report.findings
    with np.load(next(place.glob("*.npz"))) as stored:
        pixels = [one.tobytes() for part in ("train", "val") for one in stored[f"{part}_images"]]
    assert finding.code == "duplicate-across-subjects"
    assert finding.count == sum(pixels.count(one) > 1 for one in set(pixels))


def test_the_brain_whose_segmentation_failed_is_found_in_the_thickness_table(terminal: Terminal) -> None:
    terminal.added("thickness", str(real_data("ixi_thickness")), "--format", "table")
    report = terminal.report("thickness", "--class", "site")
    (finding,) = [finding for finding in report.findings if finding.code == "value-outlier"]
    assert "sub-IXI274" in finding.samples
    assert len(report.counts.classes) == 3
