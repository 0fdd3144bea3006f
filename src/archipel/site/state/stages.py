"""Folders of files for workers: what a killed agent left is removed by the next agent or withdrawal.

The agent that made such a folder holds a lock on it, which ends with the agent.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path

_PREFIX = "stage-"
_MAKING = threading.Lock()
"""Held from a folder's making until it is locked, so that no sweep of this process finds it between the two."""


def make(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock; closing it gives the folder up. Raises OSError."""
    with _MAKING:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = _locked(folder)
            if lock is not None:
                return folder, lock


def _locked(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock; None when a sweep of another process has just removed it."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(lock, fcntl.LOCK_EX)
    if folder.is_dir():
        return lock
    os.close(lock)
    return None


def sweep(parent: Path) -> None:
    """Remove the folders whose agent is gone."""
    with _MAKING:
        for folder in parent.glob(f"{_PREFIX}*"):
            _remove_unless_in_use(folder)


def _remove_unless_in_use(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        # Removed meanwhile, or not a folder that an agent made.
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
