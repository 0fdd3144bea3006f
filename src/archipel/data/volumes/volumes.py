"""Volumes on disk: read with their affine, and examined once.

An examination decodes a file once and keeps what scans and reports ask for: shape, affine, intensities or label
values. Files are NIfTI, NRRD or MetaImage, recognised by their suffix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import FileFacts, Folder, Purpose, read_whole, short_of_memory
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.sample_data import Affine, FloatVolume, LabelVolume
from archipel.data.samples import LABEL, problem_of
from archipel.data.volumes.decoding import Decoded, bad_volume, decode, is_picture
from archipel.data.volumes.geometry import GridRule, Placed, in_whole_grid, offset_within, voxel_spacing_mm
from archipel.data.volumes.label_volumes import LabelReading, label_of, share_of_changes
from archipel.data.volumes.segment_options import segment_rules
from archipel.data.volumes.segments import AS_STORED, SegmentRules
from archipel.data.volumes.thumbnails import Sketch, Thumbnails
from archipel.data.volumes.volume_facts import ChannelsFacts, Grid, ImageFacts, Intensities, MaskFacts
from archipel.data.volumes.volume_header import NOT_3D
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput
from archipel.vocabulary.counting import pluralise

_MOST_STEPS = 16
"""Images of so few whole numbers are looked at as masks are: they may be one."""
IMAGE = Purpose("image/7", ImageFacts)
CHANNELS = Purpose("channels/6", ChannelsFacts)
MASK = Purpose("label/6", MaskFacts)
VolumeLook = FileFacts[ImageFacts] | FileFacts[MaskFacts]
_SAMPLED = 1 << 15
"""Percentiles of larger volumes are those of about this many voxels, taken at equal steps: the same ones each time."""
_CHUNK = 1 << 20
_FEW = 6
"""Up to so many values it is faster to look for each of them."""
Extremes = tuple[float, float]
"""The least and the greatest value of a volume."""


def look(folder: Folder, place: str, role: str, channel: int | None = None, sketch: Sketch | None = None) -> VolumeLook:
    """What is known of a sample's file with this role, decoded only when it is not known yet.

    With a ``channel``, what is known of that channel of a 4-D image. With a ``sketch``, a file that is decoded now is
    drawn for a report's pictures too.
    """
    drawn: dict[Purpose[Thumbnails], Thumbnails] = {}
    if role == LABEL:
        rules = segment_rules(folder.options)

        def examine_mask(path: Path, content: bytes) -> MaskFacts:
            reading = label_of(path, content, rules, folder.limits)
            # A mask that may be a part of an image's grid is drawn when the image's grid is known.
            if sketch is not None and not reading.decoded.within_image:
                drawn.update(sketch.label(path, reading))
            return _label_facts(reading)

        return folder.look_at_bytes(place, Purpose(MASK.name, MaskFacts, rules.request), examine_mask, drawn)
    if channel is None:

        def examine(path: Path, content: bytes) -> ImageFacts:
            volume, found, extremes = _image(path, content, limits=folder.limits)
            facts = ImageFacts(**_grid(volume.shape, found), **_intensities(volume, extremes))
            if sketch is not None:
                drawn.update(sketch.image(path, found, facts))
            return facts

        return folder.look_at_bytes(place, IMAGE, examine, drawn)
    found = folder.look_at_bytes(place, CHANNELS, lambda path, content: examine_channels(path, content, folder.limits))
    if found.facts is None:
        return FileFacts[ImageFacts](hash=found.hash, problem=found.problem)
    channels = found.facts.channels
    if channel < len(channels):
        return FileFacts[ImageFacts](hash=found.hash, facts=_image_facts(found.facts, channels[channel]))
    cause = f"has {len(channels)} channel{'s' if len(channels) > 1 else ''}; {role} would be channel {channel + 1}"
    problem = problem_of(bad_volume(folder.root / place, cause, "fix the description or the image"))
    return FileFacts[ImageFacts](hash=found.hash, problem=problem)


def examine_channels(path: Path, content: bytes, limits: DataLimits = DATA_LIMITS) -> ChannelsFacts:
    """The facts of an image of several channels, and the grid they share. Raises BadInput."""
    decoded = decode(path, content, limits)
    if decoded.values.ndim not in (3, 4):
        raise _dimensions(path, decoded.values)
    stacked = decoded.values.reshape((*decoded.values.shape[:3], -1))
    channels = []
    for place in range(stacked.shape[3]):
        volume = np.asarray(stacked[..., place], dtype=np.float32)
        channels.append(Intensities(**_intensities(volume, _extremes(path, volume))))
    return ChannelsFacts(**_grid(stacked.shape[:3], decoded), channels=tuple(channels))


def _image_facts(grid: Grid, values: Intensities) -> ImageFacts:
    return ImageFacts(**{name: getattr(grid, name) for name in Grid.model_fields}, **dict(values))


def channels_of(folder: Folder, place: str) -> int:
    """How many channels an image has, 0 for one that cannot be used."""
    found = folder.look_at_bytes(place, CHANNELS, lambda path, content: examine_channels(path, content, folder.limits))
    return len(found.facts.channels) if found.facts is not None else 0


def _label_facts(reading: LabelReading) -> MaskFacts:
    volume, decoded = reading.values, reading.decoded
    counts = _counts(volume.ravel(order="K"))
    return MaskFacts(
        **_grid(volume.shape, decoded),
        label_voxels={str(value): int(counts[value]) for value in np.flatnonzero(counts)},
        voxels=voxel_hash(volume),
        changes=round(share_of_changes(volume), 6),
        names={str(value): name for value, name in sorted(reading.names.items())},
        shared=reading.shared,
        within_image=decoded.within_image,
    )


def _counts(flat: LabelVolume) -> NDArray[np.int64]:
    """How many voxels of ``[N]`` have each value from 0 on."""
    most = int(flat.max()) + 1
    if most <= _FEW:
        above = [np.count_nonzero(flat == value) for value in range(1, most)]
        return np.array([flat.size - sum(above), *above])
    # Counting takes 8 bytes a voxel.
    parts = (np.bincount(flat[at : at + _CHUNK], minlength=most) for at in range(0, flat.size, _CHUNK))
    return sum(parts, start=np.zeros(most, np.int64))


def voxel_hash(volume: NDArray[Any]) -> str:
    """A hash of the voxels as they are used, however the file stores them, so that equal images are found."""
    # First axis fastest, as NIfTI files are: no copy is made of a volume from one.
    return blob_hash(np.asfortranarray(volume).T.data.cast("B"))


def read_image(path: Path, channel: int | None = None) -> tuple[FloatVolume, Affine]:
    """A volume as float32 ``[X, Y, Z]`` in stored orientation with its 4x4 affine (voxel to millimetres, RAS).

    ``channel`` picks one of an image ``[X, Y, Z, channels]``. Raises BadInput for a file that cannot be read, is not
    3-D, or holds NaN or infinite voxels.
    """
    with _content(path) as content:
        volume, found, _ = _image(path, content, channel)
    return volume, found.affine


def read_label(path: Path, rules: SegmentRules = AS_STORED) -> tuple[LabelVolume, Affine]:
    """A label volume as int16 ``[X, Y, Z]`` with its affine.

    Raises BadInput for values that are not whole numbers in 0..32767, and as ``label_of`` does.
    """
    with _content(path) as content:
        reading = label_of(path, content, rules)
    return reading.values, reading.decoded.affine


def read_label_on(path: Path, image: Placed, options: Mapping[str, str]) -> tuple[LabelVolume, Placed]:
    """A label volume with its grid: the image's, with background around it, where its file says that it is a part of
    an image's grid and it is; else its own. ``options`` are the dataset's. Raises BadInput as ``read_label`` does."""
    with _content(path) as content:
        reading = label_of(path, content, segment_rules(options))
    found, decoded = reading.values, reading.decoded
    own = Placed(LABEL, found.shape, decoded.affine, decoded.is_placed)
    offset = offset_within(image, own, GridRule.of(options)) if decoded.within_image else None
    if offset is None or found.shape == image.shape:
        return found, own
    return in_whole_grid(found, offset, image.shape), image._replace(role=LABEL)


@contextmanager
def _content(path: Path) -> Iterator[bytes]:
    try:
        yield read_whole(path)
    except OSError as error:
        remedy = "check the file and its permissions, or leave the subject out"
        raise bad_volume(path, f"cannot be opened ({error.strerror})", remedy) from error
    except MemoryError as error:
        raise short_of_memory(path) from error


def _image(
    path: Path, content: bytes, channel: int | None = None, limits: DataLimits = DATA_LIMITS
) -> tuple[FloatVolume, Decoded, Extremes]:
    decoded = decode(path, content, limits)
    values = decoded.values
    if channel is not None and values.ndim == 4 and channel < values.shape[3]:
        values = values[..., channel]
    if values.ndim != 3:
        raise _dimensions(path, values)
    volume = np.asarray(values, dtype=np.float32)
    return volume, decoded, _extremes(path, volume)


def _dimensions(path: Path, values: NDArray[Any]) -> BadInput:
    if is_picture(path.name):
        remedy = "name its three channels in the description (R, G, B), or save it in shades of grey"
        return bad_volume(path, "is in colour, and is read as one channel", remedy)
    return bad_volume(path, f"has {values.ndim} dimensions {list(values.shape)}", NOT_3D)


def _extremes(path: Path, volume: FloatVolume) -> Extremes:
    """Raises BadInput for NaN and infinities, which appear in the extremes: a valid volume needs no mask."""
    extremes = float(volume.min()), float(volume.max())
    if not all(map(math.isfinite, extremes)):
        unusable = volume.size - int(np.count_nonzero(np.isfinite(volume)))
        raise bad_volume(path, f"{pluralise(unusable, 'voxel')} {'is' if unusable == 1 else 'are'} NaN or infinite")
    return extremes


def _grid(shape: tuple[int, ...], found: Decoded) -> dict[str, Any]:
    """The fields of ``Grid``."""
    return {
        "shape": shape,
        "affine": tuple(map(tuple, found.affine.tolist())),
        "spacing": tuple(round(size, 5) for size in voxel_spacing_mm(found.affine)),
        "is_placed": found.is_placed,
        "unit": found.unit,
        "forms_apart_mm": found.forms_apart_mm,
    }


def _intensities(volume: FloatVolume, extremes: Extremes) -> dict[str, Any]:
    """The fields of ``Intensities``."""
    flat = volume.ravel(order="K")
    mean = float(flat.mean(dtype=np.float64))
    squares = 0.0
    for at in range(0, flat.size, _CHUNK):
        apart = flat[at : at + _CHUNK] - np.float64(mean)
        # In place: pages of new memory cost ten times the arithmetic.
        squares += float(np.multiply(apart, apart, out=apart).sum())
    low, middle, high = percentiles(flat[:: _step(volume.shape)])
    minimum, maximum = extremes
    return {
        "minimum": minimum,
        "maximum": maximum,
        "mean": mean,
        "spread": float(np.sqrt(squares / flat.size)),
        "percentiles": (low, middle, high),
        "voxels": voxel_hash(volume),
        "changes": share_of_changes(volume) if 0 < maximum - minimum <= _MOST_STEPS and _is_whole(flat) else None,
    }


def _is_whole(flat: NDArray[np.float32]) -> bool:
    """Whether all values are whole numbers; the first that is not ends it."""
    chunks = (flat[at : at + _CHUNK] for at in range(0, flat.size, _CHUNK))
    return all((chunk == np.rint(chunk)).all() for chunk in chunks)


def percentiles(values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Percentiles 1, 50 and 99 of ``[N]``, to the last bit those of ``numpy.percentile``, which takes four times as
    long: it finds six places one after the other where numpy's sort of so many values is one fast step."""
    ordered, found = np.sort(values), []
    for share in (0.01, 0.5, 0.99):
        at = (len(ordered) - 1) * share
        first = math.floor(at)
        low, high = ordered[first], ordered[min(first + 1, len(ordered) - 1)]
        apart, part = float(high - low), at - first
        found.append(float(low) + apart * part if part < 0.5 else float(high) - apart * (1 - part))
    return found[0], found[1], found[2]


def _step(shape: tuple[int, ...]) -> int:
    """From one sampled voxel to the next; no axis divides by it, otherwise whole planes would never be read."""
    step = -(-math.prod(shape) // _SAMPLED)
    while step > 1 and any(math.gcd(step, size) > 1 for size in shape):
        step += 1
    return step
