"""An update leaves only if no patient was withdrawn from its cohort meanwhile; otherwise it is made again."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from archipel.tasks import Handler, LocalUpdate
from archipel.vocabulary import Task

_log = structlog.get_logger("archipel.training")


class RepeatOnCohortChange:
    """A handler around another: what it made counts when ``view`` is the same before and after."""

    def __init__(self, inner: Handler, view: Callable[[], str]) -> None:
        self._inner, self._view = inner, view

    async def __call__(self, task: Task) -> LocalUpdate:
        """Run the task, and again as long as the view changed meanwhile. Raises what ``view`` raises."""
        while True:
            before = self._view()
            made = await self._inner(task)
            same = False
            try:
                same = self._view() == before
            finally:
                if not same and made.tensor_file is not None:
                    made.tensor_file.unlink(missing_ok=True)
            if same:
                return made
            _log.warning("a patient was withdrawn and the task is done again", task=str(task.key))
