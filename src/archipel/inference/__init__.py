"""A trained model on data of one's own: what it predicts, and how good it is by the metrics of its plan.

It reads a downloaded model, the plan beside it and a local folder. It knows nothing of servers, sites and approvals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.inference.evaluation import Evaluation, Measured, evaluate
    from archipel.inference.prediction import Prediction, predict
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"evaluation": ["Evaluation", "Measured", "evaluate"], "prediction": ["Prediction", "predict"]}
    )

__all__ = ["Evaluation", "Measured", "Prediction", "evaluate", "predict"]
