"""A torch optimiser's state as named numpy arrays, so that it can be kept at a site without pickle.

Entries are named ``<parameter index>.<name>``; numbers that are not tensors become arrays of no dimension under
``<parameter index>.<name>#``. Learning rates and other settings are not state: they come from the plan each round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from archipel.plans.base import Array, Model
from archipel.plans.network_weights import array_of, tensor_of
from archipel.vocabulary import BadInput, ErrorCode, Thing


def export_state(optimiser: torch.optim.Optimizer) -> Model:
    """The optimiser's state, copied. Raises BadInput for an entry that is neither a tensor nor a number."""
    arrays: Model = {}
    for index, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                arrays[f"{index}.{name}"] = array_of(value.detach().cpu()).copy()
            elif isinstance(value, bool | int | float):
                arrays[f"{index}.{name}#"] = np.asarray(value)
            elif value is not None:
                raise BadInput(
                    Thing("optimiser", type(optimiser).__name__),
                    f"keeps {name} as {type(value).__name__}, which cannot continue between rounds",
                    "use optimiser_state reset or another optimiser",
                    code=ErrorCode.BAD_PLAN,
                    values={"value": name, "type": type(value).__name__},
                )
    return arrays


def restore_state(optimiser: torch.optim.Optimizer, state: Mapping[str, Array]) -> None:
    """Give a fresh optimiser the state that ``export_state`` took from one over the same parameters."""
    entries: dict[int, dict[str, torch.Tensor | bool | int | float]] = {}
    for key, array in state.items():
        index, _, name = key.partition(".")
        if name.endswith("#"):
            entries.setdefault(int(index), {})[name[:-1]] = array.item()
        else:
            entries.setdefault(int(index), {})[name] = tensor_of(np.array(array))
    optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})
