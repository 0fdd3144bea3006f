"""Decoding: the voxels and the affine of one file, NIfTI, NRRD or MetaImage, always in RAS millimetres.

Nothing a file says of itself is believed before it is held against the file's length, so that a damaged or hostile
header can neither fill memory nor lead to another file. NIfTI is decoded from bytes in memory, which were read once;
NRRD and MetaImage by SimpleITK, an optional part.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.reading import Affine
from archipel.vocabulary import BadInput, ErrorCode

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK)

_MOST_GAIN = 1100
"""How many times its size a file can unpack to; deflate reaches 1032."""
MOST_BYTES = 2 << 30
"""What one volume may take in memory as it is stored: 800 x 800 x 800 of float32; more is no image of a patient."""
_HEADER_BYTES = 4096
_MOST_HEADER = 1 << 16
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK's axes run to the patient's left, back and top."""
_EXPORT = "export the volume again or exclude the subject"


class Decoded(NamedTuple):
    """Voxels ``[X, Y, Z]`` or ``[X, Y, Z, channels]`` in stored orientation and type, and their affine.

    ``is_placed`` is whether the file says how the grid lies in the patient; without that the affine has its spacing
    only, and which side is left is anybody's guess.
    """

    values: NDArray[Any]
    affine: Affine
    is_placed: bool = True


