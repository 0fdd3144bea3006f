"""How records and frames cross the network: gRPC with mutual TLS, one control stream a site, raw chunks for blobs.

It knows records, bytes and certificates; it does not decide anything: what a message means is the business of the
server's and the site's rooms. Records travel as JSON with a schema (docs/decisions/0002), frames as raw bytes.
"""

from archipel.transport.channel import Uplink
from archipel.transport.messages import (
    AnswerMessage,
    Attested,
    AttestMessage,
    DatasetSummary,
    DetailMessage,
    EndedMessage,
    FromServer,
    FromSite,
    Heartbeat,
    Hello,
    JobOffer,
    RefusedMessage,
    RoundMessage,
    TaskAcceptedMessage,
    TaskFailedMessage,
    TaskOffer,
    TaskWithdrawn,
    UploadStart,
    Welcome,
)
from archipel.transport.service import CHUNK, FederationService, Peer, start_grpc_server

__all__ = [
    "CHUNK",
    "AnswerMessage",
    "AttestMessage",
    "Attested",
    "DatasetSummary",
    "DetailMessage",
    "EndedMessage",
    "FederationService",
    "FromServer",
    "FromSite",
    "Heartbeat",
    "Hello",
    "JobOffer",
    "Peer",
    "RefusedMessage",
    "RoundMessage",
    "TaskAcceptedMessage",
    "TaskFailedMessage",
    "TaskOffer",
    "TaskWithdrawn",
    "Uplink",
    "UploadStart",
    "Welcome",
    "start_grpc_server",
]
