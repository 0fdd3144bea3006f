"""Files of a dataset: listed inside its root only, hashed, and examined once as long as they stay the same.

An index remembers what was found in a file together with the file's size, times and inode. A file with the same ones
is not opened again; the change time cannot be set back by an ordinary user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from archipel.data.samples import Problem, problem_of
from archipel.tensors import BlobHasher, blob_hash
from archipel.vocabulary import BadInput, ErrorCode, Hash, Record


class Signature(NamedTuple):
    """What tells a file that was changed from one that was not, without opening it."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


class FileFacts(Record):
    """What one look into a file found: the hash of its bytes, and facts in JSON or the problem it has."""

    hash: Hash
    facts: dict[str, Any] = {}
    problem: Problem | None = None


Examine = Callable[[Path], dict[str, Any]]
"""Opens a file and returns its facts as JSON values. Raises BadInput when it cannot be used."""

LeavesOut = Callable[[str], bool]
"""Whether a subject is excluded or withdrawn."""


class FileIndex(Protocol):
    """Remembers facts by (place, purpose); ``purpose`` names and versions the examination."""

    def get(self, place: str, purpose: str, signature: Signature) -> FileFacts | None:
        """The facts if the file is as it was."""

    def put(self, place: str, purpose: str, signature: Signature, facts: FileFacts) -> None:
        """Remember the facts."""


class MemoryIndex:
    """An index for the life of a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Signature, FileFacts]] = {}

    def get(self, place: str, purpose: str, signature: Signature) -> FileFacts | None:
        """The facts if the file is as it was."""
        known = self._known.get((place, purpose))
        return known[1] if known is not None and known[0] == signature else None

    def put(self, place: str, purpose: str, signature: Signature, facts: FileFacts) -> None:
        """Remember the facts."""
        self._known[place, purpose] = (signature, facts)


class Folder:
    """A dataset's root as formats see it: files inside it, examined through an index.

    ``leaves_out`` says of a subject whether the site leaves it out; its files are not looked at.
    """

    def __init__(self, root: Path, index: FileIndex | None = None, leaves_out: LeavesOut | None = None) -> None:
        self.root = root
        self._real = root.resolve()
        self._index = index or MemoryIndex()
        self.leaves_out: LeavesOut = leaves_out or (lambda _: False)

    def files(self, pattern: str, problems: list[Problem]) -> Iterator[str]:
        """Places of the files that match, sorted; hidden ones are passed over, links out of the dataset reported."""
        for path in sorted(self.root.glob(pattern)):
            if path.name.startswith(".") or not path.is_file():
                continue
            place = path.relative_to(self.root).as_posix()
            if path.resolve().is_relative_to(self._real):
                yield place
            else:
                problems.append(
                    Problem(
                        thing=place,
                        cause="is a link out of the dataset",
                        remedy=f"copy the file itself into {Path(place).parent.as_posix()}/",
                    )
                )

    def look(self, place: str, purpose: str, examine: Examine) -> FileFacts:
        """The facts of a file, from the index when it has not changed. A file that is gone is a problem too."""
        path = self.root / place
        try:
            signature = signature_of(path)
            known = self._index.get(place, purpose, signature)
            if known is not None:
                return known
            hashed = file_hash(path)
        except OSError as error:
            gone = BadInput(place, f"cannot be opened ({error.strerror})", "look at the file and its rights")
            return FileFacts(hash=blob_hash(b""), problem=problem_of(gone))
        try:
            found = FileFacts(hash=hashed, facts=examine(path))
        except BadInput as error:
            found = FileFacts(hash=hashed, problem=problem_of(error))
        self._index.put(place, purpose, signature, found)
        return found


def signature_of(path: Path) -> Signature:
    """A file's signature. Raises OSError."""
    found = path.stat()
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def file_hash(path: Path) -> str:
    """The content address of a file, read in pieces. Raises OSError."""
    hasher = BlobHasher()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.digest()


def content_hash(parts: dict[str, str]) -> str:
    """One hash over a sample's files or fields, in the order of their names."""
    return blob_hash("\n".join(f"{name} {parts[name]}" for name in sorted(parts)).encode())


def data_changed(thing: str, cause: str) -> BadInput:
    """The error for data that is not what was frozen."""
    remedy = "restore it, or freeze the dataset again and approve the new cohort"
    return BadInput(thing, cause, remedy, code=ErrorCode.DATA_CHANGED)
