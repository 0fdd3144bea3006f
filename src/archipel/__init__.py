"""Archipel: federated learning for medical imaging. Each hospital is an island: its images never leave.

The names a researcher needs are here; each is loaded when it is first used, so that ``import archipel`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archipel.version import VERSION as __version__  # noqa: N811 - the name that Python expects of a package

if TYPE_CHECKING:
    from archipel.plans import Context, Plan, SegmentationPlan, TorchPlan, TrainingResult
    from archipel.researcher import Experiment, Federation, connect
    from archipel.vocabulary import (
        ArchipelError,
        Baselines,
        DataNeeds,
        HyperParameter,
        MetricSpec,
        MetricSum,
        OptimiserState,
        Selection,
        WorkerLimits,
    )

_PACKAGES = {
    "Context": "plans",
    "Plan": "plans",
    "SegmentationPlan": "plans",
    "TorchPlan": "plans",
    "TrainingResult": "plans",
    "Experiment": "researcher",
    "Federation": "researcher",
    "connect": "researcher",
    "ArchipelError": "vocabulary",
    "Baselines": "vocabulary",
    "DataNeeds": "vocabulary",
    "HyperParameter": "vocabulary",
    "MetricSpec": "vocabulary",
    "MetricSum": "vocabulary",
    "OptimiserState": "vocabulary",
    "Selection": "vocabulary",
    "WorkerLimits": "vocabulary",
}

__all__ = [
    "ArchipelError",
    "Baselines",
    "Context",
    "DataNeeds",
    "Experiment",
    "Federation",
    "HyperParameter",
    "MetricSpec",
    "MetricSum",
    "OptimiserState",
    "Plan",
    "SegmentationPlan",
    "Selection",
    "TorchPlan",
    "TrainingResult",
    "WorkerLimits",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its package (PEP 562)."""
    if name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"archipel.{_PACKAGES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
