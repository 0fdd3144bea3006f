"""Found volumes: what a scan of a volume format collects, sample by sample, and everything that is wrong with it."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from archipel.data.files import Folder
from archipel.data.formats.base import base_role, content_of
from archipel.data.formats.found_labels import FoundLabels
from archipel.data.sample_columns import Samples, SamplesBuilder
from archipel.data.samples import (
    LABEL,
    ColumnSummary,
    DataIssue,
    DataSchema,
    FoundValues,
    Sample,
    Scan,
    Session,
    SubjectId,
    problem_of,
    sample_name,
)
from archipel.data.volumes import (
    Grid,
    GridRule,
    ImageFacts,
    MaskFacts,
    Placed,
    Sketchbook,
    check_one_grid,
    check_within,
    look_at_sample,
    looks_drawn,
    oddities,
    segment_rules,
    volumes,
    with_data,
)
from archipel.vocabulary import BadInput, ErrorCode, Value
from archipel.vocabulary.counting import pluralise

_KEY = TypeAdapter(tuple[SubjectId, Session])
MOST_CATEGORIES = 50
"""A column of text with more different values than this is text to the catalog, which then keeps none of them."""


def subject_id(text: str) -> str:
    """A subject's id from the name of a file or folder; its accents in one encoding, whatever the file system uses."""
    return unicodedata.normalize("NFC", text)


class _Range(NamedTuple):
    """The values of one role's images so far; a record for each of 100,000 images would take longer than the rest."""

    minimum: float
    maximum: float
    narrowest: tuple[float, float]

    @classmethod
    def of(cls, one: ImageFacts) -> _Range:
        return cls(one.minimum, one.maximum, (one.minimum, one.maximum))

    def with_one(self, one: ImageFacts) -> _Range:
        lowest, highest = self.narrowest
        is_narrower = one.maximum - one.minimum < highest - lowest
        narrowest = (one.minimum, one.maximum) if is_narrower else self.narrowest
        return _Range(min(self.minimum, one.minimum), max(self.maximum, one.maximum), narrowest)

    def values(self) -> FoundValues:
        return FoundValues(**self._asdict())


