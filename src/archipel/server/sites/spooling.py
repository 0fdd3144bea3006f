"""An update's tensor file on its way to the disk: each piece is hashed and written by the thread that received it.

When a call has ended, in whatever way, nothing writes to the file any more: the next call continues where it ended.
"""

from __future__ import annotations

import asyncio
from io import FileIO
from pathlib import Path

from archipel.storage import disk_errors_named
from archipel.tensors import BlobHasher, TensorFileWriter
from archipel.transport import CHUNK, Incoming
from archipel.vocabulary import BadInput, Conflict, ErrorCode


def held(part: Path) -> int:
    """How many bytes of a tensor file are here, in whole chunks."""
    try:
        return part.stat().st_size // CHUNK * CHUNK
    except FileNotFoundError:
        return 0


async def spool(part: Path, offset: int, incoming: Incoming, *, size: int, thing: str) -> str:
    """Write what comes to ``part`` from byte ``offset`` on; returns the hash of the whole, formed on the way.

    ``size`` is how long the tensor file may become, ``thing`` what it is called in errors; what arrived before a break
    stays for the next try. Raises BadInput (code bad-update) when more is announced, Conflict (code lost) for an offset
    that is not here, ArchipelError (code lost) when the connection breaks or says nothing, StorageFull.
    """
    with disk_errors_named(part.parent), part.open("ab", buffering=0) as file:
        _go_back(file, offset, thing)
        if offset + incoming.size > size:
            cause = f"has more than its {size} bytes"
            raise BadInput(thing, cause, "send it again", code=ErrorCode.BAD_UPDATE, values={"limit": size})
        hasher = await asyncio.to_thread(_hashed, part, offset) if offset else BlobHasher()
        writer = TensorFileWriter(file, hasher)
        await incoming.receive(writer.write)
    return writer.digest()


def _go_back(file: FileIO, offset: int, thing: str) -> None:
    if offset % CHUNK:
        cause = f"continues at byte {offset}, where no chunk begins"
        raise BadInput(
            thing,
            cause,
            "ask for the offset first",
            code=ErrorCode.BAD_UPDATE,
            values={"offset": offset, "chunk": CHUNK},
        )
    if offset > (there := file.tell()):
        # An older call that waited for its turn ran between the site's question and this call, and took bytes back.
        cause = f"continues at byte {offset}, but {there} bytes are here"
        raise Conflict(
            thing, cause, "ask for the offset again", code=ErrorCode.LOST, values={"offset": offset, "bytes": there}
        )
    file.truncate(offset)
    file.seek(offset)


def _hashed(part: Path, size: int) -> BlobHasher:
    """A hasher that has seen the first ``size`` bytes of a file: what an earlier call had brought."""
    hasher = BlobHasher()
    with part.open("rb", buffering=0) as file:
        while size and (chunk := file.read(min(CHUNK, size))):
            hasher.update(chunk)
            size -= len(chunk)
    return hasher
