"""The training or validation subjects of a cohort, as a plan gets them: ids, and volumes, arrays or a table, read
when asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import Cohort, mapping
from archipel.data.formats import format_named
from archipel.data.prepared import PreparedSource
from archipel.data.sample_columns import Samples
from archipel.data.sample_data import Affine, FloatVolume, LabelVolume, SampleData
from archipel.data.samples import Sample
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds, ErrorCode, Thing, Value

_ROWS_AT_ONCE = 4096


class Source(Protocol):
    """The source of samples' content: the dataset's own files, or what was prepared from them."""

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples as plans get them, mapped, one after the other."""


@dataclass(frozen=True)
class RawSource:
    """A cohort's samples, read from the dataset's files and mapped."""

    root: Path
    cohort: Cohort

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """Read and map. Raises BadInput as a scan would."""
        layout = format_named(self.cohort.format)
        for reading in layout.read(self.root, samples, self.cohort.options):
            yield self.cohort.given(reading).sealed()


class Volume(NamedTuple):
    """One sample's images with its label, affine and values.

    The arrays are read-only: copy what is to be changed.
    ``id`` is the subject, with the session where there is one. ``images`` are float32 ``[X, Y, Z]`` by modality,
    ``label`` int16 on the same grid or None, ``affine`` from voxels to millimetres (RAS). ``target`` is the value of
    the plan's target, a category as its place, or None.
    """

    id: str
    images: Mapping[str, FloatVolume]
    label: LabelVolume | None
    affine: Affine
    target: float | None = None

    @property
    def image(self) -> FloatVolume:
        """The only modality. Raises BadInput (code ``bad-plan``) when the plan reads several."""
        if len(self.images) > 1:
            raise BadInput(
                Thing.worded(self.id, sample=self.id),
                f"has {len(self.images)} images ({', '.join(self.images)}), and volume.image is one of them only",
                "read volume.stacked for all of them, or volume.images by name",
                code=ErrorCode.BAD_PLAN,
            )
        return next(iter(self.images.values()))

    @property
    def stacked(self) -> FloatVolume:
        """All modalities in the order in which the plan names them, float32 ``[C, X, Y, Z]``."""
        return np.stack(list(self.images.values()))


class Table(NamedTuple):
    """Rows: inputs ``x [N, ...]``, targets ``y [N, ...]`` and the samples' ids in row order.

    ``y`` is None where the plan names no target and the dataset has no numbers for one: the folders of classes have
    names, and which number a class gets is the plan's to say.
    """

    x: NDArray[Any]
    y: NDArray[Any] | None
    ids: Sequence[str]


@dataclass(frozen=True)
class SubjectSet:
    """Some samples of a cohort, ordered by subject and session, as a plan may read them."""

    source: Source
    samples: Sequence[Sample]
    needs: DataNeeds
    mapping: mapping.DataMapping = field(default_factory=mapping.DataMapping)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, chosen: int | slice | Iterable[int]) -> SubjectSet:
        """The same with these samples only, by their places: what a batch of a large dataset is made from."""
        if isinstance(chosen, slice):
            return replace(self, samples=self._columns[chosen])
        places = [chosen] if isinstance(chosen, int) else [int(place) for place in chosen]
        return replace(self, samples=self._columns.take(np.array(places, np.int64)))

    @property
    def ids(self) -> Sequence[str]:
        """The samples' names, in the order of everything else here."""
        return self._columns.names

    @property
    def patients(self) -> int:
        """Of how many patients the samples are."""
        return len(set(self._columns.subjects_of_rows))

    @property
    def _columns(self) -> Samples:
        return Samples.of(self.samples)

    def empty(self) -> SubjectSet:
        """The same without samples."""
        return replace(self, samples=())

    def volumes(self) -> Iterator[Volume]:
        """Each sample's volumes, one after the other (kind ``volumes``).

        Raises BadInput for a sample without a modality that the plan reads, or without its target.
        """
        for sample, reading in zip(self.samples, self.source.read(self.samples), strict=True):
            images = {}
            for asked in self.needs.images:
                stored = self.mapping.stored_modality(asked)
                if stored not in reading.images:
                    raise mapping.missing_modality(sample.name, asked, sorted(reading.images))
                images[asked] = reading.images[stored]
            target = None if self.needs.target is None else self._number(sample, self.needs.target, reading.values)
            assert reading.affine is not None
            yield Volume(sample.name, images, reading.label, reading.affine, target)

    def table(self) -> Table:
        """The samples' rows: arrays x and y as stored, y the place of the target's category where the plan names a
        target (kind ``arrays``); or float32 x ``[N, columns]`` and y ``[N]``
        (kind ``table``; y int64 when the target is a category).

        Raises BadInput for a value that is missing or not a number.
        """
        if not self.samples:
            return Table(np.empty((0,)), np.empty((0,)), ())
        if self.needs.kind == "arrays":
            return self._arrays()
        target = self.needs.target
        assert target is not None
        # Row by row into place: all readings at once would take many times the table's memory.
        values = np.empty((len(self.samples), len(self.needs.all_columns)))
        for row, sample, reading in zip(values, self.samples, self.source.read(self.samples), strict=True):
            row[:] = [self._number(sample, column, reading.values) for column in self.needs.all_columns]
        kind = np.int64 if target.is_category else np.float32
        return Table(values[:, :-1].astype(np.float32), values[:, -1].astype(kind), self.ids)

    def _arrays(self) -> Table:
        """The arrays as stored; y is the place of the target's category where the plan names one."""
        target = self.needs.target
        if target is None and isinstance(self.source, PreparedSource):
            whole = self.source.stacked(self._columns)
            if whole is not None:
                return Table(whole["x"], whole.get("y"), self.ids)
        kind = np.int64 if target is not None and target.is_category else None
        x: list[NDArray[Any]] = []
        y: list[NDArray[Any]] = []
        both = zip(self.samples, self.source.read(self.samples), strict=True)
        # Some thousand rows at a time: an array object for each row takes more than a short row itself.
        while some := list(islice(both, _ROWS_AT_ONCE)):
            x.append(np.stack([reading.arrays["x"] for _, reading in some]))
            if target is not None:
                y.append(np.asarray([self._number(sample, target, one.values) for sample, one in some], dtype=kind))
            elif all("y" in one.arrays for _, one in some):
                y.append(np.asarray([one.arrays["y"] for _, one in some]))
        return Table(np.concatenate(x), np.concatenate(y) if y else None, self.ids)

    def _number(self, sample: Sample, column: ColumnNeed, stored: Mapping[str, Value]) -> float:
        value = self.mapping.value(column.name, stored)
        if value is None:
            raise _bad_value(sample, column, "is missing")
        if column.is_category:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            if text not in column.categories:
                raise _bad_value(sample, column, f"is {text}; the plan knows {', '.join(column.categories)}")
            return float(column.categories.index(text))
        if isinstance(value, str):
            raise _bad_value(sample, column, f"is {value}, not a number")
        return float(value)


