"""Which files a worker gets: those of its cohort and no others, each readable for the worker's uid.

A file that only the agent may read is copied for the time of the worker, readable by the worker alone; all others are
shown in place. Copies that an agent left behind when it was killed are removed before the next are made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from archipel.data import Cohort
from archipel.storage import disk_errors_named
from archipel.vocabulary import BadInput, ErrorCode

MOST_BINDS = 500
"""More files than this are linked into one folder: bubblewrap takes 9000 arguments and mounts one by one."""
_PREFIX = "stage-"
_MAKING = threading.Lock()
"""Held from a folder's making until it is locked, so that no sweep of this agent finds it between the two."""


class Stage:
    """The files of one worker: ``files`` pairs what is to be shown with its place in the dataset; "" is its root.

    ``close`` removes the copies.
    """

    def __init__(self, root: Path, cohort: Cohort, uid: int | None, folder: Path, *, linked: bool = True) -> None:
        self._uid, self._parent = uid, folder
        self._folder: Path | None = None
        self._lock = -1
        self.copied = 0
        sweep(folder)
        places = sorted({path for sample in cohort.samples for path in sample.files.values()})
        self.subject_files = places
        self.files: list[tuple[Path, str]] = []
        try:
            found = [(_inside(root, place), place) for place in places]
            if linked and len(found) > MOST_BINDS:
                self.files = [(self._farm(found), "")]
            else:
                self.files = [(self._readable(path), place) for path, place in found]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = None

    def _readable(self, path: Path) -> Path:
        if self._uid is None or path.stat().st_mode & stat.S_IROTH:
            return path
        return self._copy(path, self._own_folder() / str(self.copied))

    def _farm(self, found: list[tuple[Path, str]]) -> Path:
        """One folder with all the files at their places: hard links, or copies where a link cannot be."""
        farm = self._own_folder() / "data"
        farm.mkdir(mode=0o755)
        for path, place in found:
            target = farm / place
            for parent in reversed(target.relative_to(farm).parents[:-1]):
                (farm / parent).mkdir(mode=0o755, exist_ok=True)
            if self._uid is not None and not path.stat().st_mode & stat.S_IROTH:
                self._copy(path, target)
                continue
            try:
                os.link(path, target)
            except OSError:
                self._copy(path, target)
        return farm

    def _copy(self, path: Path, target: Path) -> Path:
        with disk_errors_named(self._parent):
            shutil.copyfile(path, target)
            if self._uid is not None:
                os.chown(target, self._uid, self._uid)
            target.chmod(0o400)
        self.copied += 1
        return target

    def _own_folder(self) -> Path:
        if self._folder is None:
            with _MAKING, disk_errors_named(self._parent):
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
                self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._folder


def sweep(parent: Path) -> None:
    """Remove the stages of workers whose agent is gone; a living one holds a lock on its own."""
    with _MAKING:
        for folder in parent.glob(f"{_PREFIX}*"):
            _remove_unless_in_use(folder)


def _remove_unless_in_use(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _inside(root: Path, place: str) -> Path:
    path = (root / place).resolve()
    if not path.is_relative_to(root.resolve()):
        raise BadInput(str(root / place), "leads out of the dataset", "replace the link", code=ErrorCode.BAD_DATA)
    if not path.is_file():
        raise BadInput(place, "is not in the dataset any more", "put it back", code=ErrorCode.DATA_CHANGED)
    return path
