"""Files of a dataset: listed, hashed, and examined once as long as they stay the same.

An index remembers what was found in a file together with the file's size, times and inode. A file with the same ones
is not opened again; the change time cannot be set back by an ordinary user. Every purpose of an examination has a
record for what it finds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, Protocol, TypeVar

from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.listing import Listing
from archipel.data.samples import DataIssue, problem_of
from archipel.tensors import BlobHasher, blob_hash
from archipel.vocabulary import BadInput, ErrorCode, Hash, Record, Thing

LARGEST_FILE = 16 << 30
"""Bytes of a file that is read in pieces; a sparse file of any size costs nothing to make."""
LARGEST_READ = (2 << 30) + (1 << 20)
"""Bytes of a file that is read whole: a volume of the most voxels, and its header."""


_NOTHING = blob_hash(b"")
HEADER_SUFFIXES = (".mhd", ".nhdr", ".hdr")
"""Of headers whose data is in another file under the same name."""
DATA_SUFFIXES = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz", ".gz", ".bin", ".dat", ".RAW", ".ZRAW", ".IMG")
"""Of that data."""


class Signature(NamedTuple):
    """The facts by which a changed file is noticed without opening it."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


Found = TypeVar("Found", bound=Record)
Beside = TypeVar("Beside", bound=Record)


class FileFacts(Record, Generic[Found]):
    """What one look into a file found: the hash of its bytes, and facts or the problem it has."""

    hash: Hash
    facts: Found | None = None
    problem: DataIssue | None = None
    request: str = ""

    def require_facts(self) -> Found:
        """The facts. Raises ValueError for a file that has a problem: ask for that first."""
        if self.facts is None:
            raise ValueError(f"there are no facts of a file that cannot be used ({self.problem})")
        return self.facts


@dataclass(frozen=True)
class Purpose(Generic[Found]):
    """Why a file is examined, and the record that holds what is found.

    The name carries a number, which changes when other facts are found. Where the answer depends on more than the file
    (the rows of some samples, a slice at some place), ``request`` says on what, and an index keeps the last answer
    only. If each request had a name of its own, the index would keep every answer, also about patients who have
    withdrawn.
    """

    name: str
    facts: type[Found]
    request: str = ""

    @property
    def record(self) -> type[FileFacts[Found]]:
        """The class of what an index keeps for this purpose."""
        return _record(self.facts)


@cache
def _record(facts: type[Found]) -> type[FileFacts[Found]]:
    # Kept forever: pydantic itself forgets a class that is not referenced, and making one takes a millisecond.
    return FileFacts[facts]  # type: ignore[valid-type]


Examine = Callable[[Path], Found]
"""Opens a file and returns its facts. Raises BadInput when it cannot be used."""
ExamineBytes = Callable[[Path, bytes], Found]
"""The same for a file whose bytes are in memory already, so that it is read once for its hash and its facts."""

LeavesOut = Callable[[str], bool]
"""Whether a subject is excluded or withdrawn."""
PatientOf = Callable[[str, str], tuple[str, str]]
"""Patient and session of a visit that a format calls by a name and a session of its own."""


class FileIndex(Protocol):
    """Remembers facts by place and by the name of the purpose: one answer, whatever was requested."""

    def get(self, place: str, purpose: Purpose[Found], signature: Signature) -> FileFacts[Found] | None:
        """The last answer if the file is as it was; the caller compares its request."""

    def put(self, place: str, purpose: Purpose[Found], signature: Signature, facts: FileFacts[Found]) -> None:
        """Remember the facts in the place of the last answer."""


