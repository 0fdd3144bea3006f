"""Format ``npz``: one ``.npz`` file of arrays, one row per sample; only numpy is needed, so plans on arrays start fast.

Either arrays ``x``, ``y`` and ``subject``, the ids, with ``session`` where a patient has several rows; or as MedMNIST
has it: ``train_images`` with ``train_labels``, and the same for ``val`` and ``test``. Such a file has no ids: its rows
are called ``train-00000`` and so on. A ``y`` of numbers is given as it is stored; where its values have names, a plan
that names its classes gets ``y`` from its own list.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import SPLIT, TRAINING, VALIDATION
from archipel.data.files import Folder, LeavesOut, Purpose, data_changed, short_of_memory
from archipel.data.formats.base import Options
from archipel.data.formats.name_patterns import LONGEST_SESSION
from archipel.data.formats.npz_classes import RowClasses, classes_of
from archipel.data.formats.npz_files import Arrays, arrays_in
from archipel.data.limits import DataLimits
from archipel.data.sample_columns import SamplesBuilder
from archipel.data.sample_data import SampleData
from archipel.data.samples import CLASS, ColumnSummary, DataIssue, DataSchema, FoundValues, Sample, Scan, sample_name
from archipel.data.text_columns import TextBuilder, TextColumn
from archipel.data.volumes import names_in
from archipel.tensors import BlobHasher, is_finite
from archipel.vocabulary import ARRAY, BadInput, DataKind, Record, Thing
from archipel.vocabulary.counting import abbreviate

_SPLITS = {"train": TRAINING, "val": VALIDATION, "test": ""}
_FEW = 5
_EMPTY = DataSchema(kind="arrays")


class FoundRow(NamedTuple):
    """A row's subject and session, part of the file, number, digest and class, "" without."""

    subject: str
    session: str
    part: str
    row: int
    digest: bytes
    name: str


class NpzFacts(Record):
    """A file of arrays. ``parts`` are its parts with the number of rows of each, one without a name if it has none.

    ``ids`` are the sound rows' subjects, one a line, ``visits`` in the same way their sessions, ``digests`` the base64
    of their hashes, 32 bytes each, and ``faulty`` the numbers of the other rows, also those of patients who
    withdrew: in columns, as a file may have a million rows. ``arrays`` are type and shape of one sample by name.
    ``values`` is the range of the numbers in the sound rows' ``x``, None without any. ``classes`` are the names of
    classes, and ``places`` the base64 of each sound row's place in them, 2 bytes each; both are empty where rows have
    numbers without names.
    """

    parts: tuple[tuple[str, int], ...]
    ids: str
    visits: str = ""
    digests: str
    faulty: tuple[int, ...]
    arrays: dict[str, str]
    values: FoundValues | None = None
    classes: tuple[str, ...] = ()
    places: str = ""
    problems: tuple[DataIssue, ...]

    def rows(self) -> Iterator[FoundRow]:
        """Each sound row, in order."""
        digests, ids = base64.b64decode(self.digests), iter(TextColumn.of_lines(self.ids))
        visits = chain(iter(TextColumn.of_lines(self.visits or "")), repeat(""))
        places = iter(np.frombuffer(base64.b64decode(self.places), "<i2").tolist())
        faulty, row, at = frozenset(self.faulty), 0, 0
        for part, count in self.parts:
            for number in range(row, row + count):
                if number not in faulty:
                    name = self.classes[next(places)] if self.classes else ""
                    yield FoundRow(next(ids), next(visits), part, number, digests[at : at + 32], name)
                    at += 32
            row += count


