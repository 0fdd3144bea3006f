"""Experiments at the server: what is kept of them, how people see them, and the service that runs and steers them.

It knows the state folder and membership. It knows nothing of gRPC and HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.server.experiments import figures, journal_heads, own_journal, views
    from archipel.server.experiments.contract import ExperimentService
    from archipel.server.experiments.figures import Figure
    from archipel.server.experiments.hub import DeployedFleet, Stream
    from archipel.server.experiments.package_answers import last_said
    from archipel.server.experiments.service import Experiments
    from archipel.server.experiments.spare_files import SMALLEST_SPARE, drop_spares, take_spare
    from archipel.server.experiments.spool_names import spool_name, spool_start
    from archipel.server.experiments.unused_blobs import UnusedBlobs
    from archipel.server.experiments.views import parsed_job
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "contract": ["ExperimentService"],
            "figures": ["Figure"],
            "hub": ["DeployedFleet", "Stream"],
            "package_answers": ["last_said"],
            "service": ["Experiments"],
            "spare_files": ["SMALLEST_SPARE", "drop_spares", "take_spare"],
            "spool_names": ["spool_name", "spool_start"],
            "unused_blobs": ["UnusedBlobs"],
            "views": ["parsed_job"],
        },
        modules=["figures", "journal_heads", "own_journal", "views"],
    )

__all__ = [
    "SMALLEST_SPARE",
    "DeployedFleet",
    "ExperimentService",
    "Experiments",
    "Figure",
    "Stream",
    "UnusedBlobs",
    "drop_spares",
    "figures",
    "journal_heads",
    "last_said",
    "own_journal",
    "parsed_job",
    "spool_name",
    "spool_start",
    "take_spare",
    "views",
]
