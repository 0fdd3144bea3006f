"""Watching an experiment: its event stream, followed through broken connections and shown on a display."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from archipel.researcher.connection import Connection, Unreachable
from archipel.researcher.display import Display
from archipel.researcher.progress import Progress, advance
from archipel.transport.rest import Event, EventKind, ExperimentView, RoundView
from archipel.vocabulary.states import ExperimentState

_LONGEST_PAUSE_S = 10.0
_ASK_AGAIN = frozenset(
    {
        EventKind.APPROVAL,
        EventKind.ARGUMENTS,
        EventKind.ENDING,
        EventKind.INTERRUPTED,
        EventKind.ROUND_COMMITTED,
        EventKind.ROUND_FAILED,
        EventKind.SITES_AWAITED,
        EventKind.STATE,
        EventKind.SUBMITTED,
    }
)
"""Events after which the experiment's document or the rounds' records are read again; the others are shown as they
are.
"""


def watch(
    connection: Connection, name: str, until: Callable[[ExperimentView], bool], screen: Display
) -> ExperimentView:
    """Show the experiment until its document fulfils ``until`` or it is over; returns the document.

    A lost connection is tried again without end, and the display says so.
    """
    path = f"/v1/experiments/{name}"
    seen, wait = 0, 0.5
    progress = Progress(name)
    try:
        while True:
            try:
                for event in all_events(connection, path, seen):
                    progress, seen = advance(progress, event), event.seq
                progress, document = _refreshed(connection, path, progress)
                screen.show(progress)
                wait = 0.5
                if _done(document, until):
                    return document
                for event in connection.events(f"{path}/events", seen):
                    progress, seen = advance(progress, event), event.seq
                    if event.kind in _ASK_AGAIN:
                        progress, document = _refreshed(connection, path, progress)
                    screen.show(progress)
                    if _done(document, until):
                        return document
            except Unreachable as error:
                screen.show(replace(progress, notice=f"{error.cause}; trying again; the experiment continues"))
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_PAUSE_S)
    except KeyboardInterrupt:
        screen.show(replace(progress, notice=_stopped(name, progress.state)))
    # A new error without its context: forty lines of a connection's traceback would hide the message.
    raise KeyboardInterrupt


def all_events(connection: Connection, path: str, after: int = 0) -> Iterator[Event]:
    """The events of the experiment at ``path`` after a number that are there now, however many pages they fill."""
    while found := connection.ask_all(Event, f"{path}/events?after={after}&follow=false"):
        yield from found
        after = found[-1].seq


def _stopped(name: str, state: ExperimentState | None) -> str:
    command = "archipel experiment"
    if state is ExperimentState.WAITING:
        return (
            f"you stopped waiting; the sites can still answer: `{command} start {name}` begins when they have "
            f"answered, "
            f"`{command} cancel {name}` ends it (in Python: .run(), .cancel())"
        )
    return (
        f"you stopped watching; the experiment continues at the server: `{command} watch {name}` shows it again, "
        f"`{command} finish {name}` ends it early with its results, `{command} cancel {name}` ends it without (in "
        "Python: .watch(), .finish(), .cancel())"
    )


def _done(document: ExperimentView, until: Callable[[ExperimentView], bool]) -> bool:
    return document.state.is_over or until(document)


def _refreshed(connection: Connection, path: str, progress: Progress) -> tuple[Progress, ExperimentView]:
    document = connection.ask(ExperimentView, "GET", path)
    rounds = tuple(connection.ask_all(RoundView, f"{path}/rounds"))
    return replace(progress, document=document, rounds=rounds, notice=""), document
