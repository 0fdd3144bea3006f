"""Landlock by itself, without a sandbox around it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from archipel.site.worker.landlock import landlock_version

CONFINED = """
import ctypes, os, sys
from pathlib import Path
from archipel.site.worker.landlock import confine
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
open_, closed = Path(sys.argv[1]), Path(sys.argv[2])
said = [confine({str(open_): True, "/dev": False})]
def attempt(what, *values):
    try:
        what(*values)
        said.append("done")
    except OSError as error:
        said.append(error.errno)
(open_ / "folder").mkdir()
attempt((open_ / "one").write_text, "x")
attempt((open_ / "one").rename, open_ / "folder" / "one")
attempt(Path("/dev/null").write_text, "x")
attempt((closed / "one").write_text, "x")
attempt((closed / "there").write_text, "x")
attempt((closed / "there").unlink)
attempt((closed / "there").read_text)
attempt(os.kill, os.getppid(), 0)
print(said)
"""


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock")
def test_a_confined_process_writes_to_its_own_folders_alone() -> None:
    # Not in the folder of the tests, which may be below /dev, where this process may write.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        writes_to_its_own_folders_alone(Path(place))


def writes_to_its_own_folders_alone(place: Path) -> None:
    folders = [place / "open", place / "closed"]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "there").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, *map(str, folders)], capture_output=True, text=True, check=True
    )
    denied, no_signal = 13, 1 if landlock_version() >= 6 else "done"
    own = ["done", "done", "done"]
    assert done.stdout.strip() == str([landlock_version(), *own, denied, denied, denied, "done", no_signal])
    assert (folders[1] / "there").read_text() == "kept"
