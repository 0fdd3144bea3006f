"""Headers of NRRD and MetaImage files, read strictly: a line that can be understood in two ways is refused.

The voxels are then decoded from the same bytes that were hashed, and no other library sees the file: the usual one
hangs on a negative number of dimensions, and follows a header to other files in more spellings than can be looked for.
What is understood is what ITK understands, for files that hold one volume of numbers, raw or compressed.

Sources: the definition of NRRD (teem.sourceforge.net/nrrd/format.html); the tags of MetaImage
(itk.org/Wiki/MetaIO/Documentation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from archipel.data.sample_data import Affine
from archipel.data.volumes.detached_data import is_beside
from archipel.data.volumes.segments import WITHIN_IMAGE, segments_of
from archipel.data.volumes.volume_header import NOT_3D, Stored, bad_volume, damaged

_MOST_HEADER = 1 << 20
"""Bytes; a segmentation of a hundred organs has 100 KiB of them."""
_MOST_AXES = 16
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0, 1.0])[:, None]
"""MetaImage's axes run to the patient's left, back and top, as ITK's do."""
_SPACES = {
    "right-anterior-superior, right-anterior-superior-time, ras, rast": (1, 1, 1),
    "left-anterior-superior, left-anterior-superior-time, las, last": (-1, 1, 1),
    "left-posterior-superior, left-posterior-superior-time, lps, lpst": (-1, -1, 1),
}
_TO_RAS = {name: turn for names, turn in _SPACES.items() for name in names.split(", ")}
_NRRD_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_NRRD_TYPE = {name: kind for kind, names in _NRRD_TYPES.items() for name in names.split(", ")}
_META_TYPE = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_GRID_KINDS = {"", "domain", "space", "time", "???", "none"}
"""Kinds of axes of voxels; other axes are the parts of one voxel."""
_MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", "none"}
_VECTOR = re.compile(r"\bnone\b|\([^()]*\)")
_OFFSET, _TURN = ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation")
_ONE_FILE = "call both files the same but for the suffix, or write header and voxels as one .mha or .nrrd file"
_PLAIN = "write it again with SimpleITK or 3D Slicer, or leave the subject out"


def header(path: Path, content: bytes) -> Stored:
    """What the header of a NRRD or MetaImage file says. Raises BadInput for a header that is not clear.

    Raises ValueError for invalid numbers.
    """
    return _nrrd(path, content) if content[:4] == b"NRRD" else _meta(path, content)


# NRRD


def _nrrd(path: Path, content: bytes) -> Stored:
    end = re.compile(rb"\r?\n\r?\n").search(content, 0, _MOST_HEADER)
    if end is None and len(content) > _MOST_HEADER:
        raise damaged(path, f"its header is longer than {_MOST_HEADER >> 10} KiB")
    fields, keys = _nrrd_fields(path, content[: end.start()] if end else content.rstrip(b"\r\n"))
    data_file = fields.get("datafile", "").removeprefix("./")
    if "datafile" in fields and not is_beside(path.name, data_file):
        raise _elsewhere(path, data_file)
    if end is None and not data_file:
        raise damaged(path, "no voxels follow its header")
    for skip in ("lineskip", "byteskip"):
        if fields.get(skip, "0") != "0":
            raise bad_volume(path, f"does not begin its voxels after its header ({skip}: {fields[skip][:20]})", _PLAIN)
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in fields]
    kind = _NRRD_TYPE.get(" ".join(fields.get("type", "").split()).lower())
    encoding = fields.get("encoding", "").lower()
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if missing or kind is None or (order is None and kind[1] != "1"):
        what = f"no {missing[0]}" if missing else f"voxels of type {fields['type'][:20]} and no valid byte order"
        raise damaged(path, f"its header has {what}")
    if encoding not in ("raw", "gzip", "gz"):
        raise bad_volume(path, f"has voxels in encoding {encoding[:20]}", "write it with encoding gzip or raw")
    sizes = [_count(size) for size in fields["sizes"].split()]
    dimensions = _count(fields["dimension"])
    if not 0 < dimensions <= _MOST_AXES or len(sizes) != dimensions:
        raise damaged(path, f"its header declares {fields['dimension'][:20]} dimensions")
    directions = _vectors(fields.get("spacedirections", ""))
    kinds = [one.lower() for one in fields.get("kinds", "").split()]
    for values in (directions, kinds):
        if values and len(values) != len(sizes):
            raise damaged(path, "its header has another number of axes in each line")
    parts = [
        axis
        for axis in range(len(sizes))
        if (kinds and kinds[axis] not in _GRID_KINDS) or (directions and directions[axis] is None)
    ]
    grid = [axis for axis in range(len(sizes)) if axis not in parts]
    many = [axis for axis in parts if sizes[axis] != 1]
    shape = [*(sizes[axis] for axis in grid), *(sizes[axis] for axis in many)]
    segments = segments_of(path, keys, sizes[many[0]] if many else 1)
    is_layered = bool(segments) and len(many) == 1 and len(grid) == 3
    if len(shape) < 3 or (len(shape) > len(grid) and not is_layered):
        raise bad_volume(path, f"has {len(shape)} dimensions {shape}", NOT_3D)
    if is_layered:
        # The layers' axis may be the fastest in the file; the voxels are taken in the file's order, then turned.
        shape = [sizes[axis] for axis in range(len(sizes)) if axis in grid or axis in many]
    affine, is_placed = _nrrd_affine(
        fields, [directions[axis] for axis in grid] if directions else [], grid, len(sizes)
    )
    begin = end.end() if end is not None and not data_file else 0
    packed = None if encoding == "raw" else begin
    first = begin if packed is None else 0
    return Stored(
        tuple(shape), np.dtype(f"{order or '<'}{kind}"), first, affine, is_placed, packed, data_file=data_file,
        unit=_space_unit(fields.get("spaceunits", "")), segments=segments,
        layer_axis=sum(axis < many[0] for axis in grid) if is_layered else None, within_image=WITHIN_IMAGE in keys,
    )  # fmt: skip


