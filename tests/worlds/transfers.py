"""Ends of a transfer without a connection: bytes that come, and where bytes go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from archipel.site.agent.connection import ServerConnection
from archipel.site.state.folder import StateFolder
from archipel.transport import Download
from archipel.transport.bodies import lost
from archipel.transport.waiting import in_thread


class Coming:
    """Announces ``size`` bytes and brings ``data``; what is missing of them does not come until this is cancelled."""

    def __init__(self, data: bytes, size: int | None = None, *, piece: int = 1 << 20) -> None:
        self.size = len(data) if size is None else size
        self._data, self._piece = data, piece

    async def receive(self, keep: Callable[[memoryview], None]) -> None:
        ended = threading.Event()

        def work() -> None:
            window = memoryview(self._data)
            for start in range(0, len(window), self._piece):
                keep(window[start : start + self._piece])
            if len(window) < self.size:
                ended.wait(60)
                raise lost("ended early")

        with ThreadPoolExecutor(1) as pool:
            await in_thread(pool, work, ended.set)


class Breaks(Coming):
    """The same, and then the connection ends."""

    async def receive(self, keep: Callable[[memoryview], None]) -> None:
        keep(memoryview(self._data))
        raise lost("ended early")


class Going:
    """Keeps what is sent, from a byte on."""

    def __init__(self, offset: int = 0) -> None:
        self.offset, self.sent = offset, b""

    async def send(self, file: Any, size: int) -> int:
        file.seek(self.offset)
        self.sent = file.read(size - self.offset)
        return len(self.sent)


class Linked(ServerConnection):
    """A site's connection to a server that has these blobs, whatever they are called; it breaks ``breaks`` times."""

    def __init__(self, site: StateFolder, blobs: dict[str, bytes], breaks: int = 0) -> None:
        super().__init__(site)
        self.blobs, self.breaks = blobs, breaks
        self.positions: list[int] = []

    async def _connected(self) -> Any:
        return SimpleNamespace(fetch=self._brings)

    async def _brings(self, download: Download) -> None:
        self.positions.append(download.position)
        data = self.blobs[download.blob]
        left = download.window(len(data))
        if self.breaks:
            self.breaks -= 1
            half = left[: len(left) // 2]
            half[:] = data[download.position :][: len(half)]
            download.came(half)
            raise lost("broke")
        left[:] = data[download.position :]
        download.came(left)

    async def pause(self) -> None:
        """Try again at once."""
