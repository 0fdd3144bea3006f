"""What agent and worker say to each other over their socket pair: length-prefixed JSON records, told apart by ``type``.

File descriptors of shared memory travel beside a message, from the agent to the worker only. The agent takes nothing
in a reply for granted: sizes are bounded before they are read, and every record refuses what it does not know.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from archipel.data import Cohort
from archipel.vocabulary import Job, MetricSum, Name, Record, Task

HEADER = struct.Struct("<I")
LARGEST = 64 << 20
"""Bytes of the largest message to a worker: a job with its tensor schema and the cohort's list of subjects."""
LARGEST_REPLY = 1 << 20
"""Bytes of the largest message from a worker: its numbers, or an error's text."""
MOST_DESCRIPTORS = 200


class Start(Record):
    """First message: what the worker works on for its whole life."""

    type: Literal["start"] = "start"
    job: Job
    site: str
    plan_file: str
    root: str
    cohort: Cohort


class Prepare(Record):
    """Load the plan and its data."""

    type: Literal["prepare"] = "prepare"


class Train(Record):
    """Train; with it come the model's memory, the result's, and the optimiser's state if ``has_state``."""

    type: Literal["train"] = "train"
    task: Task
    has_state: bool = False


class Evaluate(Record):
    """Validate; with it comes each model's memory."""

    type: Literal["evaluate"] = "evaluate"
    task: Task


class StateSpace(Record):
    """The memory for the optimiser's state that the worker asked for."""

    type: Literal["state-space"] = "state-space"


class Prepared(Record):
    """The plan and its data are loaded."""

    type: Literal["prepared"] = "prepared"


class NeedState(Record):
    """The optimiser's state has this many bytes; give me memory for it."""

    type: Literal["need-state"] = "need-state"
    size: Annotated[int, Field(ge=1)]


class Done(Record):
    """A task is done: its numbers. ``state`` says whether the state memory was filled."""

    type: Literal["done"] = "done"
    samples: Annotated[int, Field(ge=0, le=2**53)]
    metrics: dict[Name, MetricSum] = {}
    validation: dict[Name, MetricSum] = {}
    state: bool = False


class Problem(Record):
    """An error in full, for the site's log. The agent decides what of it may leave."""

    type: Literal["problem"] = "problem"
    code: str
    exception: str
    line: int | None = None
    text: str


ToWorker = Annotated[Start | Prepare | Train | Evaluate | StateSpace, Field(discriminator="type")]
FromWorker = Annotated[Prepared | NeedState | Done | Problem, Field(discriminator="type")]
to_worker: TypeAdapter[ToWorker] = TypeAdapter(ToWorker)
from_worker: TypeAdapter[FromWorker] = TypeAdapter(FromWorker)


def frame(message: Record) -> bytes:
    """A message as it goes over the socket."""
    body = message.model_dump_json().encode()
    return HEADER.pack(len(body)) + body


def receive(channel: socket.socket) -> tuple[ToWorker, list[int]]:
    """The worker's side: wait for the next message and its descriptors. Raises EOFError when the agent is gone."""
    head, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, MOST_DESCRIPTORS)
    while len(head) < HEADER.size:
        more = channel.recv(HEADER.size - len(head))
        if not more:
            raise EOFError
        head += more
    (length,) = HEADER.unpack(head)
    if length > LARGEST:
        raise EOFError
    body = bytearray()
    while len(body) < length:
        more = channel.recv(min(1 << 20, length - len(body)))
        if not more:
            raise EOFError
        body += more
    return to_worker.validate_json(bytes(body)), list(descriptors)


def send(channel: socket.socket, message: Record, descriptors: Sequence[int] = ()) -> None:
    """Send a whole message, with descriptors beside its first byte."""
    data = frame(message)
    if descriptors:
        sent = socket.send_fds(channel, [data], list(descriptors))
        data = data[sent:]
    channel.sendall(data)
