"""The subjects that are in the datasets here now, among whom a mistyped id may mean one."""

from __future__ import annotations

from archipel.site.datasets import catalog
from archipel.site.state import StateFolder
from archipel.site.withdrawn import EVERYWHERE, TakeOptOuts
from archipel.vocabulary import UNWATCHED, ArchipelError, Watch


def subjects_there(
    site: StateFolder, take_opt_outs: TakeOptOuts, dataset: str = EVERYWHERE, watch: Watch = UNWATCHED
) -> set[str]:
    """The subjects of the dataset, or of every dataset, without those who are left out; each dataset is scanned again.

    Subjects with faulty files are among them.
    A dataset that cannot be scanned now counts as empty. Raises Cancelled when ``watch`` stops it.
    """
    subjects: set[str] = set()
    for entry in catalog.datasets(site.database):
        if dataset not in (EVERYWHERE, entry.name):
            continue
        try:
            found = catalog.scanned(site, entry, take_opt_outs, watch)
        except (ArchipelError, OSError):
            continue
        subjects.update(catalog.subjects_of(found))
        subjects.update(problem.subject for problem in found.problems if problem.subject)
    return subjects
