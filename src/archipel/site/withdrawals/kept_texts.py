"""Texts that a site keeps and that may name a patient: after a withdrawal none of them does."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Connection, select, update

from archipel.data import pseudonym, subject_token
from archipel.data.formats import subject_id
from archipel.site.state import schema
from archipel.site.withdrawn import EVERYWHERE, OptOut

HIDDEN = "(withdrawn)"
_tasks, _exclusions, _datasets = schema.tasks, schema.exclusions, schema.datasets


def forget(connection: Connection, cohort_key: bytes, gone: Sequence[OptOut]) -> None:
    """Take the patients' ids and pseudonyms out of errors, exclusions and what is known of columns."""
    spelt = {form for one in gone for form in _spellings(one.subject)}
    _in_errors(connection, spelt | {pseudonym(one, cohort_key) for one in spelt})
    for one in gone:
        _in_exclusions(connection, cohort_key, one)
    _in_columns(connection, gone)


def mask_in_logs(logs: Path, cohort_key: bytes, gone: Sequence[OptOut]) -> None:
    """Write over the patients' ids and pseudonyms in what plans printed. A log keeps its length, as a worker may be
    writing at its end. Raises OSError."""
    spelt = {form for one in gone for form in _spellings(one.subject)}
    named = _named(one.encode().decode("latin-1") for one in spelt | {pseudonym(one, cohort_key) for one in spelt})
    for path in sorted(logs.glob("*.log*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("r+b") as file:
            # One character a byte, so that places in the text are places in the file.
            content = file.read().decode("latin-1")
            for found in named.finditer(content):
                file.seek(found.start())
                file.write(b"*" * len(found[0]))


def exclude_again(connection: Connection, cohort_key: bytes, back: OptOut) -> None:
    """A patient who is reinstated stays excluded where a person excluded them."""
    mine = (_exclusions.c.subject == subject_token(back.subject, cohort_key), *_of(back.dataset, _exclusions.c.dataset))
    connection.execute(update(_exclusions).where(*mine).values(subject=subject_id(back.subject)))


def _spellings(subject: str) -> set[str]:
    return {subject, *(unicodedata.normalize(form, subject) for form in ("NFC", "NFD"))}


def _named(ids: Iterable[str]) -> re.Pattern[str]:
    """Finds the ids, but not within the letters and numbers of another one."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(map(re.escape, ids), key=len, reverse=True))})(?![^\W_])")


def _of(dataset: str, column: Column[str]) -> tuple[ColumnElement[bool], ...]:
    return () if dataset == EVERYWHERE else (column == dataset,)


def _in_errors(connection: Connection, ids: Iterable[str]) -> None:
    """The full texts of errors quote data, and a person reads them or releases them later."""
    named = _named(ids)
    key = tuple(_tasks.primary_key)
    for row in connection.execute(select(*key, _tasks.c.detail).where(_tasks.c.detail.is_not(None))).all():
        detail = named.sub(HIDDEN, row.detail)
        if detail != row.detail:
            same = [column == row._mapping[column.name] for column in key]
            connection.execute(update(_tasks).where(*same).values(detail=detail))


def _in_exclusions(connection: Connection, cohort_key: bytes, one: OptOut) -> None:
    """Their token takes the id's place: a patient who is reinstated is excluded again."""
    mine = (_exclusions.c.subject.in_(_spellings(one.subject)), *_of(one.dataset, _exclusions.c.dataset))
    token = subject_token(one.subject, cohort_key)
    connection.execute(update(_exclusions).where(*mine).values(subject=token))


def _in_columns(connection: Connection, gone: Sequence[OptOut]) -> None:
    """A column of a small table may repeat the ids, and its values are then categories."""
    for row in connection.execute(select(_datasets.c.name, _datasets.c.summary)).all():
        ids = {form for one in gone if one.dataset in (EVERYWHERE, row.name) for form in _spellings(one.subject)}
        summary = json.loads(row.summary or "{}")
        found = [
            (column["categories"], name)
            for column in summary.get("columns", {}).values()
            for name in column.get("categories", {})
            if name in ids
        ]
        for categories, name in found:
            del categories[name]
        if found:
            connection.execute(
                update(_datasets).where(_datasets.c.name == row.name).values(summary=json.dumps(summary))
            )
