"""Dummy samples: generated data of the shape that a plan asks for and a dataset declares.

A plan runs on them before any real sample is touched. Sizes are the dataset's smallest and largest in turn, values are
in its ranges, every label and category that the plan names occurs. Nothing in them comes from a patient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import Cohort, DataMapping, grid_after, with_declared_columns
from archipel.data.prepared import ROWS, Keyed, Preparation, is_rows, write_prepared
from archipel.data.sample_data import Affine, LabelVolume, SampleData
from archipel.data.samples import DataSchema, Sample
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds, ErrorCode, InputValues, Thing, Value

LEAST = 8
"""Subjects of a dummy run, unless the plan needs more."""
_SHAPE = (32, 32, 32)


def as_given(schema: DataSchema, cohort: Cohort, grids: Sequence[tuple[Sequence[int], Affine]]) -> DataSchema:
    """The schema with the sizes of volumes as plans get them by the cohort's mapping and preprocessing.

    ``grids``: shape and affine of each volume as it is stored. Without any, the schema's smallest and largest shape are
    taken to be in RAS, with its median spacing.
    """
    if schema.kind != "volumes":
        return schema
    declared = np.diag([*(schema.spacing_mm_median or (1.0, 1.0, 1.0)), 1.0])
    stored = grids or [(shape, declared) for shape in (schema.shape_smallest, schema.shape_largest) if shape]
    if not stored:
        return schema
    shapes = np.array([cohort.shape_given(shape, affine) for shape, affine in stored])
    turned = [grid_after(cohort.mapping, shape, affine)[1] for shape, affine in stored]
    spacings = [np.linalg.norm(affine[:3, :3], axis=0) for affine in turned]
    given = {
        "shape_smallest": tuple(shapes.min(axis=0).tolist()),
        "shape_largest": tuple(shapes.max(axis=0).tolist()),
        "spacing_mm_median": cohort.recipe.spacing_mm or tuple(np.median(spacings, axis=0).tolist()),
    }
    return schema.model_copy(update=given)


class Dummies:
    """Dummy samples for a plan's needs, as its own names have them: no mapping is needed to read them.

    ``schema`` and ``mapping`` are those of the dataset that they replace, ``layout`` its format. The schema's sizes
    are taken as they are: see ``as_given``.
    """

    def __init__(self, needs: DataNeeds, schema: DataSchema, mapping: DataMapping, layout: str, seed: int = 0) -> None:
        self._needs, self._schema, self._mapping, self._seed = needs, schema, mapping, seed
        count = max(LEAST, needs.minimum_subjects)
        samples = tuple(
            Sample(subject=f"dummy-{number:03}", files={}, hash=blob_hash(f"dummy-{number}".encode()))
            for number in range(count)
        )
        self.cohort = with_declared_columns(Cohort(dataset="dummy", format=layout, samples=samples), needs)

    @property
    def voxels(self) -> float:
        """Voxels of a sample on average; 0 for what is not a volume."""
        if self._needs.kind != "volumes":
            return 0.0
        return float(np.mean([np.prod(self._shape(number)) for number in range(len(self.cohort.samples))]))

    def write(self, folder: Path) -> tuple[tuple[Path, str], ...]:
        """Write the samples as prepared files into a folder; each file with its name for a worker."""
        how = Preparation.of(self.cohort)
        keyed = [Keyed(key, one) for key, one in zip(how.keys(self.cohort.samples), self.readings(), strict=True)]
        groups = {ROWS: keyed} if is_rows(self.cohort) else {one.key: [one] for one in keyed}
        for name, samples in groups.items():
            with (folder / name).open("xb", buffering=0) as file:
                write_prepared(file, how, samples)
            (folder / name).chmod(0o444)
        return tuple((folder / name, name) for name in groups)

    def readings(self) -> Iterator[SampleData]:
        """The samples' content. Raises BadInput for arrays of a type that cannot be generated."""
        draw = np.random.default_rng(self._seed)
        for number in range(len(self.cohort.samples)):
            values = {
                column.name: self._value(column, number, draw)
                for column in (*self._needs.columns, *((self._needs.target,) if self._needs.target else ()))
            }
            if self._needs.kind == "volumes":
                yield self._volume(number, draw, values)
            elif self._needs.kind == "arrays":
                arrays = {
                    name: _array(form, number, draw, _ends(self._needs, name))
                    for name, form in self._schema.arrays.items()
                }
                yield SampleData(arrays=arrays, values=values)
            else:
                yield SampleData(values=values)

    def _shape(self, number: int) -> tuple[int, ...]:
        ends = (self._schema.shape_largest, self._schema.shape_smallest)
        return ends[number % 2] or _SHAPE

    def _volume(self, number: int, draw: np.random.Generator, values: dict[str, Value]) -> SampleData:
        shape = self._shape(number)
        label: LabelVolume | None = None
        if self._needs.labels:
            label = np.zeros(shape, dtype=np.int16)
            # Boxes one behind the other along the longest axis, each a fraction of the middle of the volume.
            longest = int(np.argmax(shape))
            middle = [slice(size // 3, max(size // 3 + 1, 2 * size // 3)) for size in shape]
            edges = np.linspace(shape[longest] // 4, 3 * shape[longest] // 4, len(self._needs.labels) + 1).astype(int)
            for place, value in enumerate(sorted(map(int, self._needs.labels))):
                box = list(middle)
                box[longest] = slice(edges[place], max(edges[place] + 1, edges[place + 1]))
                label[tuple(box)] = value
        images = {}
        for name in self._needs.images:
            ends = _ends(self._needs, name)
            if ends is not None:
                images[name] = np.asarray(draw.uniform(*ends, shape), dtype=np.float32)
                continue
            noise = draw.normal(100, 20, shape)
            images[name] = np.asarray(noise if label is None else noise + 40 * (label > 0), dtype=np.float32)
        affine: Affine = np.diag([*(self._schema.spacing_mm_median or (1.0, 1.0, 1.0)), 1.0])
        return SampleData(images=images, label=label, affine=affine, values=values)

    def _value(self, column: ColumnNeed, number: int, draw: np.random.Generator) -> Value:
        if column.is_category:
            return column.categories[number % len(column.categories)]
        source = self._mapping.stored_column(column.name)
        found = self._schema.columns.get(source)
        low, high = 0.0, 1.0
        if found is not None and found.minimum is not None and found.maximum is not None:
            low, high = found.minimum, found.maximum
        told = self._mapping.value(column.name, {source: float(draw.uniform(low, high))})
        return told if isinstance(told, float) else 0.0


def _ends(needs: DataNeeds, name: str) -> tuple[float, float] | None:
    """The scale for which a plan is written, where it has two ends."""
    asked = needs.values.get(name, InputValues())
    return None if asked.minimum is None or asked.maximum is None else (asked.minimum, asked.maximum)


def _array(form: str, number: int, draw: np.random.Generator, ends: tuple[float, float] | None) -> NDArray[Any]:
    """One sample of an array that a schema describes, ``float32 [28, 28]``, on the plan's scale where it has one; else
    whole numbers are 0 or 1."""
    name, _, shape = form.partition(" ")
    kind = np.dtype(name)
    if kind.kind not in "fiub":
        raise BadInput(
            Thing.worded(f"an array of type {name}", type=name),
            "cannot be generated",
            "store numbers",
            code=ErrorCode.BAD_DATA,
        )
    sizes = tuple(json.loads(shape or "[]"))
    if ends is not None:
        numbers = draw.uniform(*ends, sizes)
        if kind.kind in "iu":
            # A dataset of another type is refused by its needs; until then the plan sees what the type can hold.
            numbers = np.clip(numbers, np.iinfo(kind).min, np.iinfo(kind).max)
        return numbers.astype(kind)
    if kind.kind == "f":
        return np.asarray(draw.normal(size=sizes), dtype=kind)
    return np.full(sizes, number % 2, dtype=kind)
