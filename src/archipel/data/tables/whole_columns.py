"""Columns of a small table that is in memory as a whole, beside volumes: read one by one, with what is suspicious."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from archipel.data.tables.cells import limit_of
from archipel.data.tables.column_tally import ColumnTally, empty_columns, unclear_marks
from archipel.data.tables.dictionary import LIMITS_OF, ColumnReader, ColumnRule
from archipel.data.tables.identifiers import identifying_column, second_id
from archipel.data.tables.odd_cells import as_typed, listed_columns
from archipel.data.tables.table_checks import asks_for_marks
from archipel.data.tables.table_files import TableFile
from archipel.data.tables.table_rows import number_marks, rules_with_units
from archipel.data.tables.text_tables import bad
from archipel.data.tables.yes_no import YesNoReader
from archipel.vocabulary import Value

_KINDS: tuple[Literal["number", "censored", "text"], ...] = ("number", "censored", "text")
_YES_NO = ("yes_no", "marked")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,15})")


class WholeColumns:
    """Reads columns one by one. ``options`` are those of ``COLUMN_OPTIONS``; ``table`` is None for a file that has
    nothing but ids.

    Raises BadInput for options that do not fit.
    """

    def __init__(self, path: Path, names: Sequence[str], table: TableFile | None, options: Mapping[str, str]) -> None:
        self._path, self._marks = path, number_marks(path, options)
        asked = {one: listed_columns(options, one, frozenset(names)) for one in (*_KINDS, *_YES_NO, "keep")}
        with_units = rules_with_units(path, options, names)
        asked["unit"] = tuple(with_units)
        self._kept = asked["keep"]
        self._rules = {name: ColumnRule(type=kind, odd="missing") for kind in _KINDS for name in asked[kind]}
        self._rules |= with_units
        self._yes_no = {name: option == "marked" for option in _YES_NO for name in asked[option]}
        self._nameless = table.nameless if table is not None else {}
        self._asks = table is not None and asks_for_marks(table, options)
        self._tallies: list[ColumnTally] = []
        self._personal: list[str] = []
        self._rows = 0
        self.absent = {name: option for option, known in asked.items() for name in known if name not in names}
        """Columns that an option names and the table does not have, with the option."""

    def names_a_person(self, name: str) -> bool:
        """Whether a column is left out because of its name, as another column has the ids."""
        if name in self._kept or not (identifying_column(name) or second_id(name)):
            return False
        self._personal.append(name)
        return True

    def values(self, name: str, texts: Mapping[str, str]) -> Mapping[str, Mapping[str, Value]]:
        """A column's values by subject, from the texts by subject: whole numbers, numbers or texts, which all of them
        are. Two columns, by name, of a censored one; none when its content identifies persons."""
        rule, keeps = self._rules.get(name), name in self._kept
        reader = ColumnReader(rule, marks=self._marks, keeps_identifiers=keeps)
        if name in self._yes_no:
            reader = YesNoReader(marks=self._marks, marked=self._yes_no[name], keeps_identifiers=keeps)
            rule = reader.rule
        tally = ColumnTally(name, reader, asks_for_mark=self._asks, nameless=self._nameless.get(name, 0))
        self._tallies.append(tally)
        self._rows = max(self._rows, len(texts))
        values: dict[str, Value] = {}
        for subject, text in texts.items():
            value = reader(text)
            tally.add(value, text, subject)
            if value is not None:
                values[subject] = value
        if tally.identifies:
            return {}
        if rule is None and _are_texts(texts, values):
            return {name: {subject: texts[subject] for subject in values}}
        is_plain = rule is None or (rule.type == "number" and not rule.unit)
        if is_plain and all(_WHOLE.fullmatch(texts[one]) for one in values):
            return {name: {subject: int(texts[subject]) for subject in values}}
        if rule is None or rule.type != "censored":
            return {name: values}
        limits = {subject: limit_of(texts[subject]) for subject in values}
        return {
            name: values,
            name + LIMITS_OF: {one: limit.side if limit else "measured" for one, limit in limits.items()},
        }

    def remarks(self, *, of_everybody: bool = True) -> list[tuple[str, str]]:
        """What a person should check, cause and remedy, when all columns are read.

        A column without values is said where the table is ``of_everybody``, not one patient's.
        Raises BadInput where points may stand between thousands or before decimals.
        """
        unclear = unclear_marks(self._tallies)
        if unclear is not None:
            raise bad(self._path, *unclear)
        empty = empty_columns(self._tallies, self._rows) if of_everybody else None
        found = [empty] if empty else []
        found += [remark for tally in self._tallies for remark in tally.suspicions()]
        if self._personal:
            cause = f"has columns that may name a person ({', '.join(self._personal)}); they are not used"
            remedy = f"if one does not, or is needed all the same: {as_typed('keep', self._personal[0])}"
            found.insert(0, (cause, remedy))
        return found


def _are_texts(texts: Mapping[str, str], values: Mapping[str, Value]) -> bool:
    """Whether a column without a rule is one of texts: one of them is, or they are ids with zeros before them."""
    padded = any(re.match(r"-?0[0-9]", texts[one]) for one in values)
    return padded or any(isinstance(value, str) for value in values.values())
