"""A researcher's side: connect to a federation, write a job, steer the experiment, watch it and take the model home.

It uses a server's REST interface and shows the answers. It knows nothing of how a server or a site works inside, and it
never sees a record or an image: it shows only counts and schema of data.
"""

from archipel.researcher.experiment import Experiment
from archipel.researcher.federation import Federation, connect
from archipel.researcher.simulated import Simulation
from archipel.researcher.simulating import simulate

__all__ = ["Experiment", "Federation", "Simulation", "connect", "simulate"]
