"""What agent and worker say to each other over their socket pair: length-prefixed JSON records, told apart by ``type``.

File descriptors of shared memory travel beside a message, from the agent to the worker only. The agent trusts nothing
in a reply: sizes are bounded before they are read, and every record refuses what it does not know.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from archipel.vocabulary import Job, Record, Task
from archipel.vocabulary.bounds import EXACT, MOST_SITES
from archipel.vocabulary.metrics import MetricSums
from archipel.vocabulary.plans import LONGEST_PLAN_PATH

HEADER = struct.Struct("<I")
LARGEST = 64 << 20
"""Bytes of the largest message to a worker: a job with its tensor schema."""
COHORT = "cohort"
"""The name, among a worker's files, of the one that holds the cohort."""
LARGEST_REPLY = 1 << 19
"""Bytes of the largest message from a worker: its numbers, or an error's text."""
LONGEST_TEXT = 64_000
"""Characters of an error's text; JSON makes at most six bytes of one."""
MOST_DESCRIPTORS = 3
"""Descriptors that come with one message at most: those of a model, a result and what the site kept."""


class Start(Record):
    """First message: what the worker works on for its whole life. ``plan``: the path of each of the plan's files.

    ``root`` is the folder with the prepared files; the cohort is the file ``COHORT`` in it, since it may be long.
    ``device`` is where the plan is to compute; ``cuda`` is the one GPU that the worker sees.
    """

    type: Literal["start"] = "start"
    job: Job
    site: str
    plan: dict[str, str]
    root: str
    device: Literal["cpu", "cuda"] = "cpu"


class Prepare(Record):
    """Load the plan and its data; with it comes the memory of the model's frozen part, if the job has one."""

    type: Literal["prepare"] = "prepare"


class Begin(Record):
    """Make the plan's own initial model; with it comes the memory for it, and for its frozen and its local part if the
    job has them. For a check before anything is fetched."""

    type: Literal["begin"] = "begin"


class Train(Record):
    """Train; with it come the model's memory and the result's, or one memory that is both, and what the site kept if
    ``has_state``."""

    type: Literal["train"] = "train"
    task: Task
    has_state: bool = False


class Evaluate(Record):
    """Validate; with it comes the model's memory, but of an ensemble each model comes when it is asked for, and this
    site's local part if ``has_state``."""

    type: Literal["evaluate"] = "evaluate"
    task: Task
    has_state: bool = False


class StateSpace(Record):
    """The memory that the worker asked for, for what stays at the site."""

    type: Literal["state-space"] = "state-space"


class Model(Record):
    """The model of an ensemble that the worker asked for; with it comes its memory, to be copied before the next."""

    type: Literal["model"] = "model"


class Ready(Record):
    """The worker runs within its limits; no line of the plan has run yet."""

    type: Literal["ready"] = "ready"


class WorkerReady(Record):
    """The plan and its data are loaded."""

    type: Literal["prepared"] = "prepared"


class NeedState(Record):
    """A request for memory of so many bytes for what stays at the site: optimiser's state, local part."""

    type: Literal["need-state"] = "need-state"
    size: Annotated[int, Field(ge=1, lt=EXACT)]


class NeedModel(Record):
    """A request for this model of the task's ensemble, counted from 0."""

    type: Literal["need-model"] = "need-model"
    number: Annotated[int, Field(ge=0, lt=MOST_SITES)]


class Done(Record):
    """A task is done: its numbers. ``state`` says whether the state memory was filled."""

    type: Literal["done"] = "done"
    metrics: MetricSums = {}
    validation: MetricSums = {}
    state: bool = False


class WorkerError(Record):
    """An error in full, for the site's log. The agent decides what of it may leave."""

    type: Literal["problem"] = "problem"
    code: Annotated[str, Field(max_length=64)]
    exception: Annotated[str, Field(max_length=64)]
    file: Annotated[str, Field(max_length=LONGEST_PLAN_PATH)] | None = None
    line: int | None = None
    text: Annotated[str, Field(max_length=LONGEST_TEXT)]


ToWorker = Annotated[Start | Prepare | Begin | Train | Evaluate | StateSpace | Model, Field(discriminator="type")]
FromWorker = Annotated[Ready | WorkerReady | NeedState | NeedModel | Done | WorkerError, Field(discriminator="type")]
to_worker: TypeAdapter[ToWorker] = TypeAdapter(ToWorker)
from_worker: TypeAdapter[FromWorker] = TypeAdapter(FromWorker)


def encode_message(message: Record) -> bytes:
    """A message as it goes over the socket."""
    body = message.model_dump_json().encode()
    return HEADER.pack(len(body)) + body


def receive(channel: socket.socket) -> tuple[ToWorker, list[int]]:
    """The worker's side: wait for the next message and its descriptors. Raises EOFError when the agent is gone."""
    descriptors: list[int] = []
    (length,) = HEADER.unpack(_exactly(channel, HEADER.size, descriptors))
    if length > LARGEST:
        raise EOFError(f"a message of {length} bytes")
    return to_worker.validate_json(_exactly(channel, length, descriptors)), descriptors


def _exactly(channel: socket.socket, length: int, descriptors: list[int]) -> bytes:
    data = bytearray()
    while len(data) < length:
        more, found, _, _ = socket.recv_fds(channel, min(length - len(data), 1 << 20), MOST_DESCRIPTORS)
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        descriptors += found
        if not more:
            raise EOFError("the agent closed the socket")
        data += more
    return bytes(data)


def send(channel: socket.socket, message: Record) -> None:
    """The worker's side: send a whole message."""
    channel.sendall(encode_message(message))
