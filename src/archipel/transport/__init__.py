"""How records and tensor files cross the network: one port, gRPC with a control stream for each site, and connections
of their own for models and updates, all with mutual TLS.

It knows records, bytes and certificates; it decides nothing: the server's and the site's packages act on the
messages. Records travel as JSON with a schema (docs/decisions/0002), tensor files as raw bytes.
"""

from archipel.transport.bulk_service import Incoming, Outgoing
from archipel.transport.bulk_site import Download
from archipel.transport.channel import Uplink
from archipel.transport.messages import (
    CHUNK,
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
)
from archipel.transport.peers import Peer
from archipel.transport.port import SitesPort, sites_port
from archipel.transport.service import FederationService, Send

__all__ = [
    "CHUNK",
    "AnswerMessage",
    "DatasetSummary",
    "DatasetsMessage",
    "DetailMessage",
    "DisclosedColumn",
    "Download",
    "EndedMessage",
    "FederationService",
    "FetchStart",
    "FromServer",
    "FromSite",
    "Heartbeat",
    "Hello",
    "Incoming",
    "JobOffer",
    "Offset",
    "Outgoing",
    "PackagesMessage",
    "Peer",
    "RefusedMessage",
    "RenewRequest",
    "RoundMessage",
    "Send",
    "SitesPort",
    "TaskAcceptedMessage",
    "TaskFailedMessage",
    "TaskOffer",
    "TaskWithdrawn",
    "Uplink",
    "UploadStart",
    "Welcome",
    "sites_port",
]
