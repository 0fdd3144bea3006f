"""Errors of plans that failed at this site: listed, read in full, and released to the researcher by a person."""

from __future__ import annotations

from archipel.site.execution import FailedTask, failures
from archipel.site.state import StateFolder
from archipel.vocabulary import Actor, TaskKey


class FailureRow(TaskKey):
    """A task that failed here. ``failure`` is what left the site by itself, ``done_at`` ISO 8601 in UTC."""

    failure: str
    released: bool
    done_at: str | None

    @property
    def task(self) -> TaskKey:
        """The task alone."""
        return TaskKey(**{name: getattr(self, name) for name in TaskKey.model_fields})


class FailureText(FailureRow):
    """A failure with its full text, which may quote data and stays here until it is released."""

    text: str


def rows(site: StateFolder) -> tuple[FailureRow, ...]:
    """Every task that failed here, the oldest first."""
    return tuple(FailureRow(**_values(task)) for task in failures.failed(site.database))


def texts(site: StateFolder, experiment: str, round_number: int) -> tuple[FailureText, ...]:
    """A round's errors in full. Raises NotFound when there are none."""
    return tuple(map(_text, failures.of_round(site.database, experiment, round_number)))


def release(site: StateFolder, experiment: str, round_number: int, *, by: Actor) -> tuple[FailureText, ...]:
    """Release the full texts of a round's errors to the researcher; those texts. Raises NotFound when there are
    none.
    """
    return tuple(map(_text, failures.release(site.database, experiment, round_number, by=by)))


def _text(task: FailedTask) -> FailureText:
    return FailureText(**_values(task), text=task.detail)


def _values(task: FailedTask) -> dict[str, object]:
    return {**dict(task.key), "failure": str(task.failure), "released": task.released, "done_at": task.done_at}
