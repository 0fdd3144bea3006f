"""Identity and insurance numbers of persons, by their form and check digits.

Where nothing else has the form of a number (``756.1234.5678.97``), one cell is certain. Of a plain number with a check
digit every tenth or so is right by chance, so that nothing but a column in which all are right says that it is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from archipel.data.tables.identifier_words import INSURANCE, PHONE

MOST_BY_CHANCE = 1e-6
"""How probable it may be that a column of other numbers fits by chance."""
SHARE = 0.9
"""The share of a column's values that must fit."""
_LOOKED_AT = 20
"""Values after which a column of which few fit is not looked at any more."""
_SIGNS = re.compile(r"[\s.\-/]")


class PersonalNumber(NamedTuple):
    """A kind of number: its form without signs, whether it is one, and how often another text of the form is by
    chance."""

    name: str
    form: re.Pattern[str]
    is_right: Callable[[str], bool]
    chance: float
    what: str = INSURANCE


def _weighted(text: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(text, weights, strict=False))


def _is_ahv(text: str) -> bool:
    """Switzerland: the check digit of EAN-13 after 756."""
    return (10 - _weighted(text, (1, 3) * 6) % 10) % 10 == int(text[12])


def _is_nir(text: str) -> bool:
    """France: 97 less the rest of the division by 97; Corsica's 2A and 2B stand for 19 and 18."""
    plain = text[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(plain) % 97 == int(text[13:])


def _is_bsn(text: str) -> bool:
    """The Netherlands: the test by eleven."""
    padded = text.zfill(9)
    return int(padded) > 0 and _weighted(padded, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _is_nhs(text: str) -> bool:
    """United Kingdom: the check digit by modulus 11."""
    check = 11 - _weighted(text, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == int(text[9])


_OF_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_OF_LETTERS = (*_OF_DIGITS, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (*_OF_DIGITS, *_OF_LETTERS), strict=True))
_EVEN = {sign: int(sign) if sign.isdigit() else ord(sign) - ord("A") for sign in _ODD}
"""What a sign of the codice fiscale counts at an odd and at an even place, from 1."""


def _is_codice_fiscale(text: str) -> bool:
    """Italy: the check letter after fifteen characters, by their places."""
    total = sum((_EVEN if place % 2 else _ODD)[sign] for place, sign in enumerate(text[:15]))
    return chr(ord("A") + total % 26) == text[15]


def _is_kvnr(text: str) -> bool:
    """Germany: the letter's place in two digits and eight digits, weighted 1 and 2 in turn, their digits modulo 10."""
    digits = f"{ord(text[0]) - ord('A') + 1:02}{text[1:9]}"
    products = (int(digit) * (1 + place % 2) for place, digit in enumerate(digits))
    return sum(product // 10 + product % 10 for product in products) % 10 == int(text[9])


def _is_dni(text: str) -> bool:
    """Spain: the letter by the rest of the division by 23; X, Y and Z of foreigners stand for 0, 1 and 2."""
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def _is_pesel(text: str) -> bool:
    """Poland: a birth date, the century added to its month, and a check digit."""
    month = int(text[2:4]) % 20
    check = (10 - _weighted(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10
    return _is_day(2000 + int(text[:2]), month, int(text[4:6])) and check == int(text[10])


def _is_personnummer(text: str) -> bool:
    """Sweden: a birth date, the day of coordination numbers 60 greater, and the check digit of Luhn."""
    ten = text[-10:]
    products = (int(digit) * (2 - place % 2) for place, digit in enumerate(ten))
    total = sum(product // 10 + product % 10 for product in products)
    return total % 10 == 0 and _is_day(2000 + int(ten[:2]), int(ten[2:4]), int(ten[4:6]) % 60)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        # 29 February of another century.
        return (month, day) == (2, 29)
    return True


def _always(text: str) -> bool:
    return True


_BIRTH_MONTH = "(?:0[1-9]|1[0-2]|[2-4][0-9]|[5-9][0-9])"
_AHV = PersonalNumber("AHV number", re.compile(r"756\d{10}"), _is_ahv, 1e-4)
_NIR = PersonalNumber("NIR", re.compile(rf"[12]\d{{2}}{_BIRTH_MONTH}(?:\d{{2}}|2[AB])\d{{8}}"), _is_nir, 2e-3)
_FISCAL = PersonalNumber(
    "codice fiscale", re.compile(r"[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"), _is_codice_fiscale, 1e-6
)
PERSONAL_NUMBERS = (
    _AHV,
    _NIR,
    _FISCAL,
    PersonalNumber("BSN", re.compile(r"\d{8,9}"), _is_bsn, 1 / 11),
    PersonalNumber("NHS number", re.compile(r"\d{10}"), _is_nhs, 1 / 11),
    PersonalNumber("KVNR", re.compile(r"[A-Z]\d{9}"), _is_kvnr, 1 / 10),
    PersonalNumber("DNI", re.compile(r"[XYZ\d]\d{7}[A-Z]"), _is_dni, 1 / 23),
    PersonalNumber("PESEL", re.compile(r"\d{11}"), _is_pesel, 1 / 20),
    PersonalNumber("personnummer", re.compile(r"(?:19|20)?\d{10}"), _is_personnummer, 1 / 20),
    PersonalNumber("telephone number", re.compile(r"00(?:41[1-9]\d{8}|49[1-9]\d{8,11}|43[1-9]\d{6,11}|33[1-9]\d{8}|"
                   r"39[03]\d{8,9}|34[6-9]\d{8}|31[1-9]\d{8}|44[1-9]\d{9}|32[1-9]\d{7,8}|46[1-9]\d{7,9}|"
                   r"48[1-9]\d{8}|351[29]\d{8})|0(?:7[4-9]\d{7}|1[567]\d{8,9})"), _always, 9e-3, PHONE),
)  # fmt: skip
"""Numbers that are known when all of a column are right."""
_ONE_IS_CERTAIN: tuple[tuple[re.Pattern[str], PersonalNumber], ...] = (
    (re.compile(r"756[. ]\d{4}[. ]\d{4}[. ]\d{2}"), _AHV),
    (re.compile(r"[12] \d{2} \d{2} (?:\d{2}|2[AB]) \d{3} \d{3} \d{2}"), _NIR),
    (_FISCAL.form, _FISCAL),
)
"""Ways to write a number that nothing else has."""


def certain_number(text: str) -> bool:
    """Whether one cell is certainly a person's number, as it is written and by its check digit.

    >>> certain_number("756.9217.0769.85"), certain_number("756.9217.0769.84"), certain_number("7569217076985")
    (True, False, False)
    """
    return any(form.fullmatch(text) and kind.is_right(re.sub(r"[. ]", "", text)) for form, kind in _ONE_IS_CERTAIN)


class ColumnNumbers:
    """Finds the kind of personal number that a column holds, value by value."""

    def __init__(self) -> None:
        self._values = 0
        self._right: dict[PersonalNumber, int] = {}
        self._distinct: dict[PersonalNumber, set[str]] = {}
        self._is_looking = True

    @property
    def is_looking(self) -> bool:
        """Whether further values may change what is known."""
        return self._is_looking

    def add(self, text: str) -> None:
        """Count a value that is not missing."""
        if not self._is_looking:
            return
        self._values += 1
        plain = _SIGNS.sub("", text).upper()
        for kind in PERSONAL_NUMBERS if 8 <= len(plain) <= 16 else ():
            if kind.form.fullmatch(plain) and kind.is_right(plain):
                self._right[kind] = self._right.get(kind, 0) + 1
                distinct = self._distinct.setdefault(kind, set())
                if kind.chance ** len(distinct) > MOST_BY_CHANCE:
                    distinct.add(plain)
        if self._values == _LOOKED_AT and max(self._right.values(), default=0) < SHARE * _LOOKED_AT:
            self._is_looking = False

    @property
    def found(self) -> tuple[str, int] | None:
        """What the column holds, and in how many rows; None where that is not certain."""
        for kind, count in self._right.items():
            is_no_chance = kind.chance ** len(self._distinct[kind]) <= MOST_BY_CHANCE
            if self._is_looking and is_no_chance and count >= SHARE * self._values:
                return kind.what, count
        return None
