"""Evidence: what is known of each sample, collected from the file index so that no unchanged file is opened.

Facts are kept small (a few hundred bytes a volume), because a dataset may have 100,000 of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import FileIndex, Folder, Purpose
from archipel.data.formats import Options, format_named
from archipel.data.requests import request_of
from archipel.data.sample_data import Affine
from archipel.data.samples import Sample, Scan
from archipel.data.volumes import ImageFacts, MaskFacts, look_at_sample
from archipel.tensors import blob_hash
from archipel.vocabulary import DataKind, Record, Value

Key = tuple[str, str]
"""A sample's subject and session."""
PIXELS = "pixels/4"
VALUES = "values/3"
"""What an index calls the examinations of 2-D images and of tables; a new number when they find other facts."""
CELLS = 500_000
"""Values of a table up to which they are kept in the index; a larger table is read for every report."""
_SIDES = ("LR", "PA", "IS")
_PART = 1 << 20


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """One volume: its grid, the hash of its voxels, and either intensities or how many voxels have each label.

    ``spacing`` in millimetres; ``percentiles`` are 1, 50 and 99.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    voxels: str
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    percentiles: tuple[float, ...] = ()
    label_voxels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: ImageFacts | MaskFacts) -> VolumeFacts:
        """From the facts of ``look_at_sample``."""
        codes = _codes(facts.affine)
        if isinstance(facts, MaskFacts):
            return cls(facts.shape, facts.spacing, codes, facts.voxels, label_voxels=facts.label_voxels)
        return cls(
            facts.shape,
            facts.spacing,
            codes,
            facts.voxels,
            minimum=facts.minimum,
            maximum=facts.maximum,
            mean=facts.mean,
            spread=facts.spread,
            percentiles=facts.percentiles,
        )

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in millilitres."""
        return math.prod(self.spacing) / 1000


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """One 2-D image or vector: hash of its pixels, range and mean, its shape, and its class if it has one.

    ``spread`` is the standard deviation, ``high`` the 99th percentile; ``at_minimum`` and ``at_maximum`` are the shares
    of pixels that have the least and the greatest value.
    """

    pixels: str
    minimum: float
    maximum: float
    mean: float
    shape: tuple[int, ...]
    label: str = ""
    spread: float = 0.0
    high: float = 0.0
    at_minimum: float = 0.0
    at_maximum: float = 0.0


class ArraysExamined(Record):
    """The facts of a file's arrays, in the order of the samples that were asked for."""

    rows: tuple[ArrayFacts, ...]


class RowsExamined(Record):
    """The values of a table's rows, in the order of the samples that were asked for."""

    rows: tuple[dict[str, Value], ...]


@dataclass(frozen=True)
class Evidence:
    """All that a report is built from: the scan, and by sample what is known of its volumes or arrays."""

    kind: DataKind
    scan: Scan
    volumes: Mapping[Key, Mapping[str, VolumeFacts]] = field(default_factory=dict)
    arrays: Mapping[Key, ArrayFacts] = field(default_factory=dict)


def gather(root: Path, layout: str, options: Options, scan: Scan, index: FileIndex) -> Evidence:
    """The evidence for a scan that was made with the same index: only files that changed since are opened.

    2-D images and arrays are opened once for their pixels, the first time; a table for its values. The evidence's
    scan has a table's values among its samples.
    """
    folder = Folder(root, index, options=options)
    kind = format_named(layout).kind
    if kind == "volumes":
        return Evidence(kind, scan, volumes={one.key: facts_of(folder, one) for one in scan.samples})
    if kind == "arrays":
        return Evidence(kind, scan, arrays=_arrays_of(root, index, layout, options, scan.samples))
    rows = tuple(_with_values(root, index, layout, options, scan))
    return Evidence(kind, Scan(rows, scan.problems, scan.schema))


def facts_of(folder: Folder, sample: Sample) -> dict[str, VolumeFacts]:
    """What is known of each volume of a sample, by its role; nothing of one with a problem."""
    known = {}
    for role, looked in look_at_sample(folder, sample.files, sample.channels).by_role.items():
        if looked.problem is None:
            known[role] = VolumeFacts.of(looked.require_facts())
    return known


