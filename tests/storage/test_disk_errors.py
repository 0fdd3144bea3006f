"""What a disk refuses is told by name, with the remedy; other errors pass."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from archipel.storage import disk_errors_named
from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull
from archipel.vocabulary.remedies import FreeDiskSpace, GrantAccess


@pytest.mark.parametrize("name", ["absent/file", "file/inside", "folder", "n" * 300])
def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(ArchipelError, match=f"{name}: cannot be written .*; choose another place") as caught,
        disk_errors_named(tmp_path),
    ):
        (tmp_path / name).write_bytes(b"1")
    assert caught.value.code is ErrorCode.CONFIGURATION


def test_a_full_disk_is_storage_full_and_an_unknown_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="the disk is full") as caught, disk_errors_named(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.values == {"folder": str(tmp_path)}
    assert caught.value.command == FreeDiskSpace(path=str(tmp_path))
    with pytest.raises(OSError, match="Input/output"), disk_errors_named(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


def test_a_folder_without_permission_says_where_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ArchipelError, match="give this user write permission") as caught, disk_errors_named(tmp_path):
        raise OSError(errno.EACCES, "Permission denied")
    assert caught.value.command == GrantAccess(path=str(tmp_path))
