"""Label volumes: the voxels of a segmentation as whole numbers, and the words for what are not labels.

A value is a whole number when it differs from one by at most four steps of a 32-bit float, which is what arithmetic
leaves behind; such a value is that number. Anything else is refused and named as what it is: a mask that was
scaled, one that was interpolated, values below 0 or above 32767.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.sample_data import LabelVolume
from archipel.data.volumes.decoding import Decoded, decode, is_picture
from archipel.data.volumes.segment_volumes import one_volume
from archipel.data.volumes.segments import AS_STORED, SegmentRules, as_option
from archipel.data.volumes.volume_facts import Shared
from archipel.data.volumes.volume_header import NOT_3D, bad_volume
from archipel.vocabulary import BadInput
from archipel.vocabulary.counting import pluralise

LARGEST = int(np.iinfo(np.int16).max)
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""How far a value may be from a whole number, as a share of it (of 1 for smaller ones), and be that number."""
_BESIDE = 0.01
"""Values that are all this near to whole numbers were scaled; interpolation leaves values in between."""
_CHUNK = 1 << 20
_MOST_LABELS = 256
_IMAGE = "; an image may be in the place of the label"


class LabelReading(NamedTuple):
    """A label volume int16 ``[X, Y, Z]``, the names that its header has for values, the decoded file, and the voxels
    that segments shared."""

    values: LabelVolume
    names: dict[int, str]
    decoded: Decoded
    shared: tuple[Shared, ...] = ()


def label_of(
    path: Path, content: bytes, rules: SegmentRules = AS_STORED, limits: DataLimits = DATA_LIMITS
) -> LabelReading:
    """The label volume in a file whose bytes are ``content``.

    Raises BadInput for values that are not whole numbers in 0..32767, and for segments that are not one volume.
    """
    found = decode(path, content, limits)
    values = found.values
    if values.ndim != 3 and is_picture(path.name):
        remedy = "save the numbers of its labels as shades of grey (0, 1, 2, ...), or leave the subject out"
        raise bad_volume(path, "is in colour, and a label has one number per pixel", remedy)
    if values.ndim != 3 and not (values.ndim == 4 and found.segments):
        raise bad_volume(path, f"has {values.ndim} dimensions {list(values.shape)}", NOT_3D)
    whole = _whole(path, found)
    if found.segments:
        joined, names, shared = one_volume(path, whole.reshape((*values.shape[:3], -1)), found.segments, rules)
        return LabelReading(joined, names, found, shared)
    if rules.numbered and whole.any():
        cause = "does not name its segments, and this dataset's are read by name"
        remedy = f"save it as .seg.nrrd with the segments {as_option(rules.numbered)}, or leave the subject out"
        raise bad_volume(path, cause, remedy)
    return LabelReading(whole, {}, found)


def _whole(path: Path, found: Decoded) -> LabelVolume:
    """The voxels as int16, in their order in memory."""
    values = found.values
    are_exact = values.dtype.kind in "iub" or all((chunk == np.rint(chunk)).all() for chunk in _chunks(values))
    if not are_exact:
        _check_rounding(path, found)
    if values.size and not (values.min() > -0.5 and values.max() < LARGEST + 0.5):
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            _check_rounding(path, found)
        raise _out_of_range(path, values)
    return np.asarray(values if are_exact else np.rint(values), dtype=np.int16)


def _chunks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = values.ravel(order="K")
    return (flat[at : at + _CHUNK] for at in range(0, flat.size, _CHUNK))


def _check_rounding(path: Path, found: Decoded) -> None:
    """Raise BadInput unless every value is a whole number apart from rounding."""
    unusable = fractions = beside = 0
    example: float | None = None
    for chunk in _chunks(found.values):
        finite = chunk[np.isfinite(chunk)].astype(np.float64)
        unusable += chunk.size - finite.size
        off = np.abs(finite - np.rint(finite))
        odd = off > ROUNDING * np.maximum(1, np.abs(finite))
        fractions += int(np.count_nonzero(odd))
        beside += int(np.count_nonzero(odd & (off <= _BESIDE)))
        if example is None and odd.any():
            # The value that is farthest from a whole number says best what happened.
            example = float(finite[int(np.argmax(off))])
    if unusable:
        cause = f"{pluralise(unusable, 'voxel')} {'is' if unusable == 1 else 'are'} NaN or infinite"
        raise bad_volume(path, cause, "export the segmentation as whole numbers from 0 or leave the subject out")
    if not fractions:
        return
    such = f"{pluralise(fractions, 'voxel')} not whole, such as {example:.6g}"
    if beside == fractions:
        how = "its integers are stored with a scale" if found.is_scaled else "the values are beside whole numbers"
        cause = f"holds a mask that was scaled: {how} ({such})"
        remedy = "round it to whole numbers and save it as integers without a scale, or leave the subject out"
    else:
        cause = f"holds a mask that was interpolated or a map of probabilities ({such})"
        remedy = "resample the segmentation itself with the nearest neighbour, or leave the subject out"
    raise bad_volume(path, cause, remedy)


def _out_of_range(path: Path, values: NDArray[Any]) -> BadInput:
    low, high = float(values.min()), float(values.max())
    is_image = len(np.unique(values.ravel(order="K")[:_CHUNK])) > _MOST_LABELS
    image = _IMAGE if is_image else ""
    if low < 0:
        count = sum(int(np.count_nonzero(chunk < 0)) for chunk in _chunks(values))
        cause = f"holds negative values ({pluralise(count, 'voxel')}, down to {low:.6g}){image}"
        return bad_volume(path, cause, "give the background 0 and the labels 1 and more, or leave the subject out")
    count = sum(int(np.count_nonzero(chunk > LARGEST)) for chunk in _chunks(values))
    cause = f"holds values above {LARGEST} ({pluralise(count, 'voxel')}, up to {high:.6g}){image}"
    return bad_volume(path, cause, f"give the labels values up to {LARGEST}, or leave the subject out")


def share_of_changes(volume: LabelVolume | NDArray[np.float32]) -> float:
    """The share of pairs of neighbouring voxels that have two values; 0 without a pair.

    Structures have surfaces, noise has neighbours that differ: in an image nearly all do.
    """
    # Slab by slab along the axis that is slowest in memory, so that no whole volume of comparisons is ever there.
    slow_last = volume if volume.strides[-1] >= volume.strides[0] else volume.transpose()
    if not volume.size:
        return 0.0
    size, rows, depth = slow_last.shape
    plane = size * rows
    thick = max(1, _CHUNK // max(1, plane))
    changes = pairs = 0
    for at in range(0, depth, thick):
        # As they follow each other in memory: numpy takes four times as long from row to row.
        slab = np.asfortranarray(slow_last[..., at : at + thick + 1]).ravel(order="K")
        inside = slab[: plane * min(thick, depth - at)]
        by_row, by_plane = inside.reshape(-1, size), inside.reshape(-1, rows, size)
        # From the end of a row to the start of the next one, and of a plane, nothing is beside each other.
        changes += _unequal(inside[1:], inside[:-1]) - _unequal(by_row[1:, 0], by_row[:-1, -1])
        changes += _unequal(inside[size:], inside[:-size]) - _unequal(by_plane[1:, 0], by_plane[:-1, -1])
        changes += _unequal(slab[plane:], slab[:-plane])
        pairs += 3 * inside.size - len(by_row) - size * len(by_plane)
    return changes / (pairs - plane) if pairs > plane else 0.0


def _unequal(one: NDArray[Any], other: NDArray[Any]) -> int:
    return int(np.count_nonzero(one != other))
