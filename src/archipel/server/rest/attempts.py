"""A limit on the failed attempts of one caller, so that guessing and endless retries are cheap to refuse."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from datetime import datetime, timedelta

_CALLERS = 10_000


class Attempts:
    """At most ``limit`` failures of a caller in ``window``; memory is bounded whatever arrives."""

    def __init__(self, limit: int = 20, window: timedelta = timedelta(minutes=1)) -> None:
        self.limit, self.window = limit, window
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def exhausted(self, caller: str, now: datetime) -> bool:
        """Whether this caller must wait."""
        with self._lock:
            recent = self._failures.get(caller, deque())
            while recent and now - recent[0] > self.window:
                recent.popleft()
            return len(recent) >= self.limit

    def failed(self, caller: str, now: datetime) -> None:
        """Count a failure."""
        with self._lock:
            recent = self._failures.setdefault(caller, deque(maxlen=self.limit))
            recent.append(now)
            self._failures.move_to_end(caller)
            if len(self._failures) > _CALLERS:
                self._failures.popitem(last=False)
