"""Rows of a table that are not patients: the header again, a row of units, sums and means, a footer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from archipel.data.tables.cells import COMMA_NUMBER, NO_VALUE, NUMBER
from archipel.data.tables.dictionary import ALWAYS_MISSING, PHRASES
from archipel.data.tables.identifier_words import ID_NAMES
from archipel.data.tables.text_tables import Row

_NO_ID = frozenset(one.casefold() for one in ALWAYS_MISSING) | PHRASES | NO_VALUE
_UNITS = """
    unit units einheit einheiten unite unites unidad unidades unita eenheid years year yrs yr y a jahre jahr ans annees
    anos anni jaar months month mo monate mois days day d hours hour h min s sec ms mm cm m km um nm ml l dl ul g kg mg
    ug ng pg mol mmol umol nmol % \u2030 bpm mmhg hpa kpa iu u score points au hu hz khz mhz kcal kj text number date
"""
_UNIT_WORDS = frozenset(_UNITS.split())
_PER = re.compile(r"[a-z%]{1,8}\s?[/*]\s?[a-z0-9.^\u00b2\u00b3]{1,12}([/*][a-z0-9.^\u00b2\u00b3]{1,8})?")
_BRACKETS = re.compile(r"[\[(].*[\])]")
_CODES = re.compile(r"\d+(\s?[/|,]\s?\d+)+|\d+\s?-\s?\d+")
_SUMS = re.compile(
    r"(grand\s+)?(sums?|totals?|means?|averages?|avg|medians?|sd|std|st\.?\s?dev\.?|stdev|standard deviation|variance|"
    r"minimum|maximum|min|max|count|25%|50%|75%|summe|gesamt|gesamtsumme|mittelwert|mittel|durchschnitt|"
    r"standardabweichung|anzahl|somme|moyenne|m\u00e9diane|mediane|\u00e9cart[- ]type|effectif|suma|promedio|"
    r"media|mediana|total general|somma|totale|totaal|gemiddelde|mediaan|soma|m\u00e9dia)\s*([:=(\u00b1+].*)?",
    re.IGNORECASE,
)  # fmt: skip
_LOOKED_AT = 20
_DIGIT = re.compile(r"[0-9]")


def plain_name(name: str) -> str:
    """A column's name without case, spaces and underscores."""
    return "".join(one for one in name.casefold() if one.isalnum())


def holds_no_id(text: str) -> bool:
    """Whether a text stands for a missing id: it is empty, or one of the words for a missing value."""
    return text.casefold() in _NO_ID


@dataclass(frozen=True)
class RowKinds:
    """Says of each row whether it is a patient's. ``subject`` is the place of the ids, ``units`` the line of a row of
    units, -1 without one."""

    names: tuple[str, ...]
    subject: int
    units: int = -1

    @classmethod
    def of(cls, names: Sequence[str], subject: int, first: Sequence[Row]) -> RowKinds:
        """From the columns' names and the first rows."""
        units = first[0].line if first and _is_of_units(names, subject, first) else -1
        return cls(tuple(names), subject, units)

    def holds_nothing(self, row: Row) -> bool:
        """Whether all fields are empty: spreadsheets write such rows below a table."""
        return not any(field and not field.isspace() for field in row.fields)

    def reason(self, row: Row) -> str:
        """Why the row is not a patient's, as the rest of a sentence; "" when it is one."""
        if row.line == self.units:
            return "holds the units of the columns"
        fields = row.fields
        named = fields[self.subject].strip() if len(fields) > self.subject else ""
        if named and len(fields) == len(self.names):
            # Nearly all ids have a digit, and no usual name of a column has one.
            plain = "" if self._ids_differ and _DIGIT.search(named) else plain_name(named)
            if plain and (plain == self._plain or plain in ID_NAMES):
                return "holds the columns' names again" if self._repeats(fields) else "holds columns' names"
            if _SUMS.fullmatch(named):
                return f"is not a patient but {named}"
        if len(self.names) > 2 and (alone := _only_text(fields)) and _is_remark(alone):
            return f"is a remark ({alone[:60]})"
        return ""

    @cached_property
    def _plain(self) -> str:
        return plain_name(self.names[self.subject])

    @cached_property
    def _ids_differ(self) -> bool:
        return not _DIGIT.search(self._plain)

    def _repeats(self, fields: Sequence[str]) -> bool:
        there = [(field.strip().casefold(), name.casefold()) for field, name in zip(fields, self.names, strict=True)]
        return all(field == name for field, name in there if field)


def _only_text(fields: Sequence[str]) -> str:
    """The only text of a row; "" for one with several, or none."""
    found = ""
    for field in fields:
        if field and not field.isspace():
            if found:
                return ""
            found = field.strip()
    return found


def _is_remark(text: str) -> bool:
    return " " in text or text.endswith(":") or text.startswith(("#", "*", "//")) or bool(_SUMS.fullmatch(text))


def _is_of_units(names: Sequence[str], subject: int, rows: Sequence[Row]) -> bool:
    """Whether the first row has units where the rows below it have numbers."""
    head, *others = rows[: _LOOKED_AT + 1]
    below = [row.fields for row in others if len(row.fields) == len(names)]
    if len(head.fields) != len(names) or not below:
        return False
    cells = [head.fields[at].strip() for at in range(len(names)) if at != subject and _is_mostly_numbers(below, at)]
    cells = [cell for cell in cells if cell and cell != "-"]
    if not cells or any(map(_is_number, cells)) or not all(_is_unit(cell) or _CODES.fullmatch(cell) for cell in cells):
        return False
    named = head.fields[subject].strip()
    without_id = holds_no_id(named) or named.casefold().strip("[]()") in _UNIT_WORDS
    # 6/12 may be a value of the first patient: it counts beside units only.
    return any(map(_is_unit, cells)) and (without_id or len(cells) > 1)


def _is_mostly_numbers(rows: Sequence[Sequence[str]], at: int) -> bool:
    held = [row[at].strip() for row in rows if row[at].strip() not in ALWAYS_MISSING]
    return bool(held) and sum(map(_is_number, held)) * 2 >= len(held)


def _is_number(text: str) -> bool:
    return bool(NUMBER.fullmatch(text) or COMMA_NUMBER.fullmatch(text))


def _is_unit(text: str) -> bool:
    plain = text.casefold().replace("\u00b5", "u").replace("\u03bc", "u").replace("\u00b0", "")
    plain = plain.replace("\u00f1", "n").replace("\u00e9", "e").replace("\u00e0", "a")
    return bool(plain in _UNIT_WORDS or plain == "c" or _PER.fullmatch(plain) or _BRACKETS.fullmatch(plain))
