"""The opt-out list: the file ``opt-out.txt`` in a site's folder, in which people write down who is not to be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import TypeAdapter, ValidationError

from archipel.data import Signature, SubjectId, signature_of
from archipel.vocabulary import BadInput, ErrorCode, Thing

OPT_OUT = "opt-out.txt"
"""One line per patient: ``SUBJECT`` for every dataset of the site, or ``DATASET/SUBJECT``; ``#`` begins a remark at the
line's start or after a space, and is part of an id elsewhere."""

EVERYWHERE = ""
_RUNS = 10
_REMARK = re.compile(r"(?:^|\s)#")


class OptOut(NamedTuple):
    """Whose data is not to be used, and of which dataset; "" is every one."""

    subject: str
    dataset: str = EVERYWHERE


class TakeOptOuts(Protocol):
    """Withdraws the patients of the list who are not withdrawn yet, with those for the dataset ``coming``.

    Every function that reads a dataset's files takes it and calls it first. Only the act of withdrawing, which knows
    datasets, can do it. It is ``archipel.site.withdrawals.withdrawals.take_opt_outs`` of the site.
    """

    def __call__(self, coming: str = EVERYWHERE) -> None:
        """Raise BadInput (code configuration) when the list cannot be read: no file is read then."""


class OptOutLine(NamedTuple):
    """A line that names a patient."""

    number: int
    opt_out: OptOut


def listed(folder: Path) -> tuple[OptOutLine, ...]:
    """The lines of the site's list now. Raises BadInput (code configuration) as ``read`` does."""
    path = folder / OPT_OUT
    try:
        return read(path, signature_of(path))
    except FileNotFoundError:
        return ()


@lru_cache(maxsize=4)
def read(path: Path, signature: Signature | None = None) -> tuple[OptOutLine, ...]:
    """The patients that an opt-out list names. The answer is kept while the file's ``signature`` stays the same.

    Raises FileNotFoundError, and BadInput (code configuration) naming a line that is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            Thing.file(path),
            f"cannot be read ({error})",
            "write it as UTF-8 text, readable here",
            code=ErrorCode.CONFIGURATION,
        ) from error
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        words = _REMARK.split(line, maxsplit=1)[0].strip()
        if not words:
            continue
        dataset, slash, subject = words.rpartition("/")
        try:
            check_subject(subject)
            if slash and (not dataset or "/" in dataset):
                raise BadInput(words, "is not a subject", "write SUBJECT or DATASET/SUBJECT")
        except BadInput as error:
            raise BadInput(
                Thing.worded(f"{path.name} line {number}", file=path.name, line=number),
                "names no subject",
                "write SUBJECT or DATASET/SUBJECT",
                code=ErrorCode.CONFIGURATION,
            ) from error
        lines.append(OptOutLine(number, OptOut(subject, dataset)))
    return tuple(lines)


def line_ranges(numbers: Sequence[int]) -> str:
    """Numbers of lines as a person reads them.

    >>> line_ranges([3]), line_ranges([1, 2, 3, 7])
    ('line 3', 'lines 1 to 3, 7')
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    ranges = [f"{first} to {last}" if last > first else str(first) for first, last in runs[:_RUNS]]
    more = sum(last - first + 1 for first, last in runs[_RUNS:])
    return f"line{'s' * (len(numbers) > 1)} {', '.join(ranges)}" + (f" and {more} more" if more else "")


def check_subject(subject: str) -> None:
    """Raise BadInput for a text that cannot be a subject's id."""
    try:
        TypeAdapter(SubjectId).validate_python(subject)
    except ValidationError as error:
        raise BadInput(
            Thing.worded(f"subject {subject!r}", subject=subject),
            "cannot be a subject's id",
            "give it as the dataset names it, without a path",
        ) from error
