"""What the people of a site read where no sandbox can be made on this machine."""

from __future__ import annotations

from archipel.site.sandbox import sandbox_problem
from archipel.site.state import SandboxRule


def without_sandbox(rule: SandboxRule) -> str | None:
    """What follows for plans and why no sandbox can be made, with the remedy; None where one can be made.

    It is tried as the user of this process.
    """
    problem = sandbox_problem()
    if problem is None:
        return None
    follows = "no plan can run here" if rule is SandboxRule.REQUIRED else "plans run here WITHOUT a sandbox"
    return f"{follows}: {problem}"
