"""The fleet on one machine: the same loop, the same steps of a site, no network, no sandbox.

For researchers who try a plan on data of their own before hospitals are asked, and for the pooled baseline. It must
give the same numbers as a deployed fleet for the same seed.
"""

from archipel.simulation.experiment import simulate
from archipel.simulation.fleet import SimulatedFleet
from archipel.simulation.pooled import Pooled, pooled_site, train_pooled
from archipel.simulation.site_specs import SiteSpec, site_handler
from archipel.simulation.sites import SimulatedSite, found_sites, read_sites, scanned_site
from archipel.simulation.trainer import InProcessTrainer
from archipel.simulation.virtual_sites import Skew, VirtualSites, divided, simulated_sites

__all__ = [
    "InProcessTrainer",
    "Pooled",
    "SimulatedFleet",
    "SimulatedSite",
    "SiteSpec",
    "Skew",
    "VirtualSites",
    "divided",
    "found_sites",
    "pooled_site",
    "read_sites",
    "scanned_site",
    "simulate",
    "simulated_sites",
    "site_handler",
    "train_pooled",
]
