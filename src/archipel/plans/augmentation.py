"""Random changes of image batches: parameters are drawn first, then a deterministic function applies them.

Everything is drawn from the generator that is passed in, so an augmented batch can be made again from the round's seed,
and from its ``Drawn`` parameters alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True)
class Drawn:
    """The changes to each image of a batch of N: affine matrices ``[N, 3, 4]`` in voxels around the centre, gains
    and offsets ``[N]`` (in standard deviations of the normalised image), noise ``[N, C, X, Y, Z]``."""

    affine: Tensor
    gain: Tensor
    offset: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Augmentation:
    """How strongly to change 3-D images ``[N, C, X, Y, Z]`` and their labels.

    ``affine`` bounds every entry that is added to the identity matrix (scaling, shearing and turning together),
    ``shift`` the translation as a share of each axis, ``gain`` and ``offset`` the brightness, ``noise`` the standard
    deviation of added noise; each is drawn uniformly up to its bound.
    """

    affine: float = 0.15
    shift: float = 0.04
    gain: float = 0.2
    offset: float = 0.2
    noise: float = 0.15

    def draw(self, images: Tensor, generator: torch.Generator) -> Drawn:
        """Draw the parameters for a batch."""
        count = len(images)

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(count, *shape, generator=generator) - 1

        matrix = torch.eye(3) + self.affine * uniform(3, 3)
        shift = self.shift * uniform(3, 1) * torch.tensor(images.shape[2:]).reshape(1, 3, 1)
        spread = self.noise * torch.rand(count, 1, 1, 1, 1, generator=generator)
        noise = spread * torch.randn(images.shape, generator=generator)
        return Drawn(torch.cat([matrix, shift], dim=2), 1 + self.gain * uniform(), self.offset * uniform(), noise)

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw parameters for the batch and apply them."""
        return apply(images, labels, self.draw(images, generator))


def apply(images: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """The changed images (trilinear) and labels (nearest voxel); outside the volume its edge is repeated."""
    per_image = (-1, 1, 1, 1, 1)
    grid = _grid(drawn.affine, images.shape)
    moved = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved_labels = torch.nn.functional.grid_sample(
        labels.to(images.dtype), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    changed = moved * drawn.gain.reshape(per_image) + drawn.offset.reshape(per_image) + drawn.noise
    return changed, moved_labels.to(labels.dtype)


def _grid(affine: Tensor, shape: torch.Size) -> Tensor:
    """From matrices in voxels to sampling points in torch's coordinates: axes reversed, each from -1 to 1."""
    half = torch.tensor([shape[4], shape[3], shape[2]], dtype=affine.dtype) / 2
    reversed_axes = affine.flip(1)
    matrix = reversed_axes[:, :, :3].flip(2) * half[None, None, :] / half[None, :, None]
    shift = reversed_axes[:, :, 3:] / half[None, :, None]
    return torch.nn.functional.affine_grid(torch.cat([matrix, shift], dim=2), list(shape), align_corners=False)
