"""A site's side of a round: a task goes in, an update comes out, through steps of one shape.

The deployed site and the simulated one run the same steps. It knows tasks, updates and tensor files; it does not know
sockets, the sandbox or how a site keeps its rows (those come in as values of the shapes below).
"""

from archipel.tasks.between_rounds import KnownRounds, check_between_rounds, ends_experiment
from archipel.tasks.computing import Compute, Trained, Trainer
from archipel.tasks.failing import failure_of, sentence_of
from archipel.tasks.handling import (
    Handler,
    Idempotent,
    LocalUpdate,
    MemoryTaskStore,
    RequirePermission,
    TaskStore,
    WaitForSpace,
    no_waiting,
)
from archipel.tasks.permitting import check_task_of_job
from archipel.tasks.sealing import reusable_file, seal
from archipel.tasks.starting_models import StartingModels, check_starting_models, round_before

__all__ = [
    "Compute",
    "Handler",
    "Idempotent",
    "KnownRounds",
    "LocalUpdate",
    "MemoryTaskStore",
    "RequirePermission",
    "StartingModels",
    "TaskStore",
    "Trained",
    "Trainer",
    "WaitForSpace",
    "check_between_rounds",
    "check_starting_models",
    "check_task_of_job",
    "ends_experiment",
    "failure_of",
    "no_waiting",
    "reusable_file",
    "round_before",
    "seal",
    "sentence_of",
]
