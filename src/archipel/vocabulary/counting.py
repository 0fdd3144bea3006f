"""Numbers of things as people say them: one subject, two subjects, and a few names of many."""

from __future__ import annotations

from collections.abc import Iterable


def pluralise(number: int, thing: str, several: str = "") -> str:
    """The number with its thing; ``several`` where the plural is not made by an s.

    >>> pluralise(1, "subject"), pluralise(3, "subject"), pluralise(2, "entry", "entries")
    ('1 subject', '3 subjects', '2 entries')
    """
    return f"{number:,} {thing if number == 1 else several or f'{thing}s'}"


def abbreviate(names: Iterable[str], most: int | None = 5) -> str:
    """The first names, and how many more there are; all with ``most`` None.

    >>> abbreviate("abc", 3), abbreviate("abcde", 3)
    ('a, b, c', 'a, b, c and 2 more')
    """
    held = list(names)
    more = 0 if most is None else len(held) - most
    return ", ".join(held[:most]) + (f" and {more} more" if more > 0 else "")
