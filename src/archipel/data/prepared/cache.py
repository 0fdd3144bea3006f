"""A cache of prepared samples: each made once from verified files, kept while there is space, and named by its content.

An entry's name is a key of what it was made from and how, so that it is never out of date. It is written beside its
place, synced and renamed: after a crash it is whole, absent, or damaged in a way that its trailer shows, and is made
again. Several processes may use one cache; one prepares at a time, and an entry that a living process holds is not
evicted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from archipel.data.cohorts import Cohort
from archipel.data.digests import Digests, digests_of
from archipel.data.files import data_changed, signature_of
from archipel.data.formats import format_named
from archipel.data.prepared.preparation import Preparation, is_rows
from archipel.data.prepared.source import ROWS, Damaged, Keyed, check_whole, contents_in, write_prepared
from archipel.data.sample_columns import Samples
from archipel.data.sample_data import SampleData
from archipel.data.samples import Sample
from archipel.vocabulary import UNWATCHED, BadInput, ErrorCode, Thing, Watch

READY = "samples prepared"
"""What is counted while a cohort is prepared."""
_LOOK_S = 0.1


class Prepared:
    """A cohort's prepared files, each with its name for a worker; held in the cache until closed.

    ``made`` counts the samples that had to be read from the dataset's files, ``size`` is in bytes.
    """

    def __init__(self, files: Sequence[tuple[Path, str]], made: int, lock: int, hold: Path) -> None:
        self.files, self.made = tuple(files), made
        self.size = sum(path.stat().st_size for path, _ in files)
        self._lock, self._hold = lock, hold

    def close(self) -> None:
        """Let others evict the files; calling it again does nothing."""
        if self._lock >= 0:
            self._hold.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PreparedCache:
    """A folder of prepared files, readable by its owner only, of at most ``limit`` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._incoming, self._holds = folder / "incoming", folder / "holds"
        for one in (folder, self._incoming, self._holds):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def prepare(self, root: Path, cohort: Cohort, *, watch: Watch = UNWATCHED) -> Prepared:
        """Verify every sample against its hash and make what is not here yet; the files stay until it is closed.

        Raises BadInput (``data-changed``) naming a file that is no longer what was frozen, BadInput
        (``configuration``) when the cohort is larger than the cache may be, Cancelled when ``watch`` stops it, OSError.
        """
        work = _Work(root, cohort, watch)
        with self._alone(watch):
            for part in self._incoming.iterdir():
                part.unlink()
            lock, hold = self._hold(work.names)
            try:
                made = self._make_rows(work) if work.is_rows else self._make_volumes(work)
                shown = {name: ROWS if work.is_rows else name for name in work.names}
                return Prepared([(self._place(name), there) for name, there in shown.items()], made, lock, hold)
            except BaseException:
                hold.unlink(missing_ok=True)
                os.close(lock)
                raise

    def forget(self, hashes: Iterable[str], kept: Iterable[str] | None = None) -> int:
        """Remove everything made from samples of these content hashes, also what is held; returns how many files.

        With ``kept``, everything made from samples of other hashes than these goes as well.
        A worker that has such a file open keeps it until it ends.
        """
        digits = np.unique(digests_of(hashes))
        rest = None if kept is None else np.setdiff1d(digests_of(kept), digits)
        gone = self._remove(digits, rest)
        # A second time, with the lock: a process that was preparing meanwhile may have made it again.
        with self._alone(UNWATCHED):
            return gone + self._remove(digits, rest)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(path.stat().st_size for path in self._entries())

    def _remove(self, digits: Digests, rest: Digests | None) -> int:
        def goes(contents: Digests) -> bool:
            other = rest is not None and not np.isin(contents, np.concatenate((digits, rest))).all()
            return other or bool(np.isin(contents, digits).any())

        gone = 0
        for path in list(self._entries()):
            if path.parent.name == "rows":
                try:
                    holds_one = goes(contents_in(path))
                except (Damaged, FileNotFoundError):
                    holds_one = True
            else:
                holds_one = goes(digests_of([f":{path.name.partition('.')[0]}"]))
            if holds_one:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _entries(self) -> Iterator[Path]:
        return (path for kind in ("rows", "[0-9a-f][0-9a-f]") for path in self.folder.glob(f"{kind}/*"))

    def _place(self, name: str) -> Path:
        """The path of an entry: a sample's is in the folder of its first digits, rows have one of their own."""
        return self.folder / (name[:2] if "." in name else "rows") / name

    @contextmanager
    def _alone(self, watch: Watch) -> Iterator[None]:
        """Hold the cache's lock; it goes with the process, however that ends."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    watch.check()
                    time.sleep(_LOOK_S)
            yield
        finally:
            os.close(lock)

    def _hold(self, names: Iterable[str]) -> tuple[int, Path]:
        path = self._holds / secrets.token_hex(8)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with os.fdopen(os.dup(lock), "w") as file:
            file.write("\n".join(names))
        return lock, path

    def _held(self) -> set[str]:
        """The names that living processes hold; what dead ones left behind is removed."""
        names: set[str] = set()
        for path in self._holds.iterdir():
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                except BlockingIOError:
                    names.update(file.read().split("\n"))
        return names

    def _make_volumes(self, work: _Work) -> int:
        made, room = 0, _Room(self)
        for number, (sample, name) in enumerate(zip(work.cohort.samples, work.names, strict=True)):
            work.watch.check()
            with _unchanged(work.root, [sample]):
                work.layout.verify(work.root, [sample], work.cohort.options)
                if not self._is_whole(name):
                    self._write(work, name, [Keyed(name, next(work.voxels([sample])))], room)
                    made += 1
            work.watch.at(READY, number + 1, len(work.names))
        return made

    def _make_rows(self, work: _Work) -> int:
        (name,), samples = work.names, work.cohort.samples
        with _unchanged(work.root, samples):
            work.layout.verify(work.root, samples, work.cohort.options)
            if self._is_whole(name):
                return 0
            keys = work.how.keys(samples)
            self._write(work, name, self._told(map(Keyed, keys, work.readings(samples)), work), _Room(self))
        return len(samples)

    def _told(self, keyed: Iterator[Keyed], work: _Work) -> Iterator[Keyed]:
        for number, one in enumerate(keyed):
            work.watch.check()
            yield one
            work.watch.at(READY, number + 1, len(work.cohort.samples))

    def _is_whole(self, name: str) -> bool:
        """Whether the entry is here; it counts as used now, and a damaged one is removed."""
        path = self._place(name)
        try:
            check_whole(path)
            os.utime(path)
        except FileNotFoundError:
            return False
        except (Damaged, ValueError):
            path.unlink(missing_ok=True)
            return False
        return True

    def _write(self, work: _Work, name: str, samples: Iterable[Keyed], room: _Room) -> None:
        part, place = self._incoming / secrets.token_hex(8), self._place(name)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                size = write_prepared(file, work.how, samples)
                room.make(size, work.cohort.dataset)
                # Other users cannot enter the folder; a worker of another uid is given this file alone.
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class _Work:
    """One cohort that is being prepared."""

    def __init__(self, root: Path, cohort: Cohort, watch: Watch) -> None:
        self.root, self.cohort, self.watch = root, cohort, watch
        self.layout, self.how, self.is_rows = format_named(cohort.format), Preparation.of(cohort), is_rows(cohort)
        samples = cohort.samples
        self.names = [self.how.rows_key(samples)] if self.is_rows else list(self.how.keys(samples))

    def readings(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples, read from the dataset's files and mapped."""
        for reading in self.layout.read(self.root, samples, self.cohort.options):
            yield self.cohort.given(reading)

    def voxels(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The same without values, which a sample has beside its voxels: plans with other columns share its file."""
        for reading in self.readings(samples):
            yield replace(reading, values={})


class _Room:
    """How much space is left; when space is needed, entries that no worker uses are removed, the longest unused
    first.
    """

    def __init__(self, cache: PreparedCache) -> None:
        self._cache, self._limit = cache, cache.limit
        found = [(path, path.stat()) for path in cache._entries()]
        self._used = sum(about.st_size for _, about in found)
        held = cache._held()
        free = [(about.st_mtime_ns, path, about.st_size) for path, about in found if path.name not in held]
        self._evictable = [(path, size) for _, path, size in sorted(free, reverse=True)]

    def make(self, size: int, dataset: str) -> None:
        """Make space for one more entry. Raises BadInput when there is not enough."""
        while self._used + size > self._limit and self._evictable:
            path, freed = self._evictable.pop()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            self._used -= freed
        if self._used + size > self._limit:
            raise BadInput(
                Thing.worded(f"the prepared samples of dataset {dataset}", dataset=dataset),
                f"need more than the {self._limit >> 20} MiB that cache_mb leaves them",
                "raise cache_mb in site.toml, or wait for other experiments to end",
                code=ErrorCode.CONFIGURATION,
                values={"limit": self._limit},
            )
        self._used += size


@contextmanager
def _unchanged(root: Path, samples: Sequence[Sample]) -> Iterator[None]:
    """Raise BadInput when a file is written to between its verification and the end of its reading."""
    places = sorted(Samples.of(samples).places)
    try:
        before = [signature_of(root / place) for place in places]
    except OSError:
        before = None
    yield
    for place, known in zip(places, before or [], strict=before is not None):
        try:
            now = signature_of(root / place)
        except OSError:
            now = None
        if now != known:
            raise data_changed(place, "was changed while it was read")
