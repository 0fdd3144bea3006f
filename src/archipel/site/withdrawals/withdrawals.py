"""Patients who are not to be used any more: taken out of every dataset, every cohort and every round from now on.

A withdrawal is written down as a keyed token of the patient's id, never the id, and for each cohort that is frozen
already as a subtraction that the site signs. The file ``opt-out.txt`` in the state folder is taken over whenever the
site looks: before it tells of its datasets, before it scans or freezes, and before each task.
"""

from __future__ import annotations

import json
import shutil
import threading
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, true, update

from archipel.data import Cohort, Sample, subject_token
from archipel.site.audit import journal
from archipel.site.state import sample_cache, schema
from archipel.site.state.folder import SiteState
from archipel.site.withdrawals import signed_withdrawals
from archipel.site.withdrawals.opt_outs import EVERYWHERE, OPT_OUT, Optant, check_subject, listed
from archipel.storage import utc_now
from archipel.vocabulary import ArchipelError, Conflict, NotFound

_log = structlog.get_logger("archipel.withdrawals")
_MOST_LOOKED_FOR = 20
"""Patients who are looked for in the names of files; where there are more, all is as if it held one of them."""
_AT_ONCE = 500
"""Tokens in one query."""
_rows, _members, _cohorts = schema.withdrawals, schema.members, schema.cohorts


class NarrowedCohort(NamedTuple):
    """A frozen cohort that became smaller, and how many subjects it has left."""

    dataset: str
    version: int
    left: int


class Withdrawn(NamedTuple):
    """What a withdrawal changed: how many patients it named anew, whose datasets had them, which cohorts had."""

    patients: int
    datasets: tuple[str, ...]
    cohorts: tuple[NarrowedCohort, ...]


def withdraw(site: SiteState, optants: Iterable[Optant], *, reason: str = "") -> Withdrawn:
    """Take patients out, all in one transaction, and wake the agent; those who are out already change nothing.

    Nothing that was prepared of them stays in the cache, nor what a scan found in their files, nor a report in the
    state folder that may show them. Raises BadInput for what cannot be a subject's id and NotFound for a dataset that
    is not in the catalog.
    """
    done, traces = _withdraw(site, optants, reason, "person")
    if traces is not None:
        sample_cache.forget(site, *traces)
    return done


class _Traces(NamedTuple):
    """The samples of which nothing may stay prepared, and the hashes of those that cohorts still have."""

    gone: Sequence[Sample]
    kept: frozenset[str]


def _withdraw(
    site: SiteState, optants: Iterable[Optant], reason: str, source: str, coming: str = EVERYWHERE
) -> tuple[Withdrawn, _Traces | None]:
    """What changed, and whose traces go from the cache; None when nobody is out who was not before."""
    asked = list(dict.fromkeys(optants))
    for one in asked:
        check_subject(one.subject)
    tokens = {_pair(site, one): one for one in asked}
    with site.database.write() as connection:
        _check_datasets(connection, {one.dataset for one in asked} - {coming})
        known = _known(connection)
        new = [pair for pair in tokens if pair not in known and (EVERYWHERE, pair[1]) not in known]
        if not new:
            return Withdrawn(0, (), ()), None
        now = utc_now()
        for dataset, token in new:
            body = {"subject": token, "dataset": dataset or "every dataset", "source": source}
            journal.append(connection, "patient-withdrawn", body)
        row = {"source": source, "reason": reason, "withdrawn_at": now}
        ever = _ever_here(connection, {token for _, token in new})
        rows = [{"dataset": pair[0], "token": pair[1], "known": _matches(pair, ever)} | row for pair in new]
        connection.execute(insert(_rows), rows)
        held = _leave_datasets(connection, new)
        seen = _forget_faulty(connection, [tokens[pair] for pair in new])
        narrowed, traces = _narrow_cohorts(connection, site, new)
    for name in {*held, *seen}:
        shutil.rmtree(site.reports / name, ignore_errors=True)
    site.ring()
    return Withdrawn(len({token for _, token in new}), held, narrowed), traces


def readmit(site: SiteState, optant: Optant) -> None:
    """Undo a mistaken withdrawal, for cohorts frozen from now on; those that were narrowed stay so.

    Raises NotFound when the patient is not withdrawn, Conflict while ``opt-out.txt`` still names them.
    """
    token = subject_token(optant.subject, site.cohort_key)
    if any(subject_token(one.optant.subject, site.cohort_key) == token for one in listed(site)):
        raise Conflict("the patient", f"is named in {OPT_OUT}", "remove the line there first")
    with site.database.write() as connection:
        mine = (_rows.c.token == token, _rows.c.dataset == optant.dataset)
        if connection.execute(delete(_rows).where(*mine)).rowcount == 0:
            raise NotFound("the patient", "is not withdrawn there", "name the dataset as it was named then")
        body = {"subject": token, "dataset": optant.dataset or "every dataset"}
        journal.append(connection, "patient-readmitted", body)


