"""Which packages that a plan imports a worker of this site has: for the people who decide here, and for the server.

Nothing is imported and nothing of the plan is run to find it out.
"""

from archipel.site.packages import disclosure
from archipel.site.packages.interpreter import install_command, installed, packages_of
from archipel.site.packages.wording import QUESTION, answer, warnings

__all__ = [
    "QUESTION",
    "answer",
    "disclosure",
    "install_command",
    "installed",
    "packages_of",
    "warnings",
]
