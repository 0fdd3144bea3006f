"""Facts about volumes: what one examination of a file finds, as the index of files keeps it."""

from __future__ import annotations

from archipel.vocabulary import Record


class Grid(Record):
    """The grid of the voxels: shape in voxels, affine [4, 4] and spacing in millimetres.

    ``is_placed`` says whether the file states the orientation in the patient.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    spacing: tuple[float, ...]
    is_placed: bool


class Intensities(Record):
    """The values of one image or channel: percentiles are 1, 50 and 99; ``voxels`` is the hash of the voxels."""

    minimum: float
    maximum: float
    mean: float
    spread: float
    percentiles: tuple[float, float, float]
    voxels: str


class ImageFacts(Grid, Intensities):
    """One image, or one channel of an image of several."""


class ChannelsFacts(Grid):
    """An image of several channels on one grid."""

    channels: tuple[Intensities, ...]


class MaskFacts(Grid):
    """A mask: how many voxels have each label, and the hash of the voxels."""

    label_voxels: dict[str, int]
    voxels: str
