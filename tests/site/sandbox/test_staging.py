"""What is shown to a worker: the files prepared for it under their names, few of them in place, many in one folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from archipel.site.sandbox import staging
from archipel.site.sandbox.staging import StagedFiles
from archipel.vocabulary import ArchipelError, ErrorCode


def prepared(folder: Path, *names: str) -> list[tuple[Path, str]]:
    cache = folder / "prepared"
    cache.mkdir(mode=0o700)
    for name in names:
        (cache / name).write_text(name)
        (cache / name).chmod(0o444)
    return [(cache / name, name) for name in names]


def test_a_few_files_are_shown_where_they_are(tmp_path: Path) -> None:
    given = prepared(tmp_path, "a", "b")
    stage = StagedFiles(given, tmp_path)
    assert list(stage.files) == given
    assert not list(tmp_path.glob("stage-*"))


def test_a_file_that_went_from_the_cache_is_a_task_to_be_done_again(tmp_path: Path) -> None:
    given = prepared(tmp_path, "a", "b")
    given[1][0].unlink()
    with pytest.raises(ArchipelError, match="the prepared file b: was removed from the cache") as refused:
        StagedFiles(given, tmp_path)
    assert refused.value.code is ErrorCode.LOST


@pytest.mark.parametrize("most_binds", [1, 500])
def test_a_file_that_is_made_for_a_worker_is_among_the_others_and_goes_with_them(
    tmp_path: Path, most_binds: int
) -> None:
    given = prepared(tmp_path, "a", "b")
    stage = StagedFiles(given, tmp_path, made={"cohort": iter([b"one ", b"two"])}, most_binds=most_binds)
    shown = {place: path for path, place in stage.files}
    places = [shown["cohort"]] if most_binds > 1 else [shown[""] / "cohort"]
    assert places[0].read_bytes() == b"one two" and places[0].stat().st_mode & 0o777 == 0o444
    assert stage.count == 2
    stage.close()
    assert not places[0].exists() and not list(tmp_path.glob("stage-*"))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_many_files_are_one_folder_that_any_worker_can_enter(tmp_path: Path, mask: int) -> None:
    given = prepared(tmp_path, *"abcde")
    os.umask(mask)
    stage = StagedFiles(given, tmp_path, most_binds=2)
    ((together, place),) = stage.files
    assert place == ""
    assert sorted(path.name for path in together.iterdir()) == list("abcde")
    assert (together / "a").stat().st_ino == given[0][0].stat().st_ino
    assert together.stat().st_mode & 0o777 == 0o755
    assert together.parent.stat().st_mode & 0o777 == 0o700
    stage.close()
    assert not together.exists()
    assert given[0][0].read_text() == "a"


def test_files_that_cannot_be_linked_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    stage = StagedFiles(prepared(tmp_path, "a"), tmp_path, bound=False)
    assert (stage.root / "a").read_text() == "a"
    assert (stage.root / "a").stat().st_mode & 0o777 == 0o444
    stage.close()


def test_copies_that_a_killed_agent_left_are_swept_and_those_in_use_are_not(tmp_path: Path) -> None:
    left, used = tmp_path / "stage-left", tmp_path / "stage-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "0").write_text("a patient")
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    staging.sweep(tmp_path)
    os.close(lock)
    assert (left.exists(), used.exists()) == (False, True)
