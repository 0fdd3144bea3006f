"""Serials and ids by their first characters: what a table shows of them is enough to name one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, select

from archipel.vocabulary import Conflict, NotFound

SHORTEST = 4
"""Fewer characters are no name: one of them fits what it was not meant for too easily."""
_NAMED = 5


def whole(connection: Connection, column: Column[Any], text: str, thing: str, listed: str) -> str:
    """The one value of a column that starts with ``text``, or is it.

    ``thing`` is what it is called, ``listed`` the command that lists them. Raises NotFound when there is none or
    ``text`` is shorter than four characters, and Conflict, naming some, when there are several.
    """
    text = text.strip().lower()
    query = select(column).where(column.startswith(text, autoescape=True)).order_by(column).limit(_NAMED)
    found = list(connection.scalars(query)) if len(text) >= SHORTEST else []
    if text in found or len(found) == 1:
        return text if text in found else str(found[0])
    if found:
        several = f"may be {', '.join(found)}" + (" or others" if len(found) == _NAMED else "")
        raise Conflict(f"{thing} {text}", several, "give more of its characters")
    remedy = f"list them with `{listed}`; the first {SHORTEST} characters or more name one"
    raise NotFound(f"{thing} {text}", "does not exist", remedy)
