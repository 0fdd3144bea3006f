"""A sample's volumes as one: the label that is a file for each structure, and data next to its header.

A role has one file or several. The keys of a sample's ``files`` say so: ``label/3`` is the file of the structure that
becomes value 3 of the label, ``image/data`` the data of the header ``image``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archipel.data.files import HEADER_SUFFIXES, FileFacts, Folder, Purpose, read_whole
from archipel.data.samples import LABEL, DataIssue
from archipel.data.volumes import volumes
from archipel.data.volumes.data_files import data_beside
from archipel.data.volumes.decoding import Decoded, bad_volume, decode
from archipel.data.volumes.geometry import GridRule, Placed, check_one_grid, voxel_spacing_mm
from archipel.data.volumes.label_volumes import share_of_changes
from archipel.data.volumes.overlaps import Overlaps
from archipel.data.volumes.segment_options import segment_rules, structures_in
from archipel.data.volumes.thumbnails import Sketch
from archipel.data.volumes.volume_facts import MaskFacts, Shared
from archipel.data.volumes.volume_header import NOT_3D
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, Record

_STRUCTURE = f"{LABEL}/"
_DATA = "/data"
STRUCTURES = "structures/2"
"""The index's name for the label that a sample's structures make together, kept with the first one's file."""


class Hashed(Record):
    """A file of which only the bytes count; the record has no fields."""


BYTES = Purpose("bytes/1", Hashed)


class SampleLook(NamedTuple):
    """What is known of a sample's volumes by role, and the hash of each file by its key among the sample's files."""

    by_role: Mapping[str, volumes.VolumeLook]
    hashes: Mapping[str, str]


def structure_key(value: int) -> str:
    """The key of the file of the structure that becomes this label value."""
    return f"{_STRUCTURE}{value}"


def data_key(role: str) -> str:
    """The key of the data next to the header of this role."""
    return role + _DATA


def with_data(folder: Folder, files: Mapping[str, str]) -> dict[str, str]:
    """The files of a sample with the data next to its headers."""
    data = {}
    for key, place in files.items():
        if place.lower().endswith(HEADER_SUFFIXES) and (beside := data_beside(folder, place)):
            data[data_key(key)] = beside
    return {**files, **data}


def roles_of(files: Mapping[str, str]) -> tuple[str, ...]:
    """The roles that a sample has files for, each once, in the order of its files."""
    if _are_plain(files):
        return tuple(files)
    return tuple(dict.fromkeys(LABEL if key.startswith(_STRUCTURE) else key for key in files if not _is_data(key)))


def _are_plain(files: Mapping[str, str]) -> bool:
    """Whether each role has one file, as in nearly all datasets."""
    return not any("/" in key for key in files)


def structures_of(files: Mapping[str, str]) -> dict[int, str]:
    """The files of structures by the label value that each becomes."""
    if _are_plain(files):
        return {}
    of_label = {key: place for key, place in files.items() if key.startswith(_STRUCTURE) and not _is_data(key)}
    return {int(key.removeprefix(_STRUCTURE)): of_label[key] for key in sorted(of_label, key=_number)}


def look_at_sample(
    folder: Folder, files: Mapping[str, str], channels: Mapping[str, int], sketch: Sketch | None = None
) -> SampleLook:
    """What is known of each role's volume. The label is looked at first, because thumbnails are cut where it is."""
    if not channels and _are_plain(files):
        label_first = (LABEL, *(key for key in files if key != LABEL)) if LABEL in files else files
        plain = {key: volumes.look(folder, files[key], key, None, sketch) for key in label_first}
        return SampleLook({key: plain[key] for key in files}, {key: plain[key].hash for key in files})
    looks: dict[str, volumes.VolumeLook] = {}
    hashes: dict[str, str] = {}
    problems = {}
    roles, structures = roles_of(files), structures_of(files)
    for key in files if len(roles) < len(files) or structures else ():
        if _is_data(key) or key.startswith(_STRUCTURE):
            looked = folder.look(files[key], BYTES, lambda _: Hashed())
            hashes[key] = looked.hash
            if looked.problem is not None:
                problems[LABEL if key.startswith(_STRUCTURE) else key.removesuffix(_DATA)] = looked
    for role in sorted(roles, key=lambda role: role != LABEL):
        if role in problems:
            looks[role] = FileFacts[MaskFacts](hash=problems[role].hash, problem=problems[role].problem)
        elif role == LABEL and structures:
            looks[role] = _look_at_structures(folder, structures, {key: hashes[key] for key in hashes if key in files})
        else:
            looks[role] = volumes.look(folder, files[role], role, channels.get(role), sketch)
            hashes[role] = looks[role].hash
    return SampleLook({role: looks[role] for role in roles}, {key: hashes[key] for key in files})


