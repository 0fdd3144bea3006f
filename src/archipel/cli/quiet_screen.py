"""The display of a command that was given ``--json``: it shows nothing, because standard output is for the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archipel.researcher.display import LogScreen


def quiet() -> LogScreen:
    """A display that prints nowhere."""
    import io

    from rich.console import Console

    from archipel.researcher.display import LogScreen

    return LogScreen(Console(file=io.StringIO()))
