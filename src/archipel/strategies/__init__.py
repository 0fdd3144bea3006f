"""How updates become the next model: pure functions over one chunk of one leaf at a time, no I/O.

It knows tensors and numbers; it does not know rounds or files.
"""

from archipel.strategies.contract import SiteStats, Strategy
from archipel.strategies.fedavg import FedAvg
from archipel.strategies.registry import STRATEGIES, check_strategy, known_needs, strategy_of

__all__ = [
    "STRATEGIES",
    "FedAvg",
    "SiteStats",
    "Strategy",
    "check_strategy",
    "known_needs",
    "strategy_of",
]
