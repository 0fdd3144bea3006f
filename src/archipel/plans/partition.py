"""A model in its parts, as the plan's ``partition`` says: what is sent, what is frozen, and what stays local.

What leaves a site does not depend on what the plan says there: the job names the tensors of each part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from archipel.plans.base import Array, Model, Plan
from archipel.vocabulary import BadInput, ErrorCode, Part, Thing


class Parts(NamedTuple):
    """The tensors of a model, by part and name."""

    sent: Model
    frozen: Model
    local: Model


def parts_of(plan: Plan, model: Mapping[str, Array]) -> Parts:
    """The parts of a model; without a ``partition`` of its own a plan sends all.

    Raises BadInput (``bad-plan``) when the plan names no part for a tensor, and when it would send nothing.
    """
    parts = Parts({}, {}, {})
    places = {Part.SENT: parts.sent, Part.FROZEN: parts.frozen, Part.LOCAL: parts.local}
    for name, array in model.items():
        part = plan.partition(name, array)
        if not isinstance(part, Part):
            cause = f"returns {part!r} for tensor {name}, which is not a Part"
            raise _bad(plan, cause, "return Part.SENT, Part.FROZEN or Part.LOCAL")
        places[part][name] = array
    if model and not parts.sent:
        cause = "freezes every tensor" if not parts.local else "keeps every tensor at the site"
        raise _bad(plan, f"{cause}, so a site would send nothing", "return Part.SENT for what the sites share")
    return parts


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays of one type and shape have the same bytes, NaN included."""
    first, second = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return np.array_equal(first, second)


def frozen_changed(name: str) -> BadInput:
    """The error for a frozen tensor that training changed."""
    return BadInput(
        Thing("parameter", name),
        "is frozen and was changed during training",
        "leave it as it is, or let partition() return Part.SENT for it",
        code=ErrorCode.MODEL_CHANGED,
    )


def _bad(plan: Plan, cause: str, remedy: str) -> BadInput:
    return BadInput(Thing("plan", type(plan).__name__), f"partition() {cause}", remedy, code=ErrorCode.BAD_PLAN)
