"""A network's parameters and buffers as the arrays of a model, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from archipel.plans.base import Array, Model
from archipel.vocabulary import BadInput, ErrorCode, Thing


def export_model(network: torch.nn.Module, into: Model | None = None) -> Model:
    """A network's parameters and buffers as arrays: copied, or written into the arrays of ``into``.

    Raises BadInput when a tensor has a type that numpy does not know, or when the network's names, types or shapes
    are no longer those of ``into``.
    """
    arrays: Model = {}
    for name, tensor in network.state_dict().items():
        if tensor.dtype is torch.bfloat16:
            raise BadInput(
                Thing("parameter", name),
                "is bfloat16, which a tensor file cannot hold",
                "keep weights float32 and compute under torch.autocast",
                code=ErrorCode.BAD_PLAN,
            )
        arrays[name] = tensor.detach().cpu().numpy()
    if into is None:
        return {name: array.copy() for name, array in arrays.items()}
    _check_fit(arrays, into)
    for name, array in arrays.items():
        into[name][...] = array
    return into


def import_model(network: torch.nn.Module, model: Mapping[str, Array]) -> None:
    """Copy a model's arrays into a network. Raises BadInput naming the first parameter that does not fit."""
    own = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    _check_fit(own, model)
    for name, array in own.items():
        array[...] = model[name]


def _check_fit(own: Mapping[str, Array], model: Mapping[str, Array]) -> None:
    for name in sorted(own.keys() | model.keys()):
        mine, given = own.get(name), model.get(name)
        if mine is None or given is None or mine.shape != given.shape or mine.dtype != given.dtype:
            raise BadInput(
                Thing("parameter", name),
                f"is {_form(mine)} in the plan's network and {_form(given)} in the model",
                "a model keeps its names, types and shapes for a whole job; use the plan that the model came from",
                code=ErrorCode.MODEL_CHANGED,
            )


def _form(array: Array | None) -> str:
    return "absent" if array is None else f"{array.dtype} {list(array.shape)}"