def suffix_of(name: str) -> str:
    """The suffix by which a file is decoded, "" where it is no volume."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def decode(path: Path, content: bytes) -> Decoded:
    """The volume in a file whose bytes are ``content``. Raises BadInput for one that cannot be used."""
    try:
        found = _nifti(path, content) if suffix_of(path.name) in NIFTI else _itk(path, content)
    except BadInput:
        raise
    except Exception as error:
        # The decoders raise nearly everything on damaged headers: struct, lookup, arithmetic and their own errors.
        raise _damaged(path, type(error).__name__) from error
    return _checked(path, found)


def bad_volume(path: Path, cause: str, remedy: str = _EXPORT) -> BadInput:
    """The error for a volume, named with the folder that it is in."""
    return BadInput(f"{path.parent.name}/{path.name}", cause, remedy, code=ErrorCode.BAD_DATA)


def _damaged(path: Path, why: str) -> BadInput:
    cause = f"cannot be read to its end ({why}); it may be truncated"
    return bad_volume(path, cause, "copy it again from its source or exclude the subject")


def _checked(path: Path, found: Decoded) -> Decoded:
    values, affine = found.values, found.affine
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if 0 in values.shape or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise bad_volume(path, "has no voxels or an affine that is not a grid")
    if values.dtype.kind not in "iufb":
        cause = f"has voxels of type {values.dtype}, not numbers on a scale (colour or complex)"
        raise bad_volume(path, cause, "export it as grey values or exclude the subject")
    return Decoded(values, affine, found.is_placed)


# NIfTI


def _nifti(path: Path, content: bytes) -> Decoded:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.volumeutils import apply_read_scaling

    packed = content[:2] == b"\x1f\x8b"
    start = _unpacked(path, content, _HEADER_BYTES, exactly=False) if packed else content[:_HEADER_BYTES]
    is_second = start[4:8] == b"n+2\0"
    if not is_second and start[344:348] != b"n+1\0":
        raise _damaged(path, _what_it_is(start))
    kind = Nifti2Header if is_second else Nifti1Header
    # nibabel's own checks take longer than the rest and put 1 mm where no spacing is known; two of them are done here.
    header = kind.from_fileobj(io.BytesIO(start), check=False)
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3:
        raise bad_volume(path, f"has {len(shape)} dimensions {list(shape)}", "give one 3-D volume per subject")
    stored = header.get_data_dtype()
    first, voxels = max(int(header.get_data_offset()), int(header["sizeof_hdr"])), math.prod(shape)
    length = first + voxels * stored.itemsize
    if min(shape) < 0 or length > len(content) * (_MOST_GAIN if packed else 1):
        raise _damaged(path, f"its header speaks of {voxels} voxels")
    _check_size(path, length)
    whole = _unpacked(path, content, length) if packed else content
    values = np.frombuffer(whole, stored, voxels, first).reshape(shape, order="F")
    slope, inter = header.get_slope_inter()
    if slope is not None:
        values = apply_read_scaling(values, slope, inter)
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return Decoded(values, np.asarray(header.get_best_affine(), np.float64), placed)


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        cause = f"would take {size >> 20} MiB in memory; {MOST_BYTES >> 20} are allowed"
        raise bad_volume(path, cause, "export it with fewer voxels or a smaller type, or exclude the subject")


def _unpacked(path: Path, content: bytes, length: int, *, exactly: bool = True) -> bytes:
    """The first ``length`` bytes of a gzip file, which may have several members; nothing beyond them is unpacked.

    Raises BadInput when they are not there, or the checksum of the member that ends with them is wrong.
    """
    parts, held, rest = [], 0, content
    while held < length and rest[:2] == b"\x1f\x8b":
        member = zlib.decompressobj(31)
        parts.append(member.decompress(rest, length - held))
        held += len(parts[-1])
        if not member.eof and exactly:
            # What is left is the checksum, or bytes after the voxels, which nobody reads.
            beyond = member.decompress(member.unconsumed_tail, 1)
            if not member.eof and not beyond:
                raise _damaged(path, "the compressed data ends early")
        rest = member.unused_data
    if exactly and held < length:
        raise _damaged(path, f"{held} of {length} bytes are there")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _what_it_is(start: bytes) -> str:
    if not start:
        return "it is empty"
    if not start.strip(b"\0"):
        return "it holds zeros"
    if start.lstrip()[:1] == b"<":
        return "it holds a web page or XML"
    return "it has no header of NIfTI in one file"


# NRRD and MetaImage


def _itk(path: Path, content: bytes) -> Decoded:
    is_nrrd = _check_whole(path, content)
    sitk = _simple_itk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    shape = tuple(int(size) for size in reader.GetSize())
    channels = reader.GetNumberOfComponents()
    if len(shape) < 3 or channels > 1:
        whole = [*shape, channels] if channels > 1 else list(shape)
        raise bad_volume(path, f"has {len(whole)} dimensions {whole}", "give one 3-D volume per subject")
    if math.prod(shape) > len(content) * _MOST_GAIN:
        raise _damaged(path, f"its header speaks of {math.prod(shape)} voxels")
    _check_size(path, math.prod(shape) * 8)
    image = reader.Execute()
    # ITK's last axis is the slowest, numpy's of the same memory the first: transposed, x comes first again.
    values = sitk.GetArrayFromImage(image).transpose()
    size = len(shape)
    direction = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    placed = b"\nspace:" in content[:_HEADER_BYTES] or not is_nrrd
    return Decoded(values, _LPS_TO_RAS @ affine, placed)


def _check_whole(path: Path, content: bytes) -> bool:
    """Whether the file is NRRD; else it is MetaImage. Raises BadInput for neither, and for voxels in another file."""
    start = content[:_MOST_HEADER]
    is_nrrd = content[:4] == b"NRRD"
    if is_nrrd:
        header, *rest = re.split(rb"\r?\n\r?\n", start, maxsplit=1)
        if not rest and len(content) > _MOST_HEADER:
            raise _damaged(path, f"its header is longer than {_MOST_HEADER >> 10} KiB")
        # The decoder ends a line at \r alone as well.
        detached = re.search(rb"(?i)[\r\n]data ?file[ \t]*:([^\r\n]*)", header)
        other = detached.group(1) if detached else b""
    else:
        found = re.search(rb"(?m)^ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?$", start)
        # The decoder takes other spellings, and may skip a line that this pattern finds: the word stands there once.
        if found is None or content.count(b"ElementDataFile") != 1:
            raise _damaged(path, "it has no header of NRRD or MetaImage that says once where its voxels are")
        other = b"" if found.group(1).strip() in (b"LOCAL", b"Local", b"local") else found.group(1)
    if other:
        cause = f"keeps its voxels in another file ({other.decode('utf-8', 'replace').strip()[:80]})"
        remedy = "write header and voxels as one .mha or .nrrd file"
        raise bad_volume(path, cause, remedy)
    return is_nrrd


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        cause = "is needed to read NRRD and MetaImage and is not installed"
        raise BadInput("SimpleITK", cause, "pip install archipel[nrrd], or convert the files to NIfTI") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
