"""What is done to a sample before a plan sees it, and the key of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Literal

import rfc8785

from archipel.data.cohorts import Cohort, Preprocessing
from archipel.data.formats import format_named
from archipel.data.sample_columns import Samples
from archipel.data.samples import Sample
from archipel.tensors import BlobHasher, blob_hash
from archipel.vocabulary import Record
from archipel.vocabulary.needs import LabelValue

_HASH = "hash"
"""In the place of all options; no format has an option of this name."""
_NOT_CONTENT = {"files", "file_hashes", "hash"}
_VALUES = {"values", "missing"}


class Preparation(Record):
    """What is done to a sample before a plan sees it, as far as it changes voxels, arrays or values.

    Names of modalities and columns are looked up when a plan asks, so that a changed mapping of names prepares nothing
    again; nor do other columns beside volumes.
    """

    form: Literal["archipel-prepared/2"] = "archipel-prepared/2"
    layout: str
    options: dict[str, str] = {}
    labels: dict[LabelValue, int] = {}
    drop_other_labels: bool = False
    orientation: str = ""
    recipe: Preprocessing = Preprocessing()
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(cls, cohort: Cohort) -> Preparation:
        """What is done to this cohort's samples."""
        rule = cohort.mapping
        return cls(
            layout=cohort.format,
            options=hidden_options(cohort.options),
            labels=rule.labels,
            drop_other_labels=rule.drop_other_labels,
            orientation=rule.orientation,
            recipe=cohort.recipe,
            # Values beside volumes are the samples' own, and are not prepared.
            columns=cohort.columns if is_rows(cohort) else None,
        )

    @cached_property
    def hash(self) -> str:
        """``blake3:<64 hex digits>`` of its canonical JSON."""
        return blob_hash(rfc8785.dumps(self.model_dump(mode="json")))

    def keys(self, samples: Iterable[Sample]) -> Iterator[str]:
        """Each sample's key: the digits of its content's hash, a dot, and digits of its values and how it is made."""
        how, columns, beside = self.hash, Samples.of(samples), ""
        # The values of a volume are not in its file, so that plans with other columns share it.
        is_beside = format_named(self.layout).kind == "volumes"
        apart = _NOT_CONTENT | _VALUES if is_beside else _NOT_CONTENT
        before = -1
        for hashed, kind in zip(columns.hashes(), columns.kinds.tolist(), strict=True):
            if kind != before:
                # Everything on which a sample depends beside the bytes: values, channels and what else is added.
                rest = columns.rest(kind)
                beside = json.dumps({name: rest[name] for name in rest if name not in apart}, sort_keys=True)
                before = kind
            with_it = blob_hash("\n".join((how, hashed, beside)).encode())
            yield f"{digits_in(hashed)}.{digits_in(with_it)[:32]}"

    def rows_key(self, samples: Iterable[Sample]) -> str:
        """The key of one file with the rows of all these samples."""
        hasher = BlobHasher()
        for key in self.keys(samples):
            hasher.update(f"{key}\n".encode())
        return digits_in(hasher.digest())


def hidden_options(options: Mapping[str, str]) -> dict[str, str]:
    """What tells one set of options from another and says none of them; of what is hidden already, the same.

    Options name files, folders and columns of a dataset, and hold its data dictionary: a worker needs none of them.
    """
    if not options or options.keys() == {_HASH}:
        return dict(options)
    return {_HASH: blob_hash(rfc8785.dumps(dict(options)))}


def digits_in(hashed: str) -> str:
    """A hash without its scheme."""
    return hashed.partition(":")[2]


def is_rows(cohort: Cohort) -> bool:
    """Whether the cohort's samples are in one prepared file; volumes have a file each."""
    return format_named(cohort.format).kind != "volumes"
