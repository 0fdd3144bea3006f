"""Samples of a dataset in columns: a million of them take some 70 MB, where as many records would take gigabytes.

A record is made when a sample is asked for. What many samples have in common (their file, a column that is missing, a
class) is kept once.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from archipel.data.canonical_samples import SampleRow, canonical_lines, hash_of_lines
from archipel.data.digests import Digests, hex_of
from archipel.data.samples import Sample, sample_name
from archipel.data.text_columns import TextBuilder, TextColumn
from archipel.vocabulary import Value

_REST = ("channels", "file_hashes", "files", "missing", "values")
_MOST_PARSED = 512
_AT_ONCE = 4096
_OF_A_RECORD = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_DEFAULTS = {name: field.get_default() for name, field in Sample.model_fields.items() if not field.is_required()}
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Samples(Sequence[Sample]):
    """Samples in order, one row each.

    ``subjects`` and ``sessions`` are texts, ``digests`` the content's hashes, ``rows`` int64 (-1 for none). ``kinds``
    uint32 is each sample's place in ``others``: the rest of the record as JSON, with the hash's scheme, each
    once. Equal to any sequence of the same samples; nothing changes it.
    """

    def __init__(
        self, subjects: TextColumn, sessions: TextColumn, digests: Digests, rows: NDArray[np.int64],
        kinds: NDArray[np.uint32], others: TextColumn,
    ) -> None:  # fmt: skip
        self.subjects_of_rows, self.sessions, self.digests = subjects, sessions, digests
        self.rows, self.kinds, self.others = rows, kinds, others
        # Fields of Sample, as a record would take them.
        self._parsed: dict[int, dict[str, Any]] = {}
        self._all: tuple[Sample, ...] | None = None
        self._content = ""
        self._firsts: NDArray[np.int64] | None = None
        self._subjects: TextColumn | None = None
        self._is_sorted: bool | None = None

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """The samples in columns, in the order given; samples that are in columns already, as they are."""
        if isinstance(samples, Samples):
            return samples
        built = SamplesBuilder()
        for sample in samples:
            built.add(sample)
        return built.samples()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a record: samples in columns as they are, any others as a tuple would take them; in JSON a list."""
        listed = handler.generate_schema(tuple[Sample, ...])
        made = core_schema.no_info_after_validator_function(cls.of, listed)
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), made],
            mode="left_to_right",
            serialization=core_schema.plain_serializer_function_ser_schema(tuple, return_schema=listed),
        )

    def __len__(self) -> int:
        return len(self.kinds)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Samples: ...
    def __getitem__(self, place: int | slice) -> Sample | Samples:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        at = range(len(self))[place]
        digest = self.digests[at : at + 1].tobytes().hex()
        return self._made(self.subjects_of_rows[at], self.sessions[at], digest, int(self.rows[at]), int(self.kinds[at]))

    def __iter__(self) -> Iterator[Sample]:
        if len(self) > _MOST_PARSED:
            return (self._made(*row) for row in self._each_row())
        # A report asks for all of them twenty times.
        if self._all is None:
            self._all = tuple(self._made(*row) for row in self._each_row())
        return iter(self._all)

    def _each_row(self) -> Iterator[SampleRow]:
        digests, rows, kinds = hex_of(self.digests), _numbers(self.rows), _numbers(self.kinds)
        return zip(self.subjects_of_rows, self.sessions, digests, rows, kinds, strict=True)

    def each_key(self) -> Iterator[tuple[str, str]]:
        """Subject and session of each sample."""
        return zip(self.subjects_of_rows, self.sessions, strict=True)

    def hashes(self) -> Iterator[str]:
        """The hash of each sample's content."""
        for digest, kind in zip(hex_of(self.digests), _numbers(self.kinds), strict=True):
            yield self._other(kind)["hash"] + digest

    def hash_rows(self) -> NDArray[np.uint8]:
        """The digests as uint8 ``[N, 32]``."""
        return self.digests.view(np.uint8).reshape(-1, 32)

    @property
    def names(self) -> Sequence[str]:
        """Each sample's name in errors and plans."""
        if not len(self.sessions.buffer):
            return self.subjects_of_rows
        return TextColumn.of(sample_name(subject, session) for subject, session in self.each_key())

    @property
    def subjects(self) -> TextColumn:
        """The subjects in order, each once."""
        if self._subjects is None and self.is_sorted:
            firsts = self._first_rows()
            self._subjects = self.subjects_of_rows if len(firsts) == len(self) else self.subjects_of_rows.take(firsts)
        if self._subjects is None:
            self._subjects = TextColumn.of(sorted(set(self.subjects_of_rows)))
        return self._subjects

    def _first_rows(self) -> NDArray[np.int64]:
        """The first row of each subject, of samples that are in order."""
        if self._firsts is None:
            before: bytes | None = None
            found = array("q")
            for place, subject in enumerate(self.subjects_of_rows.encoded()):
                if subject != before:
                    found.append(place)
                before = subject
            self._firsts = np.array(found, np.int64)
        return self._firsts

    @property
    def is_sorted(self) -> bool:
        """Whether they are in the order of subject and session."""
        if self._is_sorted is None:
            self._is_sorted = all(before <= key for before, key in pairwise(self._orders()))
        return self._is_sorted

    def _orders(self) -> Iterator[bytes]:
        """Something for each sample that sorts as its key does: no id holds a control character."""
        keys = zip(self.subjects_of_rows.encoded(), self.sessions.encoded(), strict=True)
        return (subject + b"\0" + session for subject, session in keys)

    def sorted(self) -> Samples:
        """The same samples in the order of subject and session."""
        if self.is_sorted:
            return self
        orders = list(self._orders())
        return self.take(np.array(sorted(range(len(self)), key=orders.__getitem__), np.int64))

    @property
    def names_each_once(self) -> bool:
        """Whether no subject's session is there twice, of samples that are in order."""
        before: bytes | None = None
        for key in self._orders():
            if key == before:
                return False
            before = key
        return True

    def take(self, places: NDArray[Any]) -> Samples:
        """The samples at these places, in this order: whole numbers, or one true or false for each sample.

        Nothing of the other samples is in it.
        """
        chosen, kinds = np.unique(self.kinds[places], return_inverse=True)
        taken = Samples(
            self.subjects_of_rows.take(places),
            self.sessions.take(places),
            self.digests[places],
            self.rows[places],
            kinds.astype(np.uint32),
            self.others.take(chosen),
        )
        taken._is_sorted = (self._is_sorted and places.dtype == np.bool_) or None
        return taken

    def compact(self) -> Samples:
        """The same samples without kinds that no sample is of."""
        there = np.zeros(len(self.others), np.bool_)
        there[self.kinds] = True
        return self if there.all() else self.take(np.arange(len(self)))

    def without_files(self) -> Samples:
        """The same samples without what is known of their files."""
        built, kinds = SamplesBuilder(), array("I")
        for other in self.others:
            rest = json.loads(other)
            scheme = rest.pop("hash").removesuffix(":")
            kinds.append(
                built.kind(scheme, {name: rest[name] for name in rest if name != "file_hashes"} | {"files": {}})
            )
        of_each = np.array(kinds, np.uint32)[self.kinds]
        others = built.samples().others
        return Samples(self.subjects_of_rows, self.sessions, self.digests, self.rows, of_each, others)

    def renamed(self, keys: Iterable[tuple[str, str]]) -> Samples:
        """The same samples with another subject and session each, in the order of these."""
        subjects, sessions = TextBuilder(), TextBuilder()
        for subject, session in keys:
            subjects.add(subject)
            sessions.add(session)
        columns = subjects.column(), sessions.column()
        return Samples(*columns, self.digests, self.rows, self.kinds, self.others).sorted()

    def of_subjects(self, subjects: frozenset[str], *, inside: bool = True) -> Samples:
        """The samples of these subjects or, with ``inside`` false, of all others."""
        chosen = np.fromiter(((one in subjects) == inside for one in self.subjects_of_rows), np.bool_, len(self))
        return self if chosen.all() else self.take(chosen)

    def of_kinds(self, chosen: Callable[[int], bool]) -> Samples:
        """The samples of some kinds, by what ``rest`` has of each."""
        kinds = np.fromiter((chosen(kind) for kind in range(len(self.others))), np.bool_, len(self.others))
        return self if kinds.all() else self.take(kinds[self.kinds])

    def values(self, name: str) -> Iterator[tuple[str, Value]]:
        """The subject and the value of each sample that has a value of this name."""
        with_it = {kind for kind in range(len(self.others)) if name in self._other(kind).get("values", {})}
        if not with_it:
            return
        for subject, kind in zip(self.subjects_of_rows, _numbers(self.kinds), strict=True):
            if kind in with_it:
                yield subject, self._other(kind)["values"][name]

    @property
    def have_values(self) -> bool:
        """Whether any sample has values beside its files."""
        return any('"values":' in other and json.loads(other).get("values") for other in self.others)

    @property
    def places(self) -> set[str]:
        """The files of all samples, as places in the dataset's folder."""
        return {place for other in self.others for place in json.loads(other)["files"].values()}

    def by_file(self) -> dict[str, Samples]:
        """The samples by their first file, each group in the order of all."""
        firsts = [next(iter(json.loads(other)["files"].values())) for other in self.others]
        numbers = {place: number for number, place in enumerate(dict.fromkeys(firsts))}
        if len(numbers) <= 1:
            return dict.fromkeys(numbers, self)
        file_of = np.array([numbers[first] for first in firsts], np.int64)[self.kinds]
        order = np.argsort(file_of, kind="stable")
        ends = np.cumsum(np.bincount(file_of, minlength=len(numbers)))
        parts = np.split(order, ends[:-1])
        return {place: self.take(part) for place, part in zip(numbers, parts, strict=True)}

    def content(self) -> str:
        """The SHA-256, in hex digits, of ``canonical_lines``."""
        if not self._content:
            self._content = hash_of_lines(self.canonical_lines())
        return self._content

    def canonical_lines(self) -> Iterator[bytes]:
        """Each sample's canonical JSON (RFC 8785; fields at their default left out) and a line feed."""
        return canonical_lines(self._each_row(), self._other)

    def _made(self, subject: str, session: str, digest: str, row: int, kind: int) -> Sample:
        """A record, as pydantic makes one, but not checked again: that takes ten times as long."""
        rest = dict(self._other(kind))
        rest["subject"] = subject
        rest["hash"] += digest
        if session:
            rest["session"] = session
        if row >= 0:
            rest["row"] = row
        made = Sample.__new__(Sample)
        parts = (_DEFAULTS | rest, set(rest), None, None)
        for name, part in zip(_OF_A_RECORD, parts, strict=True):
            object.__setattr__(made, name, part)
        return made

    def rest(self, kind: int) -> dict[str, Any]:
        """What samples of a kind have beside subject, session, row and content; ``hash`` is the scheme alone."""
        return dict(self._other(kind))

    def _other(self, kind: int) -> dict[str, Any]:
        """As ``rest``; what is parsed is kept, so it must not be changed."""
        if kind not in self._parsed:
            if len(self._parsed) >= _MOST_PARSED:
                self._parsed.clear()
            parsed = json.loads(self.others[kind])
            if "missing" in parsed:
                parsed["missing"] = tuple(parsed["missing"])
            self._parsed[kind] = parsed
        return self._parsed[kind]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Samples: {len(self)}>"


