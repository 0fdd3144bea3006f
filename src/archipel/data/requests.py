"""Requests: looks into files whose answer depends on what is asked, of which the index keeps the last answer only.

The rows of a table are looked at for some samples, an image at some place. Were each request a purpose of its own, the
index would keep the answer to every one ever made, patients who have left among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archipel.data.files import FileFacts, FileIndex, Signature
from archipel.data.samples import Sample
from archipel.tensors import blob_hash

_REQUEST = "request"


class RequestIndex:
    """An index that knows a file's facts only if they answer this request."""

    def __init__(self, index: FileIndex, request: str) -> None:
        self._index, self._request = index, request

    def get(self, place: str, purpose: str, signature: Signature) -> FileFacts | None:
        """The facts if the file is as it was and the request is the same."""
        found = self._index.get(place, purpose, signature)
        if found is None or found.facts.get(_REQUEST) != self._request:
            return None
        return found.model_copy(update={"facts": {name: found.facts[name] for name in found.facts if name != _REQUEST}})

    def put(self, place: str, purpose: str, signature: Signature, facts: FileFacts) -> None:
        """Remember the answer in the place of the last one."""
        answer = facts.model_copy(update={"facts": answered(facts.facts, self._request)})
        self._index.put(place, purpose, signature, answer)


def answered(facts: Mapping[str, Any], request: str) -> dict[str, Any]:
    """Facts as an index keeps them that knows which request they answer."""
    return {**facts, _REQUEST: request}


def request_of(options: Mapping[str, str], samples: Sequence[Sample]) -> str:
    """What tells one request for samples of a file from another: who they are, and how the file is read."""
    return blob_hash(repr((sorted(options.items()), [(sample.key, sample.row) for sample in samples])).encode())
