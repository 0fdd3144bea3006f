"""The round and the experiment as state tables, and the one loop that runs them over any fleet of sites.

It knows jobs, tasks, updates and time as a number; it does not know sockets, databases or how a site trains. Strategies
and plans cannot tell whether the fleet is deployed or simulated.
"""

from archipel.rounds.accounting import check_releases, check_what_leaves
from archipel.rounds.attempts import check_attempts_left
from archipel.rounds.early_end import ASKED_FOR, check_can_finish
from archipel.rounds.experiment_store import (
    Delivery,
    ExperimentProgress,
    ExperimentStore,
    Kept,
    Opened,
    SiteRecord,
    StageRecord,
)
from archipel.rounds.fleet import Accepted, Delivered, Failed, Fleet, FleetEvent, Lost, Nudged, Returned
from archipel.rounds.loop import ExperimentLoop
from archipel.rounds.memory_store import MemoryExperimentStore, model_path
from archipel.rounds.named_models import NamedModel, named_after, named_at_start, names_given
from archipel.rounds.stages import (
    ENSEMBLE,
    Stage,
    most_attempts,
    most_measurements,
    next_stage,
    stages_after_training,
)
from archipel.rounds.tables import (
    EXPERIMENT_TABLE,
    SITE_TABLE,
    ExperimentVerb,
    ParticipantEvent,
    UpdateVerdict,
    verdict,
)
from archipel.vocabulary.states import ExperimentState, ParticipantStatus

__all__ = [
    "ASKED_FOR",
    "ENSEMBLE",
    "EXPERIMENT_TABLE",
    "SITE_TABLE",
    "Accepted",
    "Delivered",
    "Delivery",
    "ExperimentLoop",
    "ExperimentProgress",
    "ExperimentState",
    "ExperimentStore",
    "ExperimentVerb",
    "Failed",
    "Fleet",
    "FleetEvent",
    "Kept",
    "Lost",
    "MemoryExperimentStore",
    "NamedModel",
    "Nudged",
    "Opened",
    "ParticipantEvent",
    "ParticipantStatus",
    "Returned",
    "SiteRecord",
    "Stage",
    "StageRecord",
    "UpdateVerdict",
    "check_attempts_left",
    "check_can_finish",
    "check_releases",
    "check_what_leaves",
    "model_path",
    "most_attempts",
    "most_measurements",
    "named_after",
    "named_at_start",
    "names_given",
    "next_stage",
    "stages_after_training",
    "verdict",
]
