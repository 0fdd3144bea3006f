"""Data dictionary: what a table's columns are, in which unit, and which of their values mean that the value is missing.

A hospital has one already, on paper or as a sheet. Here it is a TOML file, or a CSV file with one line per column; both
say for each column its type, its unit, its missing codes, whether a zero is possible, and its categories with their
meaning. It is taken into the dataset's options when a dataset is added, so that it is part of every cohort.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError

from archipel.vocabulary import BadInput, ErrorCode, Record, Thing, Value
from archipel.vocabulary.needs import Unit

ALWAYS_MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null"})
"""Texts that mean a missing value in any table, unless the dictionary has them among a column's categories."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?")


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
    where it has none ("").
    """

    type: Literal["number", "category", "text"]
    unit: Unit = ""
    missing: Codes = ()
    impossible_zero: bool = False
    categories: Categories = {}


class Dictionary(Record):
    """The columns of a table by name, in the file's order. Without a ``header`` they name the file's columns."""

    header: bool = True
    missing: Codes = ()
    column: dict[str, ColumnRule] = {}


class Misfit(ValueError):
    """A value that does not fit its column; the text is the cause."""


class ColumnReader:
    """Turns the texts of one column into values and counts the codes of missing values."""

    def __init__(self, rule: ColumnRule | None, missing: tuple[str, ...] = (), decimal: str = ".") -> None:
        self.rule = rule
        self._type = rule.type if rule else ""
        self._comma = decimal == ","
        categories = rule.categories if rule else {}
        self._categories = {_normal(code): meaning or _normal(code) for code, meaning in categories.items()}
        own = rule.missing if rule else ()
        self._missing = {_normal(code) for code in (*own, *missing)} | ALWAYS_MISSING - self._categories.keys()
        self._no_zero = rule is not None and rule.impossible_zero
        self.codes: dict[str, int] = {}

    def __call__(self, text: str) -> Value | None:
        """The value; None when it is missing. Raises Misfit."""
        text = text.strip()
        number = self._number(text)
        plain = text if number is None else f"{number:g}"
        if plain in self._missing or text in self._missing:
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

    def _count(self, code: str) -> None:
        if code:
            self.codes[code] = self.codes.get(code, 0) + 1

    def _number(self, text: str) -> float | None:
        if self._comma:
            if not _COMMA_NUMBER.fullmatch(text):
                return None
            text = text.replace(",", ".")
        elif not _NUMBER.fullmatch(text):
            return None
        number = float(text)
        if not math.isfinite(number):
            raise Misfit("is too large for a number")
        return number

    def _text(self, text: str) -> str:
        if self._type == "number":
            raise Misfit("has a decimal comma" if is_comma_number(text) else "is not a number")
        return self._category(text) if self._type == "category" else text

    def _category(self, code: str) -> str:
        if not self._categories:
            return code
        if code not in self._categories:
            raise Misfit("is not one of the dictionary's categories")
        return self._categories[code]


def is_comma_number(text: str) -> bool:
    """Whether it is a number with a decimal comma, as ``3,14``."""
    return "," in text and _COMMA_NUMBER.fullmatch(text.strip()) is not None


def _normal(code: str) -> str:
    """The form in which codes are compared: ``1``, ``1.0`` and ``+1`` are the same."""
    code = code.strip()
    return f"{float(code):g}" if _NUMBER.fullmatch(code) else code


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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ColumnRule.model_fields)
        raise BadInput(
            Thing.worded(f"{thing}: {where}", dictionary=path.name, where=where),
            str(first["msg"]),
            f"a column has: {known}",
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
