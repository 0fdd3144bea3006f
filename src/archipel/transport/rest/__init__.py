"""The documents of the REST interface: the server answers with these records and the researcher's side parses them.

A request is a ``Record``: a key that the server does not know is an error at its border. An answer is a ``Reply``: a
newer server may say more than the researcher's version knows, which is ignored and is not an error.
"""

from archipel.transport.rest.errors import ErrorBody
from archipel.transport.rest.events import (
    AnswerReceived,
    ArgumentsChanged,
    ErrorReleased,
    Event,
    EventBody,
    EventKind,
    Interrupted,
    RoundCommitted,
    RoundEnded,
    RoundFailed,
    RoundOpened,
    SiteFailed,
    SitesAwaited,
    StateChanged,
    Submitted,
    TaskAccepted,
    UnknownEvent,
    UpdateReceived,
)
from archipel.transport.rest.experiments import (
    ApprovalView,
    Arguments,
    BaselinesView,
    ExperimentSummary,
    ExperimentView,
    Measurement,
    ModelView,
    RoundView,
    SiteRoundView,
    Submission,
)
from archipel.transport.rest.federation import (
    BlobView,
    FederationView,
    Health,
    JoinTokenIssued,
    JoinTokenOrder,
    Revocation,
    SiteView,
)
from archipel.transport.rest.reply import Reply

__all__ = [
    "AnswerReceived",
    "ApprovalView",
    "Arguments",
    "ArgumentsChanged",
    "BaselinesView",
    "BlobView",
    "ErrorBody",
    "ErrorReleased",
    "Event",
    "EventBody",
    "EventKind",
    "ExperimentSummary",
    "ExperimentView",
    "FederationView",
    "Health",
    "Interrupted",
    "JoinTokenIssued",
    "JoinTokenOrder",
    "Measurement",
    "ModelView",
    "Reply",
    "Revocation",
    "RoundCommitted",
    "RoundEnded",
    "RoundFailed",
    "RoundOpened",
    "RoundView",
    "SiteFailed",
    "SiteRoundView",
    "SiteView",
    "SitesAwaited",
    "StateChanged",
    "Submission",
    "Submitted",
    "TaskAccepted",
    "UnknownEvent",
    "UpdateReceived",
]
