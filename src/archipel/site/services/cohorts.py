"""Cohorts as a person freezes and compares them: patients on the opt-out list are withdrawn before any scan."""

from __future__ import annotations

from functools import partial

from archipel.data import CohortDifference, Preprocessing
from archipel.site.approval import few_measure
from archipel.site.cohorts import Frozen, Version, cohort_versions, split_assignment
from archipel.site.datasets import Dataset
from archipel.site.state import StateFolder
from archipel.site.withdrawals import take_opt_outs
from archipel.vocabulary import UNWATCHED, Actor, Watch


class FrozenVersion(Version):
    """A version as freezing left it. ``is_new``: it was not there before; ``warnings`` are for the person to weigh."""

    is_new: bool
    warnings: tuple[str, ...]


def freeze(
    site: StateFolder,
    entry: Dataset,
    *,
    fraction: float | None = None,
    pseudonymise: bool | None = None,
    recipe: Preprocessing | None = None,
    watch: Watch = UNWATCHED,
) -> Frozen:
    """What a dataset holds now, without those who opted out, as a cohort that is not kept yet.

    Raises as ``cohort_versions.freeze`` does.
    """
    return cohort_versions.freeze(
        site,
        entry,
        partial(take_opt_outs, site),
        fraction=fraction,
        pseudonymise=pseudonymise,
        recipe=recipe,
        watch=watch,
    )


def freeze_version(
    site: StateFolder,
    dataset: str,
    *,
    by: Actor,
    name: str = "",
    fraction: float | None = None,
    pseudonymise: bool | None = None,
    recipe: Preprocessing | None = None,
    watch: Watch = UNWATCHED,
) -> FrozenVersion:
    """Freeze a dataset and keep it as a version. Raises as ``cohort_versions.freeze_version`` does."""
    version, is_new = cohort_versions.freeze_version(
        site,
        dataset,
        partial(take_opt_outs, site),
        by=by,
        name=name,
        fraction=fraction,
        pseudonymise=pseudonymise,
        recipe=recipe,
        watch=watch,
    )
    warnings = few_measure(version.validation, site.settings.policy.minimum_cell)
    warnings += split_assignment.changed(
        site.database,
        site.cohort_key,
        cohort_versions.stored(site.database, site.cohort_key, dataset, version.version).cohort,
    )
    return FrozenVersion(**dict(version), is_new=is_new, warnings=tuple(warnings))


def compare(
    site: StateFolder, dataset: str, before: int, after: int | None, *, watch: Watch = UNWATCHED
) -> CohortDifference:
    """The difference between two versions, or between a version and the folder as it is now. Raises as
    ``cohort_versions.compare`` does.
    """
    return cohort_versions.compare(site, dataset, before, after, partial(take_opt_outs, site), watch)
