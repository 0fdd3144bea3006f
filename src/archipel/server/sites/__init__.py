"""The server's end of each site's connection: messages, received updates, presence, and what is announced.

It knows experiments and membership. It knows nothing of HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.server.sites import announcing, presence
    from archipel.server.sites.servicer import FederationServicer
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"servicer": ["FederationServicer"]}, modules=["announcing", "presence"]
    )

__all__ = [
    "FederationServicer",
    "announcing",
    "presence",
]
