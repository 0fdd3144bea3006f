"""Subject ids: which ids of a dataset may be one patient's, and whom a mistyped or partial id may mean.

Two spellings of one id put a patient on both sides of a split, and leave one of the two in use after a withdrawal.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from archipel.data.samples import DataIssue
from archipel.data.visit_names import without_visits
from archipel.vocabulary.counting import pluralise

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_WHOLE_AS_DECIMAL = re.compile(r"(?<=\d)\.0+$", re.MULTILINE)
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_SEPARATORS = re.compile(r"[\W_]+")
WORDS = frozenset(("sub", "subject", "subj", "patient", "pat", "case"))
"""Words before an id that people leave out or add."""
_SHOWN = 5
_TOGETHER = 4_096
_ALIKE = 0.75
_MOST_MEANT = 5


def canonical(subject: str) -> str:
    """An id without what spreadsheets, file systems and people change in it: capital letters, zeros before a number,
    the Unicode form, kinds of dashes, blanks around it, and a final ``.0``.

    >>> canonical("P-007"), canonical("p-7"), canonical("12.0"), canonical("012")
    ('p-7', 'p-7', '12', '12')
    """
    text = subject.casefold().strip()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_DASHES)
    return _LEADING_ZEROS.sub("", _WHOLE_AS_DECIMAL.sub("", text))


def _canonical_each(ids: Sequence[str]) -> Iterator[str]:
    """The canonical form of each id. No id has a line end: many are changed as the lines of one text, which is fast."""
    for start in range(0, len(ids), _TOGETHER):
        some = ids[start : start + _TOGETHER]
        text = "\n".join(some)
        if text.isascii() and " " not in text and "\t" not in text and text.count("\n") == len(some) - 1:
            yield from _LEADING_ZEROS.sub("", _WHOLE_AS_DECIMAL.sub("", text.casefold())).split("\n")
        else:
            yield from map(canonical, some)


def spelt_differently(ids: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The groups of different ids that have one canonical form, in order; ``ids`` may name a subject several times.

    >>> spelt_differently(["P1", "P2", "p1", "P02"])
    (('P02', 'P2'), ('P1', 'p1'))
    """
    # Hashes first: a million ids are not copied for the sake of a few pairs.
    hashes, before = array("q"), None
    for one, form in zip(ids, _canonical_each(ids), strict=True):
        if one != before:
            hashes.append(hash(form))
        before = one
    if not hashes:
        return ()
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.int64), return_counts=True)
    repeated = frozenset(values[counts > 1].tolist())
    groups: dict[str, set[str]] = defaultdict(set)
    for one, form in zip(ids, _canonical_each(ids), strict=True) if repeated else ():
        if hash(form) in repeated:
            groups[form].add(one)
    return tuple(sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1))


def spelling_issue(thing: str, ids: Sequence[str]) -> DataIssue | None:
    """One warning for all ids of a dataset that differ from another one only as ``canonical`` says; None if none do.

    ``thing`` is the file or folder that names the subjects.
    """
    groups = spelt_differently(ids)
    if not groups:
        return None
    shown = ", ".join(" and ".join(distinguished(group)[:3]) for group in groups[:_SHOWN])
    more = f", and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    cause = (
        f"{pluralise(sum(map(len, groups)), 'subject id')} differ from another one only in capital letters, leading "
        f"zeros, Unicode form or a final .0 ({shown}{more})"
    )
    remedy = "give each patient one id in the data; if they are different patients, nothing is to be done"
    return DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")


def distinguished(ids: Sequence[str]) -> tuple[str, ...]:
    """Ids between quotation marks; those that look the same each with the code points in which they differ.

    >>> distinguished(["P1", "p1"])
    ("'P1'", "'p1'")
    >>> [one.partition(" ")[2] for one in distinguished(["M\\u00fc", "Mu\\u0308"])]
    ['(U+00FC)', '(U+0075 U+0308)']
    """
    looks: dict[str, list[str]] = defaultdict(list)
    for one in ids:
        looks[unicodedata.normalize("NFKC", one).translate(_DASHES)].append(one)
    points: dict[str, str] = {}
    for alike in looks.values():
        if len(alike) > 1:
            before = _common(alike)
            after = _common([one[before:][::-1] for one in alike])
            parts = {one: one[before : len(one) - after] for one in alike}
            points |= {one: " ".join(f"U+{ord(letter):04X}" for letter in part) for one, part in parts.items()}
    return tuple(f"{one!r} ({points[one]})" if points.get(one) else repr(one) for one in ids)


def _common(texts: Sequence[str]) -> int:
    """With how many characters all texts begin alike."""
    differing = (at for at, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1)
    return next(differing, min(map(len, texts)))


def meant(asked: str, ids: Iterable[str]) -> tuple[str, ...]:
    """The ids that may be meant by ``asked``, the likeliest first: the same but for spelling, the same patient's with
    or without a visit, and ids of which ``asked`` is a part; similar ones where there is none of these.

    >>> meant("7", ["sub-06", "sub-007", "sub-70"]), meant("P00", ["P00_20200101", "P00_20210101", "P01"])
    (('sub-007',), ('P00_20200101', 'P00_20210101'))
    >>> meant("p-0O2", ["p-002", "q-914"])
    ('p-002',)
    """
    known = sorted(set(ids) - {""})
    parts = {one: _parts(one) for one in known}
    own, base = _parts(asked), _parts(without_visits(asked))
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda one: "".join(parts[one]) == "".join(own),
        lambda one: bool(base) and _parts(without_visits(one)) == base,
        lambda one: bool(own) and parts[one][: len(own)] == own,
        lambda one: bool(parts[one]) and own[: len(parts[one])] == parts[one],
        lambda one: bool(own) and any(parts[one][at : at + len(own)] == own for at in range(len(parts[one]))),
    )
    found = dict.fromkeys(one for is_meant in kinds for one in known if is_meant(one))
    return tuple(found)[:_MOST_MEANT] or tuple(difflib.get_close_matches(asked, known, 3, _ALIKE))


def _parts(subject: str) -> list[str]:
    """The canonical words and numbers of an id, without a word such as ``sub`` before them.

    >>> _parts("sub-007_L"), _parts("P01")
    (['7', 'l'], ['p1'])
    """
    parts = [part for part in _SEPARATORS.split(_spread(subject)) if part]
    return parts[1:] if len(parts) > 1 and parts[0] in WORDS else parts


def _spread(subject: str) -> str:
    """The canonical id, its words such as ``sub`` apart from a number that follows at once."""
    text = canonical(subject)
    word = re.match(r"[a-z]+", text)
    return f"{word[0]}-{canonical(text[word.end() :])}" if word and word[0] in WORDS else text
