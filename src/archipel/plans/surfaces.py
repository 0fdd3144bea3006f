"""The distance between two segmented surfaces, in millimetres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def surface(mask: Mask) -> Mask:
    """The mask's voxels that touch its outside by a face; the edge of the volume counts as outside."""
    from scipy import ndimage

    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=0))


def hausdorff_95(mask: Mask, other: Mask, spacing: tuple[float, float, float]) -> float | None:
    """The 95th percentile of the distances from each surface to the other, in millimetres.

    The larger of the two directions' percentiles is taken (the convention of MONAI and of the Medical Segmentation
    Decathlon). 0 when both masks are empty, None when only one is: no distance exists then.
    """
    from scipy import ndimage

    if not mask.any() or not other.any():
        return 0.0 if mask.any() == other.any() else None
    surface_mask, surface_other = surface(mask), surface(other)
    to_other = ndimage.distance_transform_edt(~surface_other, sampling=spacing)[surface_mask]
    to_mask = ndimage.distance_transform_edt(~surface_mask, sampling=spacing)[surface_other]
    return float(max(np.percentile(to_other, 95), np.percentile(to_mask, 95)))
