"""Prepared samples: what a plan reads, made once from a site's files and mapped into memory afterwards.

A prepared file holds one sample's volumes, or the rows of many samples. Its arrays come first, each at a multiple of 64
bytes and in the memory order they had when they were read, so that sums over them come out the same to the last bit.
A table follows with a row of fixed length for each sample, then the different values as JSON, the index (JSON), and a
trailer of fixed length with the hash of all these: a file that was cut or never written to its end has none.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import Buffer

from archipel.data.cohorts import Cohort
from archipel.data.digests import Digests
from archipel.data.prepared.preparation import Preparation, digits_in, is_rows
from archipel.data.sample_columns import Samples
from archipel.data.sample_data import SampleData
from archipel.data.samples import Sample
from archipel.data.text_columns import TextBuilder, TextColumn
from archipel.linux import private_mapping
from archipel.tensors import BlobHasher, write_all
from archipel.vocabulary import BadInput, ErrorCode, Hash, Record, Thing

ROWS = "rows.prepared"
"""The name, among a worker's files, of the one that holds a whole cohort's rows."""
_MAGIC = b"ARCHPRE2"
_TRAILER = struct.Struct("<QQQ64s8s")
"""Where the table begins, length of the index, length of the file, hex digits of the BLAKE3 of all from the table on,
and the format's magic bytes."""
_PLACE = struct.Struct("<IIQ")
_PART = 1 << 20
_KEYS_AT_ONCE = 4096
_ALIGNED = 64
_MOST_MAPPED = 16_384
"""Files that stay mapped at once; the kernel allows four times as many mappings (vm.max_map_count)."""
_IMAGE, _ARRAY = "image:", "array:"


_StoredArray = tuple[str, str, tuple[int, ...], tuple[int, ...], int]
"""An array in a prepared file: name, type, shape, its axes from the slowest to the fastest, and how far behind the
sample's first byte it begins."""
_ROW = np.dtype(
    [("content", "S32"), ("beside", "S16"), ("values", "<u4"), ("layout", "<u4"), ("start", "<u8")]
)  # fmt: skip
_KEY = np.dtype([("content", "S32"), ("beside", "S16")])
"""What the table has of a sample: both parts of its key, the numbers of its values and of its layout, and where its
arrays begin."""


class _Index(Record):
    """What is in a prepared file: how many samples, how many different values with so many bytes of text, and the
    different layouts, each the arrays of a sample."""

    form: str
    preparation: Hash
    samples: Annotated[int, Field(ge=0)]
    values: Annotated[int, Field(ge=0)]
    text: Annotated[int, Field(ge=0)]
    layouts: tuple[tuple[_StoredArray, ...], ...]


class Keyed(NamedTuple):
    """A sample that is being written into a prepared file."""

    key: str
    reading: SampleData


def write_prepared(file: FileIO, how: Preparation, samples: Iterable[Keyed]) -> int:
    """Write a whole prepared file, sample by sample, and return its length in bytes.

    Raises BadInput for an array of Python objects or records, OSError when the disk is full.
    """
    position = 0

    waiting = bytearray()

    def add(data: Buffer, *, last: bool = False) -> None:
        nonlocal position
        window = memoryview(data)
        position += window.nbytes
        # Rows are short, and a call for each would take most of the time; a volume is not copied.
        if window.nbytes < _PART:
            waiting.extend(window)
        if last or window.nbytes >= _PART or len(waiting) >= _PART:
            write_all(file, waiting)
            waiting.clear()
        if window.nbytes >= _PART:
            write_all(file, window)

    def aligned() -> int:
        add(bytes(-position % _ALIGNED))
        return position

    rows, texts = bytearray(), TextBuilder()
    values: dict[str, int] = {}
    layouts: dict[tuple[_StoredArray, ...], int] = {}
    add(_MAGIC)
    for key, reading in samples:
        arrays: list[_StoredArray] = []
        start = aligned()
        for name, array in _arrays_of(reading):
            if array.dtype.hasobject or array.dtype.kind == "V":
                cause = f"its array {name.partition(':')[2] or name} has type {array.dtype}"
                raise BadInput(key[:12], cause, "use numbers or text", code=ErrorCode.BAD_DATA)
            order = _memory_order(array)
            arrays.append((name, array.dtype.str, array.shape, order, aligned() - start))
            add(np.ascontiguousarray(array.transpose(order)).reshape(-1).view(np.uint8).data)
        text = json.dumps(dict(reading.values), separators=(",", ":"), allow_nan=False)
        if text not in values:
            texts.add(text)
        numbers = values.setdefault(text, len(values)), layouts.setdefault(tuple(arrays), len(layouts))
        content, _, beside = key.partition(".")
        rows += bytes.fromhex(content + beside) + _PLACE.pack(*numbers, start)
    aligned()
    buffer, ends = texts.arrays()
    index = _Index(
        form=how.form, preparation=how.hash, samples=len(rows) // _ROW.itemsize, values=len(values), text=len(buffer),
        layouts=tuple(layouts),
    )  # fmt: skip
    head = index.model_dump_json().encode()
    hasher, begin = BlobHasher(), position
    for part in (rows, ends.tobytes(), buffer.tobytes(), head):
        hasher.update(part)
        add(part)
    add(
        _TRAILER.pack(begin, len(head), position + _TRAILER.size, digits_in(hasher.digest()).encode(), _MAGIC),
        last=True,
    )
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


