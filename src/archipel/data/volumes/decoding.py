"""Decoding: the voxels and the affine of one file, NIfTI, NRRD or MetaImage, always in RAS millimetres; and 2-D images
as volumes of one slice.

Nothing a file says of itself is believed before it is compared with the file's length, so that a damaged or hostile
header can neither fill memory nor lead to another file. All kinds are decoded from bytes in memory, which were read
once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data import picture_files
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.sample_data import Affine
from archipel.data.volumes import itk_headers
from archipel.data.volumes.detached_data import read_data
from archipel.data.volumes.geometry import voxel_spacing_mm
from archipel.data.volumes.nifti_headers import fields_of, forms_apart
from archipel.data.volumes.unpacking import GZIP, MOST_GAIN, BrokenOff, unpacked
from archipel.data.volumes.volume_facts import Segment
from archipel.data.volumes.volume_header import Stored, bad_volume, damaged
from archipel.vocabulary import BadInput

__all__ = ["ITK", "NIFTI", "SUFFIXES", "Decoded", "bad_volume", "decode", "suffix_of"]

NIFTI = (".nii.gz", ".nii")
PAIRS = (".hdr",)
"""NIfTI in two files; the voxels are in the file .img beside it."""
MGH = (".mgz", ".mgh")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK, *PAIRS, *MGH)
PICTURES = (".png", ".bmp", ".tif", ".tiff")
"""2-D images that only a description calls volumes: as nnU-Net has them."""

_HEADER_BYTES = 4096
_MGH_BYTES = 284
_ANALYZE = 348
_UNITS = {1: "metres", 3: "micrometres"}
"""NIfTI's codes of units of length other than millimetres; 0 is unknown, 2 are millimetres."""
_CHUNK = 1 << 20


class Decoded(NamedTuple):
    """Voxels ``[X, Y, Z]`` or ``[X, Y, Z, channels]`` in stored orientation, and their affine.

    They have the type that they are stored in, or float32 where the file scales them. ``is_placed`` is whether the
    file says how the grid is placed in the patient; without that the affine has only the spacing, and
    left and right are unknown. What else the header says is in ``Stored``.
    """

    values: NDArray[Any]
    affine: Affine
    is_placed: bool = True
    unit: str = ""
    forms_apart_mm: float | None = 0.0
    is_scaled: bool = False
    segments: tuple[Segment, ...] = ()
    within_image: bool = False


def suffix_of(name: str) -> str:
    """The suffix by which a file is decoded, "" where it is not a volume."""
    lower = name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")


def decode(path: Path, content: bytes, limits: DataLimits = DATA_LIMITS) -> Decoded:
    """The volume in a file whose bytes are ``content``.

    Raises BadInput for one that cannot be used, and MemoryError where there is too little left for one that can.
    """
    if is_picture(path.name):
        return _picture(path, content, limits)
    try:
        stored = header_of(path, content)
        if stored.data_file:
            content = read_data(path, stored, limits.volume_bytes)
        decoded = Decoded(
            _voxels(path, content, stored, limits.volume_bytes), stored.affine, stored.is_placed, stored.unit,
            stored.forms_apart_mm, stored.is_scaled, stored.segments, stored.within_image,
        )  # fmt: skip
    except (BadInput, MemoryError):
        raise
    except BrokenOff as error:
        raise damaged(path, str(error)) from error
    except Exception as error:
        # Damaged headers raise nearly everything: struct, lookup, arithmetic and zlib's own errors.
        raise damaged(path, type(error).__name__) from error
    return _checked(path, decoded)


def is_picture(name: str) -> bool:
    """Whether a file is decoded as a 2-D image."""
    return name.lower().endswith(PICTURES)


def _picture(path: Path, content: bytes, limits: DataLimits) -> Decoded:
    """A 2-D image as a volume of one slice, ``[width, height, 1]``, with colours as channels. Its grid is its pixels:
    voxels of 1 mm, and nowhere in a patient."""
    pixels = picture_files.decoded(path.name, content, limits.picture_pixels)
    values = np.moveaxis(pixels, 0, 1)
    return Decoded(values[:, :, np.newaxis], np.eye(4))


def header_of(path: Path, content: bytes) -> Stored:
    """What the header of a volume says. Raises BadInput for one that is not clear, and whatever damage leads to."""
    suffix = suffix_of(path.name)
    if content.startswith(picture_files.LFS_POINTER):
        remedy = "fetch it with git lfs pull in the dataset's folder, or leave the subject out"
        raise bad_volume(path, "is a pointer of Git LFS in the place of the volume", remedy)
    if suffix in MGH:
        return _mgh(path, content)
    return _nifti(path, content) if suffix in (*NIFTI, *PAIRS) else itk_headers.header(path, content)


