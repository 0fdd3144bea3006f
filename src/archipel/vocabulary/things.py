"""What an error is about: the words that a person reads, and the same by name for a program."""

from __future__ import annotations

from os import PathLike
from typing import Self

ErrorValue = str | int | float | bool
"""A named value of an error: a place, a count, a number of seconds; never a list or a document."""


class Thing(str):
    """A thing's text, with its names in ``values``: a string from which an error takes its values.

    >>> Thing("experiment", "brains"), Thing("experiment", "brains").values
    ('experiment brains', {'experiment': 'brains'})
    >>> Thing("join token", "4f2a").values
    {'join_token': '4f2a'}
    >>> model = Thing.worded("model last of brains", model="last", experiment="brains")
    >>> model, model.values
    ('model last of brains', {'model': 'last', 'experiment': 'brains'})
    """

    __slots__ = ("values",)
    values: dict[str, ErrorValue]

    def __new__(cls, kind: str, name: object) -> Self:
        """A thing that is its kind and its name."""
        return cls.worded(f"{kind} {name}", **{kind.replace(" ", "_"): name})

    @classmethod
    def worded(cls, words: str, **values: object) -> Self:
        """A thing of several names, or one whose words are not its kind and its name."""
        thing = super().__new__(cls, words)
        thing.values = {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}
        return thing

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """In another process it is its words: an error there has its values already."""
        return str, (str(self),)

    @classmethod
    def file(cls, path: str | PathLike[str]) -> Self:
        """A file, named by its path."""
        return cls.worded(str(path), file=path)

    @classmethod
    def folder(cls, path: str | PathLike[str]) -> Self:
        """A folder, named by its path."""
        return cls.worded(str(path), folder=path)
