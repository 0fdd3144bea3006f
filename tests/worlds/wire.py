"""A connection between sites and their server that a test can shut and cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field

from archipel.lab.ports import HOST, free_port


@dataclass
class Wire:
    """A TCP relay in front of the server's gRPC port that can be shut for what sites send."""

    port: int = field(default_factory=free_port)
    target: int = field(default_factory=free_port)
    passed: int = 0
    budget: float = float("inf")
    _open: bool = True
    _pairs: list[socket.socket] = field(default_factory=list)

    def start(self) -> None:
        listener = socket.create_server((HOST, self.port))
        self._listener = listener
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection((HOST, self.target))
            except OSError:
                if not self._open:
                    return
                near.close()
                continue
            self._pairs += [near, far]
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                while counted and self.passed + len(data) > self.budget:
                    if not self._open:
                        return
                    time.sleep(0.01)
                if counted:
                    self.passed += len(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def shut_after(self, size: int) -> None:
        """Let ``size`` more bytes from sites through, then none."""
        self.budget = self.passed + size

    @property
    def is_full(self) -> bool:
        return self.passed > self.budget - (1 << 16) - 1

    def free(self) -> None:
        self.budget = float("inf")

    def cut(self) -> None:
        """Break every connection that is open."""
        pairs, self._pairs = self._pairs, []
        for one in pairs:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._open = False
        self.cut()
        self._listener.close()
