"""The act of withdrawing: patients leave every dataset and every kept cohort, in one transaction, or are reinstated.

It knows who is withdrawn, datasets and cohorts. It knows nothing of experiments and approvals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.withdrawals import withdrawals
    from archipel.site.withdrawals.withdrawals import ReducedCohort, UnreadableCohort, take_opt_outs
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"withdrawals": ["ReducedCohort", "UnreadableCohort", "take_opt_outs"]},
        modules=["withdrawals"],
    )

__all__ = [
    "ReducedCohort",
    "UnreadableCohort",
    "take_opt_outs",
    "withdrawals",
]
