"""Cohorts: a frozen list of samples and how they were made into what plans see, under a hash that identifies no
patient.

A cohort's hash is keyed with a secret of the site, so that a reader of an approval cannot test a guess about
which patients are in it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import rfc8785
from pydantic import Field, field_validator

from archipel.data.cohorts import mapping, preprocessing
from archipel.data.cohorts.mapping import DataMapping
from archipel.data.cohorts.preprocessing import Preprocessing
from archipel.data.cohorts.splits import validation_ids
from archipel.data.digests import Digests
from archipel.data.sample_columns import Samples
from archipel.data.sample_data import Affine, SampleData
from archipel.data.samples import Sample, SubjectId, sample_name
from archipel.data.text_columns import TextColumn
from archipel.vocabulary import Name, Record

LISTS = ("samples", "validation", "pseudonyms")
"""The fields of a cohort that are as long as it has samples or subjects."""


class Cohort(Record):
    """A frozen list of samples taken from one dataset, each known by its content's hash.

    ``version`` counts the dataset's cohorts from 1. ``format`` and ``options`` say how the samples are read,
    ``mapping`` and ``recipe`` how they are changed then. ``validation`` names the subjects that only measure the
    model, chosen for ``validation_fraction``; None leaves it to the hash of each subject's id and the job's fraction.
    ``pseudonyms``: what plans see instead of each subject's id; empty when they see the id itself. ``columns``: the
    stored columns that a plan is shown; None, in every frozen cohort, where nothing was asked yet.
    """

    dataset: Name
    version: Annotated[int, Field(ge=1)] = 1
    format: str
    options: dict[str, str] = {}
    mapping: DataMapping = DataMapping()
    recipe: Preprocessing = Preprocessing()
    samples: Samples
    """In the order of subject and session."""
    validation: tuple[SubjectId, ...] | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    pseudonyms: dict[SubjectId, SubjectId] = {}
    columns: tuple[str, ...] | None = None

    @field_validator("samples")
    @classmethod
    def _in_order(cls, samples: Samples) -> Samples:
        ordered = samples.sorted()
        if not ordered.names_each_once:
            raise ValueError("a cohort names each subject's session once")
        return ordered

    @property
    def subjects(self) -> TextColumn:
        """The subject ids in order, each once."""
        return self.samples.subjects

    @property
    def training(self) -> TextColumn:
        """The subjects that are not in the validation list."""
        held_out, subjects = frozenset(self.validation or ()), self.subjects
        trains = np.fromiter((subject not in held_out for subject in subjects), np.bool_, len(subjects))
        return subjects.take(trains)

    def held_out(self, fraction: float) -> frozenset[str]:
        """The subjects that validate: those of the cohort's own list, else those chosen by each subject's draw and
        ``fraction``.
        """
        return validation_ids(self.subjects, fraction) if self.validation is None else frozenset(self.validation)

    def given(self, reading: SampleData) -> SampleData:
        """What plans get of a sample that was read: mapped, then preprocessed."""
        given = preprocessing.apply(self.recipe, mapping.apply(self.mapping, reading))
        if self.columns is None or all(name in self.columns for name in given.values):
            return given
        return replace(given, values={name: given.values[name] for name in self.columns if name in given.values})

    def shape_given(self, shape: Sequence[int], affine: Affine) -> tuple[int, ...]:
        """The shape of what plans get of a volume, from the stored shape and affine; nothing is read for it."""
        return preprocessing.shape_after(self.recipe, *mapping.grid_after(self.mapping, shape, affine))

    def without(self, ids: Iterable[str]) -> Cohort:
        """The cohort after these patients withdrew; no other subject moves between training and validation."""
        gone = frozenset(ids)
        kept = self.samples.of_subjects(gone, inside=False)
        held_out = None if self.validation is None else tuple(one for one in self.validation if one not in gone)
        known = {subject: pseudonym for subject, pseudonym in self.pseudonyms.items() if subject not in gone}
        return self.model_copy(update={"samples": kept, "validation": held_out, "pseudonyms": known})


def cohort_hash(cohort: Cohort, key: bytes) -> str:
    """``sha256:<hex>``, the HMAC-SHA256 of the cohort's document under the site's key; decision 0008 defines it.

    The document is canonical JSON (RFC 8785) in which each list that grows with the cohort is its length and the
    SHA-256 of its lines, so that it is formed over a stream. The order of samples does not matter; a field at its
    default is left out, so that a field which a later version adds does not change the hash of an older cohort. Raises
    ValueError for a key shorter than 16 bytes.
    """
    document = cohort.model_dump(mode="json", exclude_defaults=True, exclude=set(LISTS))
    document["samples"] = {"count": len(cohort.samples), "sha256": cohort.samples.content()}
    if cohort.validation is not None:
        document["validation"] = _lines(sorted(cohort.validation))
    if cohort.pseudonyms:
        document["pseudonyms"] = _lines([list(pair) for pair in sorted(cohort.pseudonyms.items())])
    return "sha256:" + _keyed(b"archipel-cohort/2\0" + rfc8785.dumps(document), key)


def _lines(items: Sequence[object]) -> dict[str, object]:
    """A list of texts, or of lists of texts, as its length and the SHA-256 of its lines: each item's JSON and a line
    feed."""
    hasher, text = hashlib.sha256(), json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    for item in items:
        hasher.update(f"{text(item)}\n".encode())
    return {"count": len(items), "sha256": hasher.hexdigest()}


def subject_tokens(subjects: Iterable[str], key: bytes) -> Digests:
    """The tokens of many subjects in one array, 32 bytes each. Raises as ``subject_token`` does."""
    made = bytearray()
    for subject in subjects:
        made += _digest(_subject(subject), key)
    return np.frombuffer(made, "S32")


def subject_token(subject: str, key: bytes) -> str:
    """What replaces a subject's id where the id must not be read: 64 hex digits, HMAC-SHA256 under the site's key.

    An id is one subject, however its accents are encoded. Raises ValueError for a key shorter than 16 bytes.
    """
    return _keyed(_subject(subject), key)


def pseudonym(subject: str, key: bytes) -> str:
    """The name under which plans know a pseudonymised subject: the same in every version, and different for every
    subject.

    Raises ValueError for a key shorter than 16 bytes.
    """
    return "p-" + _keyed(b"archipel-pseudonym/1\0" + subject.encode(), key)[:24]


def _subject(subject: str) -> bytes:
    return b"archipel-subject/1\0" + unicodedata.normalize("NFC", subject).encode()


def _keyed(message: bytes, key: bytes) -> str:
    return _digest(message, key).hex()


def _digest(message: bytes, key: bytes) -> bytes:
    if len(key) < 16:
        raise ValueError("a cohort's hash needs a key of at least 16 bytes")
    return hmac.digest(key, message, hashlib.sha256)


class CohortDifference(Record):
    """The difference between two cohorts: subjects by name, and every setting that changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Samples whose content differs, each with the roles of the files that do."""
    settings: tuple[str, ...] = ()
    """Mapping, recipe, options and the like: ``what: before -> after``."""

    @property
    def nothing(self) -> bool:
        """Whether both are the same."""
        return not (self.added or self.removed or self.changed or self.settings)


def difference(before: Cohort, after: Cohort) -> CohortDifference:
    """What changed from ``before`` to ``after``, without the version numbers."""
    old, new = ({key: place for place, key in enumerate(cohort.samples.each_key())} for cohort in (before, after))
    ours, theirs = before.samples.digests, after.samples.digests
    changed = [
        _changed(before.samples[old[key]], after.samples[new[key]])
        for key in sorted(old.keys() & new.keys())
        if ours[old[key]] != theirs[new[key]]
    ]
    gained = set(after.subjects) - set(before.subjects)
    lost = set(before.subjects) - set(after.subjects)
    # If a subject who stays has a session more or fewer, the subject changed.
    for key in sorted(old.keys() ^ new.keys()):
        if key[0] not in gained | lost:
            changed.append(f"{sample_name(*key)} ({'gone' if key in old else 'new'})")
    return CohortDifference(
        added=tuple(sorted(gained)),
        removed=tuple(sorted(lost)),
        changed=tuple(sorted(changed)),
        settings=tuple(_settings(before, after)),
    )


def _changed(old: Sample, new: Sample) -> str:
    roles = sorted(role for role in old.files | new.files if old.file_hashes.get(role) != new.file_hashes.get(role))
    return f"{old.name} ({', '.join(roles)})" if roles else old.name


def _settings(before: Cohort, after: Cohort) -> Iterable[str]:
    for name in ("format", "options", "validation_fraction"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {_shown(old)} -> {_shown(new)}"
    for part in ("mapping", "recipe"):
        yield from (f"{part}.{one}" for one in changes(getattr(before, part), getattr(after, part)))
    if bool(before.pseudonyms) != bool(after.pseudonyms):
        yield f"pseudonyms: {_shown(bool(before.pseudonyms))} -> {_shown(bool(after.pseudonyms))}"


def changes(before: Record, after: Record) -> tuple[str, ...]:
    """What differs between two records of one type, one line per field: ``name: before -> after``."""
    old, new = (record.model_dump(mode="json") for record in (before, after))
    return tuple(f"{name}: {_shown(old[name])} -> {_shown(new[name])}" for name in old if old[name] != new[name])


def _shown(value: object) -> str:
    if value in (None, "", {}, []):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(inner)}" for key, inner in value.items() if inner not in ("", {}))
    return str(value)
