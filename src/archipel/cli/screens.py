"""The terminal as a command's output sees it. What reads a pipe or a file gets each line whole."""

from __future__ import annotations

import os
from typing import TextIO

from rich.console import Console

_NO_TERMINAL_COLUMNS = 10_000
"""Wider than any line: rich would break lines and hashes at 80 columns where there is no terminal."""


def screen_for(file: TextIO | None = None, *, markup: bool = True) -> Console:
    """A console on standard output or ``file``, as wide as its terminal, or as COLUMNS says; else without a width.

    Numbers are not coloured. Without ``markup`` square brackets are text.
    """
    console = Console(file=file, highlight=False, markup=markup)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_TERMINAL_COLUMNS
    return console