def _space_unit(text: str) -> str:
    """The unit of length where a header names another than millimetres."""
    named = {one.strip().lower() for one in re.findall(r'"([^"]*)"', text)} - {""}
    return " and ".join(sorted(one[:20] for one in named - _MILLIMETRES)[:3])


def _nrrd_fields(path: Path, head: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The header's fields by name, without spaces and in small letters, and the keys of segmentations as they are
    written; remarks and other programs' keys left out."""
    lines = head.replace(b"\r\n", b"\n").split(b"\n")
    if re.fullmatch(rb"NRRD000[1-5]", lines[0]) is None or b"\r" in b"".join(lines):
        raise damaged(path, "it has no header of NRRD in lines")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in lines[1:]:
        if line[:1] == b"#":
            continue
        match = re.match(rb"([^:]+):(=?)", line)
        if match is None:
            raise damaged(path, f"its header has a line {line[:40].decode('utf-8', 'replace')!r}")
        name = re.sub(r"[\s_-]", "", match.group(1).decode("latin-1")).lower()
        if match.group(2) and name != "datafile":
            key, value = match.group(1).decode("latin-1"), line[match.end() :].decode("utf-8", "replace").strip()
            if key.startswith("Segment"):
                if key in keys:
                    raise damaged(path, f"its header has {key[:40]} twice")
                keys[key] = value
            continue
        if name in fields:
            raise damaged(path, f"its header has {name[:40]} twice")
        fields[name] = line[match.end() :].decode("latin-1").strip()
    return fields, keys


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """``(1,0,0) none`` as numbers, None where an axis has no direction."""
    found = re.findall(_VECTOR, text)
    if re.sub(_VECTOR, "", text).strip():
        raise ValueError("vectors")
    return [None if one == "none" else tuple(float(part) for part in one[1:-1].split(",")) for one in found]


def _per_axis(said: Mapping[str, str], name: str, axes: int) -> list[float]:
    found = [float(one) for one in said.get(name, "nan " * axes).split()]
    if len(found) != axes:
        raise ValueError(name)
    return found


def _point(vector: tuple[float, ...] | None) -> tuple[float, ...]:
    if vector is None or len(vector) < 3:
        raise ValueError("vectors")
    return vector[:3]


def _nrrd_affine(
    fields: Mapping[str, str], directions: Sequence[tuple[float, ...] | None], grid: Sequence[int], axes: int
) -> tuple[Affine, bool]:
    affine = np.eye(4)
    space = fields.get("space", "").lower()
    turn = _TO_RAS.get(space, _TO_RAS["lps"])
    if directions:
        for axis, direction in enumerate(directions[:3]):
            affine[:3, axis] = _point(direction)
        (origin,) = _vectors(fields.get("spaceorigin", "(0,0,0)"))
        affine[:3, 3] = _point(origin)
    else:
        sizes = np.array([_per_axis(fields, "spacings", axes)[axis] for axis in grid[:3]])
        least = np.array([_per_axis(fields, "axismins", axes)[axis] for axis in grid[:3]])
        if not np.isnan([*sizes, *least]).any():
            # The minimum of an axis is the border of its first voxel, unless the header says that it is the centre.
            centers = (fields.get("centers") or fields.get("centerings", "")).split() or [""] * axes
            affine[:3, 3] = least + [
                0 if centers[axis] == "node" else sizes[at] / 2 for at, axis in enumerate(grid[:3])
            ]
        affine[:3, :3] = np.diag(np.where(np.isnan(sizes), 1.0, sizes))
    return affine * np.array([*turn, 1.0])[:, None], bool(directions) and space in _TO_RAS


# MetaImage


def _meta(path: Path, content: bytes) -> Stored:
    fields, end = _meta_fields(path, content)
    data_file = "" if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"].removeprefix("./")
    if data_file and not is_beside(path.name, data_file):
        raise _elsewhere(path, data_file)
    if data_file:
        end = 0
    missing = [name for name in ("NDims", "DimSize", "ElementType") if name not in fields]
    if missing or fields["ElementType"] not in _META_TYPE:
        what = f"no {missing[0]}" if missing else f"voxels of type {fields['ElementType'][:20]}"
        raise damaged(path, f"its header has {what}")
    if fields.get("HeaderSize", "0") != "0":
        cause = f"does not begin its voxels after its header (HeaderSize = {fields['HeaderSize'][:20]})"
        raise bad_volume(path, cause, _PLAIN)
    if not _yes(fields.get("BinaryData", "True")):
        raise bad_volume(path, "has voxels written as text", "write it with BinaryData = True")
    dimensions = _count(fields["NDims"])
    shape = [_count(size) for size in fields["DimSize"].split()]
    if not 0 < dimensions <= _MOST_AXES or len(shape) != dimensions:
        raise damaged(path, f"its header declares {fields['NDims'][:20]} dimensions")
    channels = _count(fields.get("ElementNumberOfChannels", "1"))
    if dimensions < 3 or channels != 1:
        whole = [*shape, channels] if channels != 1 else shape
        raise bad_volume(path, f"has {len(whole)} dimensions {whole}", NOT_3D)
    most_first = _yes(_either(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB") or "False")
    kind = np.dtype(f"{'>' if most_first else '<'}{_META_TYPE[fields['ElementType']]}")
    packed = end if _yes(fields.get("CompressedData", "False")) else None
    first = end if packed is None else 0
    is_placed = bool(_either(fields, *_TURN) or _either(fields, *_OFFSET))
    return Stored(tuple(shape), kind, first, _meta_affine(fields, dimensions), is_placed, packed, data_file=data_file)


def _meta_fields(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends: after the line that says where the voxels are."""
    last = re.compile(rb"(?:^|\n)ElementDataFile[ \t]*=[^\n]*(?:\n|\Z)").search(content, 0, _MOST_HEADER)
    # ITK accepts other spellings, and may skip a line that this pattern finds, so the word must be there once.
    if last is None or content.count(b"ElementDataFile") != 1:
        raise damaged(path, "it has no header of NRRD or MetaImage that says once where its voxels are")
    fields: dict[str, str] = {}
    for line in content[: last.end()].replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n"):
        key, equals, value = line.partition(b"=")
        name = key.rstrip(b" \t").decode("latin-1")
        if not equals or not name or name[0].isspace() or b":" in key or b"\r" in line or name in fields:
            shown = line[:40].decode("utf-8", "replace")
            raise damaged(path, f"its header has a line {shown!r}")
        fields[name] = value.strip(b" \t").decode("latin-1")
    return fields, last.end()


def _meta_affine(fields: Mapping[str, str], dimensions: int) -> Affine:
    affine = np.eye(4)
    size = fields.get("ElementSpacing") or fields.get("ElementSize", "")
    spacing = _numbers(size, dimensions) or [1.0] * dimensions
    offset = _numbers(_either(fields, *_OFFSET), dimensions) or [0.0] * dimensions
    turn = _numbers(_either(fields, *_TURN), dimensions**2)
    # A row of the file is the direction of an axis, which is a column of the matrix.
    directions = np.array(turn).reshape(dimensions, dimensions).T if turn else np.eye(dimensions)
    affine[:3, :3] = directions[:3, :3] * np.array(spacing[:3])
    affine[:3, 3] = offset[:3]
    return _LPS_TO_RAS * affine


def _either(said: Mapping[str, str], *names: str) -> str:
    """The value of a field that has several names. Raises ValueError where two of them have different ones."""
    found = {said[name] for name in names if name in said}
    if len(found) > 1:
        raise ValueError(names[0])
    return found.pop() if found else ""


def _numbers(text: str, count: int) -> list[float]:
    """The numbers in a field, none where it is not there. Raises ValueError when it has others than ``count``."""
    found = [float(one) for one in text.split()]
    if found and len(found) != count:
        raise ValueError("numbers")
    return found


def _count(text: str) -> int:
    """Raises ValueError for what is not a number, or longer than any that counts voxels."""
    if len(text) > 15:
        raise ValueError("digits")
    return int(text)


def _yes(text: str) -> bool:
    """Raises ValueError for what is neither."""
    if text[:1].upper() not in ("T", "F", "1", "0"):
        raise ValueError("neither True nor False")
    return text[:1].upper() in ("T", "1")


def _elsewhere(path: Path, other: str) -> Exception:
    cause = f"keeps its voxels in another file ({other[:80]}), which is not called as the header is"
    return bad_volume(path, cause, _ONE_FILE)
