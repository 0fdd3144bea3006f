"""Geometry: how far two grids are apart in millimetres, whether one is a part of the other, and what is odd about one.

Grids are compared at the corners of the volume, the outer borders of its outermost voxels: an affine map moves no
point between them farther than the corner that it moves farthest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from archipel.data.sample_data import Affine, LabelVolume
from archipel.data.volumes.volume_facts import Grid
from archipel.vocabulary import BadInput, ErrorCode, Thing

TOLERANCE_OPTION = "grid_tolerance"
"""The option of a dataset by which a site sets the tolerance in millimetres."""
USUAL_SHARE = 0.1
"""The tolerance where a site sets none, as a share of the smallest side of a voxel."""
LEAST_SPACING_MM, MOST_SPACING_MM = 0.01, 100.0
"""Between these are the voxels of images of patients, from microscopy of tissue to a slice of the whole body."""
_ANYTHING_MM = 1000.0
_CORNERS = np.array(list(product((0.0, 1.0), repeat=3)))


def voxel_spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """The lengths of a voxel's sides in millimetres, to the last bit those of ``numpy.linalg.norm``.

    >>> voxel_spacing_mm(np.diag([1.0, 2.0, 3.0, 1.0]))
    (1.0, 2.0, 3.0)
    """
    # Every file has one of these: numpy takes twenty times as long for nine numbers.
    (a, b, c), (d, e, f), (g, h, i) = affine[:3, :3].tolist()
    return math.sqrt(a * a + d * d + g * g), math.sqrt(b * b + e * e + h * h), math.sqrt(c * c + f * f + i * i)


@dataclass(frozen=True)
class GridRule:
    """How far the grids of one sample may be apart, in millimetres; None for a tenth of a voxel."""

    tolerance_mm: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, str]) -> GridRule:
        """The rule among a dataset's options. Raises BadInput for a tolerance that is not a length."""
        text = options.get(TOLERANCE_OPTION, "")
        if not text:
            return cls()
        if re.fullmatch(r"\d{1,4}(\.\d{1,9})?", text) is None or float(text) > _ANYTHING_MM:
            raise BadInput(
                Thing.worded(f"option {TOLERANCE_OPTION} {text}", option=TOLERANCE_OPTION),
                "is not a length in millimetres",
                f"give for example --option {TOLERANCE_OPTION}=0.05",
            )
        return cls(float(text))

    def allowed_mm(self, affine: Affine) -> float:
        """The tolerance for grids that are compared with one of this affine."""
        if self.tolerance_mm is not None:
            return self.tolerance_mm
        return USUAL_SHARE * min(voxel_spacing_mm(affine))


class Placed(NamedTuple):
    """A volume's grid by the volume's role; ``is_placed`` is whether its file says where it is in the patient."""

    role: str
    shape: tuple[int, ...]
    affine: Affine
    is_placed: bool = True

    @classmethod
    def of(cls, role: str, grid: Grid) -> Placed:
        """From the facts of an examination."""
        return cls(role, grid.shape, np.array(grid.affine), grid.is_placed)


def apart_mm(shape: tuple[int, ...], one: Affine, other: Affine) -> float:
    """How far the corner of a volume moves that moves farthest when one affine takes the other's place.

    >>> moved = np.diag([1.0, 1.0, 1.01, 1.0])
    >>> round(apart_mm((10, 10, 100), np.eye(4), moved), 3)
    0.995
    """
    between = one - other
    if not between.any():
        return 0.0
    corners = _CORNERS * shape[:3] - 0.5
    moved = corners @ between[:3, :3].T + between[:3, 3]
    return float(np.sqrt(np.square(moved).sum(axis=1)).max())


