"""Segments: the structures that the header of a segmentation names, and what makes one label volume of them.

A segment is the voxels of one value in one layer; structures that overlap are in different layers. The numbers may
differ from file to file, so that only the names say what is what.

Source: 3D Slicer, Segmentations, "Segmentation file format" (slicer.readthedocs.io).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archipel.data.limits import DATA_LIMITS
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
