"""A uid for each worker that no other worker on this machine has, whichever agent started it.

Only then do the kernel's limits of processes per user bind one worker each. A name in the abstract socket space is
the lock: it is the machine's, and gone with the agent however that ends.
"""

from __future__ import annotations

import errno
import os
import socket

from archipel.vocabulary import ArchipelError, ErrorCode

_MOST = 10_000


class Identity:
    """The uid of one worker, or None when the agent is no root and the worker keeps the agent's own."""

    def __init__(self, uid: int | None, lock: socket.socket | None) -> None:
        self.uid, self._lock = uid, lock

    @classmethod
    def claim(cls, base: int) -> Identity:
        """The first free uid from ``base`` on. Raises ArchipelError (code sandbox) when none is."""
        if os.getuid() != 0:
            return cls(None, None)
        for uid in range(base, base + _MOST):
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0archipel-worker-uid-{uid}")
            except OSError as error:
                lock.close()
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return cls(uid, lock)
        raise ArchipelError(
            f"uids {base} to {base + _MOST - 1}", "are all in use", "stop workers or change uid_base",
            code=ErrorCode.SANDBOX,
        )  # fmt: skip

    def close(self) -> None:
        """Somebody else may have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
