"""Segments: the structures that the header of a segmentation names, and what makes one label volume of them.

A segment is the voxels of one value in one layer; structures that overlap are in different layers. The numbers may
differ from file to file, so that only the names say what is what.

Source: 3D Slicer, Segmentations, "Segmentation file format" (slicer.readthedocs.io).
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.limits import DATA_LIMITS
from archipel.data.sample_data import LabelVolume
from archipel.data.volumes.volume_facts import Segment
from archipel.data.volumes.volume_header import bad_volume, damaged

WITHIN_IMAGE = "Segmentation_ReferenceImageExtentOffset"
"""The key by which a header says that its grid is a part of an image's."""
_KEY = re.compile(r"Segment(\d{1,5})_(ID|Name|LabelValue|Layer)")
_LARGEST_NAME = 200
_LARGEST = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class SegmentRules:
    """How a site wants segments read: ``numbered`` names get the values 1, 2, ... in their order, whatever a file's own
    are; those ``on_top`` keep the voxels that they share with others, the first of them before the second."""

    numbered: tuple[str, ...] = ()
    on_top: tuple[str, ...] = ()

    @property
    def request(self) -> str:
        """What identifies these rules in an index of files; "" without any."""
        return repr((self.numbered, self.on_top)) if self.numbered or self.on_top else ""


AS_STORED = SegmentRules()
"""Values as the files have them."""


def same_name(one: str, other: str) -> bool:
    """Whether two names of a structure are equal, apart from separators and capital letters.

    >>> same_name("White matter", "white_Matter")
    True
    """
    return plain_name(one) == plain_name(other)


def plain_name(name: str) -> str:
    """A name without capital letters, its words separated by one space."""
    return " ".join(word for word in re.split(r"[\s_-]+", name.strip().casefold()) if word)


def as_option(names: Collection[str]) -> str:
    """Names as the value of an option, as it is typed in a shell.

    >>> as_option(["liver", "white matter"])
    "'liver,white matter'"
    """
    if any("," in name for name in names):
        return shlex.quote("".join(f"{name};" for name in names))
    return shlex.quote(",".join(names))


def names_in(text: str) -> tuple[str, ...]:
    """The names in an option: separated by semicolons where it has one, else by commas."""
    parts = text.split(";") if ";" in text else text.split(",")
    return tuple(part.strip() for part in parts if part.strip())


def segments_of(
    path: Path, keys: Mapping[str, str], layers: int, most: int = DATA_LIMITS.segments
) -> tuple[Segment, ...]:
    """The segments in a header's keys, in the header's order. Raises BadInput for keys that are not clear, and for more
    than ``most`` segments, or layers of segments."""
    found: dict[int, dict[str, str]] = {}
    for key, text in keys.items():
        match = _KEY.fullmatch(key)
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = text
    if found and max(len(found), layers) > most:
        cause = f"has {len(found)} segments in {layers} layers; at most {most} are allowed of each"
        raise bad_volume(path, cause, "export fewer structures, or leave the subject out")
    every = [_segment(path, number, said, layers) for number, said in sorted(found.items())]
    # As in 3D Slicer, a segment in a layer that the file does not have has no voxels.
    segments = [segment for segment in every if segment.layer < layers]
    places: set[tuple[int, int]] = set()
    names: set[str] = set()
    for segment in segments:
        if (segment.layer, segment.value) in places:
            raise damaged(path, f"its header names value {segment.value} of layer {segment.layer} twice")
        if plain_name(segment.name) in names:
            raise bad_volume(path, f"has two segments called {segment.name}", "rename or join them in 3D Slicer")
        places.add((segment.layer, segment.value))
        names.add(plain_name(segment.name))
    return tuple(segments)


def _segment(path: Path, number: int, said: Mapping[str, str], layers: int) -> Segment:
    """One segment; what older versions of 3D Slicer do not write has the value that they mean."""
    value = _number(path, number, "LabelValue", said.get("LabelValue", "1"))
    layer = _number(path, number, "Layer", said.get("Layer", str(number if layers > 1 else 0)))
    name = " ".join((said.get("Name") or said.get("ID") or "").split())
    if not name or len(name) > _LARGEST_NAME or not name.isprintable():
        raise bad_volume(path, f"has a name of segment {number} that cannot be used", "rename it in 3D Slicer")
    if not 0 < value <= _LARGEST:
        raise damaged(path, f"its header gives segment {name[:40]} the value {value}, outside 1 to {_LARGEST}")
    return Segment(name=name, value=value, layer=layer)


def _number(path: Path, segment: int, key: str, text: str) -> int:
    if re.fullmatch(r"\d{1,9}", text) is None:
        raise damaged(path, f"its header has Segment{segment}_{key} {text[:20]!r}")
    return int(text)


def one_volume(
    path: Path, layers: NDArray[Any], segments: Sequence[Segment], rules: SegmentRules
) -> tuple[LabelVolume, dict[int, str]]:
    """One label volume of the layers ``[X, Y, Z, layers]`` of whole numbers, and the names of its values.

    The values are those that ``rules`` give; without a rule they are the file's own, or where two segments have the
    same one, 1, 2, ... in the header's order. Raises BadInput for a segment that the rules do not name, values that
    no segment has where they must be told apart by name, and segments that overlap where no rule says which wins.
    """
    numbers = _numbers(path, segments, rules)
    names = {number: segment.name for segment, number in zip(segments, numbers, strict=True)}
    own = all(number == segment.value for segment, number in zip(segments, numbers, strict=True))
    if layers.shape[3] == 1 and own and not rules.numbered:
        return layers[..., 0], names
    top = _ranks(names, rules)
    by_layer: dict[int, dict[int, int]] = defaultdict(dict)
    for segment, number in zip(segments, numbers, strict=True):
        by_layer[segment.layer][segment.value] = number
    whole = np.zeros(layers.shape[:3], np.int16, order="F")
    for at in range(layers.shape[3]):
        painted = _renumbered(path, layers[..., at], at, by_layer[at])
        shared = (painted != 0) & (whole != 0)
        if shared.any():
            _check_overlap(path, painted[shared], whole[shared], names, top)
        wins = (painted != 0) & ((whole == 0) | (top[painted] > top[whole]))
        whole[wins] = painted[wins]
    return whole, names


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


def _ranks(names: Mapping[int, str], rules: SegmentRules) -> NDArray[np.int16]:
    """For each value how far on top its segment is, 0 where no rule says it."""
    ranks = np.zeros(max(names, default=0) + 1, np.int16)
    wanted = {plain_name(top): len(rules.on_top) - at for at, top in enumerate(rules.on_top)}
    for number, name in names.items():
        ranks[number] = wanted.get(plain_name(name), 0)
    return ranks


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


def _check_overlap(
    path: Path, over: LabelVolume, under: LabelVolume, names: Mapping[int, str], top: NDArray[np.int16]
) -> None:
    open_ones = (top[over] == 0) & (top[under] == 0)
    if not open_ones.any():
        return
    one, other = names[int(under[open_ones][0])], names[int(over[open_ones][0])]
    count = int(np.count_nonzero((under == under[open_ones][0]) & (over == over[open_ones][0])))
    cause = f"has segments that overlap: {one} and {other} share voxels ({count})"
    remedy = (
        f"say which one keeps them: add the dataset with --option on_top={as_option([other])} or with --option "
        f"on_top={as_option([one])}"
    )
    raise bad_volume(path, cause, remedy)
