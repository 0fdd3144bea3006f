"""Prepared samples: what a plan reads, made once from a site's files and mapped into memory afterwards.

A prepared file holds one sample's volumes, or the rows of many samples. Its arrays come first, each at a
multiple of 64
bytes and in the memory order they had when they were read, so that sums over them come out the same to the last bit.
The index (JSON) follows, then a trailer of fixed length with the index's hash: a file that was cut or never written to
its end has none.
"""

from __future__ import annotations

import json
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import rfc8785
from numpy.typing import NDArray
from typing_extensions import Buffer

from archipel.data.cohorts import Cohort, Preprocessing
from archipel.data.formats import format_named
from archipel.data.sample_data import SampleData
from archipel.data.samples import Sample
from archipel.linux import private_mapping
from archipel.tensors import blob_hash, write_all
from archipel.vocabulary import BadInput, ErrorCode, Hash, Record, Thing, Value
from archipel.vocabulary.needs import LabelValue

ROWS = "rows.prepared"
"""The name, among a worker's files, of the one that holds a whole cohort's rows."""
_MAGIC = b"ARCHPRE1"
_TRAILER = struct.Struct("<QQ64s8s")
"""Length of the index, length of the file, hex digits of the index's BLAKE3, and the format's magic bytes."""
_ALIGNED = 64
_MOST_MAPPED = 16_384
"""Files that stay mapped at once; the kernel allows four times as many mappings (vm.max_map_count)."""
_IMAGE, _ARRAY = "image:", "array:"
_NOT_CONTENT = {"subject", "session", "files", "file_hashes", "row", "hash"}


class Preparation(Record):
    """What is done to a sample before a plan sees it, as far as it changes voxels, arrays or values.

    Names of modalities and columns are looked up when a plan asks, so that a changed mapping of names prepares nothing
    again.
    """

    form: Literal["archipel-prepared/1"] = "archipel-prepared/1"
    layout: str
    options: dict[str, str] = {}
    labels: dict[LabelValue, int] = {}
    drop_other_labels: bool = False
    orientation: str = ""
    recipe: Preprocessing = Preprocessing()

    @classmethod
    def of(cls, cohort: Cohort) -> Preparation:
        """What is done to this cohort's samples."""
        rule = cohort.mapping
        return cls(
            layout=cohort.format,
            options=cohort.options,
            labels=rule.labels,
            drop_other_labels=rule.drop_other_labels,
            orientation=rule.orientation,
            recipe=cohort.recipe,
        )

    @property
    def hash(self) -> str:
        """``blake3:<64 hex digits>`` of its canonical JSON."""
        return blob_hash(rfc8785.dumps(self.model_dump(mode="json")))

    def keys(self, samples: Iterable[Sample]) -> list[str]:
        """Each sample's key: the digits of its content's hash, a dot, and digits of its values and how it is made."""
        how = self.hash
        found = []
        for sample in samples:
            # Everything on which a sample depends beside the bytes: values, channels of a file and what else is added.
            beside = json.dumps(sample.model_dump(mode="json", exclude=_NOT_CONTENT), sort_keys=True)
            with_it = blob_hash(f"{how}\n{sample.hash}\n{beside}".encode())
            found.append(f"{_digits(sample.hash)}.{_digits(with_it)[:32]}")
        return found

    def rows_key(self, samples: Iterable[Sample]) -> str:
        """The key of one file with the rows of all these samples."""
        return _digits(blob_hash("\n".join(self.keys(samples)).encode()))


def _digits(hashed: str) -> str:
    return hashed.partition(":")[2]


def is_rows(cohort: Cohort) -> bool:
    """Whether the cohort's samples are in one prepared file; volumes have a file each."""
    return format_named(cohort.format).kind != "volumes"


_StoredArray = tuple[str, str, tuple[int, ...], tuple[int, ...], int]
"""An array in a prepared file: name, type, shape, its axes from the slowest to the fastest, and where it begins."""


class _Index(Record):
    """What is in a prepared file: for each sample its key, its values and its arrays."""

    form: str
    preparation: Hash
    samples: tuple[tuple[str, dict[str, Value], tuple[_StoredArray, ...]], ...]


class Keyed(NamedTuple):
    """A sample that is being written into a prepared file."""

    key: str
    reading: SampleData


def write_prepared(file: FileIO, how: Preparation, samples: Iterable[Keyed]) -> int:
    """Write a whole prepared file, sample by sample, and return its length in bytes.

    Raises BadInput for an array of Python objects or records, OSError when the disk is full.
    """
    position = 0
    index: list[Any] = []

    def add(data: Buffer) -> None:
        nonlocal position
        write_all(file, data)
        position += memoryview(data).nbytes

    def aligned() -> int:
        add(bytes(-position % _ALIGNED))
        return position

    add(_MAGIC)
    for key, reading in samples:
        arrays = []
        for name, array in _arrays_of(reading):
            if array.dtype.hasobject or array.dtype.kind == "V":
                cause = f"its array {name.partition(':')[2] or name} has type {array.dtype}"
                raise BadInput(key[:12], cause, "use numbers or text", code=ErrorCode.BAD_DATA)
            order = _memory_order(array)
            arrays.append([name, array.dtype.str, list(array.shape), order, aligned()])
            add(np.ascontiguousarray(array.transpose(order)).reshape(-1).view(np.uint8).data)
        index.append([key, dict(reading.values), arrays])
    aligned()
    document = {"form": how.form, "preparation": how.hash, "samples": index}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    add(text)
    add(_TRAILER.pack(len(text), position + _TRAILER.size, _digits(blob_hash(text)).encode(), _MAGIC))
    return position


