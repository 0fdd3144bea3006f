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
    """Who is in the dataset, or in any, without those who are left out; each is looked at again.

    A dataset that cannot be looked at now has nobody. Raises Cancelled when ``watch`` stops it.
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
    """The ids that somebody who typed ``asked`` may have meant, the likeliest first.

    Ids that are the same but for zeros, signs between and large letters are all there is to say where there are any.

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
