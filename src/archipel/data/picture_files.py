"""Picture files: PNG, JPEG, TIFF and BMP as the exact values that they store, or an error that names type and range.

Nothing is changed but what is exact: a palette becomes its colours, a camera's turn is made, shades of less than 8 bits
are spread to 0 to 255 as their format says, and a transparency that hides nothing is dropped.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import FileFacts, Folder, Purpose
from archipel.data.limits import DATA_LIMITS
from archipel.data.opened_pictures import nothing_printed, opened_picture
from archipel.tensors import BlobHasher
from archipel.vocabulary import BadInput, ErrorCode, Record
from archipel.vocabulary.counting import pluralise

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of the pictures that are read, in lower case."""
LFS_POINTER = b"version https://git-lfs"
"""With what a file begins that Git LFS leaves in the place of one that was not fetched."""
_BITS, _FORM, _LIGHT, _VALUES = 258, 339, 262, 277
"""Tags of a TIFF file: bits of each sample; whether these are unsigned (1), signed (2) or floating (3); whether 0 is
white (0) or black (1); and how many samples a pixel has. Source: TIFF 6.0, sections 3 to 8 and 19."""
_FORMS = {1: "unsigned", 2: "signed", 3: "floating-point"}
_WHOLE_TYPES = {(2, 16): np.int16, (2, 32): np.int32, (1, 32): np.uint32}
_WITHOUT_EXACT_COLOURS = {"CMYK": "CMYK, the colours of print", "LAB": "LAB colours", "YCbCr": "YCbCr colours"}


class PictureFacts(Record):
    """A picture: width and height in pixels, the type of its values (``uint8``, ``int16`` ...), whether it has colours,
    its least and greatest value, and a hash of its pixels.
    """

    width: int
    height: int
    type: str
    is_coloured: bool
    minimum: float
    maximum: float
    pixels: str


_PICTURE = Purpose("picture/5", PictureFacts)
_FEW_PIXELS = 1 << 24
_PIXELS_PER_BYTE = 32
"""A picture of more than ``_FEW_PIXELS`` that takes less on the disk is empty, and needs the memory of a full one."""
_MOST_SCANS = 100
"""Of a JPEG file; each goes over the whole picture, and takes a few bytes of the file. Ten are usual, and libtiff has
the same limit."""
_SCAN = b"\xff\xda"
Pixels = NDArray[Any]
"""``[height, width]`` of shades, or ``[height, width, 3]`` of colours."""


def look_at_picture(folder: Folder, place: str) -> FileFacts[PictureFacts]:
    """What is known of a picture; one that has not changed is not opened again."""
    most = folder.limits.picture_pixels
    return folder.look_at_bytes(place, _PICTURE, lambda path, content: _examined(path, content, most))


def _examined(path: Path, content: bytes, most_pixels: int) -> PictureFacts:
    """Raises BadInput as ``decoded`` does."""
    pixels = decoded(path.name, content, most_pixels)
    hasher = BlobHasher()
    hasher.update(f"{pixels.dtype.str}{pixels.shape}".encode())
    hasher.update(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    return PictureFacts(
        width=pixels.shape[1],
        height=pixels.shape[0],
        type=pixels.dtype.name,
        is_coloured=pixels.ndim == 3,
        minimum=float(pixels.min()),
        maximum=float(pixels.max()),
        pixels=hasher.digest(),
    )


def decoded(place: str, content: bytes, most_pixels: int = DATA_LIMITS.picture_pixels) -> Pixels:
    """The values of a picture, upright; shades where all of its colours are grey.

    Raises BadInput for a picture that is damaged, or cannot be read exactly.
    """
    if content.startswith(LFS_POINTER):
        remedy = "fetch it with git lfs pull in the dataset's folder, or leave it out"
        raise bad_picture(place, "is a pointer of Git LFS in the place of the picture", remedy)
    try:
        from PIL import ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise BadInput(place, "needs Pillow to be read", 'pip install "archipel[tables]"') from error
    try:
        with opened_picture(content) as picture:
            _check_size(place, picture, len(content), most_pixels)
            if picture.format == "JPEG" and (scans := content.count(_SCAN)) > _MOST_SCANS:
                cause = f"is stored in {scans} scans; at most {_MOST_SCANS} are allowed"
                raise bad_picture(place, cause, "save it again as JPEG, or leave it out")
            # Counting the pictures in a file would read each of them.
            if getattr(picture, "is_animated", False):
                raise bad_picture(place, "holds more than one picture", "store one picture per file")
            stored = _checked_type(place, picture)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _exact(place, picture, stored)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError,
            struct.error, zlib.error) as error:  # fmt: skip
        unread = _type_in_tags(content) if isinstance(error, UnidentifiedImageError) else ""
        if unread:
            remedy = "save it in grey of 8 or 16 bits or of 32-bit floating point, or in colours of 8 bits each"
            raise bad_picture(place, f"stores {unread} for each pixel, which cannot be read", remedy) from error
        raise bad_picture(place, _instead(content, error)) from error


