"""The contract of a step, and the steps by the name that a job gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from archipel.tensors import Array
from archipel.vocabulary import Job, MetricSum, Registry, TensorSpec


class Step(Protocol):
    """One change of an update, for one task: made from the job, used once.

    A chunk of the update is ``delta``, float64: what the site trained minus the model that it was given, from element
    ``start`` of ``leaf`` on. All chunks pass ``measure`` in the order of the tensor file; then all pass ``apply``, with
    the same numbers. A step of a list is given what the steps before it return; ``apply`` may therefore be called more
    than once for a chunk and must return the same each time. Nothing that is given may be written to.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names that ``report`` may use, besides the job's own metrics."""

    def measure(self, leaf: TensorSpec, start: int, delta: Array) -> None:
        """Measure a chunk of the update."""

    def apply(self, leaf: TensorSpec, start: int, delta: Array) -> Array:
        """The chunk that leaves instead, float64 of the same length."""

    def report(self) -> Mapping[str, MetricSum]:
        """What the step says about itself, once all chunks passed ``measure``: each number with weight 1.

        It leaves the site as metrics do.
        """


STEPS: Registry[Step] = Registry("privacy step")
"""Every privacy step that this process knows."""


def steps_of(job: Job) -> tuple[Step, ...]:
    """New steps for one task of the job, in its order. Raises BadInput for one that is not known here."""
    return tuple(STEPS.make(terms.name, terms.parameters) for terms in job.privacy.steps)
