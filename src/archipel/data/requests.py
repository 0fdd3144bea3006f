"""Requests: what identifies an examination of a file whose answer depends on what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.data.samples import Sample
from archipel.tensors import blob_hash


def request_of(options: Mapping[str, str], samples: Sequence[Sample]) -> str:
    """What identifies a request for samples of a file: which samples, and how the file is read."""
    return blob_hash(repr((sorted(options.items()), [(sample.key, sample.row) for sample in samples])).encode())
