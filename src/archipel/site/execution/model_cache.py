"""The models of an experiment at its site: fetched by hash into sealed shared memory, the frozen part also kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

import structlog

from archipel.site.sandbox import SharedBuffer
from archipel.storage import BlobStore
from archipel.tensors import BlobHasher, check_header, tensor_file_size
from archipel.vocabulary import FrozenPart, Job, StorageFull, TensorSchema

_log = structlog.get_logger("archipel.models")


class Fetch(Protocol):
    """Fetches a blob's bytes from the server."""

    async def __call__(self, blob: str, window: memoryview) -> None:
        """Write the blob's bytes into memory of their length. Raises ArchipelError, for other bytes than the hash's
        too.
        """


_CHUNK = 1 << 20
MOST_MODELS = 8
"""Models of one experiment in memory at once, whatever the number of its sites."""


class ModelCache:
    """Models of one experiment in sealed shared memory, by hash: fetched once, given to the worker as they are.

    Keeps a few, so that the models of a small federation's sites are fetched once for all baselines. Of a larger
    ensemble each is fetched when the worker asks for it, into the memory of the one that was used the longest ago. The
    frozen part, which all of them share, is fetched once and also kept among the site's ``blobs`` until the experiment
    ends: after ``close``, which gives all memory back, and after a restart it is read from there. The initial values of
    the local part are fetched again after ``close`` while this site has no values of its own.
    """

    def __init__(self, job: Job, fetch: Fetch, blobs: BlobStore) -> None:
        self._job, self._fetch, self._blobs = job, fetch, blobs
        self._buffers: OrderedDict[str, SharedBuffer] = OrderedDict()
        self._frozen: SharedBuffer | None = None
        self._local: bytes | None = None
        self._most = min(2 + (len(job.sites) if job.baselines.local else 0), MOST_MODELS)

    async def get(self, blob: str) -> SharedBuffer:
        """The model's buffer. Raises BadInput when its bytes are not those of the hash or not the job's tensors."""
        if blob in self._buffers:
            self._buffers.move_to_end(blob)
            return self._buffers[blob]
        if len(self._buffers) >= self._most:
            buffer = self._emptied()
        else:
            buffer = SharedBuffer.create(tensor_file_size(self._job.tensors))
        await self._fetch_into(buffer, blob, self._job.tensors)
        self._buffers[blob] = buffer
        return buffer

    async def copy_to(self, memory: SharedBuffer, blob: str) -> None:
        """Put a model into memory to be trained in, while no worker runs: from here or the server."""
        if blob in self._buffers:
            with self._buffers[blob].view() as window:
                return await asyncio.to_thread(memory.write, window, 0)
        await self._fill(memory, blob)
        with memory.view() as window:
            check_header(self._job.tensors, window)

    async def frozen(self) -> SharedBuffer | None:
        """The buffer of the frozen part, or None of a job without one. Raises BadInput as ``get`` does."""
        part = self._job.frozen
        if self._frozen is None and part is not None:
            self._frozen = await asyncio.to_thread(self._read, part)
        if self._frozen is None and part is not None:
            buffer = SharedBuffer.create(tensor_file_size(part.tensors))
            await self._fetch_into(buffer, part.blob, part.tensors)
            self._frozen = buffer
            await asyncio.to_thread(self._keep, buffer, part.blob)
        return self._frozen

    def _read(self, part: FrozenPart) -> SharedBuffer | None:
        """The frozen part as it is kept here; None when it is not, and when its bytes are not those of its hash."""
        if not self._blobs.has(part.blob):
            return None
        buffer = SharedBuffer.create(tensor_file_size(part.tensors))
        try:
            hasher, position = BlobHasher(), 0
            with self._blobs.open(part.blob) as file:
                while chunk := file.read(min(_CHUNK, buffer.size - position)):
                    buffer.write(chunk, position)
                    hasher.update(chunk)
                    position += len(chunk)
            if self._blobs.size(part.blob) == position == buffer.size and hasher.digest() == part.blob:
                buffer.seal()
                with buffer.view() as window:
                    check_header(part.tensors, window)
                return buffer
        except BaseException:
            buffer.close()
            raise
        buffer.close()
        _log.warning("what is kept of a model is damaged and is fetched again", experiment=self._job.experiment)
        self._blobs.delete(part.blob)
        return None

    def _keep(self, buffer: SharedBuffer, blob: str) -> None:
        """Keep what was fetched. On a full disk it is not kept, and is fetched again when its memory was given back."""
        try:
            with buffer.view() as window:
                self._blobs.put(window, expected=blob)
        except StorageFull as error:
            _log.warning("a frozen part could not be kept", experiment=self._job.experiment, error=str(error))

    async def local(self) -> bytes | None:
        """The tensor file of the local part's initial values, or None of a job without one. Raises BadInput as ``get``
        does.
        """
        part = self._job.local
        if self._local is None and part is not None:
            buffer = SharedBuffer.create(tensor_file_size(part.tensors))
            await self._fetch_into(buffer, part.blob, part.tensors)
            try:
                with buffer.view() as window:
                    self._local = bytes(window)
            finally:
                buffer.close()
        return self._local

    async def _fetch_into(self, buffer: SharedBuffer, blob: str, tensors: TensorSchema) -> None:
        """Fetch a tensor file of these tensors and seal it; when that fails the buffer is closed."""
        try:
            await self._fill(buffer, blob)
            buffer.seal()
            with buffer.view() as window:
                check_header(tensors, window)
        except BaseException:
            buffer.close()
            raise

    def _emptied(self) -> SharedBuffer:
        """The buffer that was unused for the longest time, to be filled again; the worker runs no task now."""
        buffer = self._buffers.popitem(last=False)[1]
        buffer.reuse()
        return buffer

    async def _fill(self, buffer: SharedBuffer, blob: str) -> None:
        with buffer.writable() as window:
            await self._fetch(blob, window)

    def close(self) -> None:
        """Give the memory back."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None
        self._local = None