def _numbers(column: NDArray[Any]) -> Iterator[int]:
    """The numbers of a column as Python's own, some thousands at a time."""
    for first in range(0, len(column), _AT_ONCE):
        yield from column[first : first + _AT_ONCE].tolist()


class SamplesBuilder:
    """Collects samples one by one."""

    def __init__(self) -> None:
        self._subjects, self._sessions, self._others = TextBuilder(), TextBuilder(), TextBuilder()
        self._digests, self._rows, self._kinds = bytearray(), array("q"), array("I")
        self._known: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, sample: Sample) -> None:
        """One more sample."""
        scheme, _, digest = sample.hash.partition(":")
        beside = {name: getattr(sample, name) for name in _REST}
        kind = self.kind(scheme, {name: value for name, value in beside.items() if value or name == "files"})
        self.add_row(sample.subject, sample.session, bytes.fromhex(digest), sample.row, kind)

    def kind(self, scheme: str, beside: dict[str, Any]) -> int:
        """The number of what samples have beside subject, session, row and content: fields of ``Sample`` that are not
        at their default, and ``files``."""
        text = _compact({"hash": f"{scheme}:"} | beside)
        if text not in self._known:
            self._known[text] = len(self._known)
            self._others.add(text)
        return self._known[text]

    def add_row(self, subject: str, session: str, digest: bytes, row: int | None, kind: int) -> None:
        """One more sample, from values that a record would take."""
        self._subjects.add(subject)
        self._sessions.add(session)
        self._digests += digest
        self._rows.append(-1 if row is None else row)
        self._kinds.append(kind)

    def samples(self) -> Samples:
        """All of them; nothing is added afterwards."""
        return Samples(
            self._subjects.column(),
            self._sessions.column(),
            np.frombuffer(self._digests, "S32"),
            np.frombuffer(self._rows, np.int64),
            np.frombuffer(self._kinds, np.uint32),
            self._others.column(),
        )
