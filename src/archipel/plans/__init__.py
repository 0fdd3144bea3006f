"""What researchers write: plans, how they are packaged, and how one runs on a site's cohort.

It knows models, data and metrics of one site. It knows nothing of servers, rounds' outcomes, approvals or other
sites. The base needs numpy only; ``TorchPlan`` and ``SegmentationPlan`` import torch when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archipel.plans.base import TORCH_PLANS, Array, Context, Model, Plan, TrainingResult, derive_seed, is_plan_of
from archipel.plans.job_builder import Draft, draft
from archipel.plans.loading import load, load_own, load_packaged, load_to_train
from archipel.plans.packaging import PackagedPlan, declared, package
from archipel.plans.starting_model import StartingModel, read_starting_model
from archipel.vocabulary import Part

if TYPE_CHECKING:
    from archipel.plans.segmentation import SegmentationPlan
    from archipel.plans.torch import TorchPlan

__all__ = [
    "Array",
    "Context",
    "Draft",
    "Model",
    "PackagedPlan",
    "Part",
    "Plan",
    "SegmentationPlan",
    "StartingModel",
    "TorchPlan",
    "TrainingResult",
    "declared",
    "derive_seed",
    "draft",
    "is_plan_of",
    "load",
    "load_own",
    "load_packaged",
    "load_to_train",
    "package",
    "read_starting_model",
]


def __getattr__(name: str) -> Any:
    """Import the torch plans only when one is used: torch takes seconds to import, and a numpy plan does not need
    it.
    """
    if name in TORCH_PLANS:
        return getattr(importlib.import_module(TORCH_PLANS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
