"""The meeting point: who belongs to the federation, what runs, and the REST interface for people.

It keeps experiments, opens rounds and adds updates up; it never sees an image, runs no plan and trusts no site without
a certificate that it signed itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.server import backup
    from archipel.server.process import run
    from archipel.server.status import ServerStatus, read_status
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"process": ["run"], "status": ["ServerStatus", "read_status"]}, modules=["backup"]
    )

__all__ = [
    "ServerStatus",
    "backup",
    "read_status",
    "run",
]
