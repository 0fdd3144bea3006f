"""Cohorts at a site: versions of a dataset, each frozen with everything that makes it what plans see.

Whether a subject trains or validates is decided when it is first frozen. It is stored under a keyed token of the
subject's id and holds in every later version of the same validation fraction, with pseudonyms or without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from archipel.data import (
    Cohort,
    CohortDifference,
    Preprocessing,
    Samples,
    cohort_hash,
    difference,
    pseudonym,
    subject_token,
    subject_tokens,
)
from archipel.data.cohorts import predefined_split, validating
from archipel.governance import SignedWithdrawal
from archipel.site.audit import CohortFrozen, add_entry
from archipel.site.cohorts import proven_cohorts, split_assignment, stored_cohorts, tags
from archipel.site.datasets import catalog
from archipel.site.state import SiteJournalKind, StateFolder, schema
from archipel.site.withdrawn import TakeOptOuts, register, signed_withdrawals
from archipel.storage import Database, utc_now
from archipel.vocabulary import UNWATCHED, Actor, BadInput, Conflict, ErrorCode, Record, Thing, Watch

DEFAULT_FRACTION = 0.2
_rows = schema.cohorts


class Frozen(NamedTuple):
    """A cohort and the dataset as it was when the cohort was frozen; ``scanned``: the dataset was scanned for it."""

    dataset: catalog.Dataset
    cohort: Cohort
    scanned: bool = True


class Version(Record):
    """A kept cohort as people see it listed. ``remaining``: how many subjects are not withdrawn."""

    dataset: str
    version: int
    name: str
    subjects: int
    remaining: int
    training: int
    validation: int
    validation_fraction: float | None
    pseudonyms: bool
    frozen_at: str
    hash: str


class Kept(NamedTuple):
    """A version, and whether it was kept only now."""

    version: Version
    is_new: bool


def freeze(
    site: StateFolder,
    entry: catalog.Dataset,
    take_opt_outs: TakeOptOuts,
    *,
    fraction: float | None = None,
    pseudonymise: bool | None = None,
    recipe: Preprocessing | None = None,
    watch: Watch = UNWATCHED,
) -> Frozen:
    """All usable subjects that the dataset holds now, as a cohort that is not kept yet.

    It is an older version when nothing is new since. A split that the dataset comes with is kept. ``fraction``,
    ``pseudonymise`` and ``recipe`` None are as in the newest version. Raises DatasetProblems when the files have
    become unusable, BadInput for a fraction outside [0, 1) and when no subject is left to train on, Refused when
    one of the three is None and the newest version is not what was frozen, Cancelled when ``watch`` stops it.
    """
    if fraction is not None and not 0 <= fraction < 1:
        raise BadInput(
            Thing("validation fraction", fraction),
            "is not in [0, 1)",
            "give for example 0.2",
            values={"least": 0, "below": 1},
        )
    # Before the scan: two long cohorts are then never in memory together.
    with site.database.read() as connection:
        number = _newest_number(connection, entry.name)
        if fraction is None or pseudonymise is None or recipe is None:
            newest = _newest(connection, site.cohort_key, entry.name)
            fraction = newest.fraction if fraction is None else fraction
            pseudonymise = newest.has_pseudonyms if pseudonymise is None else pseudonymise
            recipe = newest.recipe if recipe is None else recipe
    scan = catalog.usable_scan(site, entry, take_opt_outs, watch=watch)
    samples = Samples.of(scan.samples).sorted()
    subjects, key = samples.subjects, site.cohort_key
    with site.database.read() as connection:
        settled = split_assignment.settled(connection, entry.name, fraction, subject_tokens(subjects, key))
    given = predefined_split(samples)
    before = (given.get(subject) if side is None else side for subject, side in zip(subjects, settled, strict=True))
    held_out = validating(zip(subjects, before, strict=True), fraction)
    if len(held_out) == len(subjects):
        raise BadInput(
            Thing("dataset", entry.name),
            f"has no subject left to train on: all its {len(subjects)} subjects are kept for validation",
            "add subjects, or choose another validation fraction",
            code=ErrorCode.BAD_DATA,
            values={"subjects": len(subjects)},
        )
    cohort = Cohort(
        dataset=entry.name,
        version=number + 1,
        format=entry.format,
        options=entry.options,
        mapping=entry.mapping,
        recipe=recipe,
        samples=samples,
        validation=tuple(sorted(held_out)),
        validation_fraction=fraction,
        pseudonyms={subject: pseudonym(subject, key) for subject in subjects} if pseudonymise else {},
    )
    return Frozen(catalog.brought_up_to_date(entry, scan), _known_version(site.database, site.cohort_key, cohort))


def _known_version(database: Database, cohort_key: bytes, cohort: Cohort) -> Cohort:
    """The cohort under the number of an older version that is the same in everything else, if there is one.

    A version from which a patient was withdrawn is never the same: the withdrawal stays.
    """
    reduced = select(schema.signed_withdrawals.c.cohort_hash)
    query = (
        select(_rows.c.version, _rows.c.hash)
        .where(_rows.c.dataset == cohort.dataset, _rows.c.subjects == len(cohort.subjects))
        .where(_rows.c.hash.not_in(reduced))
        .order_by(_rows.c.version.desc())
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        same = cohort.model_copy(update={"version": row.version})
        if cohort_hash(same, cohort_key) == row.hash:
            return same
    return cohort


def keep(site: StateFolder, connection: Connection, frozen: Frozen, *, by: Actor, name: str = "") -> str:
    """Keep a frozen cohort, its split and the dataset's new counts, in the caller's transaction; the cohort's hash.

    Patients who were withdrawn since it was frozen are signed out of it at once. Raises NotFound when the dataset was
    removed meanwhile, Conflict when another version was frozen meanwhile and as ``version_names.give`` does.
    """
    entry, cohort, scanned = frozen
    hashed = cohort_hash(cohort, site.cohort_key)
    catalog.keep(connection, site.cohort_key, entry, cohort.subjects if scanned else None)
    same, subjects = _rows.c.hash == hashed, len(cohort.subjects)
    if connection.execute(select(_rows.c.hash).where(same)).first():
        connection.execute(update(_rows).where(same).values(subjects=subjects))
    else:
        if cohort.version != _newest_number(connection, cohort.dataset) + 1:
            raise Conflict(
                Thing("dataset", entry.name),
                "was frozen by another person at the same time",
                "check it, then try again",
            )
        body = CohortFrozen(
            dataset=cohort.dataset,
            version=cohort.version,
            cohort_hash=hashed,
            subjects=subjects,
            by=by.journal_name,
        )
        add_entry(connection, SiteJournalKind.COHORT_FROZEN, body)
        values = {"hash": hashed, "dataset": cohort.dataset, "version": cohort.version, "frozen_at": utc_now()}
        connection.execute(insert(_rows).values(**values, subjects=subjects))
        split_assignment.settle(connection, site.cohort_key, cohort)
    stored_cohorts.write(connection, hashed, cohort)
    if name:
        tags.give(connection, cohort.dataset, hashed, name, by=by)
    signed_withdrawals.withdraw_from(
        connection, site, cohort, hashed, register.tokens_out_of(connection, cohort.dataset)
    )
    return hashed


def _newest_number(connection: Connection, dataset: str) -> int:
    """The number of a dataset's newest version, 0 before the first."""
    return connection.scalar(select(func.max(_rows.c.version)).where(_rows.c.dataset == dataset)) or 0