def _bad_value(sample: Sample, column: ColumnNeed, cause: str) -> BadInput:
    return BadInput(
        Thing.worded(f"{sample.name}: {column.name}", sample=sample.name, column=column.name),
        cause,
        "map the value or leave the subject out",
        code=ErrorCode.BAD_DATA,
    )


def verify(root: Path, cohort: Cohort) -> None:
    """Check that every sample holds what it had when the cohort was frozen.

    Raises BadInput (code ``data-changed``) naming the first file that is missing or changed.
    """
    format_named(cohort.format).verify(root, cohort.samples, cohort.options)


def usable(cohort: Cohort, needs: DataNeeds) -> Cohort:
    """The cohort as this plan gets it: without the samples that lack a column, where its mapping says so."""
    if not cohort.mapping.drop_incomplete:
        return cohort
    asked = cohort.mapping.required_columns(needs)
    # A table's rows name their missing values; values beside volumes are all in the sample.
    is_table = needs.kind == "table"

    def complete(kind: int) -> bool:
        rest = cohort.samples.rest(kind)
        lacks, known = rest.get("missing", ()), rest.get("values", {}).keys()
        return not asked.intersection(lacks) and (is_table or asked <= known)

    return cohort.model_copy(update={"samples": cohort.samples.of_kinds(complete)})


def split(source: Source, cohort: Cohort, fraction: float, needs: DataNeeds) -> tuple[SubjectSet, SubjectSet]:
    """The cohort's training and validation subjects, each ordered; all sessions of a subject are on one side.

    Samples that the mapping leaves out for this plan are on neither. The cohort's own list decides where it has one,
    else the hash of each subject's id and ``fraction``.
    """
    cohort = usable(cohort, needs)
    held_out = cohort.held_out(fraction)
    training = cohort.samples.of_subjects(held_out, inside=False)
    validation = cohort.samples.of_subjects(held_out)
    whole = SubjectSet(source, training, needs, cohort.mapping)
    return whole, replace(whole, samples=validation)


class SampleCounts(NamedTuple):
    """How many samples of a cohort a plan has to train on and to validate on, and how many patients the latter are of.

    Who does not say of how many patients discloses no spread: 0 are below every smallest cell.
    """

    training: int
    validation: int
    held_out_patients: int = 0


def count_samples(cohort: Cohort, fraction: float, needs: DataNeeds) -> SampleCounts:
    """How many samples ``split`` gives a plan on each side: the numbers that a site's update counts.

    It follows from the cohort and the job alone, and nothing is read for it.
    """
    cohort = usable(cohort, needs)
    held_out = cohort.held_out(fraction)
    # Counted in the column of subjects: a copy of each side would take as much memory as the cohort.
    validation = [subject for subject in cohort.samples.subjects_of_rows if subject in held_out]
    return SampleCounts(len(cohort.samples) - len(validation), len(validation), len(set(validation)))
