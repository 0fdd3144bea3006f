"""Format ``picture-table``: 2-D images, and a table beside them that says what is known of each: its class, an age.

So are ISIC, HAM10000 and ChestX-ray14 kept. The table names a picture by its file's name, with or without its ending,
and the patient in a column of its own where there is one. Plans get the pixels as ``x`` and their target from a column.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from pydantic import TypeAdapter, ValidationError

from archipel.data.files import Folder, Purpose, content_hash
from archipel.data.formats.base import Options, verify_files
from archipel.data.formats.covariates import read_covariates
from archipel.data.formats.found_volumes import FoundVolumes, columns_of, subject_id
from archipel.data.formats.marked_columns import class_in, with_class
from archipel.data.formats.name_patterns import found_in, lone_session, visits_in
from archipel.data.formats.picture_agreement import Looked, refuse_repeated, refuse_unfit
from archipel.data.formats.picture_folders import listed_pictures, report_unread
from archipel.data.formats.picture_options import PICTURE_OPTIONS, PictureOptions
from archipel.data.formats.table_cells import TABLES, cells_in
from archipel.data.formats.volume_names import is_of
from archipel.data.picture_files import look_at_picture
from archipel.data.sample_data import SampleData
from archipel.data.samples import DataIssue, DataSchema, Sample, Scan, SubjectId
from archipel.data.tables import COLUMN_OPTIONS, column_of_ids, open_table
from archipel.data.volumes import names_in
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, DataKind, ErrorCode, Record, Thing, Value
from archipel.vocabulary.counting import abbreviate, pluralise

_FEW = 5
_SUBJECT = TypeAdapter(SubjectId)


class TableFacts(Record):
    """A table of pictures: the column that names them, that of the patients ("" without one), and for each name of a
    picture the patient."""

    image: str
    patient: str
    rows: dict[str, str]


class PictureTable:
    """Pictures and a table."""

    name: ClassVar[str] = "picture-table"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = "2-D images and one .csv or .tsv with a row for each: image,label"
    options: ClassVar[Mapping[str, str]] = {
        **PICTURE_OPTIONS,
        "table": "the table, for example labels.csv (by default the only one in the folder)",
        "image": "the column that names the picture (by default the one that holds the names of the files)",
        "patient": "the column that names the patient (by default patient_id, Patient ID and the like)",
        **COLUMN_OPTIONS,
        "classes": "columns that have 1 for the picture's class and 0 for the others, for example MEL,NV,BCC: their "
        "names become the value class",
        "subject": "without a column of patients: a regular expression that finds the patient in a file's name, for "
        "example ^[^_]+ (by default each picture is a patient's only one)",
        "session": "a regular expression that finds the visit in a file's name (by default the whole name)",
    }

    def fits(self, folder: Folder) -> str:
        """One table, and pictures that it names."""
        tables = _tables(folder, [])
        return f"{tables[0]} names its pictures" if len(tables) == 1 and tables_of_pictures(folder) else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every picture with its row; one that has not changed is not opened again."""
        asked, name, nothing = PictureOptions(options), folder.root.name, DataSchema(kind="arrays")
        collector = FoundVolumes(folder)
        problems = collector.problems
        pictures, unread = listed_pictures(folder, problems)
        report_unread(
            unread, name, lambda one: is_of(one, folder.leaves_out), problems, "warning" if pictures else "error"
        )
        tables = _tables(folder, problems)
        if "table" in options:
            # A place in the folder and not a pattern, whatever characters it has.
            tables = tuple(folder.files(glob.escape(options["table"]), problems))
        if len(tables) != 1 or not pictures:
            problems.append(_without(name, options, tables, bool(pictures)))
            return Scan((), tuple(problems), nothing)
        names = [one for path in pictures for one in _names(path)]
        how = [options.get(name, "") for name in ("image", "patient", "classes")]
        purpose = Purpose(
            f"picture-table/2 {how!r}",
            TableFacts,
            blob_hash("\n".join(names).encode()),
        )
        looked = folder.unstored.look(tables[0], purpose, lambda path: _examined(path, options, frozenset(names)))
        if looked.problem is not None:
            return Scan((), (*problems, looked.problem), nothing)
        known = looked.require_facts()
        whose = _patients(pictures, known, options, folder.limits.pattern_s)
        # The rows are known by the names of pictures, and those who are left out by the names of patients.
        rows_of = Folder(
            folder.root,
            folder.index,
            lambda row: folder.leaves_out(whose.get(row, row)),
            folder.limits,
            withdrawn=folder.withdrawn,
        )
        table = read_covariates(rows_of, tables[0], collector, key=known.image, patient=known.patient, options=options)
        if table is None:
            return Scan((), tuple(problems), nothing)
        problems[:] = [one.model_copy(update={"subject": whose.get(one.subject, one.subject)}) for one in problems]
        visit = options.get("session", "")
        if visit and not known.patient and "subject" not in options:
            raise lone_session(visit)
        visits = visits_in(sorted({path.stem for path in pictures}), visit, folder.limits.pattern_s)
        rows = _with_classes(table.rows, names_in(options.get("classes", "")), tables[0], problems)
        kept, used = _looked_at(folder, pictures, whose, visits, rows, problems)
        absent = sorted(set(rows) - used)
        _say_which(name, absent, "row", f"of {tables[0]} without its picture", "add the file", problems)
        refuse_repeated(kept, "keep one of them, or rename one of them here and in the table", name, problems)
        refuse_unfit(kept, asked, name, problems)
        samples = tuple(sorted((sample for sample, _ in kept.values()), key=lambda sample: sample.key))
        if not samples:
            return Scan((), tuple(problems), nothing)
        schema = DataSchema(
            kind="arrays",
            subjects=len({sample.subject for sample in samples}),
            samples=len(samples),
            columns=columns_of(samples),
            arrays={"x": asked.form(next(iter(kept.values()))[1].require_facts())},
            values=asked.range_of(looked.require_facts() for _, looked in kept.values()),
        )
        return Scan(samples, tuple(problems), schema)

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """``x`` as ``class-folders`` has it, and the values of the picture's row."""
        asked = PictureOptions(options)
        for sample in samples:
            yield SampleData(arrays={"x": asked.read(root, sample.files["image"])}, values=sample.values)

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every file again; what the table said was frozen with the samples."""
        for sample in samples:
            verify_files(root, sample)


def tables_of_pictures(folder: Folder) -> tuple[str, ...]:
    """The tables in a folder that name pictures in it, as far as their beginnings show."""
    pictures, _ = listed_pictures(folder, [])
    stems = frozenset(one.stem for one in pictures)
    return tuple(place for place in _tables(folder, []) if stems & cells_in(folder.root / place))


def _tables(folder: Folder, problems: list[DataIssue]) -> tuple[str, ...]:
    return tuple(place for place in folder.files("*", problems) if place.lower().endswith(TABLES))


def _names(path: PurePosixPath) -> tuple[str, str, str]:
    """How a table may name a picture: by its path, its name, or its name without ending."""
    return subject_id(str(path)), subject_id(path.name), subject_id(path.stem)


def _without(name: str, options: Options, tables: Sequence[str], has_pictures: bool) -> DataIssue:
    if not has_pictures:
        return DataIssue(thing=name, cause="holds no picture", remedy="add the pictures, or name another folder")
    if "table" in options and not tables:
        return DataIssue(
            thing=options["table"], cause="is not in the folder", remedy="name another in the option table"
        )
    if not tables:
        remedy = "add a .csv with a row for each picture: image,label"
        return DataIssue(thing=name, cause="holds no table", remedy=remedy)
    cause = f"holds {len(tables)} tables ({', '.join(tables[:_FEW])})"
    return DataIssue(thing=name, cause=cause, remedy=f"name one, for example --option table={tables[0]}")


def _examined(path: Path, options: Options, names: frozenset[str]) -> TableFacts:
    """Which column names the pictures. Raises BadInput where none does, and for an option that names no column."""
    table = open_table(path)
    columns = table.names
    asked = [(option, options[option]) for option in ("image", "patient") if option in options]
    for option, column in (*asked, *(("classes", name) for name in names_in(options.get("classes", "")))):
        if column not in columns:
            cause = f"has no column {column} (it has {', '.join(columns)[:200]})"
            raise BadInput(Thing.file(path.name), cause, f"name one in the option {option}", code=ErrorCode.BAD_DATA)
    rows = [row.fields for row in table.rows() if len(row.fields) == len(columns)]
    hits = {
        column: sum(subject_id(fields[at].strip()) in names for fields in rows) for at, column in enumerate(columns)
    }
    image = options.get("image") or max(columns, key=lambda column: hits[column])
    if not hits[image]:
        cause = f"has no column with the names of the pictures (it has {', '.join(columns)[:200]})"
        remedy = "write each file's name into a column, with or without its ending"
        raise BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
    # A column id counts the pictures as often as the patients.
    patient = options.get("patient") or column_of_ids([one for one in columns if one != image and one.lower() != "id"])
    at, whose = columns.index(image), columns.index(patient) if patient else -1
    named = {subject_id(row[at].strip()): subject_id(row[whose].strip()) if patient else "" for row in rows}
    return TableFacts(image=image, patient=patient, rows=named)


def _with_classes(
    rows: Mapping[str, Mapping[str, Value]], columns: Sequence[str], table: str, problems: list[DataIssue]
) -> Mapping[str, Mapping[str, Value]]:
    """The rows with their class by name; those in which not one column is marked are problems, said together."""
    if not columns:
        return rows
    odd = sorted(name for name, row in rows.items() if not class_in(row, columns))
    if odd:
        cause = (
            f"{pluralise(len(odd), 'row')} of {table} {'has' if len(odd) == 1 else 'have'} not 1 in one of the columns "
            f"{abbreviate(columns)} and 0 in the others (first {odd[0]})"
        )
        remedy = "name all columns of classes in the option classes and fix the rows; with several classes in a row, "
        remedy += "leave the option out and let a plan read one column as its target"
        problems.append(DataIssue(thing=table, cause=cause, remedy=remedy, spoils_all=True))
    return {name: with_class(row, columns) for name, row in rows.items() if class_in(row, columns)}


def _patients(pictures: Sequence[PurePosixPath], known: TableFacts, options: Options, seconds: int) -> dict[str, str]:
    """The patient of each picture, by its path, and of each row, by the name that it has for the picture; "" where
    nothing says so. Raises BadInput for a pattern that cannot be used."""
    if known.patient:
        owners = dict(known.rows)
        for path in pictures:
            owners[str(path)] = next((known.rows[one] for one in _names(path) if one in known.rows), "")
        return owners
    stems = {name: PurePosixPath(name).stem for name in (*known.rows, *map(str, pictures))}
    # A name without its ending may have a dot of its own.
    stems |= {path.stem: path.stem for path in pictures}
    pattern, distinct = options.get("subject", ""), sorted(set(stems.values()))
    found = found_in(distinct, pattern, seconds) if pattern else {stem: stem for stem in distinct}
    return {name: subject_id(found[stem]) for name, stem in stems.items()}


def _looked_at(
    folder: Folder,
    pictures: Sequence[PurePosixPath],
    whose: Mapping[str, str],
    visits: Mapping[str, str],
    rows: Mapping[str, Mapping[str, Value]],
    problems: list[DataIssue],
) -> tuple[dict[str, Looked], set[str]]:
    """A sample for each picture with a row that can be read, by its place; and the rows that were used."""
    kept: dict[str, Looked] = {}
    without_row, nameless, used = [], [], set()
    several = len({whose[str(path)] for path in pictures}) < len(pictures)
    for path in pictures:
        place, subject = str(path), whose[str(path)]
        if folder.leaves_out(subject):
            folder.unused[place] = subject
            continue
        row = next((one for one in _names(path) if one in rows), None)
        if row is None:
            without_row.append(place)
            continue
        used.add(row)
        try:
            _SUBJECT.validate_python(subject)
        except ValidationError:
            nameless.append(place)
            continue
        looked = look_at_picture(folder, place)
        if looked.problem is not None:
            problems.append(looked.problem.model_copy(update={"thing": place, "subject": subject}))
            continue
        values = rows[row]
        beside = blob_hash(json.dumps(values, sort_keys=True).encode())
        hashes = {"image": looked.hash, "row": beside}
        sample = Sample(
            subject=subject,
            session=visits[path.stem] if several else "",
            files={"image": place},
            values=dict(values),
            hash=content_hash(hashes),
            file_hashes=hashes,
        )
        kept[place] = sample, looked
    name = folder.root.name
    _say_which(name, without_row, "picture", "without a row in the table, left out", "add the row", problems)
    _say_which(name, nameless, "picture", "without a patient, left out", "fill in the id in the table", problems)
    return kept, used


def _say_which(
    name: str, those: Sequence[str], what: str, lacking: str, remedy: str, problems: list[DataIssue]
) -> None:
    if those:
        cause = f"{pluralise(len(those), what)} {lacking} (first {those[0]})"
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy, severity="warning"))
