"""One label volume of the segments of a file, whatever layers they are in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.sample_data import LabelVolume
from archipel.data.volumes.overlaps import Overlaps
from archipel.data.volumes.segments import SegmentRules, as_option, plain_name
from archipel.data.volumes.volume_facts import Segment, Shared
from archipel.data.volumes.volume_header import bad_volume


class SegmentVolume(NamedTuple):
    """A label volume int16 ``[X, Y, Z]``, the names of its values, and the voxels that segments shared."""

    values: LabelVolume
    names: dict[int, str]
    shared: tuple[Shared, ...] = ()


def one_volume(path: Path, layers: NDArray[Any], segments: Sequence[Segment], rules: SegmentRules) -> SegmentVolume:
    """One label volume of the layers ``[X, Y, Z, layers]`` of whole numbers, the names of its values, and what
    segments shared.

    The values are those that ``rules`` give; without a rule they are the file's own, or where two segments have the
    same one, 1, 2, ... in the header's order. Raises BadInput for a segment that the rules do not name, values that
    no segment has where they must be told apart by name, and segments that overlap where no rule says which wins.
    """
    numbers = _numbers(path, segments, rules)
    names = {number: segment.name for segment, number in zip(segments, numbers, strict=True)}
    own = all(number == segment.value for segment, number in zip(segments, numbers, strict=True))
    if layers.shape[3] == 1 and own and not rules.numbered:
        return SegmentVolume(layers[..., 0], names)
    by_layer: dict[int, dict[int, int]] = defaultdict(dict)
    for segment, number in zip(segments, numbers, strict=True):
        by_layer[segment.layer][segment.value] = number
    painted = Overlaps(layers.shape[:3], names, rules.on_top)
    for at in range(layers.shape[3]):
        painted.paint(_renumbered(path, layers[..., at], at, by_layer[at]))
    if pairs := painted.open_pairs():
        raise bad_volume(path, f"has segments that overlap: {pairs}", painted.remedy())
    return SegmentVolume(painted.label, names, painted.shared)


def _numbers(path: Path, segments: Sequence[Segment], rules: SegmentRules) -> list[int]:
    if not rules.numbered:
        values = [segment.value for segment in segments]
        return values if len(set(values)) == len(values) else list(range(1, len(segments) + 1))
    places = {plain_name(name): at for at, name in enumerate(rules.numbered, 1)}
    strange = [segment.name for segment in segments if plain_name(segment.name) not in places]
    if strange:
        cause = f"has the segment {strange[0]}, which the option segments does not name"
        wanted = as_option([*rules.numbered, *strange])
        raise bad_volume(path, cause, f"add the dataset with --option segments={wanted}, or remove the segment")
    return [places[plain_name(segment.name)] for segment in segments]


def _renumbered(path: Path, layer: NDArray[Any], at: int, numbers: Mapping[int, int]) -> LabelVolume:
    """A layer with the numbers of its values. Raises BadInput for a value that has none."""
    table = np.full(int(layer.max()) + 1, -1, np.int16)
    table[0] = 0
    for value, number in numbers.items():
        if value < len(table):
            table[value] = number
    found: LabelVolume = table[layer]
    if (found < 0).any():
        value = int(layer[found < 0][0])
        cause = f"has voxels of value {value} in layer {at}, which no segment of its header names"
        raise bad_volume(path, cause, "name the segment in 3D Slicer, or leave the subject out")
    return found
