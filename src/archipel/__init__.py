"""Archipel: federated learning for medical imaging. Each hospital is an island: its images never leave.

The names a researcher needs are here; each is loaded when it is first used, so that ``import archipel`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names
from archipel.version import VERSION as __version__  # noqa: N811 - the name that Python expects of a package

if TYPE_CHECKING:
    from archipel.inference import Evaluation, Prediction, evaluate, predict
    from archipel.plans import Context, Plan, SegmentationPlan, TorchPlan, TrainingResult
    from archipel.researcher import Experiment, Federation, Simulation, connect, simulate
    from archipel.simulation import VirtualSites
    from archipel.vocabulary import (
        ArchipelError,
        Baselines,
        DataNeeds,
        GpuTerms,
        HyperParameter,
        MetricSpec,
        MetricSum,
        OptimiserState,
        Part,
        Patience,
        Selection,
        WorkerLimits,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "inference": ["Evaluation", "Prediction", "evaluate", "predict"],
            "plans": ["Context", "Plan", "SegmentationPlan", "TorchPlan", "TrainingResult"],
            "researcher": ["Experiment", "Federation", "Simulation", "connect", "simulate"],
            "simulation": ["VirtualSites"],
            "vocabulary": [
                "ArchipelError",
                "Baselines",
                "DataNeeds",
                "GpuTerms",
                "HyperParameter",
                "MetricSpec",
                "MetricSum",
                "OptimiserState",
                "Part",
                "Patience",
                "Selection",
                "WorkerLimits",
            ],
        },
    )

__all__ = [
    "ArchipelError",
    "Baselines",
    "Context",
    "DataNeeds",
    "Evaluation",
    "Experiment",
    "Federation",
    "GpuTerms",
    "HyperParameter",
    "MetricSpec",
    "MetricSum",
    "OptimiserState",
    "Part",
    "Patience",
    "Plan",
    "Prediction",
    "SegmentationPlan",
    "Selection",
    "Simulation",
    "TorchPlan",
    "TrainingResult",
    "VirtualSites",
    "WorkerLimits",
    "__version__",
    "connect",
    "evaluate",
    "predict",
    "simulate",
]
