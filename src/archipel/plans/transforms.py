"""Random transforms of single examples: MONAI's dictionary transforms, or any callable of the same shape.

A transform gives one example, or a list of examples such as several crops of one volume. Each example of a list goes
through the transforms that follow, and all of them together are the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from archipel.plans.base import derive_seed
from archipel.vocabulary import BadInput, ErrorCode, Thing

Tensor: TypeAlias = torch.Tensor
Example = dict[str, Any]
"""What MONAI's transforms take and give: image and label, and whatever entries they add of their own."""
Transform = Callable[[Example], "Example | list[Example]"]
_ENTRIES = ("image", "label")


def seed_transforms(transforms: Sequence[Transform], seed: int) -> None:
    """Give each transform that draws at random, and so has ``set_random_state``, a seed of its own."""
    for position, transform in enumerate(transforms):
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=derive_seed(seed, "transform", position) % 2**32)


def transformed(transforms: Sequence[Transform], inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A batch after all transforms: a larger one where a transform gives several examples of one.

    Raises BadInput (``bad-plan``) for a transform that gives something else than examples or none at all, and when
    the examples of the batch have several shapes.
    """
    if not transforms:
        return inputs, targets
    images, labels = [], []
    for image, label in zip(inputs, targets, strict=True):
        for example in _examples({"image": image, "label": label}, transforms):
            images.append(_plain(example["image"]))
            labels.append(_plain(example["label"]))
    return _stacked("image", images, transforms), _stacked("label", labels, transforms)


def _examples(example: Example, transforms: Sequence[Transform]) -> Iterator[Example]:
    """The examples that one becomes, in the order in which the transforms give them."""
    if not transforms:
        yield example
        return
    first, *others = transforms
    found = first(example)
    listed = list(found) if isinstance(found, list | tuple) else [found]
    if not listed:
        raise _bad(first, "gives an empty list", "let it give at least one example")
    for one in listed:
        if not isinstance(one, Mapping) or any(entry not in one for entry in _ENTRIES):
            given = f"a dictionary of {', '.join(map(str, one))}" if isinstance(one, Mapping) else type(one).__name__
            cause = f"gives {given}, not a dictionary with image and label"
            raise _bad(first, cause, 'return the dictionary that it was given, with both: {"image": ..., "label": ...}')
        yield from _examples(dict(one), others)


def _stacked(entry: str, values: Sequence[Tensor], transforms: Sequence[Transform]) -> Tensor:
    shapes = list(dict.fromkeys(tuple(one.shape) for one in values))
    if len(shapes) > 1:
        cause = f"gives a batch {entry}s of several shapes: {', '.join(str(list(shape)) for shape in shapes[:4])}"
        raise _bad(transforms[-1], cause, "end the transforms with one that crops or pads all to one shape")
    return torch.stack(list(values))


def _bad(transform: Transform, cause: str, remedy: str) -> BadInput:
    name = getattr(transform, "__name__", type(transform).__name__)
    return BadInput(Thing("transform", name), cause, remedy, code=ErrorCode.BAD_PLAN)


def _plain(values: Any) -> Tensor:
    """A tensor without MONAI's metadata, which would travel through every operation of the network."""
    return torch.as_tensor(values).as_subclass(torch.Tensor)
