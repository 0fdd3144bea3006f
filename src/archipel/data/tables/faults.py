"""What is wrong with a table, collected line by line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from archipel.data.limits import DATA_LIMITS
from archipel.data.samples import DataIssue
from archipel.data.tables.text_tables import Row
from archipel.vocabulary.counting import pluralise

_LISTED = 20
"""So many faulty lines of one kind are listed; the others are counted."""
_KINDS = DATA_LIMITS.findings
"""So many kinds of faulty lines are told apart: most name what the line holds."""
_OTHER = "are faulty in other ways"
_ROUNDED = re.compile(r"\d+([.,]\d+)?[eE]\+?\d+")


class Faults:
    """What is wrong with a table; of a fault that many lines have, only the first are listed."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[DataIssue] = []
        self._lines: Counter[tuple[str, str, str]] = Counter()

    @property
    def errors(self) -> bool:
        """Whether anything is an error."""
        return any(problem.severity == "error" for problem in self._found)

    def add(self, thing: str, cause: str, remedy: str, subject: str = "", severity: str = "error") -> None:
        """Add what is wrong with the table as a whole, or with one thing in it."""
        self._found.append(DataIssue(thing=thing, cause=cause, remedy=remedy, subject=subject, severity=severity))

    def add_spoiling(self, thing: str, cause: str, remedy: str) -> None:
        """Add an error after which no row of the table is to be trusted."""
        self._found.append(DataIssue(thing=thing, cause=cause, remedy=remedy, spoils_all=True))

    def line(self, row: Row, cause: str, remedy: str, subject: str = "", severity: str = "error") -> None:
        """Add what is wrong with a line."""
        if len(self._lines) >= _KINDS and (cause, remedy, severity) not in self._lines:
            cause, remedy = _OTHER, "fix the lines above first, and add it again"
            self._lines[cause, remedy, severity] += 1
            return
        self._lines[cause, remedy, severity] += 1
        if self._lines[cause, remedy, severity] <= _LISTED:
            self.add(f"{self._file} line {row.line}", cause, remedy, subject, severity)

    def no_patient(self, row: Row, reason: str) -> None:
        """Add a row that is not a patient's. It is an error if it says that the columns have other names."""
        if reason == "holds columns' names":
            remedy = f"if the columns' names are in this line: --option header={row.line}"
            self.add_spoiling(f"{self._file} line {row.line}", f"{reason}, other than the first line", remedy)
            return
        remedy = "remove the line, or say that it is a patient's by giving it another id"
        self.line(row, f"{reason}; it is left out", remedy, severity="warning")

    def all(self) -> Iterator[DataIssue]:
        """Everything, and how many lines more each kind of fault has."""
        yield from self._found
        for (cause, remedy, severity), count in self._lines.items():
            unlisted = count if cause == _OTHER else count - _LISTED
            if unlisted > 0:
                thing = f"{self._file}, {unlisted} lines more"
                yield DataIssue(thing=thing, cause=cause, remedy=remedy, severity=severity)


def rounded_ids(subjects: Iterable[str]) -> tuple[str, str] | None:
    """Cause and remedy where ids were rounded by a spreadsheet, as 1.2E+11: several patients may have become one."""
    rounded = [one for one in subjects if ("e" in one or "E" in one) and _ROUNDED.fullmatch(one)]
    if not rounded:
        return None
    cause = f"has {pluralise(len(rounded), 'id')} as {rounded[0]}: a spreadsheet rounded them, and several patients "
    return f"{cause}may be one now", "export the table again with the ids as text"


def ids_as_numbers(subjects: Iterable[str]) -> tuple[str, str] | None:
    """Cause and remedy where ids end in .0: a program read them as numbers, and zeros before them are lost."""
    found = [one for one in subjects if one.endswith(".0") and one[:-2].isdigit()]
    if not found:
        return None
    cause = f"has {pluralise(len(found), 'id')} as {found[0]}: a program read them as numbers"
    remedy = "export the ids as text; zeros before them are lost, and a withdrawal of "
    return cause, f"{remedy}{found[0][:-2]} does not find {found[0]}"
