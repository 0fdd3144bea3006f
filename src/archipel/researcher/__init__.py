"""A researcher's side: connect to a federation, write a job, steer the experiment, watch it and take the model home.

It speaks REST to a server and draws what comes back. It knows nothing of how a server or a site works inside, and it
never sees a record or an image: what it shows of data are counts and schema.
"""

from archipel.researcher.experiment import Experiment
from archipel.researcher.federation import Federation, connect

__all__ = ["Experiment", "Federation", "connect"]
