"""Generated data, of no patient: phantoms for demonstrations and samples of the prepared shape for a dry run.

It knows cohorts and prepared samples.
"""

from archipel.data.synthetic import phantom
from archipel.data.synthetic.dummy import Dummies, as_given

__all__ = [
    "Dummies",
    "as_given",
    "phantom",
]