def take_opt_outs(site: SiteState, coming: str = EVERYWHERE) -> None:
    """Withdraw whom ``opt-out.txt`` names and who is not out yet; a line that was removed brings nobody back.

    ``coming``: a dataset that is not in the catalog yet, whose lines count already.
    Raises BadInput (code configuration) when the file cannot be read or a line makes no sense: nothing runs then.
    """
    asked = [line.optant for line in listed(site)]
    if not asked:
        return
    with site.database.read() as connection:
        known = _known(connection)
        names = set(connection.scalars(select(schema.datasets.c.name)))
    names |= {EVERYWHERE, coming}
    new = [one for one in asked if one.dataset in names and known.isdisjoint(_ways_out(site, one))]
    if not new:
        return
    _, traces = _withdraw(site, new, "", "opt-out list", coming)
    if traces is not None:
        # The cache may be at work for long, and the agent's loop, which asks before each task, must not wait for it.
        threading.Thread(target=_forget, args=(site, traces), name="forget-withdrawn").start()


def _forget(site: SiteState, traces: _Traces) -> None:
    try:
        sample_cache.forget(site, *traces)
    except (ArchipelError, OSError) as error:
        _log.error("what was prepared of a withdrawn patient could not be removed", error=str(error))


def _ways_out(site: SiteState, one: Optant) -> set[tuple[str, str]]:
    """The withdrawals by which this patient is out: of the dataset named, or of every one."""
    dataset, token = _pair(site, one)
    return {(dataset, token), (EVERYWHERE, token)}


def _pair(site: SiteState, one: Optant) -> tuple[str, str]:
    return one.dataset, subject_token(one.subject, site.cohort_key)


def unmatched(site: SiteState) -> tuple[int, ...]:
    """The numbers of the lines of ``opt-out.txt`` that name no patient whom a dataset here ever had, as far as known.

    Raises BadInput (code configuration) as ``take_opt_outs`` does.
    """
    lines = listed(site)
    nobody = strangers(site, [line.optant for line in lines])
    return tuple(line.number for line in lines if line.optant in nobody)


def strangers(site: SiteState, optants: Iterable[Optant]) -> set[Optant]:
    """Those of them whom no dataset here ever had, as far as known."""
    pairs = {one: _pair(site, one) for one in optants}
    with site.database.read() as connection:
        ever = _ever_here(connection, {token for _, token in pairs.values()})
    return {one for one, pair in pairs.items() if not _matches(pair, ever)}


def note_known(site: SiteState, dataset: str, tokens: Collection[str]) -> None:
    """Write down that a scan of the dataset met these patients, who are withdrawn from it."""
    if not tokens:
        return
    unknown = (_rows.c.dataset.in_((EVERYWHERE, dataset)), _rows.c.known.is_(False))
    with site.database.read() as connection:
        new = set(connection.scalars(select(_rows.c.token).where(*unknown))).intersection(tokens)
    if new:
        with site.database.write() as connection:
            for token in new:
                connection.execute(update(_rows).where(*unknown, _rows.c.token == token).values(known=True))


def _ever_here(connection: Connection, tokens: Collection[str]) -> dict[str, set[str]]:
    """The datasets that have or had each of these patients, as far as that is written down."""
    found: dict[str, set[str]] = {}
    asked = sorted(tokens)
    for table, written in ((_members, true()), (schema.sides, true()), (_rows, _rows.c.known)):
        for start in range(0, len(asked), _AT_ONCE):
            some = table.c.token.in_(asked[start : start + _AT_ONCE])
            for row in connection.execute(select(table.c.dataset, table.c.token).where(some, written)):
                found.setdefault(row.token, set()).add(row.dataset)
    return found


def _matches(asked: tuple[str, str], ever: Mapping[str, set[str]]) -> bool:
    """Whether whoever is to be out was ever here: in the dataset named, or in any."""
    dataset, token = asked
    there = ever.get(token, set())
    return bool(there) if dataset == EVERYWHERE else not there.isdisjoint({dataset, EVERYWHERE})


def _known(connection: Connection) -> set[tuple[str, str]]:
    return {(row.dataset, row.token) for row in connection.execute(select(_rows.c.dataset, _rows.c.token))}


def out_of(connection: Connection, dataset: str) -> frozenset[tuple[str, str]]:
    """Each who is withdrawn from a dataset, as a token, and since when: who is new in a later answer withdrew since."""
    query = select(_rows.c.token, _rows.c.withdrawn_at).where(_rows.c.dataset.in_((EVERYWHERE, dataset)))
    return frozenset((row.token, row.withdrawn_at) for row in connection.execute(query))


