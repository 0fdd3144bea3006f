"""Requests: what tells one look into a file from another where the answer depends on what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.data.samples import Sample
from archipel.tensors import blob_hash


def request_of(options: Mapping[str, str], samples: Sequence[Sample]) -> str:
    """What tells one request for samples of a file from another: who they are, and how the file is read."""
    return blob_hash(repr((sorted(options.items()), [(sample.key, sample.row) for sample in samples])).encode())
