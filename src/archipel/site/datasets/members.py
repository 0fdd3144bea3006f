"""Who is in each dataset, by keyed tokens and ids: noted after a scan, and removed when a patient withdraws."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from itertools import islice

import numpy as np
from sqlalchemy import Connection, delete, func, insert, or_, select, update

from archipel.data import digests_of, hex_of, subject_tokens
from archipel.site.state import schema
from archipel.site.withdrawn import EVERYWHERE, OptOut, Withdrawal, register

_MOST_LOOKED_FOR = 20
"""Patients whose ids are searched in the names of files; for more patients, every file counts as one of theirs."""
_AT_ONCE = 10_000
"""Rows that are given to the database in one call."""
_members = schema.members


def note(connection: Connection, cohort_key: bytes, name: str, subjects: Sequence[str]) -> None:
    """Write down who a scan of a dataset found, in place of its former members, in the caller's transaction.

    Patients who withdrew during the scan are taken off its counts at once; nothing that was found of them is kept.
    """
    connection.execute(delete(_members).where(_members.c.dataset == name))
    tokens, places = np.unique(subject_tokens(subjects, cohort_key), return_index=True)
    numbered = zip(hex_of(tokens), places, strict=True)
    rows = ({"dataset": name, "token": token, "subject": subjects[place]} for token, place in numbered)
    while some := list(islice(rows, _AT_ONCE)):
        connection.execute(insert(_members), some)
    out = digests_of(f":{token}" for token in register.tokens_out_of(connection, name))
    leave(connection, [Withdrawal(name, token) for token in hex_of(np.intersect1d(tokens, out))])


def leave(connection: Connection, gone: Sequence[Withdrawal]) -> tuple[str, ...]:
    """Take them off the datasets' counts; the names of the datasets that had any of them."""
    names = set()
    for dataset, token in gone:
        mine = (_members.c.token == token, *((_members.c.dataset == dataset,) if dataset else ()))
        names |= set(connection.scalars(select(_members.c.dataset).where(*mine)))
        connection.execute(delete(_members).where(*mine))
    for name in names:
        there = schema.datasets.c.name == name
        left = connection.scalar(select(func.count()).where(_members.c.dataset == name))
        summary = json.loads(connection.scalar(select(schema.datasets.c.summary).where(there)) or "{}")
        known = json.dumps(summary | {"subjects": left}) if summary else ""
        connection.execute(update(schema.datasets).where(there).values(subjects=left, summary=known))
        # What was found in the files, such as small pictures, cannot be assigned to patients: it is found again.
        connection.execute(delete(schema.files).where(schema.files.c.dataset == name))
    return tuple(sorted(names))


def forget_faulty(connection: Connection, gone: Sequence[OptOut]) -> set[str]:
    """Forget what was found in files of patients who are not members, because their data is faulty or excluded.

    The names of the datasets that may have had such files.
    """
    seen: set[str] = set()
    files, out = schema.files, schema.exclusions
    for dataset in {one.dataset for one in gone}:
        ids = {one.subject for one in gone if one.dataset == dataset}
        spelt = {unicodedata.normalize(form, one) for one in ids for form in ("NFC", "NFD")} | ids
        named = func.max(*(func.instr(files.c.place, one) for one in spelt), 0) > 0
        # A row of a table, or a description that lists files, may name a patient who is not a member.
        rows = func.max(*(func.instr(files.c.facts, one) for one in spelt), 0) > 0
        looked = select(files.c.dataset).distinct()
        looked = looked.where(or_(named, rows)) if len(ids) <= _MOST_LOOKED_FOR else looked
        excluded = select(out.c.dataset, out.c.subject)
        names = set(connection.scalars(looked))
        names |= {row.dataset for row in connection.execute(excluded) if row.subject in spelt}
        seen |= {name for name in names if dataset in (EVERYWHERE, name)}
    if seen:
        connection.execute(delete(files).where(files.c.dataset.in_(seen)))
    return seen
