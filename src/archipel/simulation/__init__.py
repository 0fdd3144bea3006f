"""The fleet on one machine: the same loop, the same steps of a site, no network, no sandbox.

For researchers who try a plan on data of their own before hospitals are asked, and for the pooled baseline. It must
give the same numbers as a deployed fleet for the same seed.
"""

from archipel.simulation.experiment import simulate
from archipel.simulation.fleet import SimulatedFleet
from archipel.simulation.pooled import Pooled, pooled_site, train_pooled
from archipel.simulation.site_specs import SiteSpec, site_handler
from archipel.simulation.sites import SimulatedSite, read_sites, scanned_site
from archipel.simulation.trainer import InProcessTrainer

__all__ = [
    "InProcessTrainer",
    "Pooled",
    "SimulatedFleet",
    "SimulatedSite",
    "SiteSpec",
    "pooled_site",
    "read_sites",
    "scanned_site",
    "simulate",
    "site_handler",
    "train_pooled",
]
