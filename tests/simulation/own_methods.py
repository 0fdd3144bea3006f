"""A strategy and a privacy step of a researcher's own, registered when this module is imported.

Under names that only the tests of this module use: an import cannot be undone.
"""

from __future__ import annotations

from clip import Clip
from other_strategies import BETA, FedAvgM

from archipel.privacy import STEPS
from archipel.strategies import STRATEGIES
from archipel.vocabulary import HyperParameter

BOUND = HyperParameter(name="bound", kind="float", default=1.0, minimum=1e-6, maximum=1e6)
STEPS.register("own-clip", lambda values: Clip(float(values["bound"])), BOUND)
STRATEGIES.register("own-momentum", lambda values: FedAvgM(float(values["beta"])), BETA)
