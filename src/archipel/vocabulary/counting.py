"""Numbers of things as people say them: one subject, two subjects."""

from __future__ import annotations


def counted(number: int, thing: str, several: str = "") -> str:
    """The number with its thing; ``several`` where the plural is not made by an s.

    >>> counted(1, "subject"), counted(3, "subject"), counted(2, "entry", "entries")
    ('1 subject', '3 subjects', '2 entries')
    """
    return f"{number:,} {thing if number == 1 else several or f'{thing}s'}"
