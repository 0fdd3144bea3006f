"""Whether each subject of a dataset trains or validates, from the first time it is frozen on: by keyed tokens.

An assignment holds for one validation fraction. If it held for all fractions, one job with a large fraction, which a
researcher chooses, would take most of a dataset out of training for good. So a version of another fraction may move
subjects, and freezing or approving it reports how many.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from archipel.data import Cohort, Digests, digests_of, hex_of, subject_tokens
from archipel.site.state import schema
from archipel.storage import Database

_rows = schema.split_assignments
_AT_ONCE = 10_000
"""Rows that are given to the database in one call."""
_NONE = -1


def settled(connection: Connection, dataset: str, fraction: float, tokens: Digests) -> Iterator[bool | None]:
    """Whether each of these subjects validates, None for one that has no assignment."""
    known, validates = _kept(connection, dataset, fraction)
    if not len(known):
        return repeat(None, len(tokens))
    places = np.minimum(np.searchsorted(known, tokens), len(known) - 1)
    sides = np.where(known[places] == tokens, validates[places], _NONE)
    return (None if side == _NONE else bool(side) for side in sides.tolist())


def _kept(connection: Connection, dataset: str, fraction: float) -> tuple[Digests, NDArray[np.int8]]:
    """The tokens that have an assignment, in order, and 1 for each that validates."""
    query = select(_rows.c.token, _rows.c.validates).where(_rows.c.dataset == dataset, _rows.c.fraction == fraction)
    tokens, validates = bytearray(), array("b")
    for row in connection.execute(query.order_by(_rows.c.token)):
        tokens += bytes.fromhex(row.token)
        validates.append(row.validates)
    return np.frombuffer(tokens, "S32"), np.frombuffer(validates, np.int8)


def changed(database: Database, cohort_key: bytes, cohort: Cohort) -> list[str]:
    """Sentences about subjects who moved between training and validation since a version of another fraction."""
    query = (
        select(_rows.c.fraction)
        .distinct()
        .where(_rows.c.dataset == cohort.dataset, _rows.c.fraction != cohort.validation_fraction)
    )
    held_out, subjects = frozenset(cohort.validation or ()), cohort.subjects
    validates = np.fromiter((one in held_out for one in subjects), np.bool_, len(subjects))
    moved = np.zeros(len(subjects), np.bool_)
    with database.read() as connection:
        fractions = list(connection.scalars(query))
        tokens = subject_tokens(subjects, cohort_key) if fractions else digests_of(())
        for fraction in fractions:
            before = settled(connection, cohort.dataset, fraction, tokens)
            now = validates.tolist()
            moved |= np.fromiter(
                (one is not None and one != new for one, new in zip(before, now, strict=True)), np.bool_, len(now)
            )
    train, measure = int(np.sum(moved & ~validates)), int(np.sum(moved & validates))
    warnings = []
    if train:
        who = "1 subject who was" if train == 1 else f"{train} subjects who were"
        warnings.append(f"{who} held out in a version of another validation fraction {_do(train, 'train')} in this one")
    if measure:
        who = "1 subject who trains" if measure == 1 else f"{measure} subjects who train"
        warnings.append(
            f"{who} in a version of another validation fraction {_do(measure, 'measure')} in this one: a model that "
            "was trained on that version has seen them"
        )
    return warnings


def _do(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


def settle(connection: Connection, cohort_key: bytes, cohort: Cohort) -> None:
    """Keep the split of a new cohort, in the caller's transaction; a subject that has an assignment keeps it."""
    if cohort.validation is None or cohort.validation_fraction is None or not cohort.samples:
        return
    held_out = frozenset(cohort.validation)
    subjects = cohort.subjects
    validates = np.fromiter((one in held_out for one in subjects), np.bool_, len(subjects))
    tokens = subject_tokens(subjects, cohort_key)
    # In the order of the table's index: each page of it is then written once.
    order = np.argsort(tokens)
    rows = (
        {"dataset": cohort.dataset, "fraction": cohort.validation_fraction, "token": token, "validates": side}
        for token, side in zip(hex_of(tokens[order]), validates[order].tolist(), strict=True)
    )
    while some := list(islice(rows, _AT_ONCE)):
        connection.execute(insert(_rows).on_conflict_do_nothing(), some)
