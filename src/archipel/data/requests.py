"""Requests: what identifies an examination of a file whose answer depends on what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.data.sample_columns import Samples
from archipel.data.samples import Sample
from archipel.tensors import BlobHasher


def request_of(options: Mapping[str, str], samples: Sequence[Sample]) -> str:
    """What identifies a request for samples of a file: which samples, and how the file is read."""
    columns, hasher = Samples.of(samples), BlobHasher()
    hasher.update(f"{sorted(options.items())!r}\n".encode())
    for key, row in zip(columns.each_key(), columns.rows.tolist(), strict=True):
        hasher.update(f"{key!r} {row}\n".encode())
    return hasher.digest()
