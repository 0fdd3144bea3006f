"""What a column of a table holds, counted row by row, and what is suspicious in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from archipel.data.samples import ColumnSummary
from archipel.data.tables.cells import THOUSANDS
from archipel.data.tables.dictionary import NOT_A_NUMBER, ColumnReader
from archipel.data.tables.odd_cells import OddCells, as_typed, named_place
from archipel.data.tables.personal_numbers import ColumnNumbers
from archipel.data.tables.yes_no import YesNoWords
from archipel.vocabulary import Value
from archipel.vocabulary.counting import pluralise

_MOST_CATEGORIES = 30
_SUSPICIOUS = frozenset({"-9999", "-999", "-99", "9999"})
_FEW = 5
_LOWEST_NOT_CODE, _HIGHEST_NOT_CODE = -98, 9998
"""Of numbers between these none is written as one of them."""
_DATE_WORD = re.compile(
    r"(?<![a-z])(dates?|datum|dat|day|visit|visite|visita|besuch|fecha|data|dt|time|zeit|tag|exam|scan)(?![a-z])|"
    r"datum|date$|^date",
    re.IGNORECASE,
)
_INDEX = re.compile(r"Unnamed: ?\d+|__index_level_\d+__")
"""What pandas calls an index that was written without a name."""
_FIRST_DAY = date(1899, 12, 30)
"""Day 0 of Excel's dates."""
_DAYS = (20_000, 80_000)
"""1954 to 2119, as Excel's numbers of days."""


