"""Subjects' ids that differ only in how they are written: they may be one patient, who would train and validate."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection

import numpy as np

from archipel.data.samples import DataIssue

_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_POINT_ZERO = re.compile(r"(?<=[0-9])(\.0+)+$")
_SHOWN = 3


def plain_id(subject: str) -> str:
    """An id without what programs change: case, zeros before a number, ``.0`` after it, spaces, the form of accents.

    >>> plain_id("P007"), plain_id("p7.0"), plain_id("Mu\u0308ller") == plain_id("M\u00fcller")
    ('p7', 'p7', True)
    """
    if subject.isascii():
        folded = subject.lower()
        if "0" not in folded:
            return "".join(folded.split())
    else:
        # The order of Unicode's NFKC_Casefold, without the spaces that NFKC makes of accents that stand alone.
        first = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", subject).casefold())
        folded = unicodedata.normalize("NFKC", "".join(first.split()).casefold())
    return _ZEROS.sub("", _POINT_ZERO.sub("", "".join(folded.split())))


def alike(subjects: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of ids that are the same but for case, leading zeros, spaces, Unicode form or ``.0``, each in order.

    Each id is given once. Takes 8 bytes of memory for each besides the ids.
    """
    hashes = np.fromiter((hash(plain_id(one)) for one in subjects), dtype=np.int64, count=len(subjects))
    values, counts = np.unique(hashes, return_counts=True)
    several = set(values[counts > 1].tolist())
    if not several:
        return ()
    groups: dict[str, list[str]] = defaultdict(list)
    for one, hashed in zip(subjects, hashes, strict=True):
        if int(hashed) in several:
            groups[plain_id(one)].append(one)
    return tuple(sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1))


def alike_ids(place: str, subjects: Collection[str]) -> DataIssue | None:
    """One finding about all ids that may be the same patient's; None when there are none. ``place`` names the data."""
    groups = alike(subjects)
    if not groups:
        return None
    shown = "; ".join(map(_shown, groups[:_SHOWN]))
    more = f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    cause = f"{sum(map(len, groups))} subjects' ids differ only in case, zeros, spaces, .0 or accents ({shown}{more})"
    remedy = "if they are the same patients, write each id in one way: a patient under two ids may train and validate"
    return DataIssue(thing=place, cause=cause, remedy=remedy, severity="warning")


def _shown(group: tuple[str, ...]) -> str:
    if len({unicodedata.normalize("NFC", one) for one in group}) == 1:
        return f"{group[0]} in {len(group)} Unicode forms"
    return " and ".join(group[:_SHOWN])
