"""Running an approved task: prepared samples, the sandboxed trainer, and the store of updates already made.

It knows approvals, cohorts and the sandbox. It knows nothing of the connection to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.execution import failures, preparation
    from archipel.site.execution.consistent_cohort import RepeatOnCohortChange
    from archipel.site.execution.failures import FailedTask
    from archipel.site.execution.specs import sandbox_spec
    from archipel.site.execution.task_store import SiteTaskStore
    from archipel.site.execution.training import SandboxTrainer
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "consistent_cohort": ["RepeatOnCohortChange"],
            "failures": ["FailedTask"],
            "specs": ["sandbox_spec"],
            "task_store": ["SiteTaskStore"],
            "training": ["SandboxTrainer"],
        },
        modules=["failures", "preparation"],
    )

__all__ = [
    "FailedTask",
    "RepeatOnCohortChange",
    "SandboxTrainer",
    "SiteTaskStore",
    "failures",
    "preparation",
    "sandbox_spec",
]
