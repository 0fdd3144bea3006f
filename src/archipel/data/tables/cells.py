"""What a cell of a table is, by its text: a number as it is usually written, or a text that a person reads as one.

Only plain numbers are read as numbers. A limit (``<50``), a number with marks between its thousands, with a unit, or
an error of a spreadsheet is recognised, so that it can be named, and is never made into a number unasked.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Literal, NamedTuple

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA_NUMBER = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?")
SPACES = " \u00a0\u2009\u202f"
"""Spaces that stand between thousands: the usual one, and three that do not break a line."""
MARKS = {".": ".", ",": ",", "space": SPACES, "apostrophe": "'\u2019"}
"""Marks between thousands, by what a person calls them."""
THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+")
"""A number that may have points between its thousands, or a decimal point."""
NO_VALUE = frozenset(
    ("-", "--", "---", ".", "..", "/", "none", "unknown", "missing", "unbekannt", "inconnu", "desconocido",
     "sconosciuto", "onbekend", "desconhecido", "nieznane", "ok\u00e4nt")
)  # fmt: skip
"""Words that often mean a missing value, in lower case, and may be a value of a column of texts."""
_LONGEST_WORD = max(map(len, NO_VALUE)) + 1
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,13}")
_BELOW, _ABOVE = re.compile(r"[<\u2264]\s*=?\s*(.+)"), re.compile(r"[>\u2265]\s*=?\s*(.+)|(.+?)\s*\+")
_ERROR = re.compile(r"#(VALUE!|REF!|NAME\?|NUM!|NULL!|DIV/0!|N/A|SPILL!|CALC!|#+)", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}([ \u00a0\u2009\u202f'\u2019.,]\d{3})+([.,]\d+)?")
_MINUS = re.compile(r"[\u2212\u2013\u2010\u2011]\s?\d*[.,]?\d+")
_UNIT = re.compile(
    r"[+-]?\d+([.,]\d+)?(\s+[^\s\d]\S{0,11}|\s?(%|\u2030|\u00b0C?|mg|g|kg|mm|cm|ml|l|mo|yrs?|y)(/\S{1,6})?)"
)
_OTHER_DIGITS = re.compile(r"\d+(_\d+)+|[+-]?\d+[.,]?\d*[eEdD]|[+-]?inf(inity)?", re.IGNORECASE)


class Form(StrEnum):
    """What a text is that a person reads as a number, in words."""

    LIMIT = "a limit"
    ERROR = "an error of a spreadsheet"
    COMMA = "a number with a decimal comma"
    GROUPED = "a number with marks between its thousands"
    MINUS = "a number with another minus sign"
    UNIT = "a number with its unit"
    FORMULA = "a formula without its value"
    DIGITS = "a number in another notation"
    HEXADECIMAL = "a hexadecimal number"
    NO_VALUE = "a word for a missing value"


class Limit(NamedTuple):
    """What is known of a censored value: it is below or above a number, as it is written."""

    side: Literal["below", "above"]
    number: str


LONGEST = 200
"""Letters of a text that may be a number in any notation."""


@lru_cache(maxsize=4096)
def form_of(text: str) -> Form | None:
    """What a text is that is not a plain number; None when it has nothing of one."""
    if len(text) > LONGEST:
        return None
    if len(text) < _LONGEST_WORD and text.casefold() in NO_VALUE:
        return Form.NO_VALUE
    if _ERROR.fullmatch(text):
        return Form.ERROR
    if text[:1] == "0" and _HEXADECIMAL.fullmatch(text):
        return Form.HEXADECIMAL
    if text.startswith("=") and len(text) > 1:
        return Form.FORMULA
    if not any(map(str.isdigit, text)):
        return Form.DIGITS if _OTHER_DIGITS.fullmatch(text) else None
    if limit_of(text) is not None:
        return Form.LIMIT
    if _MINUS.fullmatch(text):
        return Form.MINUS
    if _GROUPED.fullmatch(text):
        return Form.COMMA if is_comma_number(text) else Form.GROUPED
    if is_comma_number(text):
        return Form.COMMA
    if NUMBER.fullmatch(text):
        # It has no finite value.
        return Form.DIGITS
    if _UNIT.fullmatch(text):
        return Form.UNIT
    return Form.DIGITS if _OTHER_DIGITS.fullmatch(text) else None


def unit_of(text: str) -> str:
    """What follows the number in a text that is a number with its unit; "" for another text.

    >>> unit_of("201 mg/dl"), unit_of("5%"), unit_of("p5")
    ('mg/dl', '%', '')
    """
    return re.sub(r"^[+-]?\d+([.,]\d+)?\s*", "", text) if _UNIT.fullmatch(text) else ""


def hexadecimal(text: str) -> float | None:
    """The number that 0x1f is; None for another text."""
    return float(int(text, 16)) if _HEXADECIMAL.fullmatch(text) else None


def limit_of(text: str) -> Limit | None:
    """The limit that ``<50``, ``>= 500`` or ``89+`` is; None for another text."""
    if len(text) > LONGEST:
        return None
    below, above = _BELOW.fullmatch(text), _ABOVE.fullmatch(text)
    number = below[1] if below else (above[1] or above[2]) if above else ""
    if not (NUMBER.fullmatch(number) or COMMA_NUMBER.fullmatch(number)):
        return None
    return Limit("below" if below else "above", number)


def is_comma_number(text: str) -> bool:
    """Whether it is a number with a decimal comma, as ``3,14``."""
    return "," in text and COMMA_NUMBER.fullmatch(text.strip()) is not None


def without_thousands(text: str, marks: str, decimal: str) -> str:
    """A number without the marks between its thousands; the text itself where they stand anywhere else.

    >>> without_thousands("1 200.5", " ", "."), without_thousands("1 20", " ", ".")
    ('1200.5', '1 20')
    """
    whole, point, fraction = text.partition(decimal)
    for mark in marks:
        if mark in whole:
            sign = whole[:1] if whole[:1] in ("+", "-") else ""
            first, *others = whole.removeprefix(sign).split(mark)
            if first.isdigit() and len(first) < 4 and all(len(one) == 3 and one.isdigit() for one in others):
                return f"{sign}{first}{''.join(others)}{point}{fraction}"
    return text
