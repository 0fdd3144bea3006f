"""How updates become the next model: pure functions over one chunk of one leaf at a time, no I/O.

It knows tensors and numbers; it does not know sites, rounds or files.
"""

from archipel.strategies.fedavg import FedAvg
from archipel.tensors import LeafStep
from archipel.vocabulary import StrategyTerms

__all__ = ["FedAvg", "leaf_step"]


def leaf_step(terms: StrategyTerms) -> LeafStep:
    """The step of the strategy that a job names."""
    return {"fedavg": FedAvg()}[terms.name].step
