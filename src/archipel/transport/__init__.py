"""How records and tensor files cross the network: gRPC with mutual TLS, one control stream per site, raw chunks for
blobs.

It knows records, bytes and certificates; it decides nothing: the server's and the site's packages act on the
messages. Records travel as JSON with a schema (docs/decisions/0002), tensor files as raw bytes.
"""

from archipel.transport.channel import Uplink
from archipel.transport.messages import (
    CHUNK,
    SMALLEST,
    AnswerMessage,
    DatasetsMessage,
    DatasetSummary,
    DetailMessage,
    DisclosedColumn,
    EndedMessage,
    FetchStart,
    FromServer,
    FromSite,
    Heartbeat,
    Hello,
    JobOffer,
    Offset,
    PackagesMessage,
    RefusedMessage,
    RenewRequest,
    RoundMessage,
    TaskAcceptedMessage,
    TaskFailedMessage,
    TaskOffer,
    TaskWithdrawn,
    UploadStart,
    Welcome,
    message_size,
)
from archipel.transport.service import FederationService, Peer, Send, start_grpc_server

__all__ = [
    "CHUNK",
    "SMALLEST",
    "AnswerMessage",
    "DatasetSummary",
    "DatasetsMessage",
    "DetailMessage",
    "DisclosedColumn",
    "EndedMessage",
    "FederationService",
    "FetchStart",
    "FromServer",
    "FromSite",
    "Heartbeat",
    "Hello",
    "JobOffer",
    "Offset",
    "PackagesMessage",
    "Peer",
    "RefusedMessage",
    "RenewRequest",
    "RoundMessage",
    "Send",
    "TaskAcceptedMessage",
    "TaskFailedMessage",
    "TaskOffer",
    "TaskWithdrawn",
    "Uplink",
    "UploadStart",
    "Welcome",
    "message_size",
    "start_grpc_server",
]
