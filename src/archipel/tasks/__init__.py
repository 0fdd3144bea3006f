"""A site's side of a round: a task goes in, an update comes out, through steps of one shape.

The deployed site and the simulated one run the same steps. It knows tasks, updates and frames; it does not know
sockets, the sandbox or how a site keeps its rows (those come in as values of the shapes below).
"""

from archipel.tasks.computing import Compute, Trained, Trainer
from archipel.tasks.failing import failure_of, sentence_of
from archipel.tasks.handling import Handler, Made, MemoryShelf, Once, Permitted, Room, Shelf, no_room
from archipel.tasks.permitting import check_passes
from archipel.tasks.sealing import seal, spare

__all__ = [
    "Compute",
    "Handler",
    "Made",
    "MemoryShelf",
    "Once",
    "Permitted",
    "Room",
    "Shelf",
    "Trained",
    "Trainer",
    "check_passes",
    "failure_of",
    "no_room",
    "seal",
    "sentence_of",
    "spare",
]