def _memory_order(array: NDArray[Any]) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory."""
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    strides = [-abs(step) for step in array.strides]
    return tuple(int(axis) for axis in np.argsort(strides, kind="stable"))


class PreparedFile:
    """A prepared file, mapped into memory, and which samples are in it."""

    def __init__(self, window: NDArray[np.uint8], found: _Found) -> None:
        index, at = found.contents, found.begin
        self._window, self._layouts = window, index.layouts
        self.rows = np.frombuffer(window.data, _ROW, index.samples, at)
        at += self.rows.nbytes
        ends = np.frombuffer(window.data, "<i8", index.values + 1, at)
        self._values = TextColumn(np.frombuffer(window.data, np.uint8, index.text, at + ends.nbytes), ends)
        self._order: NDArray[np.int64] | None = None

    @classmethod
    def open(cls, path: Path) -> PreparedFile:
        """Map a file and read its index. Raises Damaged when it is not whole, OSError when it is not there."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _index(descriptor, path.name)
            window = _mapped(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        return cls(window, found)

    def places(self, keys: Sequence[str]) -> list[int]:
        """The places of these samples in the file. Raises KeyError when one is not in it."""
        if len(self.rows) == 1:
            # A volume has a file of its own, and is asked for alone.
            held = self.rows["content"].tobytes() + self.rows["beside"].tobytes()
            for key in keys:
                if bytes.fromhex(key.replace(".", "")) != held:
                    raise KeyError(key)
            return [0] * len(keys)
        if self._order is None:
            self._order = np.argsort(self.rows["content"], kind="stable")
            self._contents = self.rows["content"][self._order]
        asked = np.frombuffer(b"".join(bytes.fromhex(key.replace(".", "")) for key in keys), _KEY)
        first = np.searchsorted(self._contents, asked["content"])
        found = self._order[np.minimum(first, len(self._order) - 1)]
        same = (self.rows["content"][found] == asked["content"]) & (self.rows["beside"][found] == asked["beside"])
        for number in np.flatnonzero(~same).tolist():
            # Samples of one content may differ in what is known beside it.
            behind = np.searchsorted(self._contents, asked["content"][number], "right")
            others = self._order[first[number] : behind]
            others = others[self.rows["beside"][others] == asked["beside"][number]]
            if not len(others):
                raise KeyError(keys[number])
            found[number] = others[0]
        return [int(place) for place in found]

    def reading(self, place: int) -> SampleData:
        """The content of the sample at this place: read-only arrays on the mapped file."""
        _, _, values, layout, start = self.rows[place].tolist()
        images, others, single = {}, {}, {}
        for name, dtype, shape, order, behind in self._layouts[layout]:
            array = self._array(dtype, shape, order, start + behind)
            if name.startswith(_IMAGE):
                images[name.removeprefix(_IMAGE)] = array
            elif name.startswith(_ARRAY):
                others[name.removeprefix(_ARRAY)] = array
            else:
                single[name] = array
        return SampleData(
            images=images, label=single.get("label"), affine=single.get("affine"), arrays=others,
            values=json.loads(self._values[values]),
        ).sealed()  # fmt: skip

    def stacked(self, places: Sequence[int], into: dict[str, NDArray[Any]], at: int) -> bool:
        """Copy the arrays of the samples at these places into rows of ``into``, from ``at`` on; whether all have the
        same type and shape, in rows, as those."""
        rows = self.rows[np.array(places, np.int64)]
        if not len(rows) or np.any(rows["layout"] != rows["layout"][0]):
            return False
        for stored, dtype, shape, order, behind in self._layouts[int(rows["layout"][0])]:
            name, kind = stored.removeprefix(_ARRAY), np.dtype(dtype)
            there = into.get(name)
            in_order = tuple(order) == tuple(range(len(shape))) and stored.startswith(_ARRAY)
            if there is None or not in_order or (there.dtype, there.shape[1:]) != (kind, tuple(shape)):
                return False
            size = kind.itemsize * math.prod(shape)
            bytes_ = self._window[(rows["start"].astype(np.int64) + behind)[:, None] + np.arange(size)]
            there[at : at + len(rows)] = bytes_.reshape(-1).view(kind).reshape(len(rows), *shape)
        return True

    def _array(self, dtype: str, shape: Sequence[int], order: Sequence[int], start: int) -> NDArray[Any]:
        kind = np.dtype(dtype)
        stored = np.ndarray([shape[axis] for axis in order], kind, self._window.data, start)
        return stored.transpose([order.index(axis) for axis in range(len(order))])


class Damaged(Exception):
    """A prepared file is not whole; it is made again."""


def check_whole(path: Path) -> None:
    """Raise Damaged when a prepared file is not whole, OSError when it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _index(descriptor, path.name)
    finally:
        os.close(descriptor)


def contents_in(path: Path) -> Digests:
    """The content's digest of each sample in a prepared file. Raises Damaged when it is not whole, OSError when it is
    gone."""
    return np.array(PreparedFile.open(path).rows["content"])


class _Found(NamedTuple):
    """The index of a file, and where its table begins."""

    contents: _Index
    begin: int


def _index(descriptor: int, name: str) -> _Found:
    size = os.fstat(descriptor).st_size
    if size < len(_MAGIC) + _TRAILER.size:
        raise Damaged(f"{name} has {size} bytes")
    trailer = os.pread(descriptor, _TRAILER.size, size - _TRAILER.size)
    begin, length, stated, hashed, magic = _TRAILER.unpack(trailer)
    end = size - _TRAILER.size
    if magic != _MAGIC or stated != size or not begin <= end - length <= end:
        raise Damaged(f"{name} has no end")
    hasher = BlobHasher()
    for at in range(begin, end, _PART):
        hasher.update(os.pread(descriptor, min(_PART, end - at), at))
    if digits_in(hasher.digest()).encode() != hashed:
        raise Damaged(f"{name} has another index than was written")
    return _Found(_Index.model_validate_json(os.pread(descriptor, length, end - length)), begin)


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
        self._how = Preparation.of(cohort)
        self._mapped: OrderedDict[str, PreparedFile] = OrderedDict()

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples as plans get them. Raises BadInput when one was not prepared."""
        keys, at = self._how.keys(samples), 0
        try:
            while some := list(islice(keys, _KEYS_AT_ONCE if self._is_rows else 1)):
                file = self._file(some[0])
                # Of volumes only voxels are prepared; what is known beside them the sample has.
                known = {} if self._is_rows else samples[at].values
                for place in file.places(some):
                    reading = file.reading(place)
                    yield replace(reading, values={**reading.values, **known}) if known else reading
                at += len(some)
        except (KeyError, FileNotFoundError, Damaged) as error:
            remedy, name = "start the experiment's worker again, which prepares it", samples[at].name
            raise BadInput(
                Thing.worded(name, sample=name), "was not prepared", remedy, code=ErrorCode.BAD_DATA
            ) from error

    def stacked(self, samples: Samples) -> dict[str, NDArray[Any]] | None:
        """All arrays of samples of rows, by name and as ``[N, ...]``, copied without an object for each row.

        None when the samples differ in type or shape, or are not in one file.
        """
        first = next(self.read(samples[:1]), None)
        if first is None or not self._is_rows:
            return None
        arrays = {name: np.empty((len(samples), *one.shape), one.dtype) for name, one in first.arrays.items()}
        keys, at = self._how.keys(samples), 0
        while some := list(islice(keys, _KEYS_AT_ONCE)):
            file = self._file(some[0])
            try:
                places = file.places(some)
            except KeyError:
                return None
            if not file.stacked(places, arrays, at):
                return None
            at += len(some)
        return arrays

    def _file(self, key: str) -> PreparedFile:
        name = ROWS if self._is_rows else key
        if name not in self._mapped:
            if len(self._mapped) >= _MOST_MAPPED:
                self._mapped.popitem(last=False)
            self._mapped[name] = PreparedFile.open(self._folder / name)
        return self._mapped[name]
