"""Long work that a person waits for: how far it is, shown while it runs, and a way to stop it.

Work that blocks takes a ``Watch``. Work that waits (``async``) takes a ``ShowProgress`` and is stopped as any task is,
by cancelling it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class WorkProgress(NamedTuple):
    """How far some work is: ``what`` is counted, in the plural; ``total`` is None as long as it is unknown."""

    what: str
    done: int
    total: int | None = None

    def __str__(self) -> str:
        return f"{self.done}{'' if self.total is None else f' of {self.total}'} {self.what}"


ShowProgress = Callable[[WorkProgress], None]
"""Shows how far some work is; called from the thread that works, often, and so must return at once."""


class Cancelled(Exception):
    """The work was stopped on request; nothing of it was kept but what was found in single files."""


class Cancellation:
    """A request to stop, which any thread may make; the work notices it at its next step, a file or a sample."""

    def __init__(self) -> None:
        self._wished = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop."""
        self._wished.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was requested."""
        return self._wished.is_set()


def show_nothing(_: WorkProgress) -> None:
    """Shows the progress to no one."""


@dataclass(frozen=True)
class Watch:
    """Shows the progress of some work, and may stop it.

    >>> seen = []
    >>> watch = Watch(seen.append, Cancellation())
    >>> watch.at("files", 3, 10)
    >>> str(seen[0])
    '3 of 10 files'
    >>> watch.cancellation.cancel()
    >>> watch.at("files", 4, 10)
    Traceback (most recent call last):
    archipel.vocabulary.long_work.Cancelled
    """

    show: ShowProgress = show_nothing
    cancellation: Cancellation | None = None

    def at(self, what: str, done: int, total: int | None = None) -> None:
        """Report how far the work is. Raises Cancelled when it is to stop."""
        self.check()
        self.show(WorkProgress(what, done, total))

    def check(self) -> None:
        """Raise Cancelled when the work is to stop."""
        if self.cancellation is not None and self.cancellation.cancelled:
            raise Cancelled


UNWATCHED = Watch()
"""Work that is neither watched nor stopped."""
