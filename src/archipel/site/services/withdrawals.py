"""Withdrawals as a person asks for them: who was named, whom no dataset here knows, and whom they may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from archipel.data import meant
from archipel.site.cohorts import cohort_versions
from archipel.site.services import datasets
from archipel.site.state import StateFolder
from archipel.site.withdrawals import ReducedCohort, UnreadableCohort, withdrawals
from archipel.site.withdrawn import EVERYWHERE, AlsoThere, OptOut, opt_outs, register, spellings
from archipel.vocabulary import UNWATCHED, Actor, BadInput, Cancelled, Record, Thing, Watch


class UnknownSubject(Record):
    """A typed id that no dataset here ever had, and similar ids."""

    subject: str
    suggestions: tuple[str, ...]


class WithdrawalReport(Record):
    """What a withdrawal changed.

    ``asked``: how many patients were named; ``patients``: how many of them were not withdrawn before. ``mistyped`` are
    typed ids, and ``unknown_listed`` counts those of a list, whom no dataset here knows: they are kept for later.
    ``unreadable`` are versions that were changed by hand: no task runs on them. ``also_there`` are other ids in the
    datasets and in their frozen versions that may be a patient's, and are not withdrawn. ``search_was_stopped``: the
    search for similar and other ids was stopped, so some may lack.
    """

    asked: int
    patients: int
    datasets: tuple[str, ...]
    cohorts: tuple[ReducedCohort, ...]
    unreadable: tuple[UnreadableCohort, ...]
    mistyped: tuple[UnknownSubject, ...]
    unknown_listed: int
    also_there: tuple[AlsoThere, ...] = ()
    search_was_stopped: bool = False


def read_list(path: Path) -> tuple[OptOut, ...]:
    """The patients that an opt-out list names. Raises BadInput where there is no such file or a line is not valid."""
    try:
        return tuple(line.opt_out for line in opt_outs.read(path))
    except FileNotFoundError as error:
        raise BadInput(Thing.file(path), "does not exist", "give the path of the opt-out list") from error


def withdraw(
    site: StateFolder,
    typed: Sequence[str],
    *,
    by: Actor,
    listed: Sequence[OptOut] = (),
    dataset: str = EVERYWHERE,
    reason: str = "",
    watch: Watch = UNWATCHED,
) -> WithdrawalReport:
    """Take patients out from now on: ``typed`` ids of ``dataset``, "" being every one, and those of an opt-out list.

    If no dataset knows a typed id, the datasets are scanned again for similar ids. Raises BadInput when no patient is
    named, Cancelled when ``watch`` stops it before the withdrawal, and as ``withdrawals.withdraw`` does. A later stop
    ends only the scan: the named patients are withdrawn, and the report says so.
    """
    named = [OptOut(subject, dataset) for subject in typed]
    asked = list(dict.fromkeys([*listed, *named]))
    if not asked:
        raise BadInput("withdrawal", "names no subject", "name subjects, or a list with --file")
    watch.check()
    done = withdrawals.withdraw(site, asked, by=by, reason=reason)
    there: set[str] = set()
    also: tuple[AlsoThere, ...] = ()
    search_was_stopped = False
    try:
        also = spellings.also_there(site, asked, _ids_beside(site, watch))
        if register.unknown_subjects(site.database, site.cohort_key, named):
            there = datasets.subjects_there(site, dataset, watch=watch)
    except Cancelled:
        # The withdrawal is done, and its report must not be lost with the suggestions.
        search_was_stopped = True
    mistyped = _mistyped(site, named, there)
    unknown = register.unknown_subjects(site.database, site.cohort_key, asked)
    return WithdrawalReport(
        asked=len(asked),
        patients=done.patients,
        datasets=done.datasets,
        cohorts=done.cohorts,
        unreadable=done.unreadable,
        mistyped=tuple(mistyped.values()),
        unknown_listed=len(unknown - mistyped.keys()),
        also_there=also,
        search_was_stopped=search_was_stopped,
    )


def reinstate(site: StateFolder, subject: str, *, by: Actor, dataset: str = EVERYWHERE) -> None:
    """Undo a mistaken withdrawal. Raises as ``withdrawals.reinstate`` does."""
    withdrawals.reinstate(site, OptOut(subject, dataset), by=by)


def _ids_beside(site: StateFolder, watch: Watch) -> dict[str, Iterable[str]]:
    """Ids that are not noted as members: of frozen versions, from which a file may be gone and what was prepared is
    not, and of datasets that an older version of Archipel scanned. Raises Cancelled."""
    ids: dict[str, list[Iterable[str]]] = defaultdict(list)
    for name in spellings.without_ids(site):
        ids[name].append(datasets.subjects_there(site, name, watch=watch))
    for name, subjects in cohort_versions.frozen_subjects(site.database, watch):
        ids[name].append(subjects)
    return {name: chain.from_iterable(several) for name, several in ids.items()}


def _mistyped(site: StateFolder, named: Sequence[OptOut], there: set[str]) -> dict[OptOut, UnknownSubject]:
    # A patient with faulty files was never counted: only this scan has met them.
    found = sorted(register.unknown_subjects(site.database, site.cohort_key, named))
    return {one: UnknownSubject(subject=one.subject, suggestions=meant(one.subject, there)) for one in found}
