"""Rows as people read them in a terminal and programs read them in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from archipel.cli.times import readable
from archipel.vocabulary.visible import escape_hidden, quote_lines

_WHOLE = {"id", "serial"}
"""Columns whose values are names: never broken over lines."""


def show(title: str, rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print rows of the same columns as a table, or as a JSON list for programs."""
    if as_json:
        print(json.dumps(list(rows)))
        return
    from rich.table import Table
    from rich.text import Text

    from archipel.cli.screens import screen_for

    if not rows:
        print(f"{title}: none")
        return
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold", no_wrap=key in _WHOLE)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    screen_for().print(table)


def cell(value: object) -> str:
    """A value in a few words: times without fractions, yes and no, a dash for nothing; nothing hidden in it.

    Only the text of another party has several lines: each has a bar.
    """
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return escape_hidden(" ".join(str(one) for one in value))
    text = readable(str(value))
    return quote_lines(text) if "\n" in text else escape_hidden(text)
