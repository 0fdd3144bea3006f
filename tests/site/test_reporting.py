"""A report at a site is of those who are in the dataset when it is written, and of nobody who withdrew before that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from archipel.data.volumes import volumes
from archipel.site.datasets import catalog, quality_report
from archipel.site.datasets.quality_report import HTML, JSON
from archipel.site.services import datasets
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn.opt_outs import OPT_OUT, OptOut
from archipel.vocabulary import Conflict
from worlds.data_files import write_pairs
from worlds.people import ANNA


def known_places(site: StateFolder) -> list[str]:
    with site.database.read() as connection:
        return list(connection.scalars(select(schema.files.c.place)))


def test_a_report_is_two_files_that_only_their_owner_reads(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain"), "nifti-pairs", by=ANNA)
    report = datasets.make_report(hospital, "brain", tmp_path / "out" / "brain")
    assert report.dataset == "brain"
    written = sorted((tmp_path / "out" / "brain").iterdir())
    assert [path.name for path in written] == [HTML, JSON]
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert report == type(report).model_validate_json(written[1].read_text())


def test_what_the_scan_of_a_report_has_read_of_a_file_is_not_read_again(
    hospital: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 5), "nifti-pairs", by=ANNA)
    parsed: list[str] = []
    record = volumes.IMAGE.record
    read = record.model_validate_json

    def counted(text: str) -> Any:
        parsed.append(text)
        return read(text)

    monkeypatch.setattr(record, "model_validate_json", counted)
    datasets.make_report(hospital, "brain", tmp_path / "out")
    assert len(parsed) == len(set(parsed)) == 5


@pytest.mark.parametrize("listed", [True, False], ids=["by-list", "by-command"])
@pytest.mark.parametrize("step", ["scanned", "gather", "draw_pictures", "page"])
def test_a_report_that_a_withdrawal_overtook_is_not_written(
    hospital: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, listed: bool
) -> None:
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 5), "nifti-pairs", by=ANNA)
    for path in (tmp_path / "brain").glob("*/*"):
        path.touch()
    owner: Any = catalog if step == "scanned" else quality_report
    work = getattr(owner, step)

    def overtaken(*arguments: Any, **others: Any) -> Any:
        found = work(*arguments, **others)
        if listed:
            (hospital.folder / OPT_OUT).write_text("sub-01\n")
        else:
            withdraw(hospital, [OptOut("sub-01")], by=ANNA)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, overtaken)
        with pytest.raises(Conflict, match="a patient withdrew while it was made; make it again"):
            datasets.make_report(hospital, "brain", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [place for place in known_places(hospital) if "sub-01" in place]
    report = datasets.make_report(hospital, "brain", tmp_path / "out")
    assert "sub-00" in (tmp_path / "out" / HTML).read_text()
    assert "sub-01" not in report.model_dump_json() + (tmp_path / "out" / HTML).read_text()


def test_a_withdrawal_from_another_dataset_does_not_stop_a_report(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.add(with_table, "brain", write_pairs(tmp_path / "brain"), "nifti-pairs", by=ANNA)
    build = quality_report.build

    def beside(*arguments: Any, **others: Any) -> Any:
        withdraw(with_table, [OptOut("p-002", "table")], by=ANNA)
        return build(*arguments, **others)

    monkeypatch.setattr(quality_report, "build", beside)
    datasets.make_report(with_table, "brain", tmp_path / "out")
    assert (tmp_path / "out" / HTML).exists()
