"""Ends of a transfer without a connection: bytes that come, and where bytes go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
