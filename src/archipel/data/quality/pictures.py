"""Pictures of a report: which samples are shown, and their thumbnails, from the file index where they are known.

Volumes: a mosaic of every sample's axial slice, and three planes of some samples in full. 2-D images: one mosaic per
class.
The page states these limits.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import FileIndex, Folder, Purpose
from archipel.data.formats import Options, format_named
from archipel.data.quality.cohort_checks import classes_of
from archipel.data.quality.evidence import Evidence, VolumeFacts
from archipel.data.quality.picture_checks import is_picture
from archipel.data.quality.records import QualityReport
from archipel.data.requests import request_of
from archipel.data.samples import LABEL, Sample
from archipel.data.volumes import (
    IN_FULL,
    MOSAIC,
    PLANES,
    Slice,
    Thumbnails,
    image_thumbnails,
    label_thumbnails,
    png,
    shrunk,
    volumes,
    window_of,
)
from archipel.vocabulary import Record

A_CLASS = 24
"""2-D images shown of each class."""
CLASSES = 20
TILES = "tiles/3"
TILE_SIDE = 56


@dataclass(frozen=True)
class VolumePicture:
    """One sample: slices of each modality shown, and of its mask where it has one, on the same places."""

    name: str
    images: dict[str, Thumbnails]
    label: Thumbnails | None


class Tiles(Record):
    """Small pictures of some samples of one file, in their order: PNG files in base64."""

    tiles: tuple[str, ...]


@dataclass(frozen=True)
class ClassPictures:
    """Some of a class's 2-D images, those that findings name first: names and PNG files in base64."""

    name: str
    total: int
    tiles: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pictures:
    """What the page shows. ``mosaic_of`` samples would be in the mosaic if there were no limit."""

    mosaic: tuple[VolumePicture, ...] = ()
    mosaic_of: int = 0
    in_full: tuple[VolumePicture, ...] = field(default=())
    classes: tuple[ClassPictures, ...] = ()
    classes_of: int = 0


def draw_pictures(
    root: Path, layout: str, options: Options, evidence: Evidence, report: QualityReport, index: FileIndex
) -> Pictures:
    """Thumbnails of what the report shows; each file is opened at most once, and not at all when the index has them."""
    if evidence.kind == "volumes":
        return _of_volumes(Folder(root, index, options=options), evidence, report)
    if evidence.kind == "arrays":
        return _of_arrays(root, index, layout, options, evidence, report)
    return Pictures()


def _of_volumes(folder: Folder, evidence: Evidence, report: QualityReport) -> Pictures:
    samples = evidence.scan.samples
    named = {name for finding in report.findings for name in finding.samples[:IN_FULL]}
    odd_first = sorted(samples, key=lambda sample: (sample.name not in named, sample.key))
    shown = {sample.key for sample in odd_first[:MOSAIC]}
    full = {sample.key for sample in odd_first[:IN_FULL]}
    drawn = {}
    for sample in samples:
        if sample.key in shown:
            picture = _volume(folder, sample, evidence.volumes[sample.key], in_full=sample.key in full)
            if picture is not None:
                drawn[sample.key] = picture
    return Pictures(
        mosaic=tuple(drawn.values()),
        mosaic_of=len(samples),
        in_full=tuple(drawn[sample.key] for sample in odd_first[:IN_FULL] if sample.key in drawn),
    )


def _volume(folder: Folder, sample: Sample, known: Mapping[str, VolumeFacts], *, in_full: bool) -> VolumePicture | None:
    """In full: three planes of every modality; else an axial slice of the first."""
    planes = PLANES if in_full else PLANES[:1]
    roles = sorted(role for role in known if role != LABEL)
    label = None
    if LABEL in known and LABEL in sample.files:
        whole = None
        if roles and known[roles[0]].shape != known[LABEL].shape:
            # A mask that was cropped is drawn on the grid of the image of which it is a part.
            whole = volumes.look(folder, sample.files[roles[0]], roles[0], sample.channels.get(roles[0])).facts
        label = label_thumbnails(folder, sample.files[LABEL], planes, whole)
    images = {}
    for role in roles if in_full else roles[:1]:
        at = label.places if label else None
        channel = sample.channels.get(role)
        own = known[role]
        window = window_of(own.percentiles, own.minimum, own.maximum)
        thumbnails = image_thumbnails(folder, sample.files[role], window, at, planes, channel)
        if thumbnails is not None:
            images[role] = thumbnails
    return VolumePicture(sample.name, images, label) if images or label else None


