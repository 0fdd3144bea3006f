"""Options of a dataset that say how the segments in its label volumes are read."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.data.volumes.segments import SegmentRules, names_in, plain_name
from archipel.vocabulary import BadInput, Thing

SEGMENTS, ON_TOP, STRUCTURES = "segments", "on_top", "structures"
SEGMENT_OPTIONS: Mapping[str, str] = {
    SEGMENTS: "names of segments (.seg.nrrd), with commas between them: they become the label values 1, 2, ..., "
    "whatever numbers a file has for them",
    ON_TOP: "names of segments or structures that keep the voxels that they share with others, the first before the "
    "second",
}


def structures_in(options: Mapping[str, str]) -> Mapping[int, str]:
    """The names of the values of a label that is a file for each structure."""
    return dict(enumerate(names_in(options.get(STRUCTURES, "")), 1))


def segment_rules(options: Mapping[str, str]) -> SegmentRules:
    """The rules among a dataset's options. Raises BadInput for a name that is there twice."""
    lists = {}
    for option in (SEGMENTS, ON_TOP):
        names = names_in(options.get(option, ""))
        plain = [plain_name(name) for name in names]
        twice = [name for at, name in enumerate(names) if plain[at] in plain[:at]]
        if twice:
            raise BadInput(
                Thing.worded(f"option {option}", option=option), f"names {twice[0]} twice", "name each segment once"
            )
        lists[option] = names
    return SegmentRules(lists[SEGMENTS], lists[ON_TOP])
