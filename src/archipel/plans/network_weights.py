"""A network's parameters and buffers as the arrays of a model, and back; and a network of which a part is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from archipel.plans.base import Array, Model
from archipel.plans.partition import Parts, frozen_changed, same_bits
from archipel.tensors import BFLOAT16
from archipel.vocabulary import BadInput, ErrorCode, Thing


def export_model(network: torch.nn.Module, into: Model | None = None, frozen: Collection[str] = ()) -> Model:
    """A network's parameters and buffers as arrays: copied, or written into the arrays of ``into`` but those frozen.

    Raises BadInput when the network's names, types or shapes are no longer those of ``into``, or when a tensor named in
    ``frozen`` has no longer its values.
    """
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    if into is None:
        return {name: array_of(tensor.cpu()).copy() for name, tensor in tensors.items()}
    _check_fit(tensors, into)
    for name, tensor in tensors.items():
        if name not in frozen:
            # From a GPU straight into the tensor file of the update.
            tensor_of(into[name]).copy_(tensor)
        elif not same_bits(array_of(tensor.cpu()), into[name]):
            raise frozen_changed(name)
    return into


def freeze(network: torch.nn.Module, parts: Parts) -> None:
    """Take no gradients of the frozen parameters. Raises BadInput when a tensor is in one part under one name and in
    another under another.
    """
    if not parts.frozen and not parts.local:
        return
    named = dict(network.state_dict(keep_vars=True))
    seen: dict[int, tuple[str, str]] = {}
    for what, part in (("sent", parts.sent), ("local", parts.local), ("frozen", parts.frozen)):
        for name in part:
            other, other_part = seen.setdefault(id(named[name]), (name, what))
            if other_part != what:
                raise BadInput(
                    Thing("parameter", name),
                    f"is {what} and is the same tensor as {other}, which is {other_part}",
                    "let partition() return one part for both names",
                    code=ErrorCode.BAD_PLAN,
                )
    for name in parts.frozen:
        named[name].requires_grad_(False)


def train_others(network: torch.nn.Module, frozen: Collection[str]) -> None:
    """Put a network into training mode, but each module all of whose tensors are frozen into evaluation mode.

    So the frozen part computes the same in training as later: a batch norm keeps its statistics, and a dropout passes
    everything on.
    """
    network.train()
    if not frozen:
        return
    all_below, frozen_below = _counted_below(network.state_dict()), _counted_below(frozen)
    for path, module in network.named_modules():
        if 0 < all_below[path] == frozen_below[path]:
            module.eval()


def _counted_below(names: Iterable[str]) -> Counter[str]:
    """How many of these tensors each module has, its parts' tensors included, by the module's path."""
    return Counter(
        name[:end] for name in names for end in [0, *(at for at, letter in enumerate(name) if letter == ".")]
    )


def import_model(network: torch.nn.Module, model: Mapping[str, Array]) -> None:
    """Copy a model's arrays into a network, wherever it is. Raises BadInput naming the first parameter that does not
    fit.
    """
    own = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    _check_fit(own, model)
    for name, tensor in own.items():
        if tensor.device.type == "cpu":
            array_of(tensor)[...] = model[name]
        else:
            # torch reads from arrays that it may write to only; a model that is shared cannot be written to.
            tensor.copy_(tensor_of(np.require(model[name], requirements="W")))


def array_of(tensor: torch.Tensor) -> Array:
    """An array over the memory of a tensor on the processor, bfloat16 included, which torch does not give to numpy."""
    if tensor.dtype is torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(BFLOAT16))
    return np.asarray(tensor.numpy())


def tensor_of(array: Array) -> torch.Tensor:
    """A tensor over the memory of an array that may be written to, bfloat16 included."""
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _check_fit(own: Mapping[str, torch.Tensor], model: Mapping[str, Array]) -> None:
    # Asked of every model, which nearly always fits: what to say of one that does not is worded only then.
    if own.keys() == model.keys() and all(_fits(tensor, model[name]) for name, tensor in own.items()):
        return
    for name in sorted(own.keys() | model.keys()):
        mine, given = _form(own.get(name)), _form(model.get(name))
        if mine != given:
            raise BadInput(
                Thing("parameter", name),
                f"is {mine} in the plan's network and {given} in the model",
                "a model keeps its names, types and shapes for a whole job; use the plan that the model came from",
                code=ErrorCode.MODEL_CHANGED,
            )


def _fits(tensor: torch.Tensor, array: Array) -> bool:
    return tensor.shape == array.shape and _type_name(tensor.dtype) == _type_name(array.dtype)


@cache
def _type_name(dtype: torch.dtype | np.dtype[Any]) -> str:
    """The name of a type of numbers, as numpy says it."""
    return str(dtype).removeprefix("torch.")


def _form(tensor: torch.Tensor | Array | None) -> str:
    """Type and shape, as numpy says them."""
    return "absent" if tensor is None else f"{_type_name(tensor.dtype)} {list(tensor.shape)}"