def _of_arrays(
    root: Path, index: FileIndex, layout: str, options: Options, evidence: Evidence, report: QualityReport
) -> Pictures:
    known = classes_of(evidence, report.class_column) if report.class_column else {}
    by_class: dict[str, list[Sample]] = defaultdict(list)
    for sample in evidence.scan.samples:
        array = evidence.arrays.get(sample.key)
        if array is not None and is_picture(array.shape):
            by_class[known.get(sample.key, "")].append(sample)
    ranks: dict[str, int] = {}
    for finding in report.findings:
        # The first sample of each finding comes before the second of any: a finding of many samples does not hide
        # another.
        for rank, name in enumerate(finding.samples):
            ranks[name] = min(rank, ranks.get(name, rank))
    unnamed = len(evidence.scan.samples)
    # A class with a finding has its place among those that are shown, as an image has in its class.
    odd_first = sorted(by_class, key=lambda name: (all(one.name not in ranks for one in by_class[name]), name))
    chosen = {
        name: sorted(by_class[name], key=lambda sample: (ranks.get(sample.name, unnamed), sample.key))[:A_CLASS]
        for name in sorted(odd_first[:CLASSES])
    }
    tiles = _tiles(root, index, layout, options, [sample for held in chosen.values() for sample in held])
    classes = [
        ClassPictures(
            name,
            len(by_class[name]),
            tuple((sample.name, tiles[sample.key]) for sample in held if sample.key in tiles),
        )
        for name, held in chosen.items()
    ]
    return Pictures(classes=tuple(classes), classes_of=len(by_class))


def _tiles(
    root: Path, index: FileIndex, layout: str, options: Options, shown: Sequence[Sample]
) -> dict[tuple[str, str], str]:
    by_place: dict[str, list[Sample]] = defaultdict(list)
    for sample in shown:
        by_place[next(iter(sample.files.values()))].append(sample)
    tiles: dict[tuple[str, str], str] = {}
    for place, inside in by_place.items():

        def examine(_: Path, inside: Sequence[Sample] = inside) -> Tiles:
            readings = format_named(layout).read(root, inside, options)
            return Tiles(tiles=tuple(_tile(np.asarray(reading.arrays["x"])) for reading in readings))

        looked = Folder(root, index).look(place, Purpose(TILES, Tiles, request_of(options, inside)), examine)
        if looked.facts is not None:
            tiles.update(zip((sample.key for sample in inside), looked.facts.tiles, strict=True))
    return tiles


def _tile(x: NDArray[Any]) -> str:
    """A PNG of ``[height, width]``, ``[height, width, 3]`` or one channel; bytes as they are, other types spread."""
    last = x.ndim == 3 and x.shape[2] in (1, 3)
    planes = [x[..., channel] for channel in range(x.shape[2])] if last else [x.reshape(x.shape[-2:])]
    small = np.stack([shrunk(plane.astype(np.float64), TILE_SIDE) for plane in planes], axis=-1)
    if x.dtype != np.uint8:
        low, high = float(small.min()), float(small.max())
        small = (small - low) / (high - low or 1.0) * 255
    pixels = np.rint(small).astype(np.uint8)
    kind = png.COLOUR if pixels.shape[2] == 3 else png.GREY
    height, width = pixels.shape[:2]
    return encoded(png.image(width, height, png.stream(pixels if kind == png.COLOUR else pixels[..., 0]), kind))


def encoded(data: bytes) -> str:
    """Bytes as text for a page."""
    return base64.b64encode(data).decode("ascii")


def grey(found: Slice) -> str:
    """A slice of an image as a PNG in base64."""
    return encoded(png.image(found.width, found.height, base64.b64decode(found.data)))


def overlay(found: Slice, colours: Sequence[png.Colour]) -> str:
    """A slice of a mask as a PNG in base64; ``colours`` are those of its values, in their order."""
    data = base64.b64decode(found.data)
    return encoded(png.image(found.width, found.height, data, png.PALETTE, tuple(colours)))
