"""What is shown to a worker: the files prepared for it under their names, few of them in place, many in one folder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archipel.site.agent.agent import Agent
from archipel.site.sandbox.staging import StagedFiles
from archipel.site.state import stages
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.vocabulary import ArchipelError, ErrorCode
from worlds.people import ANNA


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
    stages.sweep(tmp_path)
    os.close(lock)
    assert (left.exists(), used.exists()) == (False, True)


@pytest.mark.processes
def test_a_folder_that_another_process_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def swept_at_once(prefix: str, dir: Path) -> str:  # noqa: A002 - as tempfile calls it
        folder = dir / f"{prefix}{len(made)}"
        folder.mkdir()
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()
        return str(folder)

    monkeypatch.setattr(stages.tempfile, "mkdtemp", swept_at_once)
    folder, lock = stages.make(tmp_path)
    os.close(lock)
    assert folder == made[1] and folder.is_dir()


def test_what_an_agent_left_that_was_killed_goes_with_a_withdrawal(with_table: StateFolder) -> None:
    """Also of an agent that does not start again: its folder has the ids of the cohort and its prepared samples."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from archipel.site.sandbox.staging import StagedFiles\n"
        "stage = StagedFiles([], Path(sys.argv[1]), made={'cohort': iter([b'p-002'])}, bound=False)\n"
        "print('staged', flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, str(with_table.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None and agent.stdout.readline() == "staged\n"
        withdraw(with_table, [OptOut("p-001")], by=ANNA)
        (left,) = with_table.folder.glob("stage-*/data/cohort")
        assert left.read_bytes() == b"p-002", "an agent that runs keeps what its worker needs"
        agent.send_signal(signal.SIGKILL)
        agent.wait()
    assert left.exists()
    withdraw(with_table, [OptOut("p-002")], by=ANNA)
    assert not list(with_table.folder.glob("stage-*"))


def test_an_agent_that_starts_removes_what_another_left(with_table: StateFolder) -> None:
    (with_table.folder / "stage-left").mkdir()
    (with_table.folder / "stage-left/cohort").write_text("p-002")
    (with_table.folder / "stage-a-file").write_text("of somebody else")
    Agent(with_table, object()).start()
    assert [path.name for path in with_table.folder.glob("stage-*")] == ["stage-a-file"]
