"""Thumbnails: slices of a volume, small enough for the file index, made when a volume is first examined or pictured.

A slice is kept as the compressed lines of a PNG (under 4 KB), a mask's without its colours: these depend on the
mapping, which may change while the file does not. Slices are drawn as radiologists view them: the patient's right
on the left, front and head up, in a profile the face to the left.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import Folder, Purpose
from archipel.data.volumes import png
from archipel.data.volumes.decoding import Decoded, bad_volume, decode
from archipel.data.volumes.geometry import GridRule, Placed, in_whole_grid, offset_within, voxel_spacing_mm
from archipel.data.volumes.label_volumes import LabelReading, label_of
from archipel.data.volumes.orientation import Orientation
from archipel.data.volumes.segment_options import segment_rules
from archipel.data.volumes.segments import SegmentRules
from archipel.data.volumes.volume_facts import Grid, ImageFacts
from archipel.vocabulary import Record

IMAGE, MASK = "thumbnails/3 image", "thumbnails/3 label"
"""Their names in the index; a new number when they are drawn in another way."""
MOSAIC = 150
"""Samples of a dataset that a report shows in its mosaic, by an axial slice."""
IN_FULL = 12
"""Samples shown in three planes: those that findings name come first."""
SIDE = 112
"""The longest side of a thumbnail in pixels."""
LARGEST = 4000
"""Characters of one slice in the index."""
PLANES = ("axial", "coronal", "sagittal")
Places = tuple[int, int, int]
"""Indices along the axes right, front and head."""
_MOST_BYTES = 255
Sizes = tuple[float, float]
"""Width and height of a slice in millimetres."""
_ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}


class Slice(Record):
    """One slice: pixels, size in millimetres, and for a mask the label values behind the numbers in ``data``."""

    width: int
    height: int
    width_mm: float
    height_mm: float
    data: str
    values: tuple[int, ...] = ()


class Thumbnails(Record):
    """Slices of one volume by plane, and their places: indices along the axes right, front and head."""

    slices: dict[str, Slice]
    places: Places


def image_thumbnails(
    folder: Folder,
    place: str,
    window: tuple[float, float],
    at: Places | None,
    planes: Sequence[str] = PLANES,
    channel: int | None = None,
) -> Thumbnails | None:
    """Slices of an image (or of one channel of a 4-D one) through ``at`` (None: its middle).

    ``window`` are the intensities that become black and white. None when the image cannot be read.
    """

    def examine(path: Path, content: bytes) -> Thumbnails:
        return _of_image(path, decode(path, content), window, at, planes, channel)

    which = "" if channel is None else f" channel {channel}"
    purpose = Purpose(IMAGE + which, Thumbnails, _image_request(planes, at, window))
    return folder.look_at_bytes(place, purpose, examine).facts


def label_thumbnails(
    folder: Folder, place: str, planes: Sequence[str] = PLANES, image: Grid | None = None
) -> Thumbnails | None:
    """Slices of a mask, each where most of it is seen; None when it cannot be read.

    With an ``image``'s grid, of which the mask's is a part, the slices are those of the whole grid.
    """
    rules = segment_rules(folder.options)

    def examine(path: Path, content: bytes) -> Thumbnails:
        reading = label_of(path, content, rules, folder.limits)
        return _of_label(path, reading if image is None else _in_grid(reading, image), planes)

    whole = "" if image is None else f" in {image.shape} {image.affine}"
    purpose = Purpose(MASK, Thumbnails, _label_request(planes) + rules.request + whole)
    return folder.look_at_bytes(place, purpose, examine).facts


def _in_grid(reading: LabelReading, image: Grid) -> LabelReading:
    """The mask with background around it; as it is where it is not a part of the image's grid."""
    outer, found = Placed.of("image", image), reading.decoded
    offset = offset_within(outer, Placed("label", reading.values.shape, found.affine), GridRule())
    if offset is None:
        return reading
    whole = in_whole_grid(reading.values, offset, image.shape)
    return reading._replace(values=whole, decoded=found._replace(affine=outer.affine))


