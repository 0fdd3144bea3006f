"""The contract of a step, and the steps by the name that a job gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from archipel.tensors import Array
from archipel.vocabulary import BadInput, Conflict, HyperParameter, Job, MetricSum, TensorSpec, Value, check_arguments


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
        """Look at a chunk of the update."""

    def apply(self, leaf: TensorSpec, start: int, delta: Array) -> Array:
        """The chunk that leaves instead, float64 of the same length."""

    def report(self) -> Mapping[str, MetricSum]:
        """What the step says about itself with the update; it leaves the site as the job's metrics do."""


@dataclass(frozen=True)
class _Kind:
    parameters: tuple[HyperParameter, ...]
    make: Callable[[Mapping[str, Value]], Step]


_KINDS: dict[str, _Kind] = {}


def register_step(
    name: str, make: Callable[[Mapping[str, Value]], Step], *parameters: HyperParameter
) -> Callable[[], None]:
    """Make a step known by ``name``, in every program that is to run or submit it; returns how to undo that.

    Raises Conflict when the name is taken.
    """
    if name in _KINDS:
        raise Conflict(f"privacy step {name}", "is registered already", "choose another name")
    _KINDS[name] = _Kind(parameters, make)

    def forget() -> None:
        del _KINDS[name]

    return forget


def steps_of(job: Job) -> tuple[Step, ...]:
    """New steps for one task of the job, in its order. Raises BadInput for one that is not known here."""
    found = []
    for terms in job.privacy.steps:
        kind = _KINDS.get(terms.name)
        if kind is None:
            known = ", ".join(sorted(_KINDS)) or "none"
            raise BadInput(f"privacy step {terms.name}", "is not known here", f"choose one of: {known}")
        found.append(kind.make(check_arguments(kind.parameters, terms.parameters, owner=f"privacy step {terms.name}")))
    return tuple(found)