def _voxels(path: Path, content: bytes, stored: Stored, most: int) -> NDArray[Any]:
    """The voxels as they are stored, scaled where the file asks for it."""
    if stored.type.kind not in "iufb":
        cause = f"has voxels of type {stored.type}, not numbers on a scale (colour or complex)"
        raise bad_volume(path, cause, "export it as grey values or leave the subject out")
    voxels = math.prod(stored.shape)
    length = stored.first + voxels * stored.type.itemsize
    there = len(content) if stored.packed is None else (len(content) - stored.packed) * MOST_GAIN
    if min(stored.shape) < 0 or length > there:
        raise damaged(path, f"its header declares {voxels} voxels")
    needed = max(length, voxels * np.dtype(np.float32).itemsize)
    if needed > most:
        cause = f"would take {needed >> 20} MiB in memory; at most {most >> 20} MiB are allowed"
        raise bad_volume(path, cause, "export it with fewer voxels or a smaller type, or leave the subject out")
    if stored.packed is None:
        whole: bytes | NDArray[np.uint8] = content
    elif stored.data_file:
        whole = unpacked(content, length + 1, stored.packed, exactly=False)
        if len(whole) != length:
            cause = f"{stored.data_file} does not unpack to the {length} bytes that its header says"
            raise bad_volume(path, cause, "copy both files again from their source, or leave the subject out")
    else:
        whole = unpacked(content, length, stored.packed)
    values = np.frombuffer(whole, stored.type, voxels, stored.first)
    if stored.slope is not None and stored.is_scaled:
        values = _scaled(values, stored.slope, stored.inter)
    values = values.reshape(stored.shape, order="F")
    return values if stored.layer_axis is None else np.moveaxis(values, stored.layer_axis, -1)


def _scaled(values: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """float32; the arithmetic is float64, chunk by chunk, so that no volume of those is ever there."""
    from nibabel.volumeutils import apply_read_scaling

    found = np.empty(values.shape, np.float32)
    for at in range(0, values.size, _CHUNK):
        found[at : at + _CHUNK] = apply_read_scaling(values[at : at + _CHUNK], slope, inter)
    return found


def _checked(path: Path, found: Decoded) -> Decoded:
    values, affine = found.values, found.affine
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if 0 in values.shape or not np.isfinite(affine).all() or not _is_grid(affine):
        raise bad_volume(path, "has no voxels or an affine that is not a grid")
    return found._replace(values=values)


def _is_grid(affine: Affine) -> bool:
    """Whether the axes have lengths and directions of their own, however small the voxels are."""
    x, y, z = voxel_spacing_mm(affine)
    if min(x, y, z) <= 1e-9:
        return False
    # By hand, as every file has one: numpy takes ten times as long for nine numbers.
    (a, b, c), (d, e, f), (g, h, i) = affine[:3, :3].tolist()
    a, b, c, d, e, f, g, h, i = a / x, b / y, c / z, d / x, e / y, f / z, g / x, h / y, i / z
    return bool(abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) > 1e-6)


def _nifti(path: Path, content: bytes) -> Stored:
    packed = 0 if content[:2] == GZIP else None
    start = content[:_HEADER_BYTES] if packed is None else bytes(unpacked(content, _HEADER_BYTES, exactly=False))
    is_second = start[4:8] in (b"n+2\0", b"ni2\0")
    is_pair = b"ni" in (start[344:346], start[4:6]) and suffix_of(path.name) in PAIRS
    if suffix_of(path.name) in PAIRS and not is_pair and len(content) >= _ANALYZE:
        cause = "is a header of Analyze 7.5, which does not say what is left and what is right"
        raise bad_volume(path, cause, "convert it to NIfTI with the program that wrote it")
    if not is_pair and not is_second and start[344:348] != b"n+1\0":
        if start.lstrip()[:1] == b"<":
            cause = "is not a volume: it holds a web page or XML"
            raise bad_volume(path, cause, "fetch it again from its source, signed in there, or leave the subject out")
        raise damaged(path, _what_it_is(start))
    fields = fields_of(path, start, is_second=is_second)
    first = max(fields.first, 0) if is_pair else max(fields.first, fields.header_bytes)
    return Stored(
        fields.shape, fields.type, first, fields.affine, fields.sform_code > 0 or fields.qform_code > 0, packed,
        fields.slope, fields.inter, data_file=f"{path.name.rpartition('.')[0]}.img" if is_pair else "",
        unit=_UNITS.get(fields.unit_code, ""), forms_apart_mm=forms_apart(fields),
    )  # fmt: skip


def _mgh(path: Path, content: bytes) -> Stored:
    """FreeSurfer's volumes: big-endian, with a header of 284 bytes, packed as a whole in .mgz."""
    from nibabel.freesurfer.mghformat import MGHHeader

    packed = 0 if content[:2] == GZIP else None
    start = content[:_MGH_BYTES] if packed is None else bytes(unpacked(content, _MGH_BYTES, exactly=False))
    if len(start) < _MGH_BYTES or int.from_bytes(start[:4], "big") != 1:
        raise damaged(path, "it has no header of FreeSurfer's mgh")
    header = MGHHeader(start, check=False)
    shape = tuple(int(size) for size in header.get_data_shape())
    affine = np.asarray(header.get_affine(), np.float64)
    return Stored(shape, header.get_data_dtype(), _MGH_BYTES, affine, bool(header["goodRASFlag"] == 1), packed)


def _what_it_is(start: bytes) -> str:
    if not start:
        return "it is empty"
    if not start.strip(b"\0"):
        return "it holds zeros"
    return "it has no header of NIfTI in one file"
