"""Cells that are not numbers in a column of numbers: how many, which, and what a person may choose.

A column without a rule is not turned into text unseen because of one cell: the choice is the site's.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from archipel.data.tables.cells import MARKS, Form, form_of, unit_of
from archipel.data.tables.dictionary import shorten

_SHOWN = 3
_READ = {Form.MINUS: "a minus sign is read", Form.HEXADECIMAL: "0x1f is read as 31"}
"""What is read of numbers in another form where the site says that they are numbers."""
_BETTER = {
    Form.FORMULA: "export the values of the formulas, or ",
    Form.ERROR: "correct the formulas and export the table again, or ",
    Form.DIGITS: "write them as plain numbers, or ",
}
"""What is better than to choose, where the column has no plain number."""
COLUMN_OPTIONS = {
    "decimal": "the decimal mark of numbers: . (default) or ,",
    "thousands": "the mark between the thousands of numbers: . or , or space or apostrophe",
    "number": "columns of numbers, by name: COLUMN,COLUMN; cells that are not numbers are missing",
    "censored": "columns of numbers and limits as <50 or 89+, by name; plans see the limit, and COLUMN_censored",
    "text": "columns of texts, by name, whatever they look like",
    "unit": "columns of numbers that have their unit in each cell: COLUMN:UNIT, for example chol:mg/dl",
    "yes_no": "columns of yes and no, by name, in whatever words; what says neither is missing",
    "marked": "the same where a mark as x is yes, and an empty cell is no",
    "keep": "columns that would be left out because they name a person, by name",
}
"""What a site may choose for columns of a table, with a line of help each."""


def listed_columns(options: Mapping[str, str], option: str, names: frozenset[str]) -> tuple[str, ...]:
    """The columns that an option names; a name with a comma is taken as it is where the table has it."""
    given = options.get(option, "").strip()
    if not given or given in names:
        return (given,) if given else ()
    return tuple(one.strip() for one in given.split(",") if one.strip())


def listed_units(options: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """The columns that the option ``unit`` names, each with its unit, "" where none is given."""
    given = options.get("unit", "").strip()
    pairs = [given] if given.rpartition(":")[0] in names else given.split(",")
    parts = [one.rpartition(":") if ":" in one else (one, "", "") for one in pairs if one.strip()]
    return {name.strip(): unit.strip() for name, _, unit in parts}


def named_place(place: int | str) -> str:
    """Where a cell is, in words: its line, or whose value it is."""
    return f"line {place}" if isinstance(place, int) else place


def as_typed(option: str, value: str) -> str:
    """An option as it is typed into a shell: ``--option number=age``."""
    text = f"{option}={value}"
    if shlex.quote(text) == text:
        return f"--option {text}"
    return f"--option {shlex.quote(text)}" if set(text) & set('"$`\\!') else f'--option "{text}"'


class OddFinding(NamedTuple):
    """What is said of a column with odd cells."""

    cause: str
    remedy: str


class OddCells:
    """The cells of one column, counted: numbers, texts that a person reads as numbers, and other texts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.numbers = self.texts = 0
        self._forms: Counter[Form] = Counter()
        self._first: list[str] = []
        self._commas: set[bool] = set()
        self._marks: Counter[str] = Counter()
        self._units: set[str] = set()

    def add_text(self, text: str, place: int | str) -> None:
        """Count a value that was read as text; ``place`` is its line, or whose value it is."""
        self.texts += 1
        text = text.strip()
        if len(self._first) < _SHOWN:
            self._first.append(f"{named_place(place)} holds {shorten(text)}")
        form = form_of(text)
        if form is None:
            return
        self._forms[form] += 1
        if form is Form.UNIT and len(self._units) < _SHOWN:
            self._units.add(unit_of(text))
        if form is Form.COMMA:
            self._commas.add(_is_grouped(text))
        if form is Form.GROUPED:
            self._marks.update(word for word, marks in MARKS.items() if _stands_first(text, marks))

    def finding(self) -> OddFinding | None:
        """Cause and remedy where most values are numbers, or are read as numbers by a person, and not all are."""
        values, words = self.numbers + self.texts, self._forms[Form.NO_VALUE]
        numeric = self.numbers + self._forms.total() - words
        if self.texts and words == values:
            cause = f"column {self._name} holds only words for a missing value ({', '.join(self._first)})"
            return OddFinding(f"{cause}; it is read as text", self._remedy())
        # A word for a missing value says nothing of what the others are.
        if not self.texts or not numeric or numeric * 2 < values - words:
            return None
        if self._forms[Form.COMMA] * 2 > self.texts:
            cause = f"column {self._name} holds numbers with a decimal comma, read as text ({self._first[0]})"
            if self._commas == {True}:
                remedy = "set --option decimal=, or, if the comma stands between thousands, --option thousands=,"
                return OddFinding(cause.replace("a decimal comma", "a comma"), remedy)
            return OddFinding(cause, "set --option decimal=,")
        more = f", and {self.texts - len(self._first)} more" if self.texts > len(self._first) else ""
        counted = f"{self.numbers} of {values} values are numbers"
        if not self.numbers:
            counted = f"none of {values} values is a plain number"
        cause = f"column {self._name}: {counted}; {', '.join(self._first)}{more}"
        return OddFinding(f"{cause}; it is read as text", self._remedy())

    def _remedy(self) -> str:
        ways = []
        if self._marks:
            mark = self._marks.most_common(1)[0][0]
            ways.append(f"{as_typed('thousands', mark)} (it stands between thousands)")
        if self._forms[Form.LIMIT]:
            ways.append(f"{as_typed('censored', self._name)} (limits are kept as limits)")
        if not self.numbers and len(self._units) == 1:
            unit = min(self._units)
            ways.append(f"{as_typed('unit', f'{self._name}:{unit}')} (numbers in {unit}; other cells are missing)")
        read = [said for form, said in _READ.items() if self._forms[form]]
        if self.numbers or read or self._forms[Form.NO_VALUE]:
            notes = ", ".join([*read, "what is not a number is missing"])
            ways.append(f"{as_typed('number', self._name)} ({notes})")
        ways.append(as_typed("text", self._name))
        is_most = not self.numbers
        first = next((said for form, said in _BETTER.items() if is_most and self._forms[form] * 2 > self.texts), "")
        return f"{first}choose {' or '.join(ways)}"


def _stands_first(text: str, marks: str) -> bool:
    """Whether one of the marks is the first that is not a digit: it stands between thousands, not before decimals."""
    rest = text.lstrip("+-0123456789")
    return rest[:1] in marks if rest else False


def _is_grouped(text: str) -> bool:
    """Whether a comma stands before three digits, so that it may divide thousands."""
    whole, _, fraction = text.lstrip("+-").partition(",")
    return len(fraction) == 3 and 0 < len(whole) < 4 and not whole.startswith("0")
