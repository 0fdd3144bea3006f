"""A privacy step that the product does not have: the L2 norm of the whole update is bounded (McMahan et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from archipel.privacy import STEPS
from archipel.tensors import Array
from archipel.vocabulary import HyperParameter, MetricSum, TensorSpec, Value


class Clip:
    """Scale the update to a norm of at most ``bound``; reports the norm that it had."""

    metrics = ("update_norm",)

    def __init__(self, bound: float) -> None:
        self.bound, self._squares = bound, 0.0

    def measure(self, leaf: TensorSpec, start: int, delta: Array) -> None:
        self._squares += float(np.dot(delta, delta))

    def apply(self, leaf: TensorSpec, start: int, delta: Array) -> Array:
        norm = math.sqrt(self._squares)
        return delta * (self.bound / norm) if norm > self.bound else delta

    def report(self) -> Mapping[str, MetricSum]:
        return {"update_norm": MetricSum(total=math.sqrt(self._squares), weight=1.0)}


@contextmanager
def registered() -> Iterator[None]:
    """The step ``clip`` is known."""

    def made(values: Mapping[str, Value]) -> Clip:
        return Clip(float(values["bound"]))

    bound = HyperParameter(name="bound", kind="float", default=1.0, minimum=1e-6, maximum=1e6)
    forget = STEPS.register("clip", made, bound)
    try:
        yield
    finally:
        forget()
