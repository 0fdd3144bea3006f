"""Listing: the files of a folder by pattern, inside it only; no file is opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from pathlib import Path

from archipel.data.limits import DATA_LIMITS
from archipel.data.samples import DataIssue


class Listing:
    """The names in a folder and in those below it.

    With ``once`` each folder is listed once, as it was then: for detection, where a dozen formats look at the names.
    """

    def __init__(self, root: Path, *, deepest: int = DATA_LIMITS.deepest, once: bool = False) -> None:
        self.root = root
        self.links: set[str] = set()
        """Places of the links inside the dataset that were met."""
        self._deepest = deepest
        self._real = root.resolve()
        self._known: dict[str, Sequence[tuple[str, int]]] | None = {} if once else None
        self._reported_in: list[DataIssue] = []
        self._reported: set[DataIssue] = set()

    def files(self, pattern: str, problems: list[DataIssue]) -> Iterator[str]:
        """Places of the files that match, sorted folder by folder.

        The pattern is as in ``Path.glob``; ``**`` does not go through links to folders. Hidden names match only where
        the pattern has them. Links out of the dataset or to nothing, folders that cannot be listed and names that
        are not UTF-8 are reported.
        """
        yield from self._walk("", pattern.split("/"), problems, wanted=stat.S_IFREG)

    def files_down_to(self, depth: int, problems: list[DataIssue]) -> Iterator[str]:
        """Places of the files in the folder and in ``depth - 1`` levels of folders below it, level by level."""
        level = [""]
        for _ in range(depth):
            below = []
            for place in level:
                for inner, kind in self._entries(place, "*", problems):
                    if kind == stat.S_IFREG:
                        yield inner
                    elif kind == stat.S_IFDIR:
                        below.append(inner)
            level = below

    def folders(self, pattern: str, problems: list[DataIssue]) -> Iterator[str]:
        """Places of the folders that match, in the same way."""
        yield from self._walk("", pattern.split("/"), problems, wanted=stat.S_IFDIR)

    def has(self, *patterns: str) -> bool:
        """Whether any file matches any of the patterns."""
        return any(next(self.files(pattern, []), None) is not None for pattern in patterns)

    def _walk(self, place: str, parts: list[str], problems: list[DataIssue], wanted: int) -> Iterator[str]:
        head, rest = parts[0], parts[1:]
        if head == "**":
            everything = list(self._entries(place, "*", problems))
            if rest == ["*"]:
                yield from (inner for inner, kind in everything if kind == wanted)
            else:
                yield from self._walk(place, rest, problems, wanted)
            for inner, kind in everything:
                if kind != stat.S_IFDIR or (self.root / inner).is_symlink():
                    continue
                if inner.count("/") < self._deepest:
                    yield from self._walk(inner, parts, problems, wanted)
                else:
                    cause = f"is {self._deepest} folders deep or more; what is below it is not read"
                    self._report(problems, f"{inner[:40]}...", cause, "move the files that are needed up")
            return
        for inner, kind in self._entries(place, head, problems):
            if rest and kind == stat.S_IFDIR:
                yield from self._walk(inner, rest, problems, wanted)
            elif not rest and kind == wanted:
                yield inner

    def _entries(self, place: str, pattern: str, problems: list[DataIssue]) -> Iterator[tuple[str, int]]:
        """Entries of a folder whose names match, sorted, each with its kind of file."""
        if pattern == "..":
            return
        wild = any(mark in pattern for mark in "*?[")
        try:
            if wild:
                fits = _fits(pattern)
                names = [one for one in self._names(place) if one[0][0] != "." and fits(one[0])]
            else:
                names = [(pattern, stat.S_IFMT((self.root / place / pattern).lstat().st_mode))]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            cause = f"cannot be listed ({error.strerror})"
            self._report(problems, place or self.root.name, cause, "give the site's user permission to read it")
            return
        for name, kind in names:
            inner = f"{place}/{name}" if place else name
            if not name.isascii() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):
                shown = inner.encode("utf-8", "backslashreplace").decode()
                self._report(problems, shown, "has a name that is not UTF-8", "rename it")
            elif kind == stat.S_IFLNK:
                yield inner, self._kind_behind(inner, problems)
            else:
                yield inner, kind

    def _names(self, place: str) -> Sequence[tuple[str, int]]:
        """What is in a folder, by name in order, each with its kind of file. Raises OSError."""
        if self._known is not None and place in self._known:
            return self._known[place]
        with os.scandir(self.root / place) as entries:
            found = sorted((entry.name, _kind(entry)) for entry in entries)
        if self._known is not None:
            self._known[place] = found
        return found

    def _kind_behind(self, place: str, problems: list[DataIssue]) -> int:
        """The kind of file that a link leads to, 0 if its target may not be read."""
        path = self.root / place
        try:
            real = path.resolve()
            if not real.is_relative_to(self._real):
                remedy = f"replace it by a copy of its target in {Path(place).parent.as_posix()}/"
                self._report(problems, place, "is a link to a place outside the dataset", remedy)
                return 0
            self.links.add(place)
            return stat.S_IFMT(real.stat().st_mode)
        except (OSError, RuntimeError):
            self._report(
                problems,
                place,
                "is a link to a file that does not exist",
                "fetch the file (git-annex: git annex get), or remove it",
            )
            return 0

    def _report(self, problems: list[DataIssue], thing: str, cause: str, remedy: str) -> None:
        """Add a problem that is not among these, without a comparison to each of thousands, one for a broken link."""
        if problems is not self._reported_in or len(problems) != len(self._reported):
            self._reported_in, self._reported = problems, set(problems)
        problem = DataIssue(thing=thing, cause=cause, remedy=remedy)
        if problem not in self._reported:
            self._reported.add(problem)
            problems.append(problem)


@lru_cache(maxsize=256)
def _fits(pattern: str) -> Callable[[str], object]:
    """Whether a name matches a pattern as ``fnmatch`` has it."""
    return bool if pattern == "*" else re.compile(translate(pattern)).match


def _kind(entry: os.DirEntry[str]) -> int:
    """Link, folder, file, or 0 for anything else; the directory knows it, so that nothing is opened or asked."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else 0
