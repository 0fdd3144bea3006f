"""Two strategies that the product does not have, made through the seam that its own are made by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from archipel.strategies import STRATEGIES, FedAvg
from archipel.tensors import Array, ChunkStack
from archipel.vocabulary import HyperParameter, Release, TensorSpec, Value


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """Server momentum (Hsu et al. 2019, section 4.1): v = beta v + delta, w = w - v, with delta = w - mean."""

    beta: float
    memory = ("momentum",)
    uses_model = True

    def step(
        self, leaf: TensorSpec, start: int, model: Array, aggregate: Array, memory: Mapping[str, Array]
    ) -> tuple[Array, Mapping[str, Array]]:
        momentum = self.beta * memory["momentum"] + (model - aggregate)
        return model - momentum, {"momentum": momentum}


class CoordinateMedian(FedAvg):
    """The median over sites of each number (Yin et al. 2018); it looks at every site's own update."""

    needs = Release.INDIVIDUALLY

    def combine(self, stack: ChunkStack, weights: Sequence[float]) -> Array:
        return np.asarray(np.median(stack.rows(), axis=0))


BETA = HyperParameter(name="beta", kind="float", default=0.9, minimum=0, maximum=1)


@contextmanager
def registered() -> Iterator[None]:
    """Both are known by name."""

    def momentum(values: Mapping[str, Value]) -> FedAvgM:
        return FedAvgM(float(values["beta"]))

    undo = [STRATEGIES.register("fedavgm", momentum, BETA), STRATEGIES.register("median", lambda _: CoordinateMedian())]
    try:
        yield
    finally:
        for forget in undo:
            forget()
