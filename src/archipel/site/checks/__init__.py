"""What a site can try before it approves: preflight, a dry run on generated data, and training on its own data alone.

It knows everything at the site but the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.checks.dry_run import PASSES, Checks, run_checks
    from archipel.site.checks.findings import CheckFinding, CheckResult, CheckStep
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"dry_run": ["PASSES", "Checks", "run_checks"], "findings": ["CheckFinding", "CheckResult", "CheckStep"]},
    )

__all__ = [
    "PASSES",
    "CheckFinding",
    "CheckResult",
    "CheckStep",
    "Checks",
    "run_checks",
]
