"""The frozen records that all packages share: jobs, tasks, updates, failures and errors.

It holds values and their own consistency rules only. It knows nothing of disks, sockets, tensors' bytes or time, and
imports no other package. Every record is a frozen pydantic model that refuses unknown keys, so that a misspelt field is
an error where it enters, and never silently a default.
"""

from archipel.vocabulary.actor import Actor
from archipel.vocabulary.bounds import Count
from archipel.vocabulary.errors import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    NotFound,
    NotPermitted,
    Refused,
    StorageFull,
)
from archipel.vocabulary.failures import EXCEPTION_CLASSES, Failure
from archipel.vocabulary.gpus import GpuTerms
from archipel.vocabulary.jobs import (
    NO_KEY,
    Baselines,
    Job,
    OptimiserState,
    Patience,
    PrivacyTerms,
    RosterEntry,
    RoundTerms,
    Selection,
    StepTerms,
    StrategyTerms,
    WorkerLimits,
)
from archipel.vocabulary.lineage import Lineage, ModelFile, ParentChoice, ParentModel
from archipel.vocabulary.long_work import (
    UNWATCHED,
    Cancellation,
    Cancelled,
    ShowProgress,
    Watch,
    WorkProgress,
    show_nothing,
)
from archipel.vocabulary.metric_details import Details, MetricDetail, PooledAuc, SpreadFigures, metric_details
from archipel.vocabulary.metrics import MetricSpec, MetricSum, worst_site
from archipel.vocabulary.names import ExperimentId, Hash, Name, SiteName, Value
from archipel.vocabulary.needs import ARRAY, ColumnNeed, DataKind, DataNeeds, InputValues, ValueRange, differing_values
from archipel.vocabulary.parameters import HyperParameter, check_arguments
from archipel.vocabulary.partition import FrozenPart, LocalPart, Part
from archipel.vocabulary.plans import PlanPath, PlanReference
from archipel.vocabulary.records import JsonObject, Record
from archipel.vocabulary.registry import Registry
from archipel.vocabulary.releases import UPDATE_FIELDS, Release
from archipel.vocabulary.schemas import DType, TensorSchema, TensorSpec
from archipel.vocabulary.tasks import RoundClosed, Task, TaskKey, TaskKind, TrainingPass, Update
from archipel.vocabulary.things import ErrorValue, Thing

__all__ = [
    "ARRAY",
    "EXCEPTION_CLASSES",
    "NO_KEY",
    "UNWATCHED",
    "UPDATE_FIELDS",
    "Actor",
    "ArchipelError",
    "BadInput",
    "Baselines",
    "Cancellation",
    "Cancelled",
    "ColumnNeed",
    "Conflict",
    "Count",
    "DType",
    "DataKind",
    "DataNeeds",
    "Details",
    "ErrorCode",
    "ErrorValue",
    "ExperimentId",
    "Failure",
    "FrozenPart",
    "GpuTerms",
    "Hash",
    "HyperParameter",
    "InputValues",
    "Job",
    "JsonObject",
    "Lineage",
    "LocalPart",
    "MetricDetail",
    "MetricSpec",
    "MetricSum",
    "ModelFile",
    "Name",
    "NotFound",
    "NotPermitted",
    "OptimiserState",
    "ParentChoice",
    "ParentModel",
    "Part",
    "Patience",
    "PlanPath",
    "PlanReference",
    "PooledAuc",
    "PrivacyTerms",
    "Record",
    "Refused",
    "Registry",
    "Release",
    "RosterEntry",
    "RoundClosed",
    "RoundTerms",
    "Selection",
    "ShowProgress",
    "SiteName",
    "SpreadFigures",
    "StepTerms",
    "StorageFull",
    "StrategyTerms",
    "Task",
    "TaskKey",
    "TaskKind",
    "TensorSchema",
    "TensorSpec",
    "Thing",
    "TrainingPass",
    "Update",
    "Value",
    "ValueRange",
    "Watch",
    "WorkProgress",
    "WorkerLimits",
    "check_arguments",
    "differing_values",
    "metric_details",
    "show_nothing",
    "worst_site",
]
