"""Watching an experiment: its event stream, followed through broken connections, onto a screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from archipel.researcher.connection import Connection, Unreachable
from archipel.researcher.progress import Progress, advance
from archipel.researcher.screens import Screen

_OVER = ("finished", "cancelled")
_LONGEST_PAUSE_S = 10.0
# What these report shows in the experiment's document or in the rounds' records; the others are shown as they are.
_ASK_AGAIN = ("approval", "arguments", "interrupted", "round-committed", "round-failed", "state", "submitted")


def watch(connection: Connection, name: str, until: Callable[[dict[str, Any]], bool], screen: Screen) -> dict[str, Any]:
    """Show the experiment until its document fulfils ``until`` or it is over; returns the document.

    A lost connection is awaited for as long as it takes, and said on the screen.
    """
    path = f"/v1/experiments/{name}"
    seen, wait = 0, 0.5
    progress = Progress({"experiment": name, "state": "unknown"}, ())
    try:
        while True:
            try:
                for event in all_events(connection, path, seen):
                    progress, seen = advance(progress, event), event["seq"]
                progress = _refreshed(connection, path, progress)
                screen.show(progress)
                wait = 0.5
                if _done(progress, until):
                    return progress.document
                for event in connection.events(f"{path}/events", seen):
                    progress, seen = advance(progress, event), event["seq"]
                    if event["kind"].startswith(_ASK_AGAIN):
                        progress = _refreshed(connection, path, progress)
                    screen.show(progress)
                    if _done(progress, until):
                        return progress.document
            except Unreachable as error:
                screen.show(replace(progress, notice=f"{error.cause}; trying again, the experiment goes on"))
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_PAUSE_S)
    except KeyboardInterrupt:
        screen.show(replace(progress, notice=_stopped(name, progress.document["state"])))
    # A fresh one, outside of what it came through: forty lines of a connection's insides would hide what was said.
    raise KeyboardInterrupt


def all_events(connection: Connection, path: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """The events of the experiment at ``path`` after a number that are there now, however many pages they fill."""
    while found := connection.ask("GET", f"{path}/events?after={after}&follow=false"):
        yield from found
        after = found[-1]["seq"]


def _stopped(name: str, state: str) -> str:
    command = "archipel experiment"
    if state == "waiting":
        return (
            f"you stopped waiting; the sites can still answer: `{command} start {name}` begins when they did, "
            f"`{command} cancel {name}` ends it (in Python: .run(), .cancel())"
        )
    return (
        f"you stopped watching; the experiment goes on at the server: `{command} watch {name}` shows it again, "
        f"`{command} cancel {name}` ends it (in Python: .watch(), .cancel())"
    )


def _done(progress: Progress, until: Callable[[dict[str, Any]], bool]) -> bool:
    return progress.document["state"] in _OVER or until(progress.document)


def _refreshed(connection: Connection, path: str, progress: Progress) -> Progress:
    document = connection.ask("GET", path)
    return replace(progress, document=document, rounds=tuple(connection.ask("GET", f"{path}/rounds")), notice="")