def _look_at_structures(
    folder: Folder, structures: Mapping[int, str], hashes: Mapping[str, str]
) -> FileFacts[MaskFacts]:
    """What is known of the label that structures become together; ``hashes`` are those of their files, by key."""
    rules = StructureRules.of(folder.options)
    known = "\n".join(f"{key} {hashes[key]}" for key in sorted(hashes))
    purpose = Purpose(STRUCTURES, MaskFacts, blob_hash(f"{known}\n{rules!r}".encode()))
    first = next(iter(structures.values()))
    return folder.look(first, purpose, lambda _: _structure_facts(folder.root, structures, rules))


def look_at_file(
    folder: Folder, files: Mapping[str, str], key: str, channel: int | None
) -> tuple[str, DataIssue | None]:
    """The hash that one of a sample's files has now, and what is wrong with it."""
    if _is_data(key) or key.startswith(_STRUCTURE):
        looked = folder.look(files[key], BYTES, lambda _: Hashed())
        return looked.hash, looked.problem
    volume = volumes.look(folder, files[key], key, channel)
    return volume.hash, volume.problem


class StructureRules(NamedTuple):
    """How files of structures become one label: how far their grids may be apart, what each value is called, and which
    keep the voxels that they share with others, the first before the second."""

    grid: GridRule
    names: Mapping[int, str]
    on_top: tuple[str, ...]

    @classmethod
    def of(cls, options: Mapping[str, str]) -> StructureRules:
        """The rules among a dataset's options. Raises BadInput for options that are not valid."""
        return cls(GridRule.of(options), structures_in(options), segment_rules(options).on_top)


class JoinedStructures(NamedTuple):
    """A label of several files, and the voxels that their structures shared."""

    whole: Decoded
    shared: tuple[Shared, ...]


def read_structures(root: Path, structures: Mapping[int, str], rules: StructureRules) -> JoinedStructures:
    """One label ``[X, Y, Z]`` int16 of the files of structures, each with its value, and the grid that they have.

    Raises BadInput where a file holds more than one structure, two lie on different grids, or two overlap and no
    rule says which one keeps the voxels.
    """
    whole: Decoded | None = None
    first, painted = "", Overlaps((), {}, ())
    names = {value: rules.names.get(value) or place for value, place in structures.items()}
    for value, place in structures.items():
        found = _decoded(root / place)
        inside = found.values != 0
        drawn = found.values[inside]
        if drawn.size and drawn.min() != drawn.max():
            cause = f"holds several label values ({drawn.min():g} to {drawn.max():g}), and is the file of one structure"
            raise _bad(place, cause, "write a template without {structure} if it is a label volume of its own")
        if whole is None:
            painted, first = Overlaps(inside.shape, names, rules.on_top), place
            whole = found._replace(values=painted.label)
        own = Placed(Path(place).name, inside.shape, found.affine, found.is_placed)
        base = Placed(Path(first).name, whole.values.shape, whole.affine, whole.is_placed)
        check_one_grid(Path(place).parent.as_posix(), base, own, rules.grid)
        painted.paint(np.where(inside, np.int16(value), np.int16(0)))
    if whole is None:
        raise ValueError("there is no structure")
    if pairs := painted.open_pairs():
        where = Path(first).parent.as_posix()
        remedy = f"{painted.remedy()}; or name those to read with --option structures=NAME,NAME"
        raise _bad(where, f"has structures that overlap: {pairs}", remedy)
    return JoinedStructures(whole, painted.shared)


def _decoded(path: Path) -> Decoded:
    try:
        found = decode(path, read_whole(path))
    except OSError as error:
        remedy = "check the file and its permissions, or leave the subject out"
        raise bad_volume(path, f"cannot be opened ({error.strerror})", remedy) from error
    if found.values.ndim != 3:
        raise bad_volume(path, f"has {found.values.ndim} dimensions {list(found.values.shape)}", NOT_3D)
    return found


def _structure_facts(root: Path, structures: Mapping[int, str], rules: StructureRules) -> MaskFacts:
    whole, shared = read_structures(root, structures, rules)
    counts = np.bincount(whole.values.ravel(order="K"), minlength=1)
    return MaskFacts(
        shape=whole.values.shape,
        affine=tuple(map(tuple, whole.affine.tolist())),
        spacing=tuple(round(size, 5) for size in voxel_spacing_mm(whole.affine)),
        is_placed=whole.is_placed,
        label_voxels={str(value): int(counts[value]) for value in np.flatnonzero(counts)},
        voxels=volumes.voxel_hash(whole.values),
        unit=whole.unit,
        forms_apart_mm=whole.forms_apart_mm,
        changes=round(share_of_changes(whole.values), 6),
        shared=shared,
    )


def _bad(place: str, cause: str, remedy: str) -> BadInput:
    return BadInput(place, cause, remedy, code=ErrorCode.BAD_DATA)


def _is_data(key: str) -> bool:
    return key.endswith(_DATA)


def _number(key: str) -> int:
    return int(key.removeprefix(_STRUCTURE))
