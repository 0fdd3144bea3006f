"""What a column of a table holds, counted row by row, and what is suspicious in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from archipel.data.samples import ColumnSummary
from archipel.data.tables.cells import THOUSANDS
from archipel.data.tables.dictionary import ColumnReader
from archipel.data.tables.odd_cells import OddCells, as_typed, named_place
from archipel.vocabulary import Value
from archipel.vocabulary.counting import pluralise

_MOST_CATEGORIES = 30
_SUSPICIOUS = frozenset({"-9999", "-999", "-99", "9999"})
_DATE_WORD = re.compile(
    r"(?<![a-z])(dates?|datum|dat|day|visit|visite|visita|besuch|fecha|data|dt|time|zeit|tag|exam|scan)(?![a-z])|"
    r"datum|date$|^date",
    re.IGNORECASE,
)
_FIRST_DAY = date(1899, 12, 30)
"""Day 0 of Excel's dates."""
_DAYS = (20_000, 80_000)
"""1954 to 2119, as Excel's numbers of days."""


class ColumnTally:
    """What a column holds. ``unclear`` counts numbers whose points may stand between thousands, ``has_decimals`` says
    that a point stands before decimals; both only where the table ``asks_for_mark``."""

    def __init__(self, name: str, reader: ColumnReader, *, asks_for_mark: bool = False) -> None:
        self.name = name
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
        """Whether cells of the column certainly identify a person."""
        return bool(self._reader.identifiers)

    def add(self, value: Value | None, text: str, place: int | str) -> None:
        """Count a value; ``text`` is what its cell holds, ``place`` the line or the subject of it."""
        if value is None:
            return
        if isinstance(value, str):
            shown = value
            self._texts += 1
            if self._reader.rule is None:
                self._odd.add_text(text, place)
        else:
            shown = f"{value:g}"
            self._odd.numbers += 1
            self._low, self._high = min(self._low, value), max(self._high, value)
            self._whole = self._whole and value == int(value)
            if shown in _SUSPICIOUS:
                self._suspicious[shown] += 1
            if self._asks and "." in text:
                self._look_at_point(text.strip(), place)
        if self._categories is not None:
            self._categories[shown] += 1
            if len(self._categories) > _MOST_CATEGORIES:
                self._categories = None

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
            count = sum(self._reader.identifiers.values())
            whats = " and ".join(sorted(self._reader.identifiers))
            cause = f"column {self.name} holds {whats} in {pluralise(count, 'row')}; it is left out"
            yield cause, f"if a plan needs it all the same: {as_typed('keep', self.name)}"
            return
        for code, count in self._suspicious.items():
            remedy = "name it in the dictionary as a missing code, if it is one"
            yield f"column {self.name} holds {code} in {pluralise(count, 'row')}", remedy
        if self._reader.rule is not None:
            return
        odd = self._odd.finding()
        if odd is not None:
            yield odd
        elif self._odd.numbers and not self._texts and self._are_days():
            day = (_FIRST_DAY + timedelta(days=int(self._low))).isoformat()
            cause = f"column {self.name} holds {self._odd.numbers} whole numbers, perhaps days as a spreadsheet counts"
            remedy = f"export dates as {day}, or say what they are: {as_typed('text', self.name)}"
            yield f"{cause} them ({self._low:g} is {day})", f"{remedy} or {as_typed('number', self.name)}"

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
