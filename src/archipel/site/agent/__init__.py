"""The agent: one process that connects to the server, acts on each of its messages, and reports back.

It knows everything at the site but the checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.agent import link_status
    from archipel.site.agent.link_status import LinkStatus
    from archipel.site.agent.process import run
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"link_status": ["LinkStatus"], "process": ["run"]}, modules=["link_status"]
    )

__all__ = [
    "LinkStatus",
    "link_status",
    "run",
]