@dataclass
class Sketch:
    """Thumbnails of a sample's volumes, made while its files are decoded for the first time anyway.

    What the two methods return is for the index: what a report will ask for by ``image_thumbnails`` and
    ``label_thumbnails``. A sample's mask comes before its images, which are cut where the mask is.
    """

    planes: Sequence[str]
    has_mask: bool
    at: Places | None = None
    request: str = ""
    """What identifies the rules by which segments are read."""

    def label(self, path: Path, reading: LabelReading) -> dict[Purpose[Thumbnails], Thumbnails]:
        """Of the mask."""
        made = _of_label(path, reading, self.planes)
        self.at = made.places
        return {Purpose(MASK, Thumbnails, _label_request(self.planes) + self.request): made}

    def image(self, path: Path, found: Decoded, facts: ImageFacts) -> dict[Purpose[Thumbnails], Thumbnails]:
        """Of a 3-D image with the ``facts`` of its examination; nothing when the mask's place is not known."""
        if self.has_mask and self.at is None:
            return {}
        window = window_of(facts.percentiles, facts.minimum, facts.maximum)
        made = _of_image(path, found, window, self.at, self.planes, None)
        return {Purpose(IMAGE, Thumbnails, _image_request(self.planes, self.at, window)): made}


class Sketchbook:
    """The samples that a scan sketches: the first ones, as many as a report shows if nothing is wrong.

    ``rules`` say how segments are read.
    """

    def __init__(self, rules: SegmentRules) -> None:
        self._begun = 0
        self._request = rules.request

    def next(self, has_mask: bool) -> Sketch | None:
        """A sketch of the next sample; None when there are enough."""
        self._begun += 1
        if self._begun > MOSAIC:
            return None
        return Sketch(PLANES if self._begun <= IN_FULL else PLANES[:1], has_mask, request=self._request)


def window_of(percentiles: Sequence[float], minimum: float, maximum: float) -> tuple[float, float]:
    """Percentiles 1 and 99: few voxels of a bright vessel must not darken the rest."""
    low, _, high = percentiles
    return (low, high) if low < high else (minimum, maximum)


def _image_request(planes: Sequence[str], at: Places | None, window: tuple[float, float]) -> str:
    return f"{', '.join(planes)} at {at}, {window}"


def _label_request(planes: Sequence[str]) -> str:
    return ", ".join(planes)


def _of_image(
    path: Path,
    decoded: Decoded,
    window: tuple[float, float],
    at: Places | None,
    planes: Sequence[str],
    channel: int | None,
) -> Thumbnails:
    turned, spacing = _turned(path, decoded, channel)
    middle = at or tuple(size // 2 for size in turned.shape)
    return _thumbnails(turned, spacing, middle, planes, lambda cut, sizes: _grey_slice(cut, sizes, *window))


def _of_label(path: Path, reading: LabelReading, planes: Sequence[str]) -> Thumbnails:
    turned, spacing = _turned(path, reading.decoded._replace(values=reading.values), None)
    return _thumbnails(turned, spacing, _largest_cuts(turned), planes, _label_slice)


def _turned(path: Path, found: Decoded, channel: int | None) -> tuple[NDArray[Any], tuple[float, ...]]:
    """The voxels as a view in RAS, and their spacing along those axes."""
    volume = found.values if channel is None else found.values[..., channel]
    if volume.ndim != 3:
        raise bad_volume(path, f"has {volume.ndim} dimensions")
    turn = Orientation.of(found.affine)
    spacing = voxel_spacing_mm(found.affine)
    view = volume.transpose(turn.axes)
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in turn.flipped)
    return view[flips], tuple(spacing[axis] for axis in turn.axes)


