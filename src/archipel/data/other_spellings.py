"""Other spellings: which ids of other datasets may be a patient's, by the words and numbers in them.

A hospital's systems write one id in several ways: ``P007``, ``p-7``, ``sub-P007``, ``site_P007`` and ``7.0``. Nothing
is done on a likeness alone: a person says whether it is the same patient.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from archipel.data.subject_ids import WORDS, canonical
from archipel.data.visit_names import without_visits

_CHUNK = re.compile(r"[^\W_]+")
_WORD = re.compile(r"\d+|[^\W\d_]+")
_NUMBER = re.compile(r"\d+")
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
        self._numbers: set[str] = set()
        words_alone: set[str] = set()
        for subject in set(asked):
            wholes, parts = _forms(subject)
            for form in wholes:
                self._wholes[form].add(subject)
            for form in parts:
                self._parts[form].add(subject)
            words = {word for form in wholes for word in form}
            numbers = {word for word in words if word.isdigit()}
            self._numbers |= numbers
            words_alone |= set() if numbers else words
        self._words = re.compile("|".join(sorted(map(re.escape, words_alone))), re.I) if words_alone else None

    def among(self, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Each patient with an id that is not the patient's as given, and may be: the same words and numbers, with or
        without a visit, or one id a part of the other.

        >>> sorted(one for _, one in OtherSpellings(["P007"]).among(["P007", "p-7", "sub-P007", "7.0", "P0070", "Q7"]))
        ['7.0', 'p-7', 'sub-P007']
        """
        if not self._wholes:
            return
        for one in ids:
            # Most ids have none of the numbers, and to take an id apart takes long.
            if one.isascii() and self._cannot_be(one):
                continue
            wholes, parts = _forms(one)
            found = [self._wholes.get(form, ()) for form in (*wholes, *parts)]
            found += [self._parts.get(form, ()) for form in wholes]
            for subject in sorted(set().union(*found) - {one}):
                yield subject, one

    def _cannot_be(self, one: str) -> bool:
        """Whether an id has numbers, and neither one of the patients' nor a word of those who have none."""
        runs = _NUMBER.findall(one)
        if not runs or any((run.lstrip("0") or "0") in self._numbers for run in runs):
            return False
        return self._words is None or self._words.search(one) is None


def same_form(subject: str) -> str:
    """A text that ids have in common which differ only in signs, capital letters, zeros before a number, the Unicode
    form and words such as ``sub``; it cannot be an id.

    >>> same_form("P007") == same_form("p-7") == same_form("sub-P7"), same_form("P007") == same_form("7")
    (True, False)
    """
    return "\n".join(("", *_words(subject)))


def _forms(subject: str) -> tuple[set[Words], set[Words]]:
    """An id as a whole, with and without its visits, and the parts of it that may be an id of their own."""
    chunks, own = _chunks(subject), _chunks(without_visits(subject))
    wholes = {form for form in map(_joined, (chunks, own)) if form}
    parts: set[Words] = set()
    if len(_joined(chunks)) <= _LONGEST:
        for first in range(len(chunks)):
            # A part ends where a chunk does: of P007a no other id is a part.
            for last in range(first, len(chunks)):
                words = _joined(chunks[first : last + 1])
                starts = [0, 1] if len(chunks[first]) > 1 and chunks[first][1].isdigit() else [0]
                parts.update(words[start:] for start in starts if _may_name(words[start:]))
    for chunk in reversed(own or chunks):
        if chunk[-1].isdigit():
            # One number alone is a patient's only where it is the last: others are a study's, a site's or a date's.
            parts.add(chunk[-1:])
            break
    return wholes, parts - wholes


def _may_name(part: Words) -> bool:
    if len(part) == 1:
        return not part[0].isdigit() and len(part[0]) >= _LEAST_LETTERS
    return any(word.isdigit() for word in part)


def _joined(chunks: Sequence[Words]) -> Words:
    return tuple(word for chunk in chunks for word in chunk)


def _words(subject: str) -> Words:
    """The words and the numbers of an id, without a word such as ``sub`` where others are left.

    >>> _words("sub-P007"), _words("7.0"), _words("p-7")
    (('p', '7'), ('7',), ('p', '7'))
    """
    return _joined(_chunks(subject))


def _chunks(subject: str) -> list[Words]:
    """The words and numbers between the signs of an id; numbers without zeros before them."""
    chunks = [
        tuple(word.lstrip("0") or "0" if word.isdigit() else word for word in _WORD.findall(chunk))
        for chunk in _CHUNK.findall(canonical(subject))
    ]
    named = [tuple(word for word in chunk if word not in WORDS) for chunk in chunks]
    return [chunk for chunk in named if chunk] or chunks
