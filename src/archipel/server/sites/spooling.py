"""An update's tensor file on its way to the disk: each piece is hashed and written by the thread that received it.

When a call has ended, in whatever way, nothing writes to the file any more: the next call continues where it ended.
Where there is a spare file it is written over. Its length does not say then how much has arrived; a file beside it
does, which is written after each piece, so that it is right after the server was killed too. Once all has arrived it is
gone.
"""

from __future__ import annotations

import asyncio
import os
from io import FileIO
from pathlib import Path

from archipel.server.experiments import SMALLEST_SPARE, take_spare
from archipel.storage import disk_errors_named
from archipel.tensors import BlobHasher, TensorFileWriter
from archipel.transport import CHUNK, Incoming
from archipel.vocabulary import BadInput, Conflict, ErrorCode

_NUMBER = 8


def arrived_beside(part: Path) -> Path:
    """Where it is written how many bytes of a file that is written over have arrived."""
    return part.with_name(f"{part.name}.arrived")


def held(part: Path) -> int:
    """How many bytes of a tensor file are here, in whole chunks."""
    return _here(part) // CHUNK * CHUNK


def _here(part: Path) -> int:
    try:
        size = part.stat().st_size
    except FileNotFoundError:
        return 0
    try:
        return min(size, int.from_bytes(arrived_beside(part).read_bytes(), "little"))
    except FileNotFoundError:
        # A new file, whose length says it.
        return size


async def spool(part: Path, offset: int, incoming: Incoming, *, size: int, thing: str) -> str:
    """Write what comes to ``part`` from byte ``offset`` on; returns the hash of the whole, formed on the way.

    ``size`` is how long the tensor file may become, ``thing`` what it is called in errors; what arrived before a break
    stays for the next try. Raises BadInput (code bad-update) when more is announced, Conflict (code lost) for an offset
    that is not here, ArchipelError (code lost) when the connection breaks or says nothing, StorageFull.
    """
    with disk_errors_named(part.parent):
        _begin(part, size)
        with _Arriving(part) as arriving:
            _check_offset(offset, arriving.count, thing)
            arriving.go_back(offset)
            if offset + incoming.size > size:
                cause = f"has more than its {size} bytes"
                raise BadInput(thing, cause, "send it again", code=ErrorCode.BAD_UPDATE, values={"limit": size})
            hasher = await asyncio.to_thread(_hashed, part, offset) if offset else BlobHasher()
            writer = TensorFileWriter(arriving.file, hasher)

            def keep(piece: memoryview) -> None:
                writer.write(piece)
                arriving.note(writer.position)

            await incoming.receive(keep)
            arriving.end()
    return writer.digest()


def _begin(part: Path, size: int) -> None:
    """Put a spare file in the place of a part that is not there; before it is, it is written that nothing arrived."""
    if size < SMALLEST_SPARE or part.exists():
        return
    beside = arrived_beside(part)
    beside.write_bytes(bytes(_NUMBER))
    if not take_spare(part):
        beside.unlink()


class _Arriving:
    """The file of an update, open for its next bytes; ``count`` have arrived."""

    def __init__(self, part: Path) -> None:
        self.count = _here(part)
        self._part = part
        self.file = FileIO(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        self._noted: int | None = None
        try:
            self._noted = os.open(arrived_beside(part), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # A new file, whose length says it.
            return

    def go_back(self, offset: int) -> None:
        """What comes next is written from this byte on; what arrived behind it does not count any more."""
        if self._noted is None:
            self.file.truncate(offset)
        else:
            self.note(offset)
        self.file.seek(offset)

    def note(self, count: int) -> None:
        """So many bytes have arrived, and are written."""
        self.count = count
        if self._noted is not None:
            os.pwrite(self._noted, count.to_bytes(_NUMBER, "little"), 0)

    def end(self) -> None:
        """All that was announced has arrived: from now on the length of the file says how much that is."""
        if self._noted is not None:
            self.file.truncate(self.count)
            arrived_beside(self._part).unlink(missing_ok=True)

    def __enter__(self) -> _Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self._noted is not None:
            os.close(self._noted)


def _check_offset(offset: int, there: int, thing: str) -> None:
    if offset % CHUNK:
        cause = f"continues at byte {offset}, where no chunk begins"
        raise BadInput(
            thing,
            cause,
            "ask for the offset first",
            code=ErrorCode.BAD_UPDATE,
            values={"offset": offset, "chunk": CHUNK},
        )
    if offset > there:
        # An older call that waited for its turn ran between the site's question and this call, and took bytes back.
        cause = f"continues at byte {offset}, but {there} bytes are here"
        raise Conflict(
            thing, cause, "ask for the offset again", code=ErrorCode.LOST, values={"offset": offset, "bytes": there}
        )


def _hashed(part: Path, size: int) -> BlobHasher:
    """A hasher that has seen the first ``size`` bytes of a file: what an earlier call had brought."""
    hasher = BlobHasher()
    with part.open("rb", buffering=0) as file:
        while size and (chunk := file.read(min(CHUNK, size))):
            hasher.update(chunk)
            size -= len(chunk)
    return hasher
