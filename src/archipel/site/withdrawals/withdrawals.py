"""Patients who are not to be used any more: taken out of every dataset, every cohort and every round from now on.

A withdrawal is written down as a keyed token of the patient's id, never the id, and for each cohort that is frozen
already as a signed withdrawal that the site signs. The file ``opt-out.txt`` in the state folder is applied before the
site discloses its datasets, before it scans or freezes, and before each task.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from archipel.data import Sample, Samples, same_form, subject_token
from archipel.site.audit import PatientReinstated, PatientWithdrawn, add_entry
from archipel.site.cohorts import stored_cohorts
from archipel.site.datasets import members
from archipel.site.state import SiteJournalKind, StateFolder, sample_cache, schema, stages
from archipel.site.withdrawals import kept_texts
from archipel.site.withdrawn import (
    EVERYWHERE,
    OPT_OUT,
    OptOut,
    Withdrawal,
    check_subject,
    listed,
    register,
    signed_withdrawals,
)
from archipel.storage import disk_errors_named
from archipel.vocabulary import Actor, Conflict, NotFound, Record, Thing
from archipel.vocabulary.remedies import ListDatasets

_cohorts = schema.cohorts


class ReducedCohort(Record):
    """A frozen cohort that became smaller, and how many subjects remain in it."""

    dataset: str
    version: int
    remaining: int


class UnreadableCohort(Record):
    """A frozen cohort that was changed by hand and cannot be read: no task runs on it."""

    dataset: str
    version: int


class Withdrawn(NamedTuple):
    """What a withdrawal changed: how many patients it named again, whose datasets had them, which cohorts had.

    ``unreadable`` are cohorts that were changed by hand.
    """

    patients: int
    datasets: tuple[str, ...]
    cohorts: tuple[ReducedCohort, ...]
    unreadable: tuple[UnreadableCohort, ...] = ()


def withdraw(site: StateFolder, people: Iterable[OptOut], *, by: Actor, reason: str = "") -> Withdrawn:
    """Take patients out, all in one transaction, and wake the agent; those who are out already change nothing.

    Nothing that was prepared of them stays in the cache or in folders that a killed agent left, nor what a scan found
    in their files, nor a report in the state folder that may show them, nor their ids in errors and logs. Raises
    BadInput for what cannot be a subject's id and NotFound for a dataset that is not in the catalog.
    """
    done, traces = _withdraw(site, people, reason, by)
    if traces is not None:
        try:
            sample_cache.forget(site.prepared, site.settings.cache_mb, traces.gone, traces.kept)
        finally:
            # Also where the cache's disk is full: the same words again would find nobody new and come here no more.
            with disk_errors_named(site.folder):
                _clean_up(site, traces)
    return done


class _Traces(NamedTuple):
    """Who withdrew, the samples of which nothing may stay prepared, and the hashes of those that cohorts still have."""

    people: Sequence[OptOut]
    gone: Sequence[Sample]
    kept: Iterable[str]


def _clean_up(site: StateFolder, traces: _Traces) -> None:
    """Remove what killed agents left, and ids in logs. Raises OSError."""
    stages.sweep(site.folder)
    kept_texts.mask_in_logs(site.logs, site.cohort_key, traces.people)


def _withdraw(
    site: StateFolder, named: Iterable[OptOut], reason: str, by: Actor | None, coming: str = EVERYWHERE
) -> tuple[Withdrawn, _Traces | None]:
    """What changed, and whose samples leave the cache; None when all of them were withdrawn before.

    ``by`` None: the opt-out list names them.
    """
    source = "opt-out list" if by is None else "person"
    person = {} if by is None else {"by": by.journal_name}
    asked = list(dict.fromkeys(named))
    for opt_out in asked:
        check_subject(opt_out.subject)
    tokens = {register.withdrawal(site.cohort_key, opt_out): opt_out for opt_out in asked}
    with site.database.write() as connection:
        _check_datasets(connection, {opt_out.dataset for opt_out in asked} - {coming})
        known = register.known(connection)
        new = [pair for pair in tokens if known.isdisjoint({pair, Withdrawal(EVERYWHERE, pair.token)})]
        if not new:
            return Withdrawn(0, (), ()), None
        for dataset, token in new:
            body = PatientWithdrawn(subject=token, dataset=dataset or "every dataset", source=source, **person)
            add_entry(connection, SiteJournalKind.PATIENT_WITHDRAWN, body)
        forms = {pair: subject_token(same_form(tokens[pair].subject), site.cohort_key) for pair in new}
        register.enter(connection, forms, source=source, reason=reason)
        datasets = members.leave(connection, new)
        seen = members.forget_faulty(connection, [tokens[pair] for pair in new])
        people = [tokens[pair] for pair in new]
        kept_texts.forget(connection, site.cohort_key, people)
        reduced, unreadable, samples, kept = _reduce_cohorts(connection, site, new)
    for name in {*datasets, *seen}:
        shutil.rmtree(site.reports / name, ignore_errors=True)
    return Withdrawn(len({token for _, token in new}), datasets, reduced, unreadable), _Traces(people, samples, kept)


def hide_again(site: StateFolder, dataset: str, subjects: Iterable[str]) -> None:
    """Take the ids of withdrawn patients out of errors and logs once more, which a worker that still had them may have
    written since. Raises OSError."""
    people = [OptOut(subject, dataset) for subject in subjects]
    with site.database.write() as connection:
        kept_texts.forget(connection, site.cohort_key, people)
    kept_texts.mask_in_logs(site.logs, site.cohort_key, people)


def reinstate(site: StateFolder, opt_out: OptOut, *, by: Actor) -> None:
    """Undo a mistaken withdrawal, for cohorts frozen from now on; earlier ones stay without the patient.

    Raises NotFound when the patient is not withdrawn, Conflict while ``opt-out.txt`` still names them.
    """
    token = subject_token(opt_out.subject, site.cohort_key)
    if any(subject_token(one.opt_out.subject, site.cohort_key) == token for one in listed(site.folder)):
        raise Conflict("the patient", f"is named in {OPT_OUT}", "remove the line there first")
    with site.database.write() as connection:
        if not register.strike(connection, Withdrawal(opt_out.dataset, token)):
            raise NotFound("the patient", "is not withdrawn there", "name the dataset that the withdrawal named")
        kept_texts.exclude_again(connection, site.cohort_key, opt_out)
        body = PatientReinstated(subject=token, dataset=opt_out.dataset or "every dataset", by=by.journal_name)
        add_entry(connection, SiteJournalKind.PATIENT_REINSTATED, body)


def take_opt_outs(site: StateFolder, coming: str = EVERYWHERE) -> None:
    """Withdraw the patients of ``opt-out.txt`` who are not withdrawn yet; removing a line reinstates no patient.

    ``coming``: a dataset that is not in the catalog yet, whose lines count already.
    Raises BadInput (code configuration) when the file cannot be read or a line is not valid: nothing runs then.
    """
    asked = [line.opt_out for line in listed(site.folder)]
    if not asked:
        return
    with site.database.read() as connection:
        known = register.known(connection)
        names = set(connection.scalars(select(schema.datasets.c.name)))
    names |= {EVERYWHERE, coming}
    new = [
        one for one in asked if one.dataset in names and known.isdisjoint(register.withdrawals_of(site.cohort_key, one))
    ]
    if not new:
        return
    _, traces = _withdraw(site, new, "", None, coming)
    if traces is not None:
        # The cache may be busy for long and the logs are many, and the agent's loop, which asks before each task, must
        # not wait for them.
        sample_cache.forget_in_background(
            site.prepared, site.settings.cache_mb, traces.gone, traces.kept, lambda: _clean_up(site, traces)
        )


def _check_datasets(connection: Connection, names: set[str]) -> None:
    known = set(connection.scalars(select(schema.datasets.c.name)))
    for name in sorted(names - known - {EVERYWHERE}):
        raise NotFound(
            Thing("dataset", name), "is not in the catalog", "see archipel site dataset list", command=ListDatasets()
        )


def _reduce_cohorts(
    connection: Connection, site: StateFolder, gone: Sequence[Withdrawal]
) -> tuple[tuple[ReducedCohort, ...], tuple[UnreadableCohort, ...], Sequence[Sample], Iterable[str]]:
    """Take them out of every kept cohort: which became smaller, which cannot be read, and the samples that are gone and
    that remain. One that cannot be read keeps nobody in: its samples are not among those that remain prepared."""
    reduced: list[ReducedCohort] = []
    unreadable: list[UnreadableCohort] = []
    samples: list[Sample] = []
    remaining: list[Samples] = []
    query = select(_cohorts.c.hash, _cohorts.c.dataset, _cohorts.c.version).order_by(
        _cohorts.c.dataset, _cohorts.c.version
    )
    for row in connection.execute(query).all():
        tokens = [token for dataset, token in gone if dataset in (EVERYWHERE, row.dataset)]
        try:
            cohort = stored_cohorts.read(connection, row.hash)
        except ValueError:
            unreadable.append(UnreadableCohort(dataset=row.dataset, version=row.version))
            continue
        before = len(signed_withdrawals.of(connection, row.hash))
        left = signed_withdrawals.withdraw_from(connection, site, cohort, row.hash, tokens)
        remaining.append(left.samples)
        if len(signed_withdrawals.of(connection, row.hash)) > before:
            reduced.append(ReducedCohort(dataset=cohort.dataset, version=cohort.version, remaining=len(left.subjects)))
            samples += cohort.samples.of_subjects(frozenset(left.subjects), inside=False)
    return (
        tuple(reduced),
        tuple(unreadable),
        samples,
        (one for several in remaining for one in several.hashes()),
    )
