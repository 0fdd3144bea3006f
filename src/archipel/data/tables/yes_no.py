"""Columns of yes and no: in many spellings, or as marks beside empty cells, each read in one way when the site says so.

Nothing is made into yes or no unasked: an empty cell may be a no, or nobody may have looked.
"""

from __future__ import annotations

from archipel.data.tables.dictionary import POINT, ColumnReader, ColumnRule, NumberMarks, shorten
from archipel.data.tables.odd_cells import named_place
from archipel.vocabulary import Value

_YES = "yes y ja j oui si s\u00ed sim tak true vrai wahr verdadero verdadeiro vero waar prawda sant 1"
_NO = "no n nein non n\u00e3o nao nie nee nej false faux falsch falso onwaar fa\u0142sz falskt 0"
YES, NO = frozenset(_YES.split()), frozenset(_NO.split())
"""Words that say yes and no in the languages of ``identifier_words``, in lower case."""
MARKS = frozenset(("x", "\u2713", "\u2714", "\u2612"))
NOT_YES_OR_NO = "not yes or no"
"""Under this code the cells are counted that are missing because they say neither."""
_SHOWN = 3
_MOST_SPELLINGS = 30


class YesNoReader(ColumnReader):
    """Reads a column as the categories yes and no; where it is ``marked`` a mark is yes and an empty cell is no.

    What says neither is missing.
    """

    def __init__(
        self,
        missing: tuple[str, ...] = (),
        marks: NumberMarks = POINT,
        *,
        marked: bool,
        keeps_identifiers: bool = False,
    ) -> None:
        rule = ColumnRule(type="category", categories={"yes": "", "no": ""})
        super().__init__(rule, missing, marks, keeps_identifiers=keeps_identifiers)
        self._marked = marked

    def __call__(self, text: str) -> Value | None:
        """None when the value is missing."""
        plain = text.strip().casefold().removesuffix(".0")
        if plain in YES or (self._marked and plain in MARKS):
            return "yes"
        if plain in NO or (self._marked and not plain):
            return "no"
        if plain:
            self._count(text.strip() if text.strip() in self._missing else NOT_YES_OR_NO)
        return None


class YesNoWords:
    """How a column without a rule says yes and no: its spellings, with where each is found first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._others = False

    @property
    def is_looking(self) -> bool:
        """Whether the values were words of yes and no until now."""
        return not self._others

    def add(self, text: str, place: int | str) -> None:
        """Count a value that is not missing; ``place`` is its line, or whose value it is."""
        if text in self._counts:
            self._counts[text] += 1
            return
        plain = text.casefold().removesuffix(".0")
        if not (plain in YES or plain in NO or plain in MARKS) or len(self._counts) > _MOST_SPELLINGS:
            self._others = True
            return
        self._counts[text] = 1
        self._first[text] = f"{named_place(place)} holds {shorten(text)}"

    def finding(self, rows: int) -> tuple[str, tuple[str, str]] | None:
        """Cause, and the option with its note that reads the column; ``rows`` counts the empty cells too."""
        if self._others or not self._counts:
            return None
        held = sum(self._counts.values())
        folded = {text.casefold().removesuffix(".0") for text in self._counts}
        if folded <= MARKS:
            if held == rows:
                return None
            mark = min(self._counts)
            cause = f"column {self._name} holds {shorten(mark)} in {held} of {rows} rows and nothing in the others"
            return cause, ("marked", "a mark is yes, nothing is no")
        has_words = any(not text.isdigit() for text in folded - MARKS)
        says_both = bool(folded & YES) and bool(folded & NO)
        if not (has_words and says_both) or (len(self._counts) == 2 and not folded & MARKS):
            return None
        shown = ", ".join(list(self._first.values())[:_SHOWN])
        more = f", and {len(self._first) - _SHOWN} more" if len(self._first) > _SHOWN else ""
        cause = f"column {self._name} says yes and no in {len(self._counts)} spellings in {held} rows ({shown}{more})"
        return cause, ("marked" if folded & MARKS else "yes_no", "read as yes and no")