class ColumnTally:
    """What a column holds. ``unclear`` counts numbers whose points may stand between thousands, ``has_decimals`` says
    that a point stands before decimals; both only where the table ``asks_for_mark``. ``nameless`` is the place of a
    column to which the file gives no name, 0 for others."""

    def __init__(self, name: str, reader: ColumnReader, *, asks_for_mark: bool = False, nameless: int = 0) -> None:
        self.name = name
        self._nameless = nameless
        self._rows = 0
        self._last = -1.0
        self._counts_up = bool(nameless) or _INDEX.fullmatch(name) is not None
        self._words = YesNoWords(name)
        self._personal = ColumnNumbers()
        self._may_be_personal, self._may_be_words = not reader.keeps_identifiers, reader.rule is None
        self._looks_closer = self._may_be_personal or self._may_be_words
        self._reader = reader
        self._odd = OddCells(name)
        self._texts = 0
        self._low, self._high = float("inf"), float("-inf")
        self._whole = True
        self._categories: Counter[str] | None = Counter()
        self._suspicious: Counter[str] = Counter()
        is_number = reader.rule is None or reader.rule.type in ("number", "censored")
        self._asks = asks_for_mark and is_number
        self.unclear, self.has_decimals, self.example, self.example_place = 0, False, "", ""

    @property
    def identifies(self) -> bool:
        """Whether cells of the column, or all of them together, certainly identify a person."""
        return bool(self._reader.identifiers) or self._personal.found is not None

    @property
    def is_empty(self) -> bool:
        """Whether there are rows, and the column has no value in any of them."""
        held = self._odd.numbers or self._texts or self._reader.identifiers
        # That cells are not numbers is what the site chose to read as missing.
        return self._rows > 0 and not held and NOT_A_NUMBER not in self._reader.codes

    @property
    def emptiness(self) -> str:
        """What an empty column holds, in words: its name and the codes that were found."""
        codes = ", ".join(f"{code} in {count}" for code, count in sorted(self._reader.codes.items())[:_FEW])
        called = f"{self._nameless}, which has no name," if self._nameless else self.name
        return f"{called} ({codes})" if codes else called

    def add(self, value: Value | None, text: str, place: int | str) -> None:
        """Count a value; ``text`` is what its cell holds, ``place`` the line or the subject of it."""
        self._rows += 1
        if value is None:
            return
        if self._looks_closer:
            self._look_closer(text.strip(), place)
        if self._counts_up:
            self._counts_up = isinstance(value, float) and value == int(value) and value > self._last
            self._last = value if isinstance(value, float) else self._last
        if isinstance(value, str):
            shown = value
            self._texts += 1
            if self._reader.rule is None:
                self._odd.add_text(text, place)
        else:
            self._odd.numbers += 1
            self._low = min(self._low, value)
            self._high = max(self._high, value)
            self._whole = self._whole and value == int(value)
            may_be_code = value < _LOWEST_NOT_CODE or value > _HIGHEST_NOT_CODE
            shown = f"{value:g}" if may_be_code or self._categories is not None else ""
            if shown in _SUSPICIOUS:
                self._suspicious[shown] += 1
            if self._asks and "." in text:
                self._look_at_point(text.strip(), place)
        if self._categories is not None:
            self._categories[shown] += 1
            if len(self._categories) > _MOST_CATEGORIES:
                self._categories = None

    def _look_closer(self, text: str, place: int | str) -> None:
        """Whether all values may be numbers of persons, or words of yes and no; most columns show at once that not."""
        if self._may_be_personal:
            self._personal.add(text)
            self._may_be_personal = self._personal.is_looking
        if self._may_be_words:
            self._words.add(text, place)
            self._may_be_words = self._words.is_looking
        self._looks_closer = self._may_be_personal or self._may_be_words

    def _look_at_point(self, text: str, place: int | str) -> None:
        if not THOUSANDS.fullmatch(text) or text.lstrip("+-").startswith("0"):
            self.has_decimals = True
            return
        self.unclear += 1
        if not self.example:
            self.example, self.example_place = text, named_place(place)

    def suspicions(self) -> Iterator[tuple[str, str]]:
        """What a person should look at, cause and remedy: values that look like a code, cells that are not numbers
        among numbers, days of a spreadsheet, and what identifies a person."""
        if self.identifies:
            found = Counter(self._reader.identifiers)
            if self._personal.found is not None:
                what, count = self._personal.found
                found[what] += count
            cause = f"column {self.name} holds {' and '.join(sorted(found))} in {pluralise(found.total(), 'row')}"
            yield f"{cause}; it is left out", f"if a plan needs it all the same: {as_typed('keep', self.name)}"
            return
        if self.is_empty:
            return
        yield from self._name_and_index()
        for code, count in self._suspicious.items():
            remedy = "name it in the dictionary as a missing code, if it is one"
            yield f"column {self.name} holds {code} in {pluralise(count, 'row')}", remedy
        if self._reader.rule is not None:
            return
        words, odd = self._words.finding(self._rows), self._odd.finding()
        if words is not None:
            cause, (option, note) = words
            choice = f"{as_typed(option, self.name)} ({note}) or {as_typed('text', self.name)}"
            yield f"{cause}; it is read as text", f"choose {choice}"
        elif odd is not None:
            yield odd
        elif self._odd.numbers and not self._texts and self._are_days():
            day = (_FIRST_DAY + timedelta(days=int(self._low))).isoformat()
            cause = f"column {self.name} holds {self._odd.numbers} whole numbers, perhaps days as a spreadsheet counts"
            remedy = f"export dates as {day}, or say what they are: {as_typed('text', self.name)}"
            yield f"{cause} them ({self._low:g} is {day})", f"{remedy} or {as_typed('number', self.name)}"

    def _name_and_index(self) -> Iterator[tuple[str, str]]:
        """What is said of a column that has no name, or only the numbers of the rows."""
        nameless = f"column {self._nameless} has no name"
        if self._counts_up and self._odd.numbers == self._rows > 1:
            called = f"{nameless}; it is called {self.name} here and" if self._nameless else f"column {self.name}"
            yield (
                f"{called} counts the rows, as an index that a program wrote; it says nothing of the patients",
                "remove the column (in pandas: to_csv(..., index=False)); no plan should declare it",
            )
        elif self._nameless:
            yield nameless, f"it is called {self.name} here; name it in the file"

    def _are_days(self) -> bool:
        within = _DAYS[0] <= self._low and self._high <= _DAYS[1]
        return self._whole and within and _DATE_WORD.search(self.name) is not None

    def summary(self) -> ColumnSummary:
        """The column as the catalog knows it; what is missing is counted from the rows in use."""
        rule = self._reader.rule
        kind = rule.type if rule else self._guessed()
        numeric = kind in ("number", "censored") and self._odd.numbers > 0
        return ColumnSummary(
            type=kind,
            unit=rule.unit if rule else "",
            missing_codes=dict(sorted(self._reader.codes.items())),
            categories=dict(sorted(self._listed(kind).items())),
            minimum=self._low if numeric else None,
            maximum=self._high if numeric else None,
            limits=self._reader.limits,
        )

    def _guessed(self) -> str:
        if not self._texts:
            return "number" if self._odd.numbers else "text"
        few = self._categories is not None and len(self._categories) <= self._texts / 2
        return "category" if few else "text"

    def _listed(self, kind: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self._categories or {}
        # Numbers are listed only where they look like codes: never the ages or weights of single patients.
        codes = len(found) <= 10 and all(one.isdigit() and len(one) < 3 for one in found)
        return found if kind == "category" or (kind == "number" and codes) else {}


def empty_columns(tallies: Sequence[ColumnTally], rows: int) -> tuple[str, str] | None:
    """Cause and remedy where columns have no value in any row."""
    empty = [tally.emptiness for tally in tallies if tally.is_empty]
    if not empty:
        return None
    named = ", ".join(empty[:_FEW]) + (f" and {len(empty) - _FEW} more" if len(empty) > _FEW else "")
    which = f"column {named} holds" if len(empty) == 1 else f"{len(empty)} columns hold"
    cause = f"{which} no value in any of {pluralise(rows, 'row')}" + ("" if len(empty) == 1 else f": {named}")
    whose = "its values, or remove the column" if len(empty) == 1 else "their values, or remove the columns"
    return cause, f"export the table again with {whose}"


def unclear_marks(tallies: Sequence[ColumnTally]) -> tuple[str, str] | None:
    """Cause and remedy when points may stand between thousands, and no number of the table shows that they do not."""
    unclear = [tally for tally in tallies if tally.unclear]
    if not unclear or any(tally.has_decimals for tally in tallies):
        return None
    one, names = unclear[0], ", ".join(tally.name for tally in unclear[:5])
    ways = ([f"{float(one.example):g}"] if one.example.count(".") == 1 else []) + [one.example.replace(".", "")]
    count = sum(tally.unclear for tally in unclear)
    where = f"{one.example_place}, column{'s' if len(unclear) > 1 else ''} {names}"
    return (
        f"has {pluralise(count, 'number')} as {one.example} ({where}), which may be {' or '.join(ways)}",
        "choose --option decimal=. (a point before decimals) or --option thousands=. (between thousands)",
    )
