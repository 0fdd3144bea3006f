"""Cases: the files of volumes that a plan is to segment, an image per modality that it reads.

For a plan of one modality each file is a case. For several, a case has ``T1/<case>.nii.gz`` and ``T2/<case>.nii.gz``,
or ``<case>_T1.nii.gz`` and ``<case>_T2.nii.gz``, or a folder of its own with ``T1.nii.gz`` and ``T2.nii.gz``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archipel.data import Affine, FloatVolume
from archipel.data.volumes import GridRule, Placed, check_one_grid, read_image
from archipel.vocabulary import BadInput, Thing

SUFFIX = ".nii.gz"
_SEPARATORS = ("_", "-", ".")


class Case(NamedTuple):
    """What is segmented: its name, and the file of each modality in the plan's order."""

    name: str
    files: Mapping[str, Path]

    def read(self) -> tuple[dict[str, FloatVolume], Affine]:
        """The images, float32 ``[X, Y, Z]`` by modality, and their affine. Raises BadInput unless they share a grid."""
        images: dict[str, FloatVolume] = {}
        first: Placed | None = None
        for modality, path in self.files.items():
            images[modality], affine = read_image(path)
            placed = Placed(modality, images[modality].shape, affine)
            if first is None:
                first = placed
            else:
                check_one_grid(self.name, first, placed, GridRule())
        assert first is not None
        return images, np.asarray(first.affine)


def cases_in(source: Path, modalities: Sequence[str]) -> list[Case]:
    """The cases of a file or a folder, in the order of their names. Raises BadInput when there is none, and for a case
    without a modality or with two files for one."""
    if not source.exists():
        raise BadInput(Thing.file(source), "is not there", "name a volume or a folder of volumes")
    if len(modalities) == 1:
        return [Case(_stem(path), {modalities[0]: path}) for path in _single(source)]
    if not source.is_dir():
        remedy = f"name a folder with {_looked_for(modalities)}"
        raise BadInput(Thing.file(source), f"is one volume; the plan reads {', '.join(modalities)}", remedy)
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted([*source.glob(f"*{SUFFIX}"), *source.glob(f"*/*{SUFFIX}")]):
        for modality in () if path.name.startswith(".") else modalities:
            name = _case_of(source, path, modality)
            if name is None:
                continue
            if modality in found[name]:
                both = f"{found[name][modality].relative_to(source)}, {path.relative_to(source)}"
                raise BadInput(Thing("case", name), f"has two files for {modality} ({both})", "keep one of them")
            found[name][modality] = path
    if not found:
        remedy = f"name a folder with {_looked_for(modalities)}"
        raise BadInput(Thing.file(source), f"holds no volume of {', '.join(modalities)}", remedy)
    for name, files in found.items():
        missing = [modality for modality in modalities if modality not in files]
        if missing:
            cause = f"has no {' and no '.join(missing)} (it has {', '.join(files)}; the plan reads each)"
            raise BadInput(Thing("case", name), cause, "add the files, or move the case away")
    return [Case(name, {one: files[one] for one in modalities}) for name, files in sorted(found.items())]


def holds_cases(source: Path, modalities: Sequence[str]) -> bool:
    """Whether the path is a file, or a folder with an image of a case; else it may be a dataset in another format."""
    if not source.is_dir():
        return True
    if len(modalities) == 1:
        folder = source / "images" if (source / "images").is_dir() else source
        return any(not path.name.startswith(".") for path in folder.glob(f"*{SUFFIX}"))
    files = [*source.glob(f"*{SUFFIX}"), *source.glob(f"*/*{SUFFIX}")]
    return any(_case_of(source, path, modality) is not None for path in files for modality in modalities)


def check_suffix(path: Path) -> None:
    """Raise BadInput unless the file is named as a compressed NIfTI file."""
    if not path.name.endswith(SUFFIX):
        raise BadInput(Thing.file(path.name), f"does not end in {SUFFIX}", "name a compressed NIfTI file")


def _single(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        check_suffix(source)
        yield source
        return
    folder = source / "images" if (source / "images").is_dir() else source
    files = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise BadInput(Thing.file(source), f"holds no *{SUFFIX}", "name a volume or a folder of volumes")
    yield from files


def _stem(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)


def _case_of(source: Path, path: Path, modality: str) -> str | None:
    """The case whose image of this modality the file is; None for a file that is not one."""
    stem, folder = _stem(path), path.parent.name
    if folder == modality and path.parent != source:
        return stem
    if stem == modality:
        return folder
    ending = next((f"{one}{modality}" for one in _SEPARATORS if stem.endswith(f"{one}{modality}")), "")
    return stem.removesuffix(ending) or None if ending else None


def _looked_for(modalities: Sequence[str]) -> str:
    folders = " and ".join(f"{one}/CASE{SUFFIX}" for one in modalities)
    names = " and ".join(f"CASE_{one}{SUFFIX}" for one in modalities)
    return f"{folders}, or with {names}"