class _Newest(NamedTuple):
    """How the newest version of a dataset was made; before the first, what holds where nothing is asked."""

    fraction: float = DEFAULT_FRACTION
    has_pseudonyms: bool = False
    recipe: Preprocessing = Preprocessing()


def _newest(connection: Connection, cohort_key: bytes, dataset: str) -> _Newest:
    """How the newest version was made. Raises Refused when what is kept of it is not what was frozen: a new version
    would take over settings that nobody approved."""
    query = select(_rows).where(_rows.c.dataset == dataset).order_by(_rows.c.version.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    proven_cohorts.check_none_is_gone(connection, dataset, 0 if row is None else row["version"])
    if row is None:
        return _Newest()
    cohort = proven_cohorts.checked(connection, cohort_key, row)
    return _Newest(_fraction_of(cohort), bool(cohort.pseudonyms), cohort.recipe)


def _fraction_of(cohort: Cohort) -> float:
    return DEFAULT_FRACTION if cohort.validation_fraction is None else cohort.validation_fraction


def freeze_version(
    site: StateFolder,
    dataset: str,
    take_opt_outs: TakeOptOuts,
    *,
    by: Actor,
    name: str = "",
    fraction: float | None = None,
    pseudonymise: bool | None = None,
    recipe: Preprocessing | None = None,
    watch: Watch = UNWATCHED,
) -> Kept:
    """Freeze a dataset and keep it as a version for later approvals. Raises as ``freeze`` and ``keep`` do."""
    entry = catalog.dataset(site.database, dataset)
    frozen = freeze(
        site, entry, take_opt_outs, fraction=fraction, pseudonymise=pseudonymise, recipe=recipe, watch=watch
    )
    watch.check()
    with site.database.write() as connection:
        is_new = frozen.cohort.version > _newest_number(connection, dataset)
        keep(site, connection, frozen, by=by, name=name)
    return Kept(version(site.database, site.cohort_key, dataset, frozen.cohort.version), is_new)


def versions(database: Database, cohort_key: bytes, dataset: str | None = None) -> list[Version]:
    """Every kept cohort, by dataset and version. Raises Refused when one of them is not what was frozen."""
    query = select(_rows).order_by(_rows.c.dataset, _rows.c.version)
    if dataset is not None:
        query = query.where(_rows.c.dataset == dataset)
    with database.read() as connection:
        rows = connection.execute(query).mappings().all()
        return [
            _listed(connection, cohort_key, row, proven_cohorts.checked(connection, cohort_key, row)) for row in rows
        ]


def hashes(database: Database, dataset: str) -> frozenset[str]:
    """The hashes of a dataset's kept cohorts."""
    with database.read() as connection:
        return frozenset(connection.scalars(select(_rows.c.hash).where(_rows.c.dataset == dataset)))


def version(database: Database, cohort_key: bytes, dataset: str, number: int | None = None) -> Version:
    """One version, the newest without a number. Raises NotFound, and Refused when it is not what was frozen."""
    with database.read() as connection:
        row = proven_cohorts.row(connection, dataset, number)
        return _listed(connection, cohort_key, row, proven_cohorts.checked(connection, cohort_key, row))


def stored(database: Database, cohort_key: bytes, dataset: str, number: int | None = None) -> Frozen:
    """A kept cohort as it was frozen, the newest without a number.

    Raises NotFound, and Refused when what is kept is not what was frozen.
    """
    with database.read() as connection:
        cohort = proven_cohorts.checked(connection, cohort_key, proven_cohorts.row(connection, dataset, number))
    return Frozen(catalog.dataset(database, dataset), cohort, scanned=False)


def frozen_subjects(database: Database, watch: Watch = UNWATCHED) -> Iterator[tuple[str, Sequence[str]]]:
    """The dataset and the subjects of every kept cohort that can be read, also of those who withdrew. Raises Cancelled
    when ``watch`` stops it."""
    with database.read() as connection:
        for row in connection.execute(select(_rows.c.hash, _rows.c.dataset).order_by(_rows.c.dataset)).all():
            watch.check()
            try:
                yield row.dataset, stored_cohorts.read(connection, row.hash).subjects
            except ValueError:
                # No task runs on it, and whatever reads it for a person says so.
                continue


def as_it_stands(database: Database, cohort_key: bytes, cohort: Cohort) -> Cohort:
    """A cohort, kept or not, without those who are withdrawn."""
    with database.read() as connection:
        withdrawals = signed_withdrawals.of(connection, cohort_hash(cohort, cohort_key))
        gone = register.tokens_out_of(connection, cohort.dataset)
    left = signed_withdrawals.without_withdrawn(
        cohort, cohort_key, map(SignedWithdrawal.model_validate_json, withdrawals)
    )
    if not gone:
        return left
    return left.without(subject for subject in left.subjects if subject_token(subject, cohort_key) in gone)


def compare(
    site: StateFolder,
    dataset: str,
    before: int,
    after: int | None,
    take_opt_outs: TakeOptOuts,
    watch: Watch = UNWATCHED,
) -> CohortDifference:
    """The difference between two versions or, without ``after``, between a version and the folder as it is now.

    Both are as they stand: nobody who withdrew is named.
    """
    frozen = stored(site.database, site.cohort_key, dataset, before).cohort
    old = as_it_stands(site.database, site.cohort_key, frozen)
    if after is not None:
        other = stored(site.database, site.cohort_key, dataset, after).cohort
        return difference(old, as_it_stands(site.database, site.cohort_key, other))
    fraction, pseudonymise = _fraction_of(frozen), bool(frozen.pseudonyms)
    entry = catalog.dataset(site.database, dataset)
    now = freeze(site, entry, take_opt_outs, fraction=fraction, pseudonymise=pseudonymise, watch=watch)
    return difference(old, now.cohort)


def _listed(connection: Connection, cohort_key: bytes, row: RowMapping, cohort: Cohort) -> Version:
    withdrawals = signed_withdrawals.of(connection, row["hash"])
    left = signed_withdrawals.without_withdrawn(
        cohort, cohort_key, map(SignedWithdrawal.model_validate_json, withdrawals)
    )
    return Version(
        dataset=row["dataset"],
        version=row["version"],
        name=row["name"],
        subjects=len(cohort.subjects),
        remaining=len(left.subjects),
        training=len(left.training),
        validation=len(left.validation or ()),
        validation_fraction=cohort.validation_fraction,
        pseudonyms=bool(cohort.pseudonyms),
        frozen_at=row["frozen_at"],
        hash=row["hash"],
    )