def _check_size(place: str, picture: Any, size: int, most: int) -> None:
    """Raise BadInput for more pixels than are allowed, at all or in a file of ``size`` bytes."""
    pixels = picture.width * picture.height
    if pixels > most:
        cause = f"has {picture.width} x {picture.height} pixels; at most {most} are allowed"
        raise bad_picture(place, cause, "make it smaller, or leave it out")
    if pixels > _FEW_PIXELS + _PIXELS_PER_BYTE * size:
        cause = f"has {picture.width} x {picture.height} pixels in {size} bytes, and so nearly nothing in them"
        raise bad_picture(place, cause, "make it smaller, or leave it out")


def _instead(content: bytes, error: Exception) -> str:
    """What a file is that cannot be read as a picture."""
    if not content:
        return "is an empty file, not a picture"
    if content[:64].lstrip()[:1] == b"<":
        return "is a web page or another text (HTML, XML), not a picture"
    return f"is not a picture, or a damaged one ({type(error).__name__})"


def bad_picture(place: str, cause: str, remedy: str = "copy it again from its source or leave it out") -> BadInput:
    """The error for a picture that cannot be used."""
    return BadInput(place, cause, remedy, code=ErrorCode.BAD_DATA)


class _Stored(NamedTuple):
    """How a TIFF file stores its values; that of other kinds follows from Pillow's mode."""

    bits: int = 8
    form: int = 1


def _checked_type(place: str, picture: Any) -> _Stored:
    """How the values are stored. Raises BadInput where Pillow would read other values than these."""
    tags = getattr(picture, "tag_v2", None)
    raw = str(picture.tile[0].args) if picture.format == "PNG" and picture.tile else ""
    bits, form, light = (8, 1, 1) if tags is None else (_first(tags, tag) for tag in (_BITS, _FORM, _LIGHT))
    if ";16" in raw and picture.mode != "I;16":
        bits = 16
    if bits > 8 and picture.mode not in ("I;16", "I;16B", "I", "F"):
        cause = f"stores {bits} bits for each colour or with a transparency, of which 8 would be read"
        raise bad_picture(place, cause, "save it in shades of grey of 16 bits without transparency, or with 8 bits")
    if form == 2 and bits == 8:
        raise bad_picture(place, "stores signed values of 8 bits, which would lose their sign", "save it with 16 bits")
    if light == 0 and bits > 8:
        cause = f"stores {bits} bits with white as 0, which would be read as black"
        raise bad_picture(place, cause, "save it with black as 0 (MinIsBlack)")
    if picture.mode in _WITHOUT_EXACT_COLOURS:
        cause = f"stores {_WITHOUT_EXACT_COLOURS[picture.mode]}, which have no exact red, green and blue"
        raise bad_picture(place, cause, "save it in RGB or in shades of grey")
    return _Stored(bits, form)


def _first(tags: Any, tag: int) -> int:
    found = tags.get(tag, 1)
    return int(max(found, default=1) if isinstance(found, tuple) else found)


def _exact(place: str, picture: Any, stored: _Stored) -> Pixels:
    """The loaded picture's values. Raises BadInput for a mode that is not read, and for values that hide something."""
    if picture.mode in ("I;16", "I;16B"):
        deep = np.asarray(picture).astype(np.uint16)
        clear = picture.info.get("transparency")
        _check_opaque(place, 0 if clear is None else int((deep == clear).sum()), deep.size)
        return deep
    if picture.mode == "I" and (stored.form, stored.bits) in _WHOLE_TYPES:
        whole, kind = np.asarray(picture, dtype=np.int32), _WHOLE_TYPES[stored.form, stored.bits]
        return whole.view(np.uint32) if kind is np.uint32 else whole.astype(kind)
    if picture.mode == "F":
        floating = np.asarray(picture, dtype=np.float32)
        unsound = int((~np.isfinite(floating)).sum())
        if unsound:
            cause = f"stores {unsound} floating-point values that are NaN or infinite"
            raise bad_picture(place, cause, "write a number into these pixels, or leave it out")
        return floating
    if picture.has_transparency_data:
        channels = np.asarray(picture.convert("RGBA"))
        _check_opaque(place, int((channels[..., 3] < 255).sum()), channels[..., 3].size)
        return _shades_where_grey(channels[..., :3])
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    if picture.mode in ("P", "RGB"):
        # Pillow would copy one that is in these colours already.
        return _shades_where_grey(np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB")))
    raise bad_picture(place, f"stores values of type {picture.mode}, which are not read", "save it as PNG")


def _check_opaque(place: str, hidden: int, pixels: int) -> None:
    if hidden:
        cause = f"is transparent in {hidden} of {pixels} pixels, and what is behind them is not known"
        raise bad_picture(place, cause, "put it on a background and save it without transparency")


def _shades_where_grey(colours: Pixels) -> Pixels:
    is_grey = np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])
    return np.ascontiguousarray(colours[..., 0] if is_grey else colours)


def _type_in_tags(content: bytes) -> str:
    """What a TIFF file's tags say that a pixel is, for people to read; "" if it is another file."""
    from PIL import TiffImagePlugin

    if content[:4] not in (b"II*\0", b"MM\0*"):
        return ""
    try:
        with nothing_printed():
            tags = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
            file = BytesIO(content)
            file.seek(tags.next)
            tags.load(file)
            bits, form, values = (_first(tags, tag) for tag in (_BITS, _FORM, _VALUES))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, OverflowError, struct.error):
        return ""
    if _BITS not in tags:
        return ""
    return f"{pluralise(values, f'{_FORMS[form]} value')} of {bits} bits" if form in _FORMS else ""
