"""What a sample contains, in a form that shows when two samples contain the same.

The quality report and `archipel site check` use the same rule, so that both name the same samples.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archipel.data.digests import Digests
from archipel.data.files import FileIndex, Folder, Purpose
from archipel.data.formats import Options, format_named
from archipel.data.quality.evidence import Evidence, VolumeFacts, array_facts, facts_of
from archipel.data.requests import request_of
from archipel.data.sample_columns import Samples
from archipel.data.samples import LABEL, Sample
from archipel.vocabulary import Record

FEWEST_VALUES = 5
"""Rows with fewer values than this may well be equal by chance."""
CONTENTS = "contents/1"
"""What an index calls the contents of a file's arrays; a new number when they are found otherwise."""
ROW = "row"
"""The name of a table's content; an image has the name of its role."""


class ContentsExamined(Record):
    """The contents of a file's arrays, in the order of the samples that were asked for: base64 of 32 bytes each, zeros
    for an array that holds one value everywhere. ``images``: whether an array has more than one dimension."""

    digests: str
    images: bool


class ArrayContents(NamedTuple):
    """The content of each sample as a digest, zeros for one that holds one value everywhere, by the sample's place; and
    whether any is an image."""

    digests: Digests
    images: bool


def array_contents(root: Path, index: FileIndex, layout: str, options: Options, samples: Samples) -> ArrayContents:
    """The contents of samples of arrays, by the same rule as ``contents``, and in so little memory that a million of
    them can be compared. Files that are in the index are not read again."""
    found, images = np.zeros((len(samples), 32), np.uint8), False
    place_of = {key: place for place, key in enumerate(samples.each_key())} if len(samples.places) > 1 else {}
    for place, inside in samples.by_file().items():

        def examine(_: Path, inside: Samples = inside) -> ContentsExamined:
            digests, any_image = bytearray(), False
            for reading in format_named(layout).read(root, inside, options):
                facts = array_facts(reading.arrays)
                differ = facts.minimum < facts.maximum
                digests += bytes.fromhex(facts.pixels.partition(":")[2]) if differ else bytes(32)
                any_image = any_image or len(facts.shape) > 1
            return ContentsExamined(digests=base64.b64encode(digests).decode(), images=any_image)

        purpose = Purpose(CONTENTS, ContentsExamined, request_of(options, inside))
        looked = Folder(root, index).look(place, purpose, examine)
        if looked.facts is not None:
            rows = np.frombuffer(base64.b64decode(looked.facts.digests), np.uint8).reshape(-1, 32)
            found[[place_of[key] for key in inside.each_key()] if place_of else slice(None)] = rows
            images = images or looked.facts.images
    return ArrayContents(found.view("S32").reshape(-1), images)


def volume_contents(
    root: Path, index: FileIndex, options: Options, samples: Samples
) -> dict[tuple[str, str], tuple[bytes, ...]]:
    """The contents of the volumes of each sample, by its key and by the same rule as ``contents``, as digests: of
    100,000 samples little else is kept. Files that are in the index are not read again."""
    folder, found = Folder(root, index, options=options), {}
    for sample in samples:
        known = _of_volumes(facts_of(folder, sample))
        found[sample.key] = tuple(blake2b(repr(content).encode(), digest_size=32).digest() for content, _ in known)
    return found


def contents(evidence: Evidence, sample: Sample) -> Iterator[tuple[Hashable, str]]:
    """Each content of a sample of ``evidence.scan``, and what it is called.

    That is the voxels of each image and the pixels of an array, however their files store them, or a table's values
    in every column but id and visit. Images of one value everywhere, masks and rows of few values are not among them:
    these may be equal in different patients.
    """
    if evidence.kind == "table":
        if len(sample.values) >= FEWEST_VALUES:
            yield tuple(sorted(sample.values.items())), ROW
        return
    yield from _of_volumes(evidence.volumes.get(sample.key, {}))
    array = evidence.arrays.get(sample.key)
    if array is not None and array.minimum < array.maximum:
        yield (array.pixels, array.shape), "image"


def _of_volumes(known: Mapping[str, VolumeFacts]) -> Iterator[tuple[Hashable, str]]:
    for role, volume in known.items():
        if role != LABEL and volume.minimum < volume.maximum:
            yield (volume.voxels, volume.shape), role
