"""Format ``class-folders``: 2-D images, one folder per class: ``pneumonia/0012.png``, ``normal/0031.png``.

The patient is the folder between class and picture where there is one, else the file's name without its ending or the
part of it that a pattern finds. Plans get the pixels as ``x``; the folder's name is the value ``class``, from which a
plan that names its classes gets ``y``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import TypeAdapter, ValidationError

from archipel.data.cohorts import SPLIT
from archipel.data.files import Folder, content_hash
from archipel.data.formats.base import Options, verify_files
from archipel.data.formats.found_volumes import subject_id
from archipel.data.formats.name_patterns import found_in, lone_session, visits_in
from archipel.data.formats.picture_agreement import Looked, refuse_repeated, refuse_unfit, warn_of_twins
from archipel.data.formats.picture_folders import (
    PARTS,
    UNREAD_PICTURES,
    Layout,
    Place,
    found_pictures,
    is_of_images,
    looks_like_patients,
    place_of,
    report_empty,
    report_masks,
    report_misplaced,
    report_unread,
    why_not_classes,
)
from archipel.data.formats.picture_options import PICTURE_OPTIONS, PictureOptions
from archipel.data.formats.volume_names import is_of, listed
from archipel.data.picture_files import PICTURE_SUFFIXES, look_at_picture
from archipel.data.sample_data import SampleData
from archipel.data.samples import CLASS, ColumnSummary, DataIssue, DataSchema, Sample, Scan, SubjectId
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, DataKind, Thing
from archipel.vocabulary.counting import pluralise

_SUBJECT = TypeAdapter(SubjectId)
_FEW = 5


class ClassFolders:
    """One folder per class."""

    name: ClassVar[str] = "class-folders"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = (
        "<class>/<image>.png, .jpg, .tif or .bmp: 2-D images, one folder per class; also <class>/<patient>/<image>, "
        "and these below train, val and test"
    )
    options: ClassVar[Mapping[str, str]] = {
        **PICTURE_OPTIONS,
        "classes": "the folders that are read, for example normal,pneumonia (by default all of them)",
        "subject": "a regular expression that finds the patient in a file's name, for example ^[^_]+",
        "session": "one that finds the visit in a file's name, where a patient has several pictures, for example "
        "[^_]+$ (by default the whole name)",
        "names": "per-folder: a name is a patient within its folder only, so that normal/1.png and ill/1.png are two",
        "split": "own: train on folder train and validate on folder val; folder test is left out",
    }

    def fits(self, folder: Folder) -> str:
        """Pictures in two folders or more, which are neither masks nor patients."""
        layout = found_pictures(folder, [])
        unread = {place.split("/")[0] for place in layout.unread if place.lower().endswith(UNREAD_PICTURES)}
        there = layout.classes or sorted(unread)
        not_classes = why_not_classes(layout) or is_of_images(layout) or looks_like_patients(layout)
        if len(there) < 2 or layout.misplaced or not_classes:
            return ""
        parts = sorted({place.part for place in layout.places} - {""})
        inside = f"{', '.join(parts)}: " if parts else ""
        return f"{inside}folders {', '.join(there[:5])} hold pictures"

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every picture; one that has not changed is not opened again."""
        asked, name = _Asked(options), folder.root.name
        problems: list[DataIssue] = []
        layout = found_pictures(folder, problems)
        fault = why_not_classes(layout)
        if fault is not None and not asked.classes:
            return Scan((), (DataIssue(thing=name, cause=fault[0], remedy=fault[1]),), DataSchema(kind="arrays"))
        unlisted = {one.thing: place_of(one.thing, layout.is_divided) for one in problems}
        beside = {one: place_of(one, layout.is_divided) for one in (*layout.masks, *layout.misplaced, *layout.unread)}
        stems = {place.stem for place in (*layout.places, *unlisted.values(), *beside.values()) if place is not None}
        people = asked.people(sorted(stems), folder.limits.pattern_s)
        if asked.visit and not asked.pattern and not any(place.patient for place in layout.places):
            raise lone_session(asked.visit)
        visits = visits_in(sorted(stems), asked.visit, folder.limits.pattern_s)
        for at, one in enumerate(problems):
            place = unlisted[one.thing]
            problems[at] = one.model_copy(update={"subject": asked.patient(place, people) if place else ""})

        def is_gone(one: str) -> bool:
            place = beside[one]
            return is_of(one, folder.leaves_out) or (
                place is not None and folder.leaves_out(asked.patient(place, people))
            )

        report_unread(layout.unread, name, is_gone, problems, "warning" if layout.places else "error")
        report_misplaced(layout, name, is_gone, problems)
        report_masks(layout, name, is_gone, problems)
        report_empty(layout, asked.classes, problems)
        pictures = _looked_at(folder, _chosen(layout, asked, problems), asked, _Names(people, visits), problems)
        is_undivided = layout.is_divided and not asked.own_split
        own = " --option split=own (train on train, validate on val)" if is_undivided else ""
        several = (
            "if they are of one patient, keep one of them; if each folder counts its own patients, add the dataset "
            f"with --option names=per-folder{own}"
        )
        refuse_repeated(pictures, several, name, problems)
        tests = sorted({place.part for place in layout.places if place.part and not PARTS[place.part.lower()]})
        if is_undivided and tests and pictures:
            cause = f"holds a folder {tests[0]}, and its pictures are trained on as those of the other folders are"
            remedy = "to train on train, validate on val and leave test out, add the dataset with --option split=own"
            problems.append(_warning(name, cause, remedy))
        if asked.own_split:
            _refuse_divided(pictures, name, problems)
        refuse_unfit(pictures, asked.pictures, name, problems)
        warn_of_twins(pictures, CLASS, problems)
        if not pictures and not any(problem.severity == "error" for problem in problems):
            cause = f"holds no class/image ({', '.join(PICTURE_SUFFIXES)})"
            problems.append(DataIssue(thing=name, cause=cause, remedy="put the pictures in one folder per class"))
        patients = looks_like_patients(layout)
        if pictures and patients:
            cause = f"{patients}: these look like patients, and are read as classes"
            remedy = "put the patients' folders in a folder for each class, or keep it if they are classes"
            problems.append(DataIssue(thing=name, cause=cause, remedy=remedy, severity="warning"))
        samples = tuple(sorted((sample for sample, _ in pictures.values()), key=lambda sample: sample.key))
        return Scan(samples, tuple(problems), _schema(samples, pictures, asked.pictures))

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """``x`` in the type that the pictures store (uint8 with a window), ``[height, width]``, or ``[height, width,
        3]`` for mode rgb. The class is a value; its number is the plan's to say."""
        asked = PictureOptions(options)
        for sample in samples:
            yield SampleData(arrays={"x": asked.read(root, sample.files["image"])}, values=sample.values)

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every file again."""
        for sample in samples:
            verify_files(root, sample)


class _Names(NamedTuple):
    """The patient and the visit in the name of each picture."""

    patients: Mapping[str, str]
    visits: Mapping[str, str]


class _Asked:
    """The options, understood. Raises BadInput for one that is not valid."""

    def __init__(self, options: Options) -> None:
        self.pictures = PictureOptions(options)
        for option, only in (("names", "per-folder"), ("split", "own")):
            value = options.get(option, only)
            if value != only:
                thing = Thing.worded(f"option {option}={value}", option=option, value=value)
                raise BadInput(thing, "is not valid", f"give {option}={only}, or leave it out")
        self.classes = listed(options, "classes")
        self.pattern, self.visit = options.get("subject", ""), options.get("session", "")
        self.is_per_folder, self.own_split = "names" in options, "split" in options

    def people(self, stems: Sequence[str], seconds: int) -> Mapping[str, str]:
        """The patient in each name, "" where none is found. Raises BadInput for a pattern that cannot be used."""
        return found_in(stems, self.pattern, seconds) if self.pattern else {stem: stem for stem in stems}

    def patient(self, place: Place, people: Mapping[str, str]) -> str:
        """Whose picture it is."""
        own = subject_id(place.patient if place.patient and not self.pattern else people[place.stem])
        return f"{place.folder.replace('/', '_')}_{own}" if self.is_per_folder and own else own


def _chosen(layout: Layout, asked: _Asked, problems: list[DataIssue]) -> list[Place]:
    """The pictures of the classes that are read; what is left out by name is said."""
    for name in asked.classes:
        if name not in layout.classes:
            remedy = f"name one of {', '.join(layout.classes) or 'none'} in the option classes, or leave it out"
            problems.append(DataIssue(thing=name, cause="is not a folder with pictures", remedy=remedy))
    counts = Counter(place.group for place in layout.places)
    for name in layout.classes:
        if asked.classes and name not in asked.classes:
            left_out = f"{pluralise(counts[name], 'picture')} of it left out"
            cause = f"is not among the classes {', '.join(asked.classes)}; {left_out}"
            problems.append(_warning(name, cause, "no action is needed, or name it in the option classes"))
    kept = [place for place in layout.places if not asked.classes or place.group in asked.classes]
    tests = [place for place in kept if asked.own_split and place.part and not PARTS[place.part.lower()]]
    if tests:
        cause = f"{pluralise(len(tests), 'picture')} of it left out"
        problems.append(_warning(tests[0].part, cause, "no action is needed: they are for a test after the training"))
    if asked.own_split and not any(place.part for place in kept):
        cause = "has no folders train and val for the option split=own"
        problems.append(DataIssue(thing="split", cause=cause, remedy="leave split=own out"))
    gone = frozenset(tests)
    return [place for place in kept if place not in gone]


def _looked_at(
    folder: Folder, places: Sequence[Place], asked: _Asked, names: _Names, problems: list[DataIssue]
) -> dict[str, Looked]:
    """A sample for each picture that can be read, by its place."""
    pictures: dict[str, Looked] = {}
    for place in places:
        subject = asked.patient(place, names.patients)
        if folder.leaves_out(subject):
            folder.unused[place.place] = subject
            continue
        try:
            _SUBJECT.validate_python(subject)
        except ValidationError:
            cause = "has no patient in its name"
            problems.append(DataIssue(thing=place.place, cause=cause, remedy="fix subject=..., or rename"))
            continue
        looked = look_at_picture(folder, place.place)
        if looked.problem is not None:
            problems.append(looked.problem.model_copy(update={"thing": place.place, "subject": subject}))
            continue
        hashes = {"image": looked.hash, CLASS: blob_hash(place.group.encode())}
        part = {SPLIT: PARTS[place.part.lower()]} if asked.own_split and place.part else {}
        visit = names.visits[place.stem]
        has_several = asked.pattern or place.patient
        sample = Sample(
            subject=subject,
            session=visit if has_several and visit != subject else "",
            files={"image": place.place},
            values={CLASS: place.group, **part},
            hash=content_hash(hashes),
            file_hashes=hashes,
        )
        pictures[place.place] = sample, looked
    return pictures


def _refuse_divided(pictures: dict[str, Looked], name: str, problems: list[DataIssue]) -> None:
    """A patient who is in train and in val: the model would be measured on a patient that it was trained on."""
    sides: dict[str, set[str]] = {}
    for sample, _ in pictures.values():
        sides.setdefault(sample.subject, set()).add(str(sample.values.get(SPLIT, "")))
    divided = sorted(subject for subject, own in sides.items() if len(own) > 1)
    remedy = "put the patient's pictures in one of the two folders, or leave split=own out"
    for subject in divided[:_FEW]:
        cause = f"has pictures in {' and '.join(sorted(sides[subject]))}"
        problems.append(DataIssue(thing=subject, cause=cause, remedy=remedy, subject=subject))
    if len(divided) > _FEW:
        cause = f"{len(divided)} patients have pictures in training and validation"
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy))
    for place in [place for place, (sample, _) in pictures.items() if sample.subject in set(divided)]:
        del pictures[place]


def _warning(thing: str, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")


def _schema(samples: Sequence[Sample], pictures: Mapping[str, Looked], asked: PictureOptions) -> DataSchema:
    if not samples:
        return DataSchema(kind="arrays")
    people = {(sample.subject, str(sample.values[CLASS])) for sample in samples}
    counts = dict(sorted(Counter(name for _, name in people).items()))
    return DataSchema(
        kind="arrays",
        subjects=len({sample.subject for sample in samples}),
        samples=len(samples),
        columns={CLASS: ColumnSummary(type="category", categories=counts, chosen_by="classes")},
        arrays={"x": asked.form(next(iter(pictures.values()))[1].require_facts())},
        values=asked.range_of(looked.require_facts() for _, looked in pictures.values()),
    )