def _largest_cuts(label: NDArray[Any]) -> tuple[int, ...]:
    """Along each axis the place of the slice with most of the label; the middle where there is none."""
    drawn = label != 0
    # One pass over the volume: along the axis that is slowest in memory, whole planes are added to each other.
    slow = max(range(3), key=drawn.strides.__getitem__)
    planes = drawn.transpose(slow, *(axis for axis in range(3) if axis != slow)).view(np.uint8)
    # Bytes are added without a conversion, up to 255 of them.
    parts = (planes[at : at + _MOST_BYTES] for at in range(0, len(planes), _MOST_BYTES))
    plane = sum((np.add.reduce(part, dtype=np.uint8) for part in parts), start=np.zeros(planes.shape[1:], np.int32))
    if not plane.any():
        return tuple(size // 2 for size in label.shape)
    cuts = [int(plane.sum(axis=axis).argmax()) for axis in (1, 0)]
    counts = list(map(np.count_nonzero, planes))
    cuts.insert(slow, counts.index(max(counts)))
    return tuple(cuts)


def _thumbnails(
    volume: NDArray[Any],
    spacing: Sequence[float],
    places: Sequence[int],
    planes: Sequence[str],
    draw: Callable[[NDArray[Any], Sizes], Slice],
) -> Thumbnails:
    slices = {}
    for plane in planes:
        across = _ACROSS[plane]
        horizontal, vertical = (axis for axis in range(3) if axis != across)
        at = min(places[across], volume.shape[across] - 1)
        # numpy.take would copy the whole volume first.
        cut = np.ascontiguousarray(volume.transpose(across, horizontal, vertical)[at]).T[::-1, ::-1]
        width_mm = volume.shape[horizontal] * spacing[horizontal]
        height_mm = volume.shape[vertical] * spacing[vertical]
        slices[plane] = draw(cut, (width_mm, height_mm))
    x, y, z = (int(place) for place in places)
    return Thumbnails(slices=slices, places=(x, y, z))


def _grey_slice(cut: NDArray[Any], sizes: Sizes, low: float, high: float) -> Slice:
    """The slice in grey; fewer levels, then fewer pixels, until it fits."""
    scaled = np.clip((cut.astype(np.float64) - low) / (high - low or 1.0), 0, 1)
    side = SIDE
    while True:
        small = shrunk(scaled, side)
        for levels in (256, 96, 48):
            pixels = np.rint(np.rint(small * (levels - 1)) * (255 / (levels - 1))).astype(np.uint8)
            data = base64.b64encode(png.stream(pixels)).decode()
            if len(data) <= LARGEST:
                return _slice(pixels, sizes, data)
        side = side * 7 // 8


def _label_slice(cut: NDArray[Any], sizes: Sizes) -> Slice:
    side = SIDE
    while True:
        small = cut
        if max(cut.shape) > side:
            rows, columns = (_steps(size, side) for size in cut.shape)
            small = cut[rows[:, None], columns]
        values = np.flatnonzero(np.bincount(small.ravel()))
        # A palette has 256 places; a slice with more labels than that shares the last one.
        numbers = np.zeros(int(values[-1]) + 1, np.uint8)
        numbers[values] = np.minimum(np.arange(len(values)), 255)
        pixels = numbers[small]
        data = base64.b64encode(png.stream(pixels)).decode()
        if len(data) <= LARGEST:
            kept = tuple(values[:256].tolist())
            return _slice(pixels, sizes, data, kept)
        side = side * 7 // 8


def _slice(pixels: NDArray[np.uint8], sizes: Sizes, data: str, values: tuple[int, ...] = ()) -> Slice:
    height, width = pixels.shape
    return Slice(width=width, height=height, width_mm=sizes[0], height_mm=sizes[1], data=data, values=values)


def _steps(size: int, side: int) -> NDArray[np.intp]:
    """The middle of each of at most ``side`` equal parts of ``size`` voxels."""
    count = min(size, side)
    return ((np.arange(count) + 0.5) * size / count).astype(np.intp)


def shrunk(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """``[height, width]`` with at most ``side`` pixels along each axis, each the mean of what it covers."""
    for axis in range(2):
        size = picture.shape[axis]
        if size > side:
            starts = (np.arange(side) * size / side).astype(np.intp)
            sums = np.add.reduceat(picture, starts, axis=axis)
            widths = np.diff(np.append(starts, size))
            picture = sums / (widths[:, None] if axis == 0 else widths[None, :])
    return picture