def _arrays_of(reading: SampleData) -> Iterator[tuple[str, NDArray[Any]]]:
    if reading.affine is not None:
        yield "affine", reading.affine
    for name, image in reading.images.items():
        yield _IMAGE + name, image
    if reading.label is not None:
        yield "label", reading.label
    for name, array in reading.arrays.items():
        yield _ARRAY + name, np.asarray(array)


def _memory_order(array: NDArray[Any]) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    strides = [-abs(step) for step in array.strides]
    return [int(axis) for axis in np.argsort(strides, kind="stable")]


@dataclass(frozen=True)
class PreparedFile:
    """A prepared file, mapped into memory; the samples in it by their keys."""

    window: NDArray[np.uint8]
    samples: Mapping[str, tuple[Mapping[str, Value], Sequence[_StoredArray]]]

    @classmethod
    def open(cls, path: Path) -> PreparedFile:
        """Map a file and read its index. Raises Damaged when it is not whole, OSError when it is not there."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            index = _index(descriptor, path.name)
            window = _mapped(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        return cls(window, {key: (values, arrays) for key, values, arrays in index.samples})

    def reading(self, key: str) -> SampleData:
        """A sample's content: read-only arrays on the mapped file."""
        values, arrays = self.samples[key]
        images, others, single = {}, {}, {}
        for name, dtype, shape, order, start in arrays:
            array = self._array(dtype, shape, order, start)
            if name.startswith(_IMAGE):
                images[name.removeprefix(_IMAGE)] = array
            elif name.startswith(_ARRAY):
                others[name.removeprefix(_ARRAY)] = array
            else:
                single[name] = array
        return SampleData(
            images=images, label=single.get("label"), affine=single.get("affine"), arrays=others, values=values
        ).sealed()

    def _array(self, dtype: str, shape: Sequence[int], order: Sequence[int], start: int) -> NDArray[Any]:
        kind = np.dtype(dtype)
        stored = np.ndarray([shape[axis] for axis in order], kind, self.window.data, start)
        return stored.transpose([order.index(axis) for axis in range(len(order))])


class Damaged(Exception):
    """A prepared file is not whole; it is made again."""


def keys_in(path: Path) -> list[str]:
    """The keys of the samples in a prepared file. Raises Damaged when it is not whole, OSError when it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [key for key, _, _ in _index(descriptor, path.name).samples]
    finally:
        os.close(descriptor)


def _index(descriptor: int, name: str) -> _Index:
    size = os.fstat(descriptor).st_size
    if size < len(_MAGIC) + _TRAILER.size:
        raise Damaged(f"{name} has {size} bytes")
    length, stated, hashed, magic = _TRAILER.unpack(os.pread(descriptor, _TRAILER.size, size - _TRAILER.size))
    if magic != _MAGIC or stated != size or length > size - _TRAILER.size:
        raise Damaged(f"{name} has no end")
    text = os.pread(descriptor, length, size - _TRAILER.size - length)
    if _digits(blob_hash(text)).encode() != hashed:
        raise Damaged(f"{name} has another index than was written")
    return _Index.model_validate_json(text)


_READ_AHEAD = 8 << 20
"""Files up to this size are mapped page by page at once: a fault for each costs more than copying them."""


def _mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    """The file in memory, unmapped with the last array on it.

    Python's own mapping keeps a descriptor open for each, and a worker has few where a cohort may have thousands.
    """
    return np.frombuffer(private_mapping(descriptor, size, at_once=size <= _READ_AHEAD), dtype=np.uint8)


class PreparedSource:
    """A cohort's samples from prepared files in one folder; gives what ``RawSource`` gives.

    Files stay mapped from epoch to epoch; this takes addresses, and only memory that the kernel can reclaim.
    """

    def __init__(self, folder: Path, cohort: Cohort) -> None:
        self._folder, self._is_rows = folder, is_rows(cohort)
        keys = Preparation.of(cohort).keys(cohort.samples)
        self._keys = {sample.key: key for sample, key in zip(cohort.samples, keys, strict=True)}
        self._mapped: OrderedDict[str, PreparedFile] = OrderedDict()

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples as plans get them. Raises BadInput when one was not prepared."""
        for sample in samples:
            key = self._keys[sample.key]
            try:
                yield self._file(key).reading(key)
            except (KeyError, FileNotFoundError, Damaged) as error:
                remedy = "start the experiment's worker again, which prepares it"
                raise BadInput(
                    Thing.worded(sample.name, sample=sample.name), "was not prepared", remedy, code=ErrorCode.BAD_DATA
                ) from error

    def _file(self, key: str) -> PreparedFile:
        name = ROWS if self._is_rows else key
        if name not in self._mapped:
            if len(self._mapped) >= _MOST_MAPPED:
                self._mapped.popitem(last=False)
            self._mapped[name] = PreparedFile.open(self._folder / name)
        return self._mapped[name]
