"""Which files a worker gets: those prepared for it and no others, each shown read-only under a name of its own.

A few files are bound one by one. Many are linked into one folder first, as they are for a worker without a sandbox.
Folders that an agent left behind when it was killed are removed before the next are made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from archipel.site.state import stages
from archipel.storage import disk_errors_named
from archipel.vocabulary import ArchipelError, ErrorCode, Thing
from archipel.vocabulary.remedies import Nothing

MOST_BINDS = 500
"""More files than this are linked into one folder: bubblewrap takes 9000 arguments and mounts one by one."""


class StagedFiles:
    """The files of one worker: ``files`` pairs what is to be shown with its place under the data; "" is all of it.

    ``given`` are the prepared files with their names, ``made`` the bytes of files that are written for this worker
    alone; with ``bound`` false all are always linked into one folder, else when there are more than ``most_binds``.
    ``close`` removes it. Raises ArchipelError (code lost) when a file went from the cache meanwhile.
    """

    def __init__(
        self,
        given: Sequence[tuple[Path, str]],
        folder: Path,
        *,
        made: Mapping[str, Iterable[bytes]] | None = None,
        bound: bool = True,
        most_binds: int = MOST_BINDS,
    ) -> None:
        self._parent = folder
        self._folder: Path | None = None
        self._lock = -1
        self.count = len(given)
        stages.sweep(folder)
        gone = next((path for path, _ in given if not path.is_file()), None)
        if gone is not None:
            raise ArchipelError(
                Thing.worded(f"the prepared file {gone.name[:12]}", file=gone.name),
                "was removed from the cache",
                "the task is done again",
                code=ErrorCode.LOST,
                command=Nothing(),
            )
        try:
            shown = [*given, *((self._written(name, content), name) for name, content in (made or {}).items())]
            linked = not bound or len(shown) > most_binds
            self.files = ((self._linked(shown), ""),) if linked else tuple(shown)
        except BaseException:
            self.close()
            raise

    @property
    def root(self) -> Path:
        """The folder with all files, where there is one."""
        return self.files[0][0]

    def close(self) -> None:
        """Remove what was made."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = None

    def _linked(self, given: Sequence[tuple[Path, str]]) -> Path:
        """One folder with all the files: hard links, or copies where a link cannot be."""
        together = self._own_folder() / "data"
        together.mkdir()
        # Whatever the agent's mask: a worker's uid must get in here, where the folder above keeps others out.
        together.chmod(0o755)
        with disk_errors_named(self._parent):
            for path, name in given:
                try:
                    os.link(path, together / name)
                except OSError:
                    shutil.copy(path, together / name)
        return together

    def _written(self, name: str, content: Iterable[bytes]) -> Path:
        """A file of this worker's own."""
        place = self._own_folder() / name
        with disk_errors_named(self._parent), place.open("xb") as file:
            file.writelines(content)
        place.chmod(0o444)
        return place

    def _own_folder(self) -> Path:
        if self._folder is None:
            with disk_errors_named(self._parent):
                self._folder, self._lock = stages.make(self._parent)
        return self._folder
