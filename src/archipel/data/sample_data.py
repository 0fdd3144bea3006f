"""Sample data: one sample in memory, whatever format it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.vocabulary import Value

FloatVolume = NDArray[np.float32]
LabelVolume = NDArray[np.int16]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class SampleData:
    """A sample's content: ``images`` float32 ``[X, Y, Z]`` by modality and ``label`` int16 on one grid with its
    ``affine`` (voxel to millimetres, RAS); or ``arrays`` named x and y; and ``values`` known beside them."""

    images: Mapping[str, FloatVolume] = field(default_factory=dict)
    label: LabelVolume | None = None
    affine: Affine | None = None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)

    def sealed(self) -> SampleData:
        """The same, its arrays read-only: what plans get may be one mapped file for all epochs."""
        for array in (*self.images.values(), *self.arrays.values(), self.label, self.affine):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        return self
