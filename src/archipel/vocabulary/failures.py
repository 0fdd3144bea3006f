"""What may leave a site when a task fails: a code, a class from a list, a line of the plan, the agent's sentence."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from archipel.vocabulary.errors import ErrorCode
from archipel.vocabulary.plans import PlanPath
from archipel.vocabulary.records import Record

EXCEPTION_CLASSES = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "EOFError",
        "FileNotFoundError",
        "FloatingPointError",
        "ImportError",
        "IndexError",
        "KeyError",
        "MemoryError",
        "ModuleNotFoundError",
        "NameError",
        "NotImplementedError",
        "OSError",
        "OutOfMemoryError",
        "OverflowError",
        "PermissionError",
        "RecursionError",
        "RuntimeError",
        "StopIteration",
        "SyntaxError",
        "SystemExit",
        "TimeoutError",
        "TypeError",
        "UnicodeError",
        "ValueError",
        "ZeroDivisionError",
    }
)
"""Exception classes that are named outside the site; every other class leaves as ``Exception``."""


MOST_LINES = 2**16
"""Lines of a plan's file that a failure can name; a later one leaves unnamed, so that it tells nothing of the data."""


def known_class(name: str) -> str:
    """The class as it is named outside.

    >>> known_class("ValueError"), known_class("Patient7IsIll")
    ('ValueError', 'Exception')
    """
    return name if name in EXCEPTION_CLASSES else "Exception"


class Failure(Record):
    """Why a site's part of a round failed, in the agent's own words; it contains no text of a plan.

    ``sentence`` is one the agent wrote. ``file`` is one of the approved plan's files and ``line`` a line of it, both or
    neither. ``retry`` says whether the same task may succeed later (a lost worker) or not (a plan that raises).
    """

    code: ErrorCode
    sentence: Annotated[str, Field(max_length=1000)]
    exception: Annotated[str, Field(max_length=200), AfterValidator(known_class)] | None = None
    file: PlanPath | None = None
    line: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    retry: bool = False

    @model_validator(mode="after")
    def _line_of_a_file(self) -> Self:
        if (self.file is None) != (self.line is None):
            raise ValueError("a file of the plan and a line of it are named together")
        return self

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file is not None else ""
        what = f" [{self.exception}]" if self.exception else ""
        happened, then, remedy = self.sentence.partition("; ")
        return f"{happened}{what}{where}{then}{remedy}"
