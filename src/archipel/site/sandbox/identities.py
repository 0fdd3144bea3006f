"""A uid for each worker that no other worker on this machine has, whichever agent started it.

Only then do the kernel's limits of processes per user bind one worker each. A locked file in a folder that only root
may enter is the claim: no other user can take one, and the lock is gone with the agent however that ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from archipel.vocabulary import ArchipelError, ErrorCode, Thing
from archipel.vocabulary.remedies import GrantAccess

CLAIMS = Path("/run/archipel/uids")
_MOST = 10_000


class Identity:
    """The uid of one worker, or None when the agent is not root and the worker keeps the agent's own."""

    def __init__(self, uid: int | None, lock: int | None) -> None:
        self.uid, self._lock = uid, lock

    @classmethod
    def claim(cls, base: int, claims: Path = CLAIMS) -> Identity:
        """The first free uid from ``base`` on. Raises ArchipelError (code sandbox) when none can be had."""
        if os.getuid() != 0:
            return cls(None, None)
        try:
            claims.mkdir(mode=0o700, parents=True, exist_ok=True)
            for uid in range(base, base + _MOST):
                lock = os.open(claims / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    continue
                return cls(uid, lock)
        except OSError as error:
            raise ArchipelError(
                Thing.folder(claims), f"cannot store the claims on workers' uids ({error.strerror})",
                "let the agent write there, or run it as an ordinary user", code=ErrorCode.SANDBOX,
                command=GrantAccess(path=str(claims)),
            ) from error  # fmt: skip
        raise ArchipelError(
            Thing.worded(f"uids {base} to {base + _MOST - 1}", first=base, last=base + _MOST - 1),
            "are all in use",
            "stop workers or change uid_base",
            code=ErrorCode.SANDBOX,
        )

    def close(self) -> None:
        """Give the uid free for another worker."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
