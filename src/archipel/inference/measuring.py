"""A plan's own evaluation, of all samples of a dataset or of chosen ones, by the runtime that sites use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from archipel.data import SubjectSet
from archipel.governance import job_hash
from archipel.inference.local_data import Held
from archipel.inference.models import LOCAL, OpenedModels
from archipel.plans import is_plan_of
from archipel.plans.base import TORCH_PLANS
from archipel.plans.runtime import PlanRuntime
from archipel.simulation import SimulatedSite
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import MetricSum, Task, TaskKey, TaskKind

_TORCH = TORCH_PLANS["TorchPlan"]
Sums = Mapping[str, MetricSum]
"""Metrics by name, as sums."""


class Measuring:
    """Models of a plan that reads ``training`` and is measured on ``validation``, both read when this is made."""

    def __init__(self, opened: OpenedModels, site: SimulatedSite, training: SubjectSet, validation: SubjectSet) -> None:
        plan: Any = opened.plan
        self._plan = plan
        self._runtime = PlanRuntime(opened.plan, opened.job, LOCAL, site.data, site.cohort)
        self._files = [memoryview(encode(arrays)) for arrays in opened.models]
        self._task = Task(
            key=TaskKey(experiment=LOCAL, round=1, kind=TaskKind.EVALUATE),
            job_hash=job_hash(opened.job),
            models=tuple(map(blob_hash, self._files)),
        )
        self._keeps_examples = is_plan_of(plan, "TorchPlan") and defining_module(plan, "prepare") == _TORCH
        reads_only_validation = self._keeps_examples and defining_module(plan, "evaluate") == _TORCH
        self.is_quick = validation.needs.kind != "volumes"
        """Whether it may be repeated as often as a bootstrap does: nothing large is read again."""
        if self.is_quick and not self._keeps_examples:
            training, validation = _held(training), _held(validation)
        # Nothing but its own evaluation could use what a TorchPlan trains on.
        self._training = training[:1] if reads_only_validation else training
        self._validation = validation
        self._runtime.give(self._training, validation)
        self._examples: Any = plan.held_out if self._keeps_examples else None

    def whole(self) -> Sums:
        """The sums over all samples, exactly as a site makes them."""
        return self._runtime.evaluate(self._task, self._files).validation

    def of(self, places: Sequence[int]) -> Sums:
        """The sums over the samples at these places, each as often as it is named. Call ``whole`` before."""
        if not self._keeps_examples:
            self._runtime.give(self._training, self._validation[places])
            return self._runtime.evaluate(self._task, self._files).validation
        import torch

        from archipel.plans.examples import Chosen

        self._plan.held_out = Chosen(self._examples, torch.as_tensor(np.asarray(places)))
        return self._runtime.evaluate(self._task, self._files).validation


def defining_module(plan: object, method: str) -> str:
    """The module of the class that defines this method of a plan."""
    return next(cls.__module__ for cls in type(plan).__mro__ if method in vars(cls))


def _held(subjects: SubjectSet) -> SubjectSet:
    return replace(subjects, source=Held.of(subjects.source, subjects.samples))
