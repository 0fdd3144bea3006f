"""Virtual hospitals on one machine: a server and sites as real processes, for the demo, benchmarks/ and the tests.

It acts as every person of a federation (operator, data managers, researcher) through the same functions that
the command line calls. Nothing in it is used by a deployed server or site.
"""

from archipel.lab.ports import HOST, free_port
from archipel.lab.processes import LocalFederation, LocalSite

__all__ = ["HOST", "LocalFederation", "LocalSite", "free_port"]
