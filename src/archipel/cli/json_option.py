"""``--json``: the option, and whether the command was given it, for its errors are printed in the same form."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated

import typer

_given = ContextVar("given", default=False)


def note_json(given: bool) -> bool:
    """Remember whether the option was given; the parser calls it, which knows an option from another one's value."""
    _given.set(given)
    return given


def json_was_given() -> bool:
    """Whether the command that was parsed last was given ``--json``."""
    return _given.get()


AsJson = Annotated[bool, typer.Option("--json", callback=note_json, help="Print JSON for programs.")]
