"""Texts that a site keeps and that may name a patient: after a withdrawal none of them does."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Connection, select, update

from archipel.data import pseudonym, subject_token
from archipel.data.formats import subject_id
from archipel.site.state import schema
from archipel.site.withdrawn import EVERYWHERE, OptOut, register

HIDDEN = "(withdrawn)"
_WORD = re.compile(r"[^\W_]+")
_tasks, _exclusions, _datasets = schema.tasks, schema.exclusions, schema.datasets


def forget(connection: Connection, cohort_key: bytes, gone: Sequence[OptOut]) -> None:
    """Take the patients' ids and pseudonyms out of errors, exclusions and what is known of columns."""
    spelt = {form for one in gone for form in _spellings(one.subject)}
    _in_errors(connection, spelt | {pseudonym(one, cohort_key) for one in spelt})
    for one in gone:
        _in_exclusions(connection, cohort_key, one)
    _in_columns(connection, gone)


def mask_in_logs(logs: Path, cohort_key: bytes, gone: Sequence[OptOut]) -> None:
    """Write over the patients' ids and pseudonyms in what plans printed. A log keeps its length, as a worker may be
    writing at its end. Raises OSError."""
    spelt = {form for one in gone for form in _spellings(one.subject)}
    named = _Named(spelt | {pseudonym(one, cohort_key) for one in spelt})
    for path in sorted(logs.glob("*.log*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("r+b") as file:
            content = file.read().decode("utf-8", "surrogateescape")
            before, at = 0, 0
            for start, end in named.places(content):
                at += _bytes(content[before:start])
                file.seek(at)
                file.write(b"*" * _bytes(content[start:end]))
                at, before = at + _bytes(content[start:end]), end


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def exclude_again(connection: Connection, cohort_key: bytes, back: OptOut) -> None:
    """A patient who is reinstated stays excluded where a person excluded them, and unnamed where still withdrawn."""
    token = subject_token(back.subject, cohort_key)
    mine = (_exclusions.c.subject == token, *_of(back.dataset, _exclusions.c.dataset))
    for name in connection.scalars(select(_exclusions.c.dataset).where(*mine)).all():
        if token not in register.tokens_out_of(connection, name):
            where = (_exclusions.c.subject == token, _exclusions.c.dataset == name)
            connection.execute(update(_exclusions).where(*where).values(subject=subject_id(back.subject)))


def _spellings(subject: str) -> set[str]:
    return {subject, *(unicodedata.normalize(form, subject) for form in ("NFC", "NFD"))}


class _Named:
    """Finds ids in texts, but not within the letters and numbers of another one; as fast for many ids as for one."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._by_word: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for one in sorted(ids, key=len, reverse=True):
            first = _WORD.search(one)
            if first is not None:
                self._by_word[first[0]].append((one, first.start()))

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where each id begins and ends, in order."""
        done = 0
        for word in _WORD.finditer(text):
            for one, offset in self._by_word.get(word[0], ()):
                start, end = word.start() - offset, word.start() - offset + len(one)
                goes_on = end < len(text) and one[-1].isalnum() and text[end].isalnum()
                if start >= done and not goes_on and text.startswith(one, start):
                    yield start, end
                    done = end
                    break

    def hidden(self, text: str) -> str:
        """The text with another word in the place of each id."""
        parts, before = [], 0
        for start, end in self.places(text):
            parts += [text[before:start], HIDDEN]
            before = end
        return "".join((*parts, text[before:]))


def _of(dataset: str, column: Column[str]) -> tuple[ColumnElement[bool], ...]:
    return () if dataset == EVERYWHERE else (column == dataset,)


def _in_errors(connection: Connection, ids: Iterable[str]) -> None:
    """The full texts of errors quote data, and a person reads them or releases them later."""
    named = _Named(ids)
    key = tuple(_tasks.primary_key)
    for row in connection.execute(select(*key, _tasks.c.detail).where(_tasks.c.detail.is_not(None))).all():
        detail = named.hidden(row.detail)
        if detail != row.detail:
            same = [column == row._mapping[column.name] for column in key]
            connection.execute(update(_tasks).where(*same).values(detail=detail))


def _in_exclusions(connection: Connection, cohort_key: bytes, one: OptOut) -> None:
    """Their token takes the id's place: a patient who is reinstated is excluded again."""
    mine = (_exclusions.c.subject.in_(_spellings(one.subject)), *_of(one.dataset, _exclusions.c.dataset))
    token = subject_token(one.subject, cohort_key)
    connection.execute(update(_exclusions).where(*mine).values(subject=token))


def _in_columns(connection: Connection, gone: Sequence[OptOut]) -> None:
    """A column of a small table may repeat the ids, and its values are then categories."""
    for row in connection.execute(select(_datasets.c.name, _datasets.c.summary)).all():
        ids = {form for one in gone if one.dataset in (EVERYWHERE, row.name) for form in _spellings(one.subject)}
        summary = json.loads(row.summary or "{}")
        found = [
            (column["categories"], name)
            for column in summary.get("columns", {}).values()
            for name in column.get("categories", {})
            if name in ids
        ]
        for categories, name in found:
            del categories[name]
        if found:
            connection.execute(
                update(_datasets).where(_datasets.c.name == row.name).values(summary=json.dumps(summary))
            )
