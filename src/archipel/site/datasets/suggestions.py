"""Whom a mistyped id may mean, among the subjects that are in the datasets here now."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from archipel.site.datasets import catalog
from archipel.site.state import StateFolder
from archipel.site.withdrawn import EVERYWHERE, TakeOptOuts
from archipel.vocabulary import UNWATCHED, ArchipelError, Watch

_ALIKE = 0.75
_MOST = 3


def subjects_there(
    site: StateFolder, take_opt_outs: TakeOptOuts, dataset: str = EVERYWHERE, watch: Watch = UNWATCHED
) -> set[str]:
    """The subjects of the dataset, or of every dataset, without those who are left out; each dataset is scanned again.

    A dataset that cannot be scanned now counts as empty. Raises Cancelled when ``watch`` stops it.
    """
    subjects: set[str] = set()
    for entry in catalog.datasets(site.database):
        if dataset not in (EVERYWHERE, entry.name):
            continue
        try:
            subjects.update(catalog.subjects_of(catalog.scanned(site, entry, take_opt_outs, watch)))
        except (ArchipelError, OSError):
            continue
    return subjects


def alike(asked: str, ids: Iterable[str]) -> tuple[str, ...]:
    """The ids that may be meant by ``asked``, the likeliest first.

    If some ids differ only in zeros, separators and capital letters, only these are returned.

    >>> alike("sub-7", ["sub-06", "sub-007", "sub-70"])
    ('sub-007',)
    >>> alike("p-0O2", ["p-002", "q-914"])
    ('p-002',)
    """
    known = sorted(set(ids))
    same = tuple(one for one in known if _bare(one) == _bare(asked))
    return same[:_MOST] or tuple(difflib.get_close_matches(asked, known, _MOST, _ALIKE))


def _bare(text: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "", text.casefold()))
