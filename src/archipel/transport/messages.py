"""The messages of the control stream, in both directions: one record per message, with a ``type``.

Documents that site or server signed (approvals, journal heads, closed rounds) are carried whole, so that the receiver
checks the signature over exactly what was sent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from archipel.vocabulary import (
    Count,
    ErrorCode,
    ExperimentId,
    Failure,
    Hash,
    InputValues,
    Name,
    Record,
    RoundClosed,
    SiteName,
    Task,
    TaskKey,
    Update,
)
from archipel.vocabulary.bounds import LONGEST_NAME, MOST_CATEGORIES, MOST_COLUMNS, MOST_LABELS, MOST_MODALITIES
from archipel.vocabulary.packages import Packages
from archipel.vocabulary.records import Many
from archipel.vocabulary.states import ApprovalState, ExperimentState

CHUNK = 1 << 20
"""Bytes of a tensor file that arrive, are hashed and are written together; a broken upload continues at a multiple."""
SMALLEST = 1 << 16
_TOGETHER = 4 * CHUNK


def piece_size(transfers: int) -> int:
    """Bytes that each of so many transfers holds in memory at a time.

    Up to four transfers hold a chunk each; then together as much as four, until each holds the smallest.

    >>> [piece_size(count) >> 10 for count in (0, 4, 5, 8, 16, 100)]
    [1024, 1024, 512, 512, 256, 64]
    """
    share = _TOGETHER // max(1, transfers)
    return min(CHUNK, max(SMALLEST, 1 << share.bit_length() - 1))


ShortText = Annotated[str, Field(max_length=LONGEST_NAME)]


class DisclosedColumn(Record):
    """What a site discloses of a column: its name, its unit, and the names of its categories; never how many have
    which.
    """

    name: Annotated[str, Field(max_length=200)]
    unit: Annotated[str, Field(max_length=40)] = ""
    categories: Annotated[Many[Annotated[str, Field(max_length=200)]], Field(max_length=MOST_CATEGORIES)] = ()


class DatasetSummary(Record):
    """What a site discloses of a dataset: its name, kind, how many subjects, and text it made public; never a row.

    ``values`` are the type of the array ``x``, and of it or of modalities the scale that a person wrote into the
    mapping: no number that is computed from data. ``subjects`` is ``<5`` where they are fewer than the site's
    smallest cell of 5.
    """

    name: Name
    kind: Annotated[str, Field(max_length=40)]
    subjects: Count | Annotated[str, Field(pattern="^<[1-9][0-9]{0,8}$")]
    labels: Annotated[dict[ShortText, ShortText], Field(max_length=MOST_LABELS)] = {}
    modalities: Annotated[Many[Name], Field(max_length=MOST_MODALITIES)] = ()
    columns: Annotated[Many[DisclosedColumn], Field(max_length=MOST_COLUMNS)] = ()
    values: Annotated[dict[Name, InputValues], Field(max_length=MOST_MODALITIES)] = {}


MOST_DATASETS = 100
MAX_DISCLOSED_BYTES = 512 << 10
"""Bytes of what a site discloses about all its datasets, as JSON: a list of sites contains it for each of them."""


def disclosed_bytes(dataset: DatasetSummary) -> int:
    """How much of ``MAX_DISCLOSED_BYTES`` a dataset takes."""
    return len(dataset.model_dump_json())


def _in_few_words(datasets: tuple[DatasetSummary, ...]) -> tuple[DatasetSummary, ...]:
    if sum(map(disclosed_bytes, datasets)) > MAX_DISCLOSED_BYTES:
        raise ValueError(f"more than {MAX_DISCLOSED_BYTES} bytes are disclosed about datasets")
    return datasets


Datasets = Annotated[Many[DatasetSummary], Field(max_length=MOST_DATASETS), AfterValidator(_in_few_words)]
"""What a site discloses about all its datasets."""
Document = Annotated[dict[str, str | int | float | bool | None], Field(max_length=20)]
"""A signed document, carried whole: its fields hold no lists or documents of their own."""


Beat = Annotated[float, Field(ge=0.1, le=3600)]
"""Seconds from one heartbeat to the next; after three intervals without a message the other side counts as
disconnected.
"""


class Hello(Record):
    """A site's first message: who it is, its clock, what it has, and the signed head of its journal.

    ``attested`` is the newest head of the server's journal that the site received; the server checks that it has it.
    """

    type: Literal["hello"] = "hello"
    site: SiteName
    version: Annotated[str, Field(max_length=100)]
    time: Annotated[str, Field(max_length=100)]
    datasets: Datasets = ()
    head: Document
    attested: Document | None = None


class Heartbeat(Record):
    """ "I am here"; both sides send it, because proxies cut idle streams and drop HTTP/2 pings.

    ``head`` is the signed head of the sender's journal, when the other side has not seen it. ``attested``, from the
    server, is the newest head of the site's journal that it holds, countersigned, when the site just showed one.
    """

    type: Literal["heartbeat"] = "heartbeat"
    head: Document | None = None
    attested: Document | None = None


class AnswerMessage(Record):
    """What the people at the site decided about a job; ``approval`` is the signed document when they approved.

    ``head`` is the signed head of the site's journal, which has a line of it, when the server has not attested that.
    """

    type: Literal["answer"] = "answer"
    experiment: ExperimentId
    job_hash: Hash
    state: Literal[ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.REVOKED]
    approval: Document | None = None
    subjects: Count | None = None
    head: Document | None = None


class PackagesMessage(Record):
    """Which of the packages that a job names a worker of the site could import, and their versions.

    ``packages`` is None where the site's policy does not let it say so.
    """

    type: Literal["packages"] = "packages"
    experiment: ExperimentId
    job_hash: Hash
    packages: Packages | None


class TaskAcceptedMessage(Record):
    """The site has checked the task and works on it."""

    type: Literal["task-accepted"] = "task-accepted"
    key: TaskKey


class TaskFailedMessage(Record):
    """The site's part failed; nothing here is a string that a plan wrote."""

    type: Literal["task-failed"] = "task-failed"
    key: TaskKey
    failure: Failure


