"""One message from the other side, read within its bounds: what it costs to refuse does not depend on who wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from archipel.vocabulary import BadInput
from archipel.vocabulary.bounds import LONGEST_JOB
from archipel.vocabulary.documents import parsed

T = TypeVar("T")

LONGEST_START = 512 << 10
"""Bytes of the message that begins a call, and of a single reply: an update with its metrics, no tensors."""
LONGEST_FROM_SITE = 2 << 20
"""Bytes of a message on the control stream from a site: the text of an error has 200,000 characters."""
LONGEST_FROM_SERVER = LONGEST_JOB + (1 << 20)
"""The same from the server: a job, and what goes around it."""


def read(build: Callable[[Any], T], body: bytes, longest: int) -> T:
    """What ``build`` makes of a message. Raises BadInput, in a sentence that is short whatever the message is."""
    try:
        return parsed(build, body, longest)
    except ValidationError as error:
        cause = f"is not one of this protocol ({error.error_count()} faults)"
    except ValueError as error:
        cause = f"is not one of this protocol ({str(error)[:200]})"
    raise BadInput("message", cause, "update Archipel")
