"""Cohorts: a frozen list of samples and what made them what plans see, under a hash that gives nobody away.

A cohort's hash is keyed with a secret of the site, so that whoever sees it in an approval cannot test a guess about
which patients are in it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Self

import rfc8785
from pydantic import model_validator

from archipel.data.mapping import DataMapping
from archipel.data.samples import Sample, SubjectId
from archipel.vocabulary import Name, Record


class Cohort(Record):
    """A frozen list of samples taken from one dataset, each known by its content's hash.

    ``format`` and ``options`` say how they are read, ``mapping`` what becomes of them then. ``validation`` names the
    subjects that only measure the model; None leaves it to the hash of each subject's id and the job's fraction.
    """

    dataset: Name
    format: str
    options: dict[str, str] = {}
    mapping: DataMapping = DataMapping()
    samples: tuple[Sample, ...]
    validation: tuple[SubjectId, ...] | None = None

    @model_validator(mode="after")
    def _no_sample_twice(self) -> Self:
        if len({sample.key for sample in self.samples}) != len(self.samples):
            raise ValueError("a cohort names each subject's session once")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """Who is in it: subject ids in order, each once."""
        return tuple(sorted({sample.subject for sample in self.samples}))

    def without(self, ids: Iterable[str]) -> Cohort:
        """The cohort after these patients withdrew."""
        gone = frozenset(ids)
        kept = tuple(sample for sample in self.samples if sample.subject not in gone)
        held_out = None if self.validation is None else tuple(one for one in self.validation if one not in gone)
        return self.model_copy(update={"samples": kept, "validation": held_out})


def cohort_hash(cohort: Cohort, key: bytes) -> str:
    """``sha256:<hex>``, the HMAC-SHA256 of the cohort's canonical JSON (RFC 8785) under the site's key.

    The order of the samples does not matter. Raises ValueError for a key shorter than 16 bytes.
    """
    if len(key) < 16:
        raise ValueError("a cohort's hash needs a key of at least 16 bytes")
    document = cohort.model_dump(mode="json")
    document["samples"] = sorted(document["samples"], key=lambda sample: (str(sample["subject"]), sample["session"]))
    return "sha256:" + hmac.new(key, rfc8785.dumps(document), hashlib.sha256).hexdigest()
