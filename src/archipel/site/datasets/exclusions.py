"""Subjects whose data is not usable: left out of every later scan of a dataset, and kept in what is frozen already.

A patient whose data must not be used is withdrawn instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import insert

from archipel.data import meant, subject_token
from archipel.data.formats import subject_id
from archipel.site.audit import SubjectsExcluded, add_entry
from archipel.site.datasets import catalog, left_out
from archipel.site.state import SiteJournalKind, StateFolder, schema
from archipel.site.withdrawn import TakeOptOuts, register
from archipel.storage import Database, utc_now
from archipel.vocabulary import UNWATCHED, Actor, NotFound, Thing, Watch
from archipel.vocabulary.remedies import CheckDataset


def exclude(
    site: StateFolder,
    name: str,
    subjects: Iterable[str],
    take_opt_outs: TakeOptOuts,
    watch: Watch = UNWATCHED,
    *,
    by: Actor,
) -> catalog.Dataset:
    """Leave subjects out of every later scan of a dataset; it is scanned again without them.

    An id is one subject, however its accents are encoded. Raises NotFound for a dataset or subject that is not there,
    Cancelled when ``watch`` stops the first scan; no subject is left out then.
    """
    entry, asked = catalog.dataset(site.database, name), sorted({subject_id(one) for one in subjects})
    everything = catalog.scanned(site, entry, take_opt_outs, watch)
    known = {*catalog.subjects_of(everything), *(problem.subject for problem in everything.problems)}
    there = {subject_id(one) for one in known}
    for subject in asked:
        if subject not in there:
            like = meant(subject, there)
            raise NotFound(
                Thing("subject", subject),
                f"is not in dataset {name}",
                f"{'did you mean ' + ' or '.join(like) + '? ' if like else ''}see archipel site dataset check {name}",
                values={"dataset": name},
                command=CheckDataset(dataset=name),
            )
    with site.database.write() as connection:
        tokens = tuple(subject_token(subject, site.cohort_key) for subject in asked)
        body = SubjectsExcluded(name=name, subjects=tokens, by=by.journal_name)
        add_entry(connection, SiteJournalKind.SUBJECTS_EXCLUDED, body)
        row = {"dataset": name, "excluded_at": utc_now()}
        connection.execute(insert(schema.exclusions), [row | {"subject": subject} for subject in asked])
    # They are left out from here on, so this scan shows its progress and cannot be stopped.
    catalog.check(site, name, take_opt_outs, Watch(watch.show))
    return catalog.dataset(site.database, name)


def excluded(database: Database, name: str) -> list[str]:
    """The subjects who are left out of a dataset, in order; not those who withdrew since."""
    with database.read() as connection:
        out = register.tokens_out_of(connection, name)
        return [one for one in left_out.excluded_from(connection, name) if one not in out]
