"""Texts on a terminal that show what is whose: a line that is too long is wrapped into rows that begin as it does.

A terminal would begin such a row at its left edge, where it could pass for a line of another kind: for a heading, for
an answer, or for a line of code.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from archipel.vocabulary.visible import BAR

_POINT = "- "


class Lines:
    """Lines of an answer, ``indent`` columns from the left: of a quotation each row has its bar, and of a point in a
    list each row is further in.
    """

    def __init__(self, text: str, indent: int = 0) -> None:
        self._lines, self._indent = text.split("\n"), " " * indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            first = next((sign for sign in (BAR, _POINT) if line.startswith(sign)), "")
            rest = BAR if first == BAR else " " * len(first)
            beginnings = self._indent + first, self._indent + rest
            yield from _rows(console, options.max_width, line.removeprefix(first), *beginnings)


class NumberedLines:
    """Lines of a file, each with its number from 1; the further rows of a long line have none."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = len(str(len(self._lines)))
        for number, line in enumerate(self._lines, start=1):
            yield from _rows(console, options.max_width, line, f"{number:>{width + 2}} ", " " * (width + 3))


def _rows(console: Console, width: int, line: str, first: str, rest: str) -> Iterator[Text]:
    for place, row in enumerate(Text(line).wrap(console, max(width - len(first), 1), overflow="fold")):
        yield Text(rest if place else first).append_text(row)
