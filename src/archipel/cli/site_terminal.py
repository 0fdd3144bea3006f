"""What the commands of ``archipel site`` share: their options, the opened state folder, and printing."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from archipel.cli.screens import screen_for
from archipel.cli.times import readable
from archipel.vocabulary.visible import escape_hidden, escape_hidden_lines

if TYPE_CHECKING:
    from archipel.site.state import StateFolder
    from archipel.vocabulary import Actor, ShowProgress

State = Annotated[
    Path, typer.Option("--state", envvar="ARCHIPEL_SITE_STATE", help="The site's state folder.", show_default=False)
]
Note = Annotated[str, typer.Option("--note", help="The reason, in your own words; the journal records it.")]
Experiment = Annotated[
    str, typer.Argument(help="The experiment's name as `archipel site plans` lists it, or its first characters.")
]


@contextmanager
def opened(state: Path) -> Iterator[StateFolder]:
    """The site kept in this folder, closed at the end of the block.

    The folder's path is made absolute: a sandbox that is given its files has another working folder.
    """
    from archipel.site.state import StateFolder

    site = StateFolder.open(state.resolve())
    # What was imported stays until the end: a scan of many files need not look through it again and again.
    gc.freeze()
    try:
        yield site
    finally:
        site.close()


def person() -> Actor:
    """The person who gave the command: the operating system's account."""
    from archipel.vocabulary import Actor

    return Actor.of_terminal()


class Screen:
    """For people: times in one form, and no markup, so that another party's text stays text."""

    def __init__(self) -> None:
        self._console = screen_for(markup=False)

    def print(self, *objects: RenderableType) -> None:
        """Print them on a line; nothing in a text is hidden."""
        self._console.print(*(escape_hidden_lines(readable(one)) if isinstance(one, str) else one for one in objects))

    def status(self, text: str) -> Status:
        """What is being done, shown while the block runs."""
        return self._console.status(text)

    @contextmanager
    def progress(self, text: str) -> Iterator[ShowProgress]:
        """The same, followed by how far it is."""
        with self.status(text) as status:
            yield lambda progress: status.update(f"{text}: {progress}")


def console() -> Screen:
    """The terminal of the person who gave the command."""
    return Screen()


def print_json(document: object) -> None:
    """Print a document for a program."""
    typer.echo(json.dumps(document, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print these columns of the rows; characters that could hide something are written out."""

    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_hidden(words(row[column]))) for column in columns))
    console().print(table)


def words(value: object) -> str:
    """A JSON value as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " x ".join(words(inner) for inner in value)
    return readable(str(value))
