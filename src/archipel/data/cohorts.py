"""Subjects and cohorts: what a site has, as records that can be listed, frozen and hashed.

A cohort's hash is keyed with a secret of the site, so that whoever sees it in an approval cannot test a guess about
which patients are in it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import Field, model_validator

from archipel.vocabulary import Hash, Name, Record

Kind = Literal["nifti-pairs", "npz"]

SubjectId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]


class Subject(Record):
    """One patient's data in a dataset.

    ``files`` maps a role (``image`` and ``label``, or ``table``) to a path relative to the dataset's root. ``index``
    is the row in a table, None for files of the subject's own. ``hash`` covers all of the subject's content,
    ``file_hashes`` each file by role, so that a changed file can be named.
    """

    id: SubjectId
    files: dict[str, str]
    index: int | None = None
    hash: Hash
    file_hashes: dict[str, Hash] = {}


@dataclass(frozen=True)
class Scan:
    """What was found under a root: usable subjects, everything that is wrong, and the data's schema.

    A problem is one sentence ``thing: cause; remedy``. A dataset with problems is not usable until they are mended.
    ``schema`` holds counts, shapes and label values; never a row or a voxel.
    """

    subjects: tuple[Subject, ...]
    problems: tuple[str, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)


class Cohort(Record):
    """A frozen list of subjects taken from one dataset, each known by its content's hash."""

    dataset: Name
    kind: Kind
    subjects: tuple[Subject, ...]
    labels: dict[str, str] = {}

    @model_validator(mode="after")
    def _no_subject_twice(self) -> Self:
        if len({subject.id for subject in self.subjects}) != len(self.subjects):
            raise ValueError("a cohort names each subject once")
        return self

    def without(self, ids: frozenset[str]) -> Cohort:
        """The cohort after these patients withdrew."""
        return self.model_copy(update={"subjects": tuple(s for s in self.subjects if s.id not in ids)})


def cohort_hash(cohort: Cohort, key: bytes) -> str:
    """``sha256:<hex>``, the HMAC-SHA256 of the cohort's canonical JSON (RFC 8785) under the site's key.

    The order of the subjects does not matter. Raises ValueError for a key shorter than 16 bytes.
    """
    if len(key) < 16:
        raise ValueError("a cohort's hash needs a key of at least 16 bytes")
    document = cohort.model_dump(mode="json")
    document["subjects"] = sorted(document["subjects"], key=lambda subject: str(subject["id"]))
    return "sha256:" + hmac.new(key, rfc8785.dumps(document), hashlib.sha256).hexdigest()
