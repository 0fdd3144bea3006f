"""Which files a worker gets: those of its cohort and no others, each readable for the worker's uid.

A file that only the agent may read is copied for the time of the worker, readable by the worker alone; all others are
shown in place.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from archipel.data import Cohort
from archipel.storage import disk_errors_named
from archipel.vocabulary import BadInput, ErrorCode


class Stage:
    """The files of one worker; ``close`` removes the copies."""

    def __init__(self, root: Path, cohort: Cohort, uid: int | None, folder: Path) -> None:
        self._folder: Path | None = None
        self.files: list[tuple[Path, str]] = []
        self.copied = 0
        try:
            for place in sorted({path for subject in cohort.subjects for path in subject.files.values()}):
                self.files.append((self._readable(_inside(root, place), uid, folder), place))
        except BaseException:
            self.close()
            raise

    def _readable(self, path: Path, uid: int | None, folder: Path) -> Path:
        if uid is None or path.stat().st_mode & stat.S_IROTH:
            return path
        with disk_errors_named(folder):
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="stage-", dir=folder))
            copy = self._folder / str(self.copied)
            shutil.copyfile(path, copy)
            os.chown(copy, uid, uid)
            copy.chmod(0o400)
        self.copied += 1
        return copy

    def close(self) -> None:
        """Remove the copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _inside(root: Path, place: str) -> Path:
    path = (root / place).resolve()
    if not path.is_relative_to(root.resolve()):
        raise BadInput(str(root / place), "leads out of the dataset", "replace the link", code=ErrorCode.BAD_DATA)
    if not path.is_file():
        raise BadInput(place, "is not in the dataset any more", "put it back", code=ErrorCode.DATA_CHANGED)
    return path
