"""NIfTI headers: the fields that say how voxels are stored and placed.

nibabel reads every header. The usual one (NIfTI-1 in one file, little-endian, with an sform) is read here, to the same
values, because a dataset has thousands of them and nibabel takes ten times as long. Source: nifti1.h.
"""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from archipel.data.sample_data import Affine
from archipel.data.volumes.geometry import apart_mm
from archipel.data.volumes.volume_header import NOT_3D, bad_volume

_USUAL = struct.Struct("<i36x8h14xh4x8f3f3xB128x2h18f16x4s")
"""sizeof_hdr, dim, datatype, pixdim, vox_offset, scl_slope, scl_inter, xyzt_units, qform_code, sform_code, the
quaternion, its offset, srow_x, srow_y, srow_z, magic: 348 bytes."""
_TYPES = {
    code: np.dtype(name).newbyteorder("<")
    for code, name in (
        (2, "u1"), (4, "i2"), (8, "i4"), (16, "f4"), (64, "f8"), (256, "i1"), (512, "u2"), (768, "u4"),
    )
}  # fmt: skip
_ICO7 = (27307, 1, 6)
"""What FreeSurfer writes for a surface whose first size does not fit."""
_ROTATION = 3 * float(np.finfo(np.float32).eps)
"""How far rounding to 32 bits may take the square of a quaternion from that of a rotation."""


class NiftiFields(NamedTuple):
    """Fields of a header; ``affine`` is the one that is used, ``pixdim`` the first four, ``offset`` the qform's in mm.

    ``slope`` is None where values are not scaled.
    """

    shape: tuple[int, ...]
    type: np.dtype[Any]
    header_bytes: int
    first: int
    affine: Affine
    slope: float | None
    inter: float
    qform_code: int
    sform_code: int
    unit_code: int
    quaternion: tuple[float, float, float]
    pixdim: tuple[float, float, float, float]
    offset: tuple[float, float, float]


def fields_of(path: Path, start: bytes, *, is_second: bool) -> NiftiFields:
    """The fields in the first bytes of a file, of NIfTI-2 where ``is_second``.

    Raises BadInput for fewer than three dimensions, and what nibabel raises for damage.
    """
    usual = None if is_second else _usual_fields(start)
    if usual is not None:
        return usual
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind = Nifti2Header if is_second else Nifti1Header
    # nibabel's own checks take longer than the rest and put 1 mm where no spacing is known; two of them are done here.
    header = kind.from_fileobj(io.BytesIO(start), check=False)
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    shape = header.get_data_shape()
    if len(shape) < 3:
        raise bad_volume(path, f"has {len(shape)} dimensions {[int(size) for size in shape]}", NOT_3D)
    return of_header(header)


def of_header(header: Any) -> NiftiFields:
    """The fields of nibabel's header."""
    slope, inter = header.get_slope_inter()
    b, c, d = (float(header[f"quatern_{name}"]) for name in "bcd")
    x, y, z = (float(header[f"qoffset_{axis}"]) for axis in "xyz")
    handed, wide, deep, high = header["pixdim"][:4].tolist()
    return NiftiFields(
        shape=tuple(int(size) for size in header.get_data_shape()),
        type=header.get_data_dtype(),
        header_bytes=int(header["sizeof_hdr"]),
        first=int(header.get_data_offset()),
        affine=np.asarray(header.get_best_affine(), np.float64),
        slope=slope,
        inter=inter or 0.0,
        qform_code=int(header["qform_code"]),
        sform_code=int(header["sform_code"]),
        unit_code=int(header["xyzt_units"]) & 7,
        quaternion=(b, c, d),
        pixdim=(handed, wide, deep, high),
        offset=(x, y, z),
    )


def _usual_fields(start: bytes) -> NiftiFields | None:
    """The fields of a usual header, None for any other, and for one with any field that needs a decision."""
    if len(start) < _USUAL.size:
        return None
    size, count, *numbers = _USUAL.unpack_from(start)
    sizes, (code, handed, x, y, z), numbers = tuple(numbers[:7]), numbers[7:12], numbers[16:]
    first, slope, inter, units, qform_code, sform_code, b, c, d, *places = numbers
    magic, shape, kind = places.pop(), sizes[: max(count, 0)], _TYPES.get(code)
    if (size, magic) != (_USUAL.size, b"n+1\0") or not 3 <= count <= 7 or kind is None or sform_code <= 0:
        return None
    if min(shape) < 1 or shape[:3] == _ICO7 or not all(map(math.isfinite, (first, slope, inter))):
        return None
    affine = np.eye(4)
    affine[:3] = np.array(places[3:]).reshape(3, 4)
    return NiftiFields(
        shape, kind, size, int(first), affine, slope or None, inter if slope else 0.0, qform_code, sform_code,
        units & 7, (b, c, d), (handed if handed in (-1, 1) else 1.0, abs(x), abs(y), abs(z)), tuple(places[:3]),
    )  # fmt: skip


def forms_apart(fields: NiftiFields) -> float | None:
    """How far a corner moves between the sform, which is used, and the qform; 0 where there is only one of them, None
    for a qform that is not a rotation."""
    if fields.sform_code <= 0 or fields.qform_code <= 0:
        return 0.0
    qform = qform_of(fields)
    apart = math.inf if qform is None else apart_mm(fields.shape, fields.affine, qform)
    return round(apart, 6) if math.isfinite(apart) else None


def qform_of(fields: NiftiFields) -> Affine | None:
    """The affine of the header's quaternion; None where that is not a rotation.

    The same as nibabel's ``get_qform``, which takes ten times as long. Source: nifti1.h, "METHOD 2".
    """
    b, c, d = fields.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < -_ROTATION:
        return None
    a = math.sqrt(rest) if rest >= _ROTATION else 0.0
    twice = 2.0 / (a * a + b * b + c * c + d * d)
    handed, x, y, z = fields.pixdim
    z *= handed
    left, front, up = fields.offset
    return np.array(
        (
            ((1 - twice * (c * c + d * d)) * x, twice * (b * c - a * d) * y, twice * (b * d + a * c) * z, left),
            (twice * (b * c + a * d) * x, (1 - twice * (b * b + d * d)) * y, twice * (c * d - a * b) * z, front),
            (twice * (b * d - a * c) * x, twice * (c * d + a * b) * y, (1 - twice * (b * b + c * c)) * z, up),
            (0.0, 0.0, 0.0, 1.0),
        )
    )
