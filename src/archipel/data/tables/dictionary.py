"""Data dictionary: what a table's columns are, in which unit, and which of their values mean that the value is missing.

A hospital has one already, on paper or as a sheet. Here it is a TOML file, or a CSV file with one line per column; both
say for each column its type, its unit, its missing codes, whether a zero is possible, and its categories with their
meaning. It is taken into the dataset's options when a dataset is added, so that it is part of every cohort.
"""

from __future__ import annotations

import csv
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError

from archipel.data.tables.cells import COMMA_NUMBER, NUMBER, hexadecimal, is_comma_number, limit_of, without_thousands
from archipel.data.tables.identifiers import identifying_text
from archipel.vocabulary import BadInput, ErrorCode, Record, Thing, Value
from archipel.vocabulary.needs import Unit
from archipel.vocabulary.wrong_values import wrong_value

ALWAYS_MISSING = frozenset(
    {"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "<NA>", "NaT", "n.a.", "N.A.", "k.A.", "k. A."}
)
"""Texts that mean a missing value in any table, unless the dictionary has them among a column's categories."""
PHRASES = frozenset(
    ("keine angabe", "keine angaben", "nicht angegeben", "nicht erhoben", "nicht verf\u00fcgbar", "not available",
     "not applicable", "not reported", "not recorded", "no data", "non disponible", "non renseign\u00e9",
     "non disponibile", "no disponible", "sin datos", "niet beschikbaar", "n\u00e3o dispon\u00edvel", "sem dados",
     "brak danych", "uppgift saknas", "inga uppgifter", "k.a.", "k. a.", "keine ang.")
)  # fmt: skip
"""The same in words, in lower case; they are written with any capital letters."""
_LONGEST_PHRASE = max(map(len, PHRASES)) + 1
NOT_A_NUMBER = "not a number"
"""Under this code the cells are counted that are missing because they are not numbers."""
LIMITS_OF = "_censored"
"""What a censored column's name and this make the name of the column that says which values are limits."""


def _texts(given: Any) -> Any:
    return [str(one) for one in given] if isinstance(given, list | tuple) else given


def _names(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return {str(one): "" for one in given}
    return given


Codes = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Categories = Annotated[dict[str, str], BeforeValidator(_names)]


class ColumnRule(Record):
    """What is known of a column before it is read.

    ``missing`` are codes of missing values, beside the usual ones; ``impossible_zero`` says that a 0 was
    never measured. ``categories`` maps each code that may occur to what it means; plans see the meaning, or the code
    where it has none (""). A ``censored`` column holds numbers and limits as ``<50`` and ``89+``: plans see the limit
    in the place of the value, and in a column of its own which values are limits. The ``unit`` may follow each number
    of such a column. ``odd`` says what becomes of a cell that is not a number in a column of numbers: an ``error`` of
    its row, or ``missing``.
    """

    type: Literal["number", "censored", "category", "text"]
    unit: Unit = ""
    missing: Codes = ()
    impossible_zero: bool = False
    odd: Literal["error", "missing"] = "error"
    categories: Categories = {}


class Dictionary(Record):
    """The columns of a table by name, in the file's order. Without a ``header`` they name the file's columns."""

    header: bool = True
    missing: Codes = ()
    column: dict[str, ColumnRule] = {}


class Misfit(ValueError):
    """A value that does not fit its column; the text is the cause."""


@dataclass(frozen=True)
class NumberMarks:
    """How numbers are written: the decimal mark, and the marks that may stand between thousands ("" none)."""

    decimal: str = "."
    thousands: str = ""

    def number(self, text: str) -> float | None:
        """The number that a text is; None when it is not one. It may be infinite."""
        if self.thousands:
            text = without_thousands(text, self.thousands, self.decimal)
        if self.decimal == ",":
            return float(text.replace(",", ".")) if COMMA_NUMBER.fullmatch(text) else None
        return float(text) if NUMBER.fullmatch(text) else None


POINT = NumberMarks()


def _plain_number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def _may_be_number(code: str) -> bool:
    try:
        return math.isfinite(float(code))
    except ValueError:
        return False


class ColumnReader:
    """Turns the texts of one column into values and counts the codes of missing values.

    Without ``keeps_identifiers`` a cell that certainly identifies a person has no value; ``identifiers`` counts them.
    """

    def __init__(
        self,
        rule: ColumnRule | None,
        missing: tuple[str, ...] = (),
        marks: NumberMarks = POINT,
        *,
        keeps_identifiers: bool = False,
    ) -> None:
        self.rule = rule
        self._type = rule.type if rule else ""
        self._is_number = self._type in ("number", "censored")
        self._read = _plain_number if marks is POINT else marks.number
        self._keeps = keeps_identifiers
        categories = rule.categories if rule else {}
        self._categories = {_normal(code): meaning or _normal(code) for code, meaning in categories.items()}
        own = rule.missing if rule else ()
        self._missing = {_normal(code) for code in (*own, *missing)} | ALWAYS_MISSING - self._categories.keys()
        self._no_zero = rule is not None and rule.impossible_zero
        self._odd_is_missing = rule is not None and rule.odd == "missing"
        self._unit = rule.unit if rule and self._is_number else ""
        # Where no number means anything else, a text that is one needs no more looks.
        self._is_as_written = (
            self._type in ("", "number", "censored")
            and not self._no_zero
            and not any(map(_may_be_number, self._missing))
        )
        self.codes: dict[str, int] = {}
        self.limits = 0
        self.identifiers: dict[str, int] = {}

    @property
    def keeps_identifiers(self) -> bool:
        """Whether a person asked for the column, whatever it holds."""
        return self._keeps

    def __call__(self, text: str) -> Value | None:
        """The value; None when it is missing. Raises Misfit."""
        text = text.strip()
        number = self._number(text)
        if number is not None and self._is_as_written and text[0] != "+":
            return number
        # A telephone number is a number with its sign.
        if (number is None or text[0] == "+") and not self._keeps and (what := identifying_text(text)):
            self.identifiers[what] = self.identifiers.get(what, 0) + 1
            return None
        plain = text if number is None else f"{number:g}"
        if plain in self._missing or text in self._missing or (number is None and self._says_missing(text)):
            self._count(plain)
            return None
        if number is None:
            return self._text(text)
        if number == 0 and self._no_zero:
            self._count("impossible 0")
            return None
        if self._type == "category":
            return self._category(plain)
        return text if self._type == "text" else number

    def _says_missing(self, text: str) -> bool:
        return len(text) < _LONGEST_PHRASE and text.casefold() in PHRASES and text not in self._categories

    def _count(self, code: str) -> None:
        if code:
            self.codes[code] = self.codes.get(code, 0) + 1

    def _number(self, text: str) -> float | None:
        # A declared number may be written in another way that has exactly the same value.
        if self._is_number:
            text = self._without_unit(text.replace("\u2212", "-", 1))
            if text[:2] in ("0x", "0X") and (found := hexadecimal(text)) is not None:
                return found
        number = self._read(text)
        return number if number is None or math.isfinite(number) else None

    def _without_unit(self, text: str) -> str:
        """The number alone where the declared unit follows it."""
        if not self._unit or not text.endswith(self._unit):
            return text
        alone = text.removesuffix(self._unit)
        # In the unit 1 the number 201 is not 20.
        is_apart = alone[-1:].isspace() or not (self._unit[0].isdigit() or self._unit[0] in ".,")
        return alone.rstrip() if is_apart else text

    def _text(self, text: str) -> Value | None:
        if self._type == "category":
            return self._category(text)
        if not self._is_number:
            return text
        found = limit_of(self._without_unit(text)) if self._type == "censored" else None
        number = self._number(found.number) if found else None
        if number is not None:
            self.limits += 1
            return number
        if self._odd_is_missing:
            self._count(NOT_A_NUMBER)
            return None
        raise Misfit("has a decimal comma" if is_comma_number(text) else f"is {shorten(text)}, not a number")

    def _category(self, code: str) -> str:
        if not self._categories:
            return code
        if code not in self._categories:
            raise Misfit(f"is {shorten(code)}, not one of the dictionary's categories")
        return self._categories[code]


class LimitReader(ColumnReader):
    """Says of each value of a censored column whether it is ``below`` or ``above`` a limit, or was ``measured``."""

    def __init__(
        self,
        rule: ColumnRule,
        missing: tuple[str, ...] = (),
        marks: NumberMarks = POINT,
        *,
        keeps_identifiers: bool = False,
    ) -> None:
        super().__init__(rule, missing, marks, keeps_identifiers=keeps_identifiers)
        self.rule = ColumnRule(type="category", categories={"below": "", "measured": "", "above": ""})

    def __call__(self, text: str) -> Value | None:
        """None when the value is missing. Raises Misfit."""
        if super().__call__(text) is None:
            return None
        found = limit_of(self._without_unit(text.strip()))
        return found.side if found else "measured"


def shorten(text: str) -> str:
    """A cell's text as a sentence shows it."""
    plain = " ".join(text.split())
    return plain if len(plain) <= 40 else plain[:37] + "..."


def _normal(code: str) -> str:
    """The form in which codes are compared: ``1``, ``1.0`` and ``+1`` are the same."""
    code = code.strip()
    return f"{float(code):g}" if NUMBER.fullmatch(code) else code


_Cell = str | bool | list[str] | dict[str, str]
"""The value of a cell of a dictionary in CSV."""


def read_dictionary(path: Path) -> Dictionary:
    """The dictionary in a ``.toml`` or ``.csv`` file. Raises BadInput naming the line or key that is wrong."""
    thing = Thing("dictionary", path.name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInput(thing, f"cannot be read ({reason})", "name a .toml or .csv file in UTF-8") from error
    try:
        document = tomllib.loads(text) if path.suffix == ".toml" else _from_csv(thing, text)
        return Dictionary.model_validate(document)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(thing, f"is not TOML: {error}", "fix it", code=ErrorCode.BAD_INPUT) from error
    except ValidationError as error:
        wrong = wrong_value(error, Dictionary)
        known = ", ".join(ColumnRule.model_fields)
        raise BadInput(
            Thing.worded(f"{thing}: {wrong.place}", dictionary=path.name, where=wrong.place),
            wrong.cause,
            f"{wrong.remedy}; a column has: {known}",
        ) from error


def _from_csv(thing: str, text: str) -> dict[str, dict[str, dict[str, _Cell]]]:
    """Lines of column, type, unit, missing (``?|-9999``), impossible_zero (yes) and categories (``0=no|1=yes``)."""
    sheet = csv.DictReader(text.splitlines(), delimiter=";" if text.partition("\n")[0].count(";") else ",")
    given = {name.strip() for name in sheet.fieldnames or ()}
    known = {"column", *ColumnRule.model_fields}
    if not {"column", "type"} <= given or not given <= known:
        cause = f"has the columns {', '.join(sorted(given)) or 'none'}"
        raise BadInput(thing, cause, f"give column and type, and of {', '.join(ColumnRule.model_fields)} what is known")
    columns: dict[str, dict[str, _Cell]] = {}
    for line in sheet:
        cells = {str(name).strip(): (cell or "").strip() for name, cell in line.items() if not isinstance(cell, list)}
        name = cells.pop("column")
        if not name or name in columns:
            cause = "has no name" if not name else "is there twice"
            raise BadInput(
                Thing.worded(f"{thing}: line {sheet.line_num}: column {name}", line=sheet.line_num, column=name),
                cause,
                "name each column once",
            )
        columns[name] = {key: _cell(key, cell) for key, cell in cells.items() if cell}
    return {"column": columns}


def _cell(key: str, cell: str) -> _Cell:
    match key:
        case "missing":
            return cell.split("|")
        case "categories":
            pairs = (one.partition("=") for one in cell.split("|"))
            return {code.strip(): meaning.strip() for code, _, meaning in pairs}
        case "impossible_zero":
            return {"yes": True, "no": False}.get(cell.lower(), cell)
    return cell
