"""Serials and ids by their first characters: what a table shows of them is enough to name one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, select

from archipel.vocabulary import Conflict, NotFound, Thing
from archipel.vocabulary.remedies import Remedy

SHORTEST = 4
"""Fewer characters are refused: they could too easily match another id than the one that was meant."""
_NAMED = 5


def whole(connection: Connection, column: Column[Any], text: str, thing: str, listing: Remedy) -> str:
    """The one value of a column that starts with ``text``, or is it.

    ``thing`` is what it is called, ``listing`` the command that lists them. Raises NotFound when there is none or
    ``text`` is shorter than four characters, and Conflict, naming some, when there are several.
    """
    text = text.strip().lower()
    query = select(column).where(column.startswith(text, autoescape=True)).order_by(column).limit(_NAMED)
    matches = list(connection.scalars(query)) if len(text) >= SHORTEST else []
    if text in matches or len(matches) == 1:
        return text if text in matches else str(matches[0])
    if matches:
        several = f"may be {', '.join(matches)}" + (" or others" if len(matches) == _NAMED else "")
        raise Conflict(
            Thing(thing, text),
            several,
            "give more of its characters",
            values={"matches": ", ".join(matches)},
            command=listing,
        )
    words = " ".join(("archipel", *(listing.command_line() or ())))
    remedy = f"list them with `{words}`; the first {SHORTEST} characters or more name one"
    raise NotFound(Thing(thing, text), "does not exist", remedy, command=listing)
