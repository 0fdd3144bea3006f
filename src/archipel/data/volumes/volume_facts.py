"""Facts about volumes: what one examination of a file finds, as the index of files keeps it."""

from __future__ import annotations

from pydantic import Field

from archipel.vocabulary import Record


class Segment(Record):
    """A structure that the header of a segmentation names: the voxels of ``value`` in ``layer``."""

    name: str
    value: int
    layer: int = 0


class Shared(Record):
    """Voxels that two structures have: the label value that keeps them, the one that loses them, and how many."""

    keeps: int
    loses: int
    voxels: int


class Grid(Record):
    """The grid of the voxels: shape in voxels, affine [4, 4] and spacing in millimetres.

    ``is_placed`` says whether the file states the orientation in the patient. ``unit`` is the file's unit of length
    where it is another than millimetres. ``forms_apart_mm`` is how far a corner moves between sform and qform of a
    NIfTI file, None where the qform is not a rotation.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    spacing: tuple[float, ...]
    is_placed: bool
    unit: str = ""
    forms_apart_mm: float | None = 0.0


class Intensities(Record):
    """The values of one image or channel: percentiles are 1, 50 and 99; ``voxels`` is the hash of the voxels.

    ``changes`` is the share of pairs of neighbouring voxels that have two values, where all values are whole numbers
    and few, as those of a mask; None for other images.
    """

    minimum: float
    maximum: float
    mean: float
    spread: float
    percentiles: tuple[float, float, float]
    voxels: str
    changes: float | None = None


class ImageFacts(Grid, Intensities):
    """One image, or one channel of an image of several."""


class ChannelsFacts(Grid):
    """An image of several channels on one grid."""

    channels: tuple[Intensities, ...]


class MaskFacts(Grid):
    """A mask: how many voxels have each label, and the hash of the voxels.

    ``changes`` is the share of pairs of neighbouring voxels that have two values. ``names`` are the header's names of
    label values, ``shared`` the voxels that two structures shared. ``within_image`` is whether the file says that its
    grid is a part of an image's.
    """

    label_voxels: dict[str, int]
    voxels: str
    changes: float = 0.0
    names: dict[str, str] = Field(default_factory=dict)
    shared: tuple[Shared, ...] = ()
    within_image: bool = False


MOST_DRAWN = 30
"""An image of whole numbers from 0 to no more than this may be a drawing."""


def looks_drawn(facts: Grid) -> bool:
    """Whether an image holds few whole numbers only, most of them 0, as far as its facts show.

    An image whose values were scaled to 0..1 has fractions among its percentiles.
    """
    if not isinstance(facts, ImageFacts):
        return False
    known = (facts.minimum, facts.maximum, *facts.percentiles)
    is_whole = all(value == round(value) for value in known)
    return is_whole and facts.minimum == 0 == facts.percentiles[1] and 0 < facts.maximum <= MOST_DRAWN
