"""Whether each subject of a dataset trains or validates, from the first time it is frozen on: by keyed tokens.

An assignment holds for one validation fraction. If it held for all fractions, one job with a large fraction, which a
researcher chooses, would take most of a dataset out of training for good. So a version of another fraction may move
subjects, and freezing or approving it reports how many.
"""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from archipel.data import Cohort, subject_token
from archipel.site.state import schema
from archipel.storage import Database

_rows = schema.split_assignments


def settled(connection: Connection, dataset: str, fraction: float) -> dict[str, bool]:
    """Whether each subject that has an assignment validates."""
    query = select(_rows.c.token, _rows.c.validates).where(_rows.c.dataset == dataset, _rows.c.fraction == fraction)
    return {row.token: row.validates for row in connection.execute(query)}


def changed(database: Database, cohort_key: bytes, cohort: Cohort) -> list[str]:
    """Sentences about subjects who moved between training and validation since a version of another fraction."""
    query = select(_rows.c.token, _rows.c.validates).where(
        _rows.c.dataset == cohort.dataset, _rows.c.fraction != cohort.validation_fraction
    )
    with database.read() as connection:
        before = {(row.token, row.validates) for row in connection.execute(query)}
    held_out = frozenset(cohort.validation or ())
    tokens = {subject: subject_token(subject, cohort_key) for subject in cohort.subjects}
    train = sum((tokens[one], True) in before for one in cohort.training)
    measure = sum((tokens[one], False) in before for one in held_out)
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
    rows = [
        {
            "dataset": cohort.dataset,
            "fraction": cohort.validation_fraction,
            "token": subject_token(subject, cohort_key),
            "validates": subject in held_out,
        }
        for subject in cohort.subjects
    ]
    connection.execute(insert(_rows).on_conflict_do_nothing(), rows)