class NpzTable:
    """One file of plain arrays."""

    name: ClassVar[str] = "npz"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = "one .npz file with arrays x, y and subject (and session), or as MedMNIST has it"
    options: ClassVar[Mapping[str, str]] = {
        "split": "own: train and validate on the rows that a MedMNIST file has for it; its test rows are left out",
        "classes": "the names of the values 0, 1, ... of y, or of its columns, in their order, for example "
        "normal,pneumonia (by default y has no names; a y that is text has them)",
    }

    def fits(self, folder: Folder) -> str:
        """One .npz file, or more."""
        return "it holds a .npz file" if folder.has("*.npz") else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every row of the file; a file that has not changed is not opened again."""
        own = options.get("split", "")
        if own not in ("", "own"):
            raise BadInput(
                Thing.worded(f"option split={own}", option="split", value=own),
                "is not valid",
                "give split=own, or leave it out",
            )
        problems: list[DataIssue] = []
        files = list(folder.files("*.npz", problems))
        if len(files) != 1:
            cause = f"{len(files)} .npz files in the folder" if files else "no .npz file in the folder"
            problems.append(DataIssue(thing=folder.root.name, cause=cause, remedy="keep exactly one"))
            return Scan((), tuple(problems), _EMPTY)
        place = files[0]
        names = _class_names(options)
        # Once a patient withdrew, the facts are of the others, and what is asked for says so.
        out: LeavesOut = folder.leaves_out if folder.withdrawn else lambda _: False
        purpose = Purpose("npz/6", NpzFacts, f"{';'.join(names)}|{folder.withdrawn}" if names else folder.withdrawn)
        looked = folder.look(place, purpose, lambda path: _examined(path, folder.limits, names, out))
        if looked.problem is not None:
            return Scan((), (*problems, looked.problem), _EMPTY)
        facts = looked.require_facts()
        problems += facts.problems
        if own and not any(part for part, _ in facts.parts):
            problems.append(DataIssue(thing=place, cause="has no split of its own", remedy="leave split=own out"))
        built, left_out, counts = SamplesBuilder(), 0, Counter[str]()
        kinds = {}
        for part, _ in facts.parts:
            side = _SPLITS.get(part, "") if own else ""
            for name in facts.classes or ("",):
                values = ({CLASS: name} if name else {}) | ({SPLIT: side} if side else {})
                other = {"files": {"table": place}} | ({"values": values} if values else {})
                kinds[part, name] = built.kind("blake3", other)
        met: set[tuple[str, str]] = set()
        for subject, session, part, row, digest, name in facts.rows():
            if folder.leaves_out(subject):
                continue
            if own and part and not _SPLITS[part]:
                left_out += 1
                continue
            built.add_row(subject, session, digest, row, kinds[part, name])
            # A patient with several rows of a class is one patient of it.
            counts[name] += (subject, name) not in met
            if session:
                met.add((subject, name))
        samples = built.samples().sorted()
        if left_out:
            cause = f"{left_out} test rows are left out"
            problems.append(_warning(place, cause, "no action is needed: they are for a test after the training"))
        numbers = {"subjects": len(samples.subjects), "samples": len(samples)}
        ranges = {} if facts.values is None else {ARRAY: facts.values}
        # A class has no number of its own where it has a name: the plan's list gives it.
        arrays = {name: form for name, form in facts.arrays.items() if name != "y" or not facts.classes}
        summary = ColumnSummary(type="category", categories=dict(sorted(counts.items())))
        columns = {CLASS: summary} if facts.classes else {}
        schema = DataSchema(kind="arrays", arrays=arrays, values=ranges, columns=columns, **numbers)
        return Scan(samples, tuple(problems), schema)

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """The rows of the samples; ``y`` where it has numbers without names, else its name as the value ``class``."""
        for (x, y), sample in _rows(root, samples):
            named = "classes" in options or np.asarray(y).dtype.kind in "US"
            yield SampleData(arrays={"x": x} if named else {"x": x, "y": y}, values=sample.values if named else {})

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every row again."""
        for (x, y), sample in _rows(root, samples):
            if _row_hash(x, y) != sample.hash:
                cause = f"has another row for subject {sample.subject} than when the cohort was approved"
                raise data_changed(sample.files["table"], cause)