class DetailMessage(Record):
    """The full text of an error, which a person at the site released."""

    type: Literal["detail"] = "detail"
    key: TaskKey
    detail: Annotated[str, Field(max_length=200_000)]


class DatasetsMessage(Record):
    """The site's datasets changed."""

    type: Literal["datasets"] = "datasets"
    datasets: Datasets


class Welcome(Record):
    """The server's answer to a hello; ``attested`` is the newest head of the site's journal that it holds.

    ``head`` is the signed head of the server's own journal, for the site to compare with the one it has; ``contains``
    is whether that journal has the head which the site's hello named.
    """

    type: Literal["welcome"] = "welcome"
    federation: str
    time: str
    heartbeat_s: Beat
    attested: Document | None = None
    head: Document | None = None
    contains: bool | None = None


class JobOffer(Record):
    """A job that asks for this site's approval, or that it has approved already.

    Only its hash travels; a site that does not have the job fetches its canonical document under this hash, once.
    ``asked_by`` is the name of the access token that submitted it, as the server states it; a job names no person.
    """

    type: Literal["job"] = "job"
    experiment: ExperimentId
    job_hash: Hash
    asked_by: Annotated[str, Field(max_length=100)] = ""


class TaskOffer(Record):
    """One site's part of a round; ``remaining_s`` is how long the server will wait."""

    type: Literal["task"] = "task"
    task: Task
    remaining_s: float


class TaskWithdrawn(Record):
    """The server no longer wants the task."""

    type: Literal["withdrawn"] = "withdrawn"
    key: TaskKey
    reason: str


class RoundMessage(Record):
    """The server's signed result of a closed round, with the signed head of its journal.

    ``attested`` is the newest head of the site's journal that the server holds.
    """

    type: Literal["round-closed"] = "round-closed"
    closed: RoundClosed
    signature: str
    head: Document
    attested: Document | None = None


class EndedMessage(Record):
    """The experiment is over; its worker can be ended."""

    type: Literal["ended"] = "ended"
    experiment: ExperimentId
    state: ExperimentState


class RefusedMessage(Record):
    """The server ends this stream, and why."""

    type: Literal["refused"] = "refused"
    code: ErrorCode
    thing: str
    cause: str
    remedy: str


FromSite = Annotated[
    Hello
    | Heartbeat
    | AnswerMessage
    | PackagesMessage
    | TaskAcceptedMessage
    | TaskFailedMessage
    | DetailMessage
    | DatasetsMessage,
    Field(discriminator="type"),
]
FromServer = Annotated[
    Welcome | Heartbeat | JobOffer | TaskOffer | TaskWithdrawn | RoundMessage | EndedMessage | RefusedMessage,
    Field(discriminator="type"),
]
from_site: TypeAdapter[FromSite] = TypeAdapter(FromSite)
from_server: TypeAdapter[FromServer] = TypeAdapter(FromServer)


class UploadStart(Record):
    """Begins an upload, before the raw bytes: the update, and from which byte of its tensor file they continue.

    ``head`` is the signed head of the site's journal at that moment, for the server to keep.
    """

    update: Update
    head: Document | None = None
    offset: Count = 0


class FetchStart(Record):
    """Asks for the bytes of a blob, or of a job's document, from ``offset`` on."""

    hash: Hash
    offset: Count = 0


class Offset(Record):
    """How many bytes of an upload the server holds already."""

    offset: Annotated[int, Field(ge=0)]


class RenewRequest(Record):
    """Asks for a new certificate for the same identity."""

    csr: Annotated[str, Field(max_length=20_000)]
    proof: Annotated[str, Field(max_length=200)]


class RenewReply(Record):
    """The new certificate."""

    certificate: str
