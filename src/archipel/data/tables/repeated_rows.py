"""Patients with several rows in a table: a few are named one by one, many are one cause and one line.

Where no column says which visit a row is of, the columns that could are named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from archipel.data.files import Folder, LeavesOut
from archipel.data.samples import DataIssue, sample_name
from archipel.data.tables.table_rows import Key, PatientTable
from archipel.data.tables.text_tables import Row
from archipel.vocabulary import Record

_FEW = 5
_LOOKED_AT = 10_000
"""Rows that are searched for columns that distinguish visits; more would take memory without other results."""
_OF_A_VISIT = re.compile(r"session|visit|scan|exam|study|mri|date|day|time|wave", re.IGNORECASE)


class RepeatedFacts(Record):
    """Keys that more than one row has: subject, session and lines; and the columns that distinguish such rows."""

    rows: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    visits: tuple[str, ...] = ()


class RepeatedRows:
    """Collects the lines of keys that more than one row has, and which columns distinguish these rows; nothing of
    subjects whom ``leaves_out`` names. ``of_nobody`` are the numbers of rows that are not a patient's."""

    def __init__(self, table: PatientTable, leaves_out: LeavesOut) -> None:
        self._lines: dict[Key, list[int]] = {}
        self._looked = 0
        self._held: dict[int, set[tuple[str, str]]] = {at: set() for at, _, _ in table.columns.values}
        self._names = dict(enumerate(table.file.names))
        self.of_nobody: set[int] = set()
        seen: set[Key] = set()
        for number, row in table.every_row():
            if table.kinds.reason(row):
                self.of_nobody.add(number)
            elif table.fits(row):
                key = table.key(row, number)
                if key in seen and key[0] and not leaves_out(key[0]):
                    self._lines[key] = []
                seen.add(key)

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def keys(self) -> Collection[Key]:
        """The keys that more than one row has."""
        return self._lines.keys()

    def took(self, key: Key, row: Row) -> bool:
        """Whether the row is one of several."""
        if key not in self._lines:
            return False
        self._lines[key].append(row.line)
        self._looked += 1
        for at, seen in list(self._held.items()) if self._looked <= _LOOKED_AT else ():
            field = key[0], row.fields[at].strip()
            if not field[1] or field in seen:
                del self._held[at]
            else:
                seen.add(field)
        return True

    def facts(self) -> RepeatedFacts:
        """What was collected; columns with a visit in their name come first."""
        names = sorted((self._names[at] for at in self._held), key=lambda name: not _OF_A_VISIT.search(name))
        rows = tuple((*key, tuple(lines)) for key, lines in self._lines.items())
        return RepeatedFacts(rows=rows, visits=tuple(names))


def repeated(place: str, facts: RepeatedFacts, folder: Folder, sound: Collection[str]) -> list[DataIssue]:
    """What is wrong with repeated rows of those who are not left out; ``sound`` are the subjects of the other rows."""
    several = [one for one in facts.rows if not folder.leaves_out(one[0])]
    if len(several) <= _FEW:
        return [_one(place, *one) for one in several]
    if any(session for _, session, _ in several):
        names = ", ".join(sample_name(subject, session) for subject, session, _ in several[:_FEW])
        cause = f"has several rows of {len(several)} visits ({names}, ...)"
        return [DataIssue(thing=place, cause=cause, remedy="keep one row of each")]
    everybody = {subject for subject, _, _ in several} | set(sound)
    cause = f"{len(several)} of {len(everybody)} patients have several rows"
    return [DataIssue(thing=place, cause=cause, remedy=_told_apart(facts.visits))]


def _told_apart(visits: Sequence[str]) -> str:
    if not visits:
        return "keep one row of each patient"
    first, *others = visits[:_FEW]
    option = f'"session={first}"' if " " in first else f"session={first}"
    also = f" (or {', '.join(others)})" if others else ""
    return f"if these are visits, name the column that distinguishes them: --option {option}{also}"


def _one(place: str, subject: str, session: str, lines: Sequence[int]) -> DataIssue:
    where = ", ".join(map(str, lines[:_FEW])) + (", ..." if len(lines) > _FEW else "")
    remedy = "keep one of the rows" + (
        ", or name the column of the visit with --option session=COLUMN" if not session else ""
    )
    cause = f"is there {len(lines)} times (lines {where})"
    return DataIssue(thing=f"{place}: {sample_name(subject, session)}", cause=cause, remedy=remedy, subject=subject)