def check_one_grid(name: str, first: Placed, second: Placed, rule: GridRule) -> None:
    """Raise BadInput unless two volumes have one shape and their corners are at the same places.

    The tolerance is that of the first volume's voxels. A volume whose file has no geometry is named as such: to
    resample it would move it.
    """
    unplaced = [one.role for one in (first, second) if not one.is_placed]
    if first.shape == second.shape:
        apart, allowed = apart_mm(first.shape, first.affine, second.affine), rule.allowed_mm(first.affine)
        if apart <= allowed:
            return
        cause = (
            f"the grids of {first.role} and {second.role} are up to {apart:.4g} mm apart at their corners "
            f"(tolerance {allowed:.4g} mm)"
        )
    else:
        apart = math.inf
        cause = f"the {first.role} has shape {list(first.shape)} and the {second.role} {list(second.shape)}"
    remedy = f"draw or resample the {second.role} on the {first.role}'s grid, or leave the subject out"
    if unplaced:
        which = " and ".join(unplaced)
        cause += f"; the file of the {which} has no geometry: it does not say where its voxels are in the patient"
        other = first.role if second.role in unplaced else second.role
        remedy = f"export the {which} again with its geometry, or leave the subject out"
        if first.shape == second.shape and len(unplaced) == 1:
            remedy = (
                f"if the {which} was drawn on this {other}, voxel for voxel, give its file the {other}'s geometry "
                f"(nibabel: Nifti1Image(voxels, {other}.affine)); else {remedy}"
            )
    elif apart < 10 * USUAL_SHARE * min(voxel_spacing_mm(first.affine)):
        remedy += f"; if so little does not matter, add the dataset with --option {TOLERANCE_OPTION}={_above(apart)}"
    raise BadInput(name, cause, remedy, code=ErrorCode.BAD_DATA)


def _above(length: float) -> str:
    """A length of two digits that is not smaller, as it is typed."""
    steps = 10 ** (1 - math.floor(math.log10(length)))
    return f"{math.ceil(length * steps * (1 + 1e-9)) / steps:.9f}".rstrip("0").rstrip(".")


def offset_within(outer: Placed, inner: Placed, rule: GridRule) -> tuple[int, int, int] | None:
    """Where a grid begins in another one of which it is a part, in voxels; None when it is not a part of it.

    Both have the same voxels then, within the tolerance at the inner grid's corners.
    """
    start = np.rint(np.linalg.solve(outer.affine, inner.affine[:, 3])[:3])
    if not np.isfinite(start).all() or np.abs(start).max() > 1e6:
        return None
    x, y, z = (int(place) for place in start)
    part = outer.affine.copy()
    part[:3, 3] = (outer.affine @ [x, y, z, 1])[:3]
    is_inside = all(
        begin >= 0 and begin + size <= whole
        for begin, size, whole in zip((x, y, z), inner.shape, outer.shape, strict=True)
    )
    if not is_inside or apart_mm(inner.shape, part, inner.affine) > rule.allowed_mm(outer.affine):
        return None
    return x, y, z


def check_within(name: str, image: Placed, label: Placed, rule: GridRule) -> None:
    """Raise BadInput unless a label that was cropped is a part of the image's grid."""
    if offset_within(image, label, rule) is not None:
        return
    cause = (
        f"the {label.role} is not a part of the grid of the {image.role} (shapes {list(label.shape)} and "
        f"{list(image.shape)})"
    )
    remedy = f"export the segmentation with the {image.role} as its reference volume, or leave the subject out"
    raise BadInput(name, cause, remedy, code=ErrorCode.BAD_DATA)


def in_whole_grid(label: LabelVolume, offset: tuple[int, int, int], shape: tuple[int, ...]) -> LabelVolume:
    """A label volume ``[x, y, z]`` that was cropped, with background around it up to ``shape``."""
    whole = np.zeros(shape, np.int16, order="F")
    whole[tuple(slice(begin, begin + size) for begin, size in zip(offset, label.shape, strict=True))] = label
    return whole


def oddities(grid: Grid, rule: GridRule) -> Iterator[tuple[str, str]]:
    """What a person should look at in a grid: cause and remedy of each."""
    apart = grid.forms_apart_mm
    if apart is None:
        yield (
            "has a qform that is not a rotation beside its sform; the sform is used",
            "look at the overlay of image and label; if they fit, write the sform into both",
        )
    elif apart and apart > rule.allowed_mm(np.array(grid.affine)):
        yield (
            f"is placed in two ways: sform and qform are {apart:.4g} mm apart; the sform is used",
            "look at the overlay of image and label; if they fit, write the sform into both (nibabel: "
            "image.set_qform(image.affine)), else export the volume again",
        )
    if grid.unit:
        yield (
            f"says that its unit of length is {grid.unit}; its spacing {_sizes(grid)} is read as millimetres",
            "if the spacing is in millimetres, fix the unit in the header; else export the volume in millimetres",
        )
    if min(grid.spacing) < LEAST_SPACING_MM or max(grid.spacing) > MOST_SPACING_MM:
        yield (
            f"has voxels of {_sizes(grid)} mm",
            "check the unit of the spacing; export the volume in millimetres or leave the subject out",
        )


def _sizes(grid: Grid) -> str:
    return " x ".join(f"{size:g}" for size in grid.spacing)
