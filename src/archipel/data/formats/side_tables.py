"""Side tables: what is known of subjects beside their volumes, from ``demographics.csv`` or ``participants.tsv``.

A row that is not sound is left out and named; a table with faults costs values, never volumes. Columns that name a
person or tell a birthday are not taken.
"""

from __future__ import annotations

import glob
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archipel.data.files import Folder
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.samples import Problem
from archipel.data.table_files import Row, open_table
from archipel.vocabulary import BadInput, ErrorCode, Value

MISSING = frozenset(("", "-", "n/a", "na", "nan", "none", "null", "unknown", "?"))
"""What stands for no value, in any case of letters."""
IDENTIFYING = frozenset(
    (
        *("name", "first_name", "last_name", "firstname", "lastname", "surname", "full_name", "patient_name"),
        *("date_of_birth", "birth_date", "birthdate", "birthday", "dob", "address", "email", "phone", "ssn"),
    )
)
_HEADER_BYTES = 1 << 20
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,15})")


@dataclass(frozen=True)
class SideTable:
    """Values by the text that names a subject in the table, and by the column that does."""

    place: str
    key: str = ""
    rows: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


def side_table(
    folder: Folder, place: str, found: FoundVolumes, *, key: str = "", delimiter: str = "", what: str = "subject"
) -> SideTable | None:
    """The table at this place; None, said as a warning, when there is none or it cannot be read.

    ``key`` is the column with the ids, the first one when it is not said.
    """
    # A place, not a pattern, whatever letters it has.
    present = list(folder.files(glob.escape(place), found.problems))
    if not present:
        return None
    looked = folder.look(place, f"side-table/1 {delimiter!r} {key}", lambda path: _examine(path, key, delimiter, what))
    if looked.problem is not None:
        found.warn(looked.problem)
        return None
    for cause, remedy in looked.facts["remarks"]:
        found.warn(Problem(thing=place, cause=cause, remedy=remedy))
    return SideTable(place, looked.facts["key"], looked.facts["rows"])


def compare(found: FoundVolumes, table: SideTable, subjects: Sequence[str]) -> None:
    """Warn of subjects without a row and of rows without a subject."""
    for subject in sorted(set(subjects) - set(table.rows)):
        cause = f"has no row in {table.place}"
        found.warn(Problem(thing=subject, cause=cause, remedy="add the row, or do without its values"), subject)
    for subject in sorted(set(table.rows) - set(subjects)):
        cause = f"has a row in {table.place} and no folder with volumes"
        found.warn(Problem(thing=subject, cause=cause, remedy="add the volumes or remove the row"), subject)


def _examine(path: Path, key: str, delimiter: str, what: str) -> dict[str, Any]:
    remarks: list[tuple[str, str]] = []
    header = path.open("rb").readline(_HEADER_BYTES).strip()
    if delimiter and header and delimiter.encode() not in header:
        # A participants.tsv may hold nothing but the ids.
        names: tuple[str, ...] = (header.decode("utf-8-sig", "replace"),)
        lines: list[Row] = []
    else:
        table = open_table(path, delimiter=delimiter)
        names, lines = table.names, list(table.rows())
        remarks += table.notes
    column = key or names[0]
    if column not in names:
        cause = f"has no column {column} (it has {', '.join(names)[:200]})"
        raise BadInput(path.name, cause, "name the column with the ids", code=ErrorCode.BAD_DATA)
    at = names.index(column)
    texts: dict[str, list[str]] = {}
    times: Counter[str] = Counter()
    for line, fields in lines:
        if len(fields) != len(names):
            cause = f"line {line} has {len(fields)} fields, the header {len(names)}; the row is left out"
            remarks.append((cause, "mend the line"))
            continue
        subject = subject_id(fields[at].strip())
        if not subject:
            remarks.append((f"line {line} names no {what}; the row is left out", "fill in the id"))
            continue
        times[subject] += 1
        texts[subject] = [one.strip() for one in fields]
    for subject in sorted(one for one, count in times.items() if count > 1):
        remarks.append((f"{subject} has {times[subject]} rows; none is used", "keep one of them"))
        del texts[subject]
    personal = [name for name in names if name.strip().lower().replace(" ", "_") in IDENTIFYING]
    if personal:
        cause = f"has columns that may name a person ({', '.join(personal)}); they are not taken"
        remarks.append((cause, "remove them from the file"))
    rows: dict[str, dict[str, Value]] = {subject: {} for subject in sorted(texts)}
    for place, name in enumerate(names):
        if place == at or name in personal:
            continue
        stored = {subject: fields[place] for subject, fields in texts.items() if fields[place].lower() not in MISSING}
        for subject, value in _typed(stored).items():
            rows[subject][name] = value
    return {"key": column, "rows": rows, "remarks": remarks}


def _typed(texts: Mapping[str, str]) -> Mapping[str, Value]:
    """Whole numbers, numbers or texts: what all of a column's values are. Ids with zeros before them stay texts."""
    if all(_WHOLE.fullmatch(text) for text in texts.values()):
        return {one: int(text) for one, text in texts.items()}
    try:
        numbers = {one: float(text) for one, text in texts.items()}
    except ValueError:
        return dict(texts)
    padded = any(re.match(r"-?0[0-9]", text) for text in texts.values())
    return dict(texts) if padded or not all(map(math.isfinite, numbers.values())) else numbers