class FoundVolumes:
    """Collects the samples of a volume format and what is wrong with them; ``scan`` is the result.

    ``declared`` are the label values that the dataset's own description names, where it has one; ``folder.options``
    say how grids and segments are read. Of each file only counts are kept, so that a scan of 100,000 files stays small.
    """

    def __init__(self, folder: Folder, declared: Mapping[int, str] | None = None) -> None:
        self.problems: list[DataIssue] = []
        self._folder = folder
        self._rule = GridRule.of(folder.options)
        self._sketchbook = Sketchbook(segment_rules(folder.options))
        self._labels = FoundLabels(folder, declared or {})
        self._samples = SamplesBuilder()
        self._met: set[tuple[str, str]] = set()
        self._modalities: Counter[str] = Counter()
        self._values: Counter[str] = Counter()
        self._ranges: dict[str, _Range] = {}
        self._drawings: dict[str, list[str]] = {}
        self._shapes = array("q")
        self._spacings = array("d")

    def add(
        self,
        subject: str,
        files: Mapping[str, str],
        session: str = "",
        *,
        values: Mapping[str, Value] | None = None,
        channels: Mapping[str, int] | None = None,
    ) -> bool:
        """Examine a sample's files; whether it is usable. All of its volumes must lie on one grid.

        ``subject`` and ``session`` are as the format has them; the folder's ``patient_of`` says whose visit that is.
        """
        is_usable = self._add(subject, files, session, values or {}, channels or {})
        if not is_usable:
            self._folder.unused.update(dict.fromkeys(files.values(), self.patient(subject)))
        return is_usable

    def _add(
        self,
        subject: str,
        files: Mapping[str, str],
        session: str,
        values: Mapping[str, Value],
        channels: Mapping[str, int],
    ) -> bool:
        if self._folder.leaves_out(subject):
            return False
        key = patient, visit = self._folder.patient_of(subject, session)
        name = sample_name(patient, visit)
        if not patient:
            cause = "has no patient in its name"
            self.report(DataIssue(thing=subject, cause=cause, remedy="fix the option subject, or rename"), subject)
            return False
        if key in self._met:
            cause = f"is there twice (again in {', '.join(sorted(files.values()))})"
            self.report(DataIssue(thing=name, cause=cause, remedy="keep one of them"), subject)
            return False
        files = with_data(self._folder, files)
        sketch = self._sketchbook.next(LABEL in files)
        looked = look_at_sample(self._folder, files, channels, sketch)
        facts = looked.by_role
        faults = dict.fromkeys(found.problem for found in facts.values() if found.problem is not None)
        for fault in faults:
            self.report(fault.model_copy(update={"thing": f"{name}: {fault.thing}"}), subject)
        if faults:
            return False
        known = {role: found.require_facts() for role, found in facts.items()}
        images = {role: own for role, own in known.items() if isinstance(own, ImageFacts)}
        if not self._fits_together(name, subject, files, channels, known, images):
            return False
        try:
            _KEY.validate_python(key)
        except ValidationError as error:
            cause = f"has a name that cannot be used ({error.errors()[0]['msg']})"
            self.report(DataIssue(thing=name, cause=cause, remedy="rename its files and folders"), subject)
            return False
        # In columns at once: a record, whose fields are all known to be sound, would take longer than the rest.
        given = {"channels": channels, "file_hashes": looked.hashes, "files": files, "values": values}
        scheme, _, digest = content_of(looked.hashes, channels).partition(":")
        kind = self._samples.kind(scheme, {name: dict(value) for name, value in given.items() if value})
        self._samples.add_row(patient, visit, bytes.fromhex(digest), None, kind)
        self._met.add(key)
        self._count(known)
        self._remark(name, subject, files, known, images)
        return True

    def _fits_together(
        self,
        name: str,
        subject: str,
        files: Mapping[str, str],
        channels: Mapping[str, int],
        known: Mapping[str, ImageFacts | MaskFacts],
        images: Mapping[str, ImageFacts],
    ) -> bool:
        """Whether each volume is on the grid of the first image, and the label is one of this dataset."""
        try:
            self._check_channels(name, files, channels)
            self._check_grids(name, known)
            if isinstance(mask := known.get(LABEL), MaskFacts):
                self._labels.check(name, files, channels, mask, images)
        except BadInput as error:
            self.report(problem_of(error), subject)
            return False
        return True

    def _check_grids(self, name: str, known: Mapping[str, ImageFacts | MaskFacts]) -> None:
        first = base_role(known)
        of_first = known[first]
        others = {role: one for role, one in known.items() if role != first and not _same_grid(of_first, one)}
        if not others:
            return
        base = Placed.of(first, of_first)
        for role in sorted(others, key=lambda role: (role == LABEL, role)):
            facts, own = known[role], Placed.of(role, known[role])
            if isinstance(facts, MaskFacts) and facts.within_image and own.shape != base.shape:
                check_within(name, base, own, self._rule)
            else:
                check_one_grid(name, base, own, self._rule)

    def _check_channels(self, name: str, files: Mapping[str, str], channels: Mapping[str, int]) -> None:
        """Each channel of an image has a name: one that has none may be in the place of another."""
        for place in dict.fromkeys(files[role] for role in channels):
            named = [role for role in channels if files[role] == place]
            there = volumes.channels_of(self._folder, place)
            if there > len(named):
                cause = f"has {there} channels, and the description names {len(named)} ({', '.join(named)})"
                remedy = "name every channel in the description, or take the others out of the image"
                raise BadInput(f"{name}: {place}", cause, remedy, code=ErrorCode.BAD_DATA)

    def _count(self, facts: Mapping[str, ImageFacts | MaskFacts]) -> None:
        for role, one in facts.items():
            if role != LABEL:
                self._modalities[role] += 1
            if isinstance(one, ImageFacts):
                before = self._ranges.get(role)
                self._ranges[role] = _Range.of(one) if before is None else before.with_one(one)
            if isinstance(one, MaskFacts):
                for value in one.label_voxels:
                    self._values[value] += 1
        first = next(one for role, one in facts.items() if role != LABEL or len(facts) == 1)
        mask = facts.get(LABEL)
        if isinstance(mask, MaskFacts) and mask.shape != first.shape and "0" not in mask.label_voxels:
            # A mask that was cropped gets background around it.
            self._values["0"] += 1
        self._shapes.extend(first.shape)
        self._spacings.extend(first.spacing)

    def _remark(
        self,
        name: str,
        subject: str,
        files: Mapping[str, str],
        known: Mapping[str, ImageFacts | MaskFacts],
        images: Mapping[str, ImageFacts],
    ) -> None:
        """Say what a person should look at, though the sample can be used."""
        lost = [files.get(role, role) for role, own in known.items() if not own.is_placed]
        if lost:
            cause = f"does not state its orientation in the patient ({', '.join(dict.fromkeys(lost))})"
            remedy = "make sure that its first axis runs to the patient's left, or export it with its orientation"
            self.warn(DataIssue(thing=name, cause=cause, remedy=remedy), subject)
        for role in sorted(known):
            for cause, remedy in oddities(known[role], self._rule):
                thing = f"{name}: {files.get(role, role)}"
                self.warn(DataIssue(thing=thing, cause=cause, remedy=remedy), subject)
        mask = known.get(LABEL)
        if isinstance(mask, MaskFacts):
            by_place = {files[role]: own for role, own in images.items()}
            for issue in self._labels.remarks(name, files.get(LABEL, LABEL), mask, by_place):
                self.warn(issue, subject)
        if mask is None:
            self._drawn_without_label(files, known)

    def _drawn_without_label(self, files: Mapping[str, str], known: Mapping[str, ImageFacts | MaskFacts]) -> None:
        for role, own in known.items():
            if looks_drawn(own):
                self._drawings.setdefault(role, []).append(files.get(role, role))

    def report(self, problem: DataIssue, subject: str = "") -> None:
        """Something is wrong, with a subject of the format's own name where one is given."""
        whose = self.patient(subject) if subject else problem.subject
        self.problems.append(problem.model_copy(update={"subject": whose}))

    def patient(self, subject: str) -> str:
        """Whose data it is that the format calls by this name; the name itself where the patient is not in it."""
        return self._folder.patient_of(subject, "")[0] or subject

    def warn(self, problem: DataIssue, subject: str = "") -> None:
        """Add a warning for a person to check."""
        self.report(problem.model_copy(update={"severity": "warning"}), subject)

    def scan(self) -> Scan:
        """All that was found, with samples in order."""
        samples = self._samples.samples().sorted()
        for issue in (*self._labels.remarks_of_all(), *self._remarks_of_all()):
            self.warn(issue)
        return Scan(samples, tuple(dict.fromkeys(self.problems)), self._schema(samples))

    def _remarks_of_all(self) -> Iterator[DataIssue]:
        """What a person should look at in the dataset as a whole."""
        for role, places in sorted(self._drawings.items()):
            there = self._modalities[role]
            if 2 * len(places) > there:
                cause = (
                    f"{len(places)} of {pluralise(there, 'image')} called {role} hold few whole numbers only, as a "
                    f"segmentation does and an image does not (first {places[0]})"
                )
                remedy = "if they are labels, add the dataset again with --image and --mask, which say where both are"
                yield DataIssue(thing=self._folder.root.name, cause=cause, remedy=remedy)
        if self._values.keys() == {"0"}:
            cause = f"{pluralise(self._values['0'], 'label volume')} and all of them hold background only"
            remedy = "check that these files are the labels: nothing can be learned from them"
            yield DataIssue(thing=self._folder.root.name, cause=cause, remedy=remedy)

    def _schema(self, samples: Samples) -> DataSchema:
        names = {str(value): name for value, name in sorted(self._labels.names.items())}
        if not samples:
            return DataSchema(kind="volumes", label_names=names)
        shapes = np.array(self._shapes).reshape(-1, 3)
        spacings = np.array(self._spacings).reshape(-1, 3)
        return DataSchema(
            kind="volumes",
            subjects=len(samples.subjects),
            samples=len(samples),
            modalities=dict(sorted(self._modalities.items())),
            label_values={value: self._values[value] for value in sorted(self._values, key=int)},
            label_names=names,
            values={role: found.values() for role, found in sorted(self._ranges.items())},
            shape_smallest=tuple(int(size) for size in shapes.min(axis=0)),
            shape_largest=tuple(int(size) for size in shapes.max(axis=0)),
            spacing_mm_median=tuple(round(float(size), 4) for size in np.median(spacings, axis=0)),
            columns=columns_of(samples),
        )


def _same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids are the same to the last bit, as they nearly always are: nothing is to be computed then."""
    return one.shape == other.shape and one.affine == other.affine


def columns_of(samples: Sequence[Sample]) -> dict[str, ColumnSummary]:
    """What is known beside the volumes, by column."""
    values_of: dict[str, dict[str, Value]] = {}
    if isinstance(samples, Samples) and not samples.have_values:
        return {}
    for sample in samples:
        for name, value in sample.values.items():
            values_of.setdefault(name, {})[f"{sample.subject}\0{sample.session}"] = value
    columns = {}
    for name, values in sorted(values_of.items()):
        missing = len(samples) - len(values)
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
            numbers = [float(value) for value in values.values()]
            columns[name] = ColumnSummary(type="number", missing=missing, minimum=min(numbers), maximum=max(numbers))
            continue
        counts = Counter(value for _, value in {(key.split("\0")[0], str(one)) for key, one in values.items()})
        if len(counts) > MOST_CATEGORIES:
            columns[name] = ColumnSummary(type="text", missing=missing)
        else:
            columns[name] = ColumnSummary(type="category", missing=missing, categories=dict(sorted(counts.items())))
    return columns