def _warning(thing: str, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")


def _class_names(options: Options) -> tuple[str, ...]:
    """Raises BadInput for a name that is there twice."""
    names = names_in(options.get("classes", ""))
    twice = [name for at, name in enumerate(names) if name in names[:at]]
    if twice:
        thing = Thing.worded(f"option classes={options['classes']}", option="classes", value=options["classes"])
        raise BadInput(thing, f"names {twice[0]} twice", "name each class once, in the order of the numbers 0, 1, ...")
    return names


def _examined(path: Path, limits: DataLimits, names: Sequence[str], leaves_out: LeavesOut) -> NpzFacts:
    found = arrays_in(path, limits)
    x, y, ids, parts, sessions = found
    classes = classes_of(path, found, names)
    problems: list[DataIssue] = []
    faulty: list[int] = []
    named = 0
    seen: set[str] = set()
    sound, visits, digests, several = TextBuilder(), TextBuilder(), bytearray(), _several(ids, sessions)
    for row, (subject, session) in enumerate(zip(ids, sessions or repeat(""), strict=False)):
        if leaves_out(subject):
            faulty.append(row)
            continue
        key = _key(subject, session)
        is_sound = _is_id(subject) and _is_session(session)
        name, finite = sample_name(subject, session), _finite(x[row]) and _finite(y[row])
        problem = _problem(path, row, subject if is_sound else "", name, key in seen, finite)
        if problem is None and classes is not None and classes.places[row] < 0:
            problem = _without_class(path, subject, y[row], classes)
        if problem is not None:
            faulty.append(row)
            named += 1
            if named <= limits.findings:
                problems.append(DataIssue(**problem))
        else:
            sound.add(f"\n{subject}" if digests else subject)
            visits.add(f"\n{session}" if digests else session)
            digests += bytes.fromhex(_row_hash(x[row], y[row]).partition(":")[2])
        if hash(key) in several:
            seen.add(key)
    if named > limits.findings:
        cause = f"has {named - limits.findings} faulty rows more"
        # The errors above ask for a decision; these rows are left out whatever it is.
        problems.append(_warning(path.name, cause, "fix the rows above first"))
    if not len(ids):
        problems.append(DataIssue(thing=path.name, cause="holds no row", remedy="add the subjects' rows"))
    return NpzFacts(
        parts=parts,
        ids=sound.arrays()[0].tobytes().decode(),
        visits=visits.arrays()[0].tobytes().decode().rstrip("\n"),
        digests=base64.b64encode(digests).decode(),
        faulty=tuple(faulty),
        arrays={name: f"{array.dtype.name} {list(array.shape)}" for name, array in (("x", x), ("y", y))},
        values=x.range(faulty),
        classes=() if classes is None else classes.names,
        places="" if classes is None else _of_sound(classes, faulty),
        problems=tuple(problems),
    )


def _problem(path: Path, row: int, subject: str, name: str, again: bool, finite: bool) -> dict[str, str] | None:
    """What is wrong with a row, if anything is, as the fields of an issue; without a subject it has no id that can be
    used."""
    if not subject:
        cause = f"row {row} has no id that a subject or a session may have"
        return {"thing": path.name, "cause": cause, "remedy": "name it without / and control characters"}
    if again:
        cause = f"is in {path.name} more than once"
        remedy = "keep one row per subject, or name the visits in an array session"
        return {"thing": name, "cause": cause, "remedy": remedy, "subject": subject}
    if not finite:
        cause = f"its row of {path.name} contains NaN or infinite values"
        return {"thing": subject, "cause": cause, "remedy": "fix or remove the row", "subject": subject}
    return None


def _without_class(path: Path, subject: str, y: Any, classes: RowClasses) -> dict[str, str]:
    """The fields of the issue of a row whose y is not one of the classes."""
    value = ", ".join(map(str, np.asarray(y).reshape(-1)[:_FEW].tolist()))
    named = abbreviate(classes.names)
    cause = f"its y in {path.name} is {value[:40] or 'empty'}, which is not one of the classes {named}"
    remedy = "name all classes in the option classes, in the order of the numbers 0, 1, ..., or fix the row"
    return {"thing": subject, "cause": cause, "remedy": remedy, "subject": subject}


def _of_sound(classes: RowClasses, faulty: Sequence[int]) -> str:
    """The classes of the rows that can be used, as an index keeps them."""
    return base64.b64encode(np.delete(classes.places, faulty).astype("<i2").tobytes()).decode()


def _several(ids: TextColumn, sessions: TextColumn | None) -> frozenset[int]:
    """Hashes of all names of rows that are there more than once, and of hardly any other: a set of all names would be
    large."""
    names = map(_key, ids, sessions) if sessions is not None else ids
    hashes, counts = np.unique(np.fromiter(map(hash, names), np.int64, len(ids)), return_counts=True)
    return frozenset(hashes[counts > 1].tolist())


def _is_id(subject: str) -> bool:
    return 0 < len(subject) <= 200 and subject.isprintable() and not {"/", "\\"} & set(subject)


def _key(subject: str, session: str) -> str:
    """One text for each subject and session."""
    return f"{subject}\0{session}" if session else subject


def _is_session(session: str) -> bool:
    return len(session) <= LONGEST_SESSION and (not session or _is_id(session))


def _rows(root: Path, samples: Sequence[Sample]) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any]], Sample]]:
    """Each sample's row, found by its place and id; several files may be concerned, each is read once."""
    opened: dict[str, Arrays] = {}
    for sample in samples:
        place = sample.files["table"]
        if place not in opened:
            if not (root / place).is_file():
                raise data_changed(place, "is missing, and was there when the cohort was approved")
            try:
                opened[place] = arrays_in(root / place)
            except MemoryError as error:
                raise short_of_memory(root / place) from error
            except OSError as error:
                raise data_changed(place, f"cannot be opened ({error.strerror})") from error
        x, y, ids, _, sessions = opened[place]
        row = sample.row
        is_there = row is not None and row < len(ids) and ids[row] == sample.subject
        if row is None or not is_there or (sessions is not None and sessions[row] != sample.session):
            raise data_changed(place, f"no longer holds subject {sample.subject} in the row it had")
        yield (x[row], y[row]), sample


def _finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind not in "fc" or is_finite(array)


def _row_hash(*row: Any) -> str:
    """The hash of one row's content: types, shapes and bytes of x and y."""
    hasher = BlobHasher()
    for values in row:
        array = np.asarray(values)
        hasher.update(f"{array.dtype.str}{list(array.shape)}".encode() + b"\0")
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.digest()
