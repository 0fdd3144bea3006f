"""Path templates: where a layout keeps each file, as a path with named parts, ``{subject}/{subject}_{modality}``.

A part stands for one text without ``/``; the same name twice is the same text twice. ``{session:frame*|es}`` says what
the text may be (``*`` any letters, ``?`` one, ``#`` digits), ``{:img|images}`` is a part that is not kept and ``{*}``
one that may be any text. Capital letters are not told from small ones outside the parts. A template without a suffix
means a volume of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import comb, prod

from archipel.data.volumes import SUFFIXES
from archipel.vocabulary import BadInput, Thing

SUBJECT, SESSION, MODALITY, STRUCTURE = "subject", "session", "modality", "structure"
"""The parts that a layout gives a meaning; every other named part is kept as a value of the sample."""
_LONGEST = 400
_LONGEST_NAME = 255
"""Letters in the name of a file or folder, on the file systems that are used."""
_MOST_WAYS = 3_000_000
"""In which a name and the folders above it may be divided among the parts of a template: matching tries each."""
_PART = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_EXAMPLE = "give for example {subject}/{subject}_{modality}.nii.gz"


class PathTemplate:
    """A template that was understood; ``parts`` are the names of its parts. Raises BadInput for one that is not clear.

    >>> PathTemplate("{subject}/{subject}_{modality}").parts_of("p_1/p_1_t1.NII.gz")
    {'subject': 'p_1', 'modality': 't1'}
    """

    def __init__(self, text: str, *, needs: str = SUBJECT) -> None:
        self.text = text
        self.suffix, bare = suffix_and_rest(text)
        if not bare or len(text) > _LONGEST:
            raise self._bad(f"is longer than {_LONGEST} letters" if bare else "names no file")
        folders = bare.split("/")
        if any(one in ("", ".", "..") for one in folders) or "\\" in bare:
            raise self._bad("is not a path inside the dataset's folder")
        self.parts: tuple[str, ...] = ()
        self.ways = 1
        self.literal = len(_PART.sub("", bare))
        """Letters outside the parts: of two templates the one with more of them says more of a name."""
        self._matcher = re.compile("/".join(self._folder(one) for one in folders), re.IGNORECASE)
        if needs and needs not in self.parts:
            raise self._bad(f"has no part {{{needs}}}")

    def parts_of(self, place: str) -> dict[str, str] | None:
        """The text of each named part; None for a place that the template does not mean."""
        suffix, bare = suffix_and_rest(place)
        return self.parts_of_stem(bare) if suffix and self.suffix in ("", suffix) else None

    def parts_of_stem(self, stem: str) -> dict[str, str] | None:
        """The same for a place without its suffix."""
        match = self._matcher.fullmatch(stem)
        return None if match is None else match.groupdict()

    def filled(self, parts: Mapping[str, str]) -> str:
        """The path with these parts, for people to read; parts that are not known stay."""
        text = _PART.sub(lambda part: parts.get(part[1].partition(":")[0]) or part[0], self.text)
        return text if self.suffix else f"{text}.*"

    def _folder(self, text: str) -> str:
        """One name of the path as a regular expression."""
        pieces = _PART.split(text)
        literals, parts = pieces[::2], pieces[1::2]
        if any(mark in literal for literal in literals for mark in "{}*?"):
            raise self._bad("has { } * or ? outside a part")
        for before, between, after in zip(parts, literals[1:], parts[1:], strict=False):
            if not between:
                raise self._bad(f"has nothing between {{{before}}} and {{{after}}}")
        # Of so many texts of any length all but one may have any length: where the last begins is known then.
        lengths = sum(self._lengths(part) for part in parts)
        self.ways *= comb(_LONGEST_NAME, max(0, lengths - 1)) * prod(part.count("|") + 1 for part in parts)
        if self.ways > _MOST_WAYS:
            raise self._bad("has too many parts, choices or * among which a name may be divided")
        found = [re.escape(literals[0])]
        for part, literal in zip(parts, literals[1:], strict=True):
            found += [self._part(part), re.escape(literal)]
        return "".join(found)

    def _lengths(self, text: str) -> int:
        """How many texts of any length a part stands for, where it is there for the first time."""
        name, colon, choices = text.partition(":")
        if not colon:
            return int(name not in self.parts)
        return max(len(re.findall("[*#]", choice)) for choice in choices.split("|"))

    def _part(self, text: str) -> str:
        name, colon, choices = text.partition(":")
        may_be = "|".join(map(choice_of, choices.split("|"))) if colon else "[^/]+"
        if (name == "*" and not colon) or (not name and choices):
            return f"(?:{may_be})"
        if not _NAME.fullmatch(name) or (colon and not choices):
            raise self._bad(f"has a part {{{text}}} that is not a name in small letters")
        if name in self.parts:
            return f"(?P={name})"
        self.parts += (name,)
        return f"(?P<{name}>{may_be})"

    def _bad(self, cause: str) -> BadInput:
        shown = self.text[:80]
        return BadInput(Thing.worded(f"template {shown}", template=shown), cause, _EXAMPLE)


@lru_cache(maxsize=1 << 10)
def suffix_and_rest(place: str) -> tuple[str, str]:
    """A volume's suffix in small letters, "" where it is none, and the place without it.

    >>> suffix_and_rest("a/b.seg.NRRD")
    ('.nrrd', 'a/b.seg')
    """
    lower = place.lower()
    suffix = next((one for one in SUFFIXES if lower.endswith(one)), "") if lower.endswith(SUFFIXES) else ""
    return suffix, place[: len(place) - len(suffix)] if suffix else place


def choice_of(text: str) -> str:
    """The regular expression of one of a part's choices."""
    wild = {"*": "[^/]*", "?": "[^/]", "#": "[0-9]+"}
    return "".join(wild.get(letter, re.escape(letter)) for letter in text)
