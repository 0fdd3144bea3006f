"""Options of a dataset that say how the segments in its label volumes are read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

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
    return _rules(options.get(SEGMENTS, ""), options.get(ON_TOP, ""))


@lru_cache(maxsize=64)
def _rules(segments: str, on_top: str) -> SegmentRules:
    """Cached, because each look at a label volume asks for them."""
    lists = {}
    for option, text in ((SEGMENTS, segments), (ON_TOP, on_top)):
        names = names_in(text)
        plain = [plain_name(name) for name in names]
        twice = [name for at, name in enumerate(names) if plain[at] in plain[:at]]
        if twice:
            raise BadInput(
                Thing.worded(f"option {option}", option=option), f"names {twice[0]} twice", "name each segment once"
            )
        lists[option] = names
    return SegmentRules(lists[SEGMENTS], lists[ON_TOP])