def _arrays_of(
    root: Path, index: FileIndex, layout: str, options: Options, samples: Sequence[Sample]
) -> dict[Key, ArrayFacts]:
    """One look a file: it may hold one image or the whole dataset."""
    by_place: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_place[next(iter(sample.files.values()))].append(sample)
    known: dict[Key, ArrayFacts] = {}
    for place, inside in by_place.items():

        def examine(_: Path, inside: Sequence[Sample] = inside) -> ArraysExamined:
            readings = format_named(layout).read(root, inside, options)
            return ArraysExamined(rows=tuple(array_facts(reading.arrays) for reading in readings))

        purpose = Purpose(PIXELS, ArraysExamined, request_of(options, inside))
        looked = Folder(root, index).look(place, purpose, examine)
        if looked.facts is not None:
            known.update(zip((sample.key for sample in inside), looked.facts.rows, strict=True))
    return known


def _with_values(root: Path, index: FileIndex, layout: str, options: Options, scan: Scan) -> Iterator[Sample]:
    """The samples of a table with their rows' values; a small table's are kept in the index."""
    by_place: dict[str, list[Sample]] = defaultdict(list)
    for sample in scan.samples:
        by_place[sample.files["table"]].append(sample)
    for place, inside in by_place.items():

        def rows(inside: Sequence[Sample] = inside) -> Iterator[Mapping[str, Value]]:
            return (reading.values for reading in format_named(layout).read(root, inside, options))

        def examine(_: Path) -> RowsExamined:
            return RowsExamined(rows=tuple(dict(one) for one in rows()))

        values: Iterable[Mapping[str, Value]] = rows()
        if len(inside) * len(scan.schema.columns) <= CELLS:
            purpose = Purpose(VALUES, RowsExamined, request_of(options, inside))
            looked = Folder(root, index).look(place, purpose, examine)
            values = looked.facts.rows if looked.facts is not None else ()
        for sample, known in zip(inside, values, strict=False):
            yield sample.model_copy(update={"values": dict(known)})


def array_facts(arrays: Mapping[str, NDArray[Any]]) -> ArrayFacts:
    """The facts of one sample's arrays."""
    x, y = np.ascontiguousarray(arrays["x"]), np.asarray(arrays.get("y", ()))
    facts = ArrayFacts(
        pixels=blob_hash(f"{x.dtype.str}{list(x.shape)}".encode() + x.tobytes()),
        minimum=float(x.min()) if x.size else 0.0,
        maximum=float(x.max()) if x.size else 0.0,
        mean=float(x.mean()) if x.size else 0.0,
        shape=x.shape,
        label=f"{y.item():g}" if y.size == 1 and y.dtype.kind in "iub" else "",
    )
    if x.ndim < 2 or not x.size:
        return facts
    values = x.reshape(-1)
    rank = int(0.99 * (values.size - 1))
    return replace(
        facts,
        spread=_deviation(values, facts.mean),
        high=float(np.partition(values, rank)[rank]),
        at_minimum=float((values == values.min()).mean()),
        at_maximum=float((values == values.max()).mean()),
    )


def _deviation(values: NDArray[Any], mean: float) -> float:
    """The standard deviation, a part at a time: numpy's own makes a copy of 8 bytes for each value."""
    total = 0.0
    for start in range(0, values.size, _PART):
        distance = values[start : start + _PART].astype(np.float64) - mean
        total += float(distance @ distance)
    return float(np.sqrt(total / values.size))


@lru_cache(maxsize=1024)
def _codes(affine: tuple[tuple[float, ...], ...]) -> str:
    """Cached, because the volumes of a patient, and often of a dataset, have one orientation."""
    return orientation_codes(np.array(affine))


def orientation_codes(affine: Affine) -> str:
    """To where each stored axis runs, as ``RAS``: the patient's right, front and top.

    >>> orientation_codes(np.diag([-1.0, 1.0, 2.0, 1.0]))
    'LAS'
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # An oblique grid may point two axes nearest to one side: the clearest axis chooses first, as nibabel has it.
    letters = ["", "", ""]
    left = np.abs(directions)
    for _ in range(3):
        side, axis = np.unravel_index(int(np.argmax(left)), left.shape)
        letters[axis] = _SIDES[side][int(directions[side, axis] > 0)]
        left[side, :] = -1
        left[:, axis] = -1
    return "".join(letters)
