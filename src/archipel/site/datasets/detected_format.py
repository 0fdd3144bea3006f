"""Which format a folder looks like, if none was named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from archipel.data.formats import guessed
from archipel.vocabulary import Record


class DetectedFormat(Record):
    """The format a folder is taken for, why, and which others it looks like too."""

    format: str
    reason: str
    others: tuple[str, ...] = ()


def detect(root: Path, options: Mapping[str, str]) -> DetectedFormat:
    """The likeliest format that has these options. Raises BadInput as ``guessed`` does."""
    first, *others = guessed(root, options)
    return DetectedFormat(format=first.format, reason=first.reason, others=tuple(fit.format for fit in others))
