"""Runs a command as an ordinary user who can reach the folders named, wherever these lie.

A folder that others may not enter (root's home with the interpreter in it, pytest's own) is covered in mounts that this
command alone sees, and what is named is bound back into the cover; nothing is opened on the machine itself.
Run by root: ``unshare --mount python ordinary_user.py FOLDER... -- COMMAND...``
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

UID = 65534


def become(folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    """The command line that runs this command as the ordinary user."""
    named = {str(path) for folder in folders for path in (folder, folder.resolve())}
    return ["unshare", "--mount", sys.executable, __file__, *sorted(named), "--", *command]


def covers(folders: Sequence[Path]) -> list[Path]:
    """The outermost folders above these which others may not enter."""
    closed = ([above for above in reversed(one.parents) if not above.stat().st_mode & 1] for one in folders)
    return sorted({above[0] for above in closed if above})


def main(folders: Sequence[Path], command: Sequence[str]) -> None:
    # The mask is this command's own: whoever runs the tests may have closed theirs, and the way there must be open.
    os.umask(0o022)
    covered = covers(folders)
    held = {one: os.open(one, os.O_PATH) for one in folders if any(one.is_relative_to(cover) for cover in covered)}
    for cover in covered:
        mount("-t", "tmpfs", "-o", "mode=755", "cover", str(cover))
    for folder, descriptor in held.items():
        folder.mkdir(parents=True, exist_ok=True)
        mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{descriptor}", str(folder))
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.execv(command[0], command)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    end = sys.argv.index("--")
    main([Path(one) for one in sys.argv[1:end]], sys.argv[end + 1 :])
