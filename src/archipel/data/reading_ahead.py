"""Reading ahead: the next files of a scan are read and measured on threads while the scan is at the files before.

Unpacking, hashing and arithmetic on voxels leave Python's lock to others, so that two processors work. Nothing else
changes: a file that cannot be used is left to the scan, which finds it at its place in the order and names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.tensors import blob_hash

Measure = Callable[[Path, bytes, DataLimits], Any]
"""What takes long in examining a file whose bytes are in memory. Raises anything for a file that cannot be used."""
LEAST_BYTES, SMALL_BYTES, MOST_BYTES = 1 << 10, 1 << 20, 64 << 20
"""A file of fewer bytes is measured faster than it is handed over; a file is small up to SMALL_BYTES, and one of more
than MOST_BYTES is not read ahead."""
SMALL_FILES, LARGE_FILES = 16, 2
"""How many are held at once."""
SMALL_VOLUME_BYTES, LARGE_VOLUME_BYTES = 16 << 20, 64 << 20
"""What the volume in a small file and in a large one may take; whatever takes more is not read ahead."""
_THREADS = 2


class Measured(NamedTuple):
    """The hash of a file's bytes and what was measured."""

    hash: str
    measured: Any


class _Begun(NamedTuple):
    signature: tuple[int, ...]
    size: int
    result: Future[Measured | None]


class ReadingAhead:
    """Files that are being measured; ``with`` ends the threads. It begins none on a machine with one processor."""

    def __init__(self, limits: DataLimits = DATA_LIMITS, threads: int | None = None) -> None:
        self._limits = limits
        self._threads = min(_THREADS, len(os.sched_getaffinity(0)) - 1) if threads is None else threads
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[tuple[str, str, str], _Begun] = {}

    def takes(self, size: int) -> bool:
        """Whether a file of this many bytes may be begun now."""
        if self._threads < 1 or not LEAST_BYTES <= size <= MOST_BYTES:
            return False
        is_small = size <= SMALL_BYTES
        held = sum((one.size <= SMALL_BYTES) == is_small for one in self._begun.values())
        return held < (SMALL_FILES if is_small else LARGE_FILES)

    def begin(self, key: tuple[str, str, str], path: Path, signature: tuple[int, ...], measure: Measure) -> None:
        """Begin to measure a file, which has this signature, whose first part is its size, before it is opened."""
        size = signature[0]
        most = SMALL_VOLUME_BYTES if size <= SMALL_BYTES else LARGE_VOLUME_BYTES
        limits = replace(self._limits, volume_bytes=min(self._limits.volume_bytes, most))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "reading-ahead")
        self._begun[key] = _Begun(signature, size, self._pool.submit(_measured, path, size, measure, limits))

    def take(self, key: tuple[str, str, str], signature: tuple[int, ...]) -> Measured | None:
        """What was measured; None where nothing was, or the file has another signature by now.

        Files are asked for in the order in which they were begun: this one and those before it are held no longer.
        """
        if key not in self._begun:
            return None
        while (passed := next(iter(self._begun))) != key:
            self._begun.pop(passed).result.cancel()
        begun = self._begun.pop(key)
        found = begun.result.result()
        return found if begun.signature == signature else None

    def drop_all(self) -> None:
        """Hold nothing; what is being measured is not used."""
        for one in self._begun.values():
            one.result.cancel()
        self._begun.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop_all()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _measured(path: Path, size: int, measure: Measure, limits: DataLimits) -> Measured | None:
    """None for a file with any problem; the scan finds it again and names it."""
    try:
        with path.open("rb") as file:
            content = file.read(size)
        return Measured(blob_hash(content), measure(path, content, limits))
    except Exception:
        return None
