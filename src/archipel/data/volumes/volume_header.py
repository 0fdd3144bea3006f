"""What a header says of the voxels that follow it, in any kind of file, and the errors of bad headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from archipel.data.sample_data import Affine
from archipel.data.volumes.volume_facts import Segment
from archipel.vocabulary import BadInput, ErrorCode, Thing

EXPORT = "export the volume again or leave the subject out"
NOT_3D = "give one 3-D volume per subject"


class Stored(NamedTuple):
    """Voxels of ``shape`` and ``type``, first axis fastest, as they are stored in a file.

    They begin at byte ``first``: of the file, or where ``packed`` is given of what the gzip or zlib stream unpacks to
    that begins at byte ``packed``. ``affine`` leads from voxels to RAS millimetres; ``is_placed`` is whether the file
    says how the grid is placed in the patient. With a ``slope`` a voxel's value is ``slope * stored + inter``.

    ``unit`` is the file's unit of length where it is another than millimetres. ``forms_apart_mm`` is how far a corner
    moves between the two placements that a NIfTI file may have, None where the second one cannot be computed.
    ``segments`` are named by the header of a segmentation; ``layer_axis`` is the axis of its layers where it has
    several; ``within_image`` is whether its grid is a part of an image's.
    """

    shape: tuple[int, ...]
    type: np.dtype[Any]
    first: int
    affine: Affine
    is_placed: bool
    packed: int | None = None
    slope: float | None = None
    inter: float = 0.0
    data_file: str = ""
    """The file beside the header in which ``first`` and ``packed`` are counted; "" for the header's own file."""
    unit: str = ""
    forms_apart_mm: float | None = 0.0
    segments: tuple[Segment, ...] = ()
    layer_axis: int | None = None
    within_image: bool = False

    @property
    def is_scaled(self) -> bool:
        """Whether a voxel's value is another than the stored one."""
        return self.slope is not None and (self.slope, self.inter) != (1, 0)


def bad_volume(path: Path, cause: str, remedy: str = EXPORT) -> BadInput:
    """The error for a volume, named with the folder that it is in."""
    return BadInput(Thing.file(f"{path.parent.name}/{path.name}"), cause, remedy, code=ErrorCode.BAD_DATA)


def damaged(path: Path, why: str) -> BadInput:
    """The error for a volume that is not all there."""
    cause = f"cannot be read to its end ({why}); it may be truncated"
    return bad_volume(path, cause, "copy it again from its source or leave the subject out")