class MemoryIndex:
    """An index for the life of a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Signature, object]] = {}

    def get(self, place: str, purpose: Purpose[Found], signature: Signature) -> FileFacts[Found] | None:
        """The last answer if the file is as it was."""
        then, known = self._known.get((place, purpose.name), (None, None))
        return known if then == signature and isinstance(known, purpose.record) else None

    def put(self, place: str, purpose: Purpose[Found], signature: Signature, facts: FileFacts[Found]) -> None:
        """Remember the facts in the place of the last answer."""
        self._known[place, purpose.name] = (signature, facts)


class Folder(Listing):
    """A dataset's root as formats see it: files inside it, examined through an index.

    ``leaves_out`` says of a subject whether the site leaves it out; its files are not read. ``patient_of`` says whose
    visit it is that a format calls by a name and a session. ``limits`` bound what a file may hold; an index does not
    store by which of them a file was refused. ``options`` are what a person said about the dataset when adding it.
    ``withdrawn`` is another text whenever other patients are withdrawn, "" while nobody is: facts that would name
    patients are asked for with it and leave these patients out, so that no index keeps them.
    ``once`` is as in ``Listing``.
    """

    def __init__(
        self,
        root: Path,
        index: FileIndex | None = None,
        leaves_out: LeavesOut | None = None,
        limits: DataLimits = DATA_LIMITS,
        options: Mapping[str, str] | None = None,
        patient_of: PatientOf | None = None,
        withdrawn: str = "",
        *,
        once: bool = False,
    ) -> None:
        super().__init__(root, deepest=limits.deepest, once=once)
        self._above = f"{root}/"
        self.withdrawn = withdrawn
        self.options = dict(options or {})
        self.listed: tuple[list[str], list[DataIssue]] | None = None
        """The places of all files and what was wrong with names, once they were listed."""
        self.unused: dict[str, str] = {}
        """Files of patients who are left out or whose data is faulty, with the patient."""
        self.pictures: tuple[tuple[PurePosixPath, ...], tuple[str, ...], list[DataIssue]] | None = None
        """All pictures, files that are taken for pictures and not read, and what was wrong, once they were listed."""
        self.index = index or MemoryIndex()
        self.patient_of: PatientOf = patient_of or (lambda name, session: (name, session))
        out = leaves_out or (lambda _: False)
        # A table beside the volumes may name the patient where a file names the visit.
        self.leaves_out: LeavesOut = (
            out if patient_of is None else lambda name: out(name) or out(self.patient_of(name, "")[0])
        )
        self.limits = limits

    @property
    def unstored(self) -> Folder:
        """The folder for facts that name every patient: once a patient withdrew, the index does not get them."""
        return Folder(self.root, limits=self.limits) if self.withdrawn else self

    def look(self, place: str, purpose: Purpose[Found], examine: Examine[Found]) -> FileFacts[Found]:
        """The facts of a file, from the index when it has not changed. A missing file is a problem too. So is
        one for which memory runs out; that is not remembered, because more memory may be free later.
        """
        nothing: Mapping[Purpose[Record], Record] = {}
        return self._look(place, purpose, lambda path: (file_hash(path), lambda: examine(path)), nothing)

    def look_at_bytes(
        self,
        place: str,
        purpose: Purpose[Found],
        examine: ExamineBytes[Found],
        beside: Mapping[Purpose[Beside], Beside] | None = None,
    ) -> FileFacts[Found]:
        """The same for a file that fits into memory; it is read once.

        What a successful examination leaves in ``beside``, facts by purpose, is remembered for those purposes.
        """

        def read(path: Path) -> tuple[str, Callable[[], Found]]:
            content = read_whole(path)
            return blob_hash(content), lambda: examine(path, content)

        return self._look(place, purpose, read, {} if beside is None else beside)

    def _look(
        self,
        place: str,
        purpose: Purpose[Found],
        begin: Callable[[Path], tuple[str, Callable[[], Found]]],
        beside: Mapping[Purpose[Beside], Beside],
    ) -> FileFacts[Found]:
        hashed = _NOTHING
        # Most files are known, and looked at several times: a path costs more than the look.
        text = place if place.startswith("/") else f"{self._above}{place}"
        try:
            signature = signature_of(text)
            known = self.index.get(place, purpose, signature)
            if known is not None and known.request == purpose.request:
                return known
            record = purpose.record
            hashed, examine = begin(Path(text))
        except OSError as error:
            return purpose.record(hash=hashed, problem=problem_of(_not_given(place, error)))
        except (BadInput, MemoryError) as error:
            named = error if isinstance(error, BadInput) else short_of_memory(Path(text))
            return purpose.record(hash=hashed, problem=problem_of(named))
        try:
            facts_found = record(hash=hashed, facts=examine(), request=purpose.request)
        except MemoryError:
            return record(hash=hashed, problem=problem_of(short_of_memory(Path(text))))
        except OSError as error:
            # Not remembered: the disk or the network may give the file the next time.
            return record(hash=hashed, problem=problem_of(_not_given(place, error)))
        except BadInput as error:
            facts_found = record(hash=hashed, problem=problem_of(error), request=purpose.request)
        else:
            for other, facts in beside.items():
                made = other.record(hash=hashed, facts=facts, request=other.request)
                self.index.put(place, other, signature, made)
        self.index.put(place, purpose, signature, facts_found)
        return facts_found


def _not_given(place: str, error: OSError) -> BadInput:
    return BadInput(Thing.file(place), f"cannot be opened ({error.strerror})", "check the file and its permissions")


def signature_of(path: Path | str) -> Signature:
    """A file's signature; for a header together with the data beside it. Raises OSError."""
    text = str(path)
    signature = _signature(text)
    if not text.lower().endswith(HEADER_SUFFIXES):
        return signature
    stem = text.rpartition(".")[0]
    for suffix in DATA_SUFFIXES:
        try:
            data = _signature(stem + suffix)
        except OSError:
            continue
        signature = Signature(
            signature.size + data.size,
            max(signature.modified_ns, data.modified_ns),
            max(signature.changed_ns, data.changed_ns),
            signature.inode ^ data.inode,
        )
    return signature


def _signature(path: str) -> Signature:
    found = os.stat(path)  # noqa: PTH116
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def read_whole(path: Path) -> bytes:
    """The bytes of a file. Raises BadInput for one that is too large to be in memory, and OSError."""
    size = _checked_size(path, path.stat(), LARGEST_READ)
    with path.open("rb") as file:
        # A file that grows meanwhile does not take more.
        return file.read(size)


def short_of_memory(path: Path) -> BadInput:
    """The error for a file for which memory ran out."""
    cause = "needs more memory than this machine has left"
    remedy = "free memory and try again, or leave it out"
    return BadInput(Thing.file(f"{path.parent.name}/{path.name}"), cause, remedy, code=ErrorCode.BAD_DATA)


def _checked_size(path: Path, found: os.stat_result, most: int) -> int:
    """A sparse file may have a size that no disk has, and every byte of it can be read."""
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        what = f"holds {found.st_size >> 20} MiB; at most {most >> 20} MiB are allowed"
        cause = what if stat.S_ISREG(found.st_mode) else "is not a file"
        raise BadInput(Thing.file(f"{path.parent.name}/{path.name}"), cause, "leave it out", code=ErrorCode.BAD_DATA)
    return found.st_size


def file_hash(path: Path) -> str:
    """The content address of a file, read in pieces. Raises BadInput for one that has too many, and OSError."""
    hasher = BlobHasher()
    with path.open("rb", buffering=0) as file:
        _checked_size(path, os.fstat(file.fileno()), LARGEST_FILE)
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
    return BadInput(thing, cause, remedy, code=ErrorCode.DATA_CHANGED, values={"place": thing})
