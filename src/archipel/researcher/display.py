"""Where progress is shown: a terminal (Rich), a notebook (an HTML table that is replaced), or lines in a log."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from archipel.researcher.progress import Progress, sparkline
from archipel.vocabulary.states import ExperimentState
from archipel.vocabulary.visible import escape_hidden


class Display(Protocol):
    """Shows the newest progress in place of what it showed before."""

    def show(self, progress: Progress) -> None:
        """Show this."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TerminalScreen:
    """A table in a terminal that changes in place."""

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or Console(), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw it now."""
        self._live.update(drawn(progress), refresh=True)


class LogScreen:
    """One line per round, stage, notice or remark, for outputs that are not a terminal; no line twice."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, progress: Progress) -> None:
        """Print the line unless it was printed before."""
        document, stage = progress.document, progress.stage
        running = document is not None and document.state is ExperimentState.RUNNING
        if document is not None and running and stage and (not stage.startswith("round") or "attempt" in stage):
            # Numbers are those of the last round: a stage's line repeats none of them.
            words = [progress.name, stage, document.waits_for, document.reason or ""]
        else:
            numbers = [f"{name} {values[-1]:.4f}" for name, values in progress.course() if values]
            words = [replace(progress, stage="").headline(), *numbers]
        line = escape_hidden(" · ".join(text for text in [*words, progress.notice] if text))
        for text in (line, *progress.remarks()):
            if text not in self._said:
                self._console.print(Text(text), soft_wrap=True)
                self._said.add(text)


class NotebookScreen:
    """An HTML table under the cell, replaced as the experiment continues; no widget and no JavaScript."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._shown: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, progress: Progress) -> None:
        """Replace the table."""
        plain = "\n".join([progress.headline(), *progress.remarks()])
        data = {"text/html": progress.html(), "text/plain": plain}
        if self._shown is None:
            self._shown = self._display.display(data, raw=True, display_id=True)
        else:
            self._shown.update(data, raw=True)


def drawn(progress: Progress) -> Group:
    """Progress for a terminal."""
    headers, rows = progress.table()
    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row), style="bold" if row[0] == "all sites" else "")
    parts: list[Any] = [Text(progress.headline(), style="bold cyan"), table]
    parts += [Text(f"{name} {sparkline(values)} {values[-1]:.4f}") for name, values in progress.course()]
    parts += [Text(escape_hidden(one), style="yellow") for one in (*progress.remarks(), progress.notice) if one]
    return Group(*parts)


def choose_screen() -> Display:
    """The display for the place where this process runs."""
    if in_notebook():
        return NotebookScreen(importlib.import_module("IPython.display"))
    return TerminalScreen() if sys.stdout.isatty() else LogScreen()


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    # A kernel has loaded ipykernel before any cell runs; outside of one nothing of IPython is imported.
    return "ipykernel" in sys.modules
