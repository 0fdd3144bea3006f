"""Samples whose truth nobody knows yet, in forms that a site would refuse: pictures in a folder without classes, and a
file of arrays without ``y``.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data import PICTURE_SUFFIXES, TABLE_SUFFIXES, Cohort, RawSource, Sample, SampleData, format_named
from archipel.inference.local_data import Held
from archipel.simulation import SimulatedSite
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, Thing

_LAYOUT = "class-folders"
"""The format whose options say how pictures are read."""


def unlabelled_site(name: str, data: Path, options: Mapping[str, str]) -> SimulatedSite | None:
    """The samples of kind ``arrays`` in a folder of pictures with no table and no folder of a class, in a picture, or
    in a ``.npz`` file without ``y``; None for anything else, which is read as a site reads it.

    A picture's subject is its name without the ending. Raises BadInput for pictures of several shapes, two pictures
    of one name, and an option that the reading of pictures does not have.
    """
    if data.is_dir():
        inside = sorted(path for path in data.iterdir() if path.is_file() and not path.name.startswith("."))
        pictures = [path for path in inside if path.suffix.lower() in PICTURE_SUFFIXES]
        if pictures and not any(path.name.lower().endswith(TABLE_SUFFIXES) for path in inside):
            return _of_pictures(name, data, pictures, options)
        arrays = [path for path in inside if path.suffix == ".npz"]
        return _of_arrays(name, arrays[0]) if len(arrays) == 1 else None
    if data.suffix.lower() in PICTURE_SUFFIXES:
        return _of_pictures(name, data.parent, [data], options)
    return _of_arrays(name, data) if data.suffix == ".npz" else None


def _of_pictures(name: str, root: Path, pictures: Sequence[Path], options: Mapping[str, str]) -> SimulatedSite:
    known = format_named(_LAYOUT).options
    for option in options:
        if option not in known:
            remedy = f"pictures have: {', '.join(sorted(known))}"
            raise BadInput(Thing.worded(f"option {option}", option=option), "is unknown", remedy)
    twice, count = Counter(path.stem for path in pictures).most_common(1)[0]
    if count > 1:
        raise BadInput(Thing.folder(root), f"has {count} pictures called {twice}", "rename one of them")
    samples = [
        Sample(subject=path.stem, files={"image": path.name}, hash=blob_hash(path.name.encode())) for path in pictures
    ]
    cohort = _cohort(samples, dict(options))
    held = Held.of(RawSource(root, cohort), cohort.samples)
    shapes = {sample.files["image"]: held.readings[sample.key].arrays["x"].shape for sample in cohort.samples}
    first, *others = shapes.items()
    for file, shape in others:
        if shape != first[1]:
            raise BadInput(
                Thing.file(root / file),
                f"has the shape {list(shape)}, and {first[0]} has {list(first[1])}",
                "give one size, as the sites did (option size), or crop the pictures",
                code=ErrorCode.BAD_DATA,
            )
    return SimulatedSite(name, held, cohort)


def _of_arrays(name: str, file: Path) -> SimulatedSite | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if "x" not in arrays or "y" in arrays:
                return None
            x = arrays["x"]
            ids = arrays["subject"] if "subject" in arrays else np.array([f"{row:05}" for row in range(len(x))])
            visits = arrays["session"] if "session" in arrays else np.full(len(x), "")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        # The format's own reading says what is wrong with the file.
        return None
    if not len(x) == len(ids) == len(visits):
        raise BadInput(Thing.file(file), "has arrays of different lengths", "save one row of each per sample")
    rows = list(_rows(x, ids, visits))
    if len({sample.key for sample, _ in rows}) < len(rows):
        raise BadInput(Thing.file(file), "has a subject twice", "name the visits in an array session")
    return SimulatedSite(name, Held({sample.key: one for sample, one in rows}), _cohort([one for one, _ in rows], {}))


def _rows(x: Any, ids: Any, visits: Any) -> Iterator[tuple[Sample, SampleData]]:
    for row, subject, session in zip(x, ids, visits, strict=True):
        sample = Sample(subject=str(subject), session=str(session), files={}, hash=blob_hash(row.tobytes()))
        yield sample, SampleData(arrays={"x": np.asarray(row)})


def _cohort(samples: Sequence[Sample], options: dict[str, str]) -> Cohort:
    in_order = tuple(sorted(samples, key=lambda sample: sample.key))
    return Cohort(dataset="data", format=_LAYOUT, options=options, samples=in_order)
