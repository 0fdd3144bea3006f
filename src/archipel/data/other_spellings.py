"""Other spellings: which ids of other datasets may be a patient's, by the words and numbers in them.

A hospital's systems write one id in several ways: ``P007``, ``p-7``, ``sub-P007``, ``site_P007`` and ``7.0``. Nothing
is done on a likeness alone: a person says whether it is the same patient.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from archipel.data.subject_ids import WORDS, canonical
from archipel.data.visit_names import without_visits

_WORD = re.compile(r"\d+|[^\W\d_]+")
_NUMBER = re.compile(r"\d")
_LEAST_LETTERS = 4
"""Letters of a part without a number that may name a patient: fewer are a study's or a site's."""
_LONGEST = 12
"""Words of an id that are compared part by part; a longer one only as a whole."""

Words = tuple[str, ...]


class OtherSpellings:
    """Finds which ids may be those of some patients."""

    def __init__(self, asked: Iterable[str]) -> None:
        self._wholes: dict[Words, set[str]] = defaultdict(set)
        self._parts: dict[Words, set[str]] = defaultdict(set)
        told: set[str] = set()
        for subject in set(asked):
            wholes, parts = _forms(subject)
            for form in wholes:
                self._wholes[form].add(subject)
            for form in parts:
                self._parts[form].add(subject)
            words = {word for form in wholes for word in form}
            numbers = {word for word in words if word.isdigit()}
            told |= {rf"(?<!\d)0*{word}(?!\d)" for word in numbers} or set(map(re.escape, words))
        self._told = re.compile("|".join(sorted(told)), re.IGNORECASE) if told else None

    def among(self, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Each patient with an id that is not the patient's as given, and may be: the same words and numbers, with or
        without a visit, or one id a part of the other.

        >>> sorted(one for _, one in OtherSpellings(["P007"]).among(["P007", "p-7", "sub-P007", "7.0", "P0070", "Q7"]))
        ['7.0', 'p-7', 'sub-P007']
        """
        if self._told is None:
            return
        for one in ids:
            # Most ids have none of the numbers, and to take an id apart takes long.
            if one.isascii() and self._told.search(one) is None and _NUMBER.search(one) is not None:
                continue
            wholes, parts = _forms(one)
            found = [self._wholes.get(form, ()) for form in (*wholes, *parts)]
            found += [self._parts.get(form, ()) for form in wholes]
            for subject in sorted(set().union(*found) - {one}):
                yield subject, one


def same_form(subject: str) -> str:
    """A text that ids have in common which differ only in signs, capital letters, zeros before a number, the Unicode
    form and words such as ``sub``; it cannot be an id.

    >>> same_form("P007") == same_form("p-7") == same_form("sub-P7"), same_form("P007") == same_form("7")
    (True, False)
    """
    return "\n".join(("", *_words(subject)))


def _forms(subject: str) -> tuple[set[Words], set[Words]]:
    """An id as a whole, with and without its visits, and the parts of it that may be an id of their own."""
    words, own = _words(subject), _words(without_visits(subject))
    wholes = {form for form in (words, own) if form}
    parts: set[Words] = set()
    for start in range(len(words)) if len(words) <= _LONGEST else ():
        for end in range(start + 1, len(words) + 1):
            part = words[start:end]
            is_named = any(word.isdigit() for word in part) if len(part) > 1 else _may_name(part[0])
            if is_named:
                parts.add(part)
    numbers = [word for word in own or words if word.isdigit()]
    if numbers:
        # One number alone is a patient's only where it is the last: others are a study's, a site's or a date's.
        parts.add((numbers[-1],))
    return wholes, parts - wholes


def _may_name(word: str) -> bool:
    return not word.isdigit() and len(word) >= _LEAST_LETTERS


def _words(subject: str) -> Words:
    """The words and the numbers of an id, without a word such as ``sub`` where others are left.

    >>> _words("sub-P007"), _words("7.0"), _words("p-7")
    (('p', '7'), ('7',), ('p', '7'))
    """
    words = [word.lstrip("0") or "0" if word.isdigit() else word for word in _WORD.findall(canonical(subject))]
    return tuple([word for word in words if word not in WORDS] or words)