def tokens_out_of(connection: Connection, dataset: str) -> frozenset[str]:
    """The tokens of all who are withdrawn from a dataset."""
    return frozenset(token for token, _ in out_of(connection, dataset))


def _check_datasets(connection: Connection, names: set[str]) -> None:
    known = set(connection.scalars(select(schema.datasets.c.name)))
    for name in sorted(names - known - {EVERYWHERE}):
        raise NotFound(f"dataset {name}", "is not in the catalog", "see archipel site dataset list")


def _leave_datasets(connection: Connection, gone: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Take them off the datasets' counts; the names of the datasets that had any of them."""
    held = set()
    for dataset, token in gone:
        mine = (_members.c.token == token, *((_members.c.dataset == dataset,) if dataset else ()))
        held |= set(connection.scalars(select(_members.c.dataset).where(*mine)))
        connection.execute(delete(_members).where(*mine))
    for name in held:
        there = schema.datasets.c.name == name
        left = connection.scalar(select(func.count()).where(_members.c.dataset == name))
        summary = json.loads(connection.scalar(select(schema.datasets.c.summary).where(there)) or "{}")
        known = json.dumps(summary | {"subjects": left}) if summary else ""
        connection.execute(update(schema.datasets).where(there).values(subjects=left, summary=known))
        # What was found in the files, small pictures among it, cannot be told apart by patient: it is found again.
        connection.execute(delete(schema.files).where(schema.files.c.dataset == name))
    return tuple(sorted(held))


def leave(connection: Connection, dataset: str) -> None:
    """Take those off a dataset's new counts who withdrew while it was looked at; nothing of them stays found."""
    there = set(connection.scalars(select(_members.c.token).where(_members.c.dataset == dataset)))
    _leave_datasets(connection, [(dataset, token) for token in sorted(there & tokens_out_of(connection, dataset))])


def _forget_faulty(connection: Connection, gone: Sequence[Optant]) -> set[str]:
    """Forget what was found in files of patients who are no members, because their data is faulty or excluded.

    The names of the datasets that may have had such files.
    """
    seen: set[str] = set()
    files, out = schema.files, schema.exclusions
    for dataset in {one.dataset for one in gone}:
        ids = {one.subject for one in gone if one.dataset == dataset}
        spelt = {unicodedata.normalize(form, one) for one in ids for form in ("NFC", "NFD")} | ids
        named = func.max(*(func.instr(files.c.place, one) for one in spelt), 0) > 0
        # A row of a table may be of somebody whose images are not here; what was found in it is small enough to look.
        rows = and_(
            files.c.purpose.like("%table%"), func.max(*(func.instr(files.c.facts, one) for one in spelt), 0) > 0
        )
        looked = select(files.c.dataset).distinct()
        looked = looked.where(or_(named, rows)) if len(ids) <= _MOST_LOOKED_FOR else looked
        excluded = select(out.c.dataset, out.c.subject)
        names = set(connection.scalars(looked))
        names |= {row.dataset for row in connection.execute(excluded) if row.subject in spelt}
        seen |= {name for name in names if dataset in (EVERYWHERE, name)}
    if seen:
        connection.execute(delete(files).where(files.c.dataset.in_(seen)))
    return seen


def _narrow_cohorts(
    connection: Connection, site: SiteState, gone: Sequence[tuple[str, str]]
) -> tuple[tuple[NarrowedCohort, ...], _Traces]:
    """Narrow every kept cohort; which became smaller, and what is in them no more and still."""
    found: list[NarrowedCohort] = []
    samples: list[Sample] = []
    hashes: set[str] = set()
    query = select(_cohorts.c.hash, _cohorts.c.dataset, _cohorts.c.body).order_by(
        _cohorts.c.dataset, _cohorts.c.version
    )
    for row in connection.execute(query).all():
        tokens = [token for dataset, token in gone if dataset in (EVERYWHERE, row.dataset)]
        cohort = Cohort.model_validate_json(row.body)
        before = len(signed_withdrawals.of(connection, row.hash))
        left = signed_withdrawals.narrow(connection, site, cohort, row.hash, tokens)
        hashes.update(sample.hash for sample in left.samples)
        if len(signed_withdrawals.of(connection, row.hash)) > before:
            found.append(NarrowedCohort(cohort.dataset, cohort.version, len(left.subjects)))
            kept = set(left.subjects)
            samples += [sample for sample in cohort.samples if sample.subject not in kept]
    return tuple(found), _Traces(samples, frozenset(hashes))
