"""Pictures as Pillow opens them: only kinds that are read here, by our limits, and nothing is printed.

Pillow warns and libtiff prints of a damaged picture; a person at a site reads what is wrong in the report instead.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

_KINDS = ("PNG", "JPEG", "TIFF", "BMP")
_opening = threading.Lock()


@contextmanager
def opened_picture(content: bytes) -> Iterator[Any]:
    """Pillow's picture, whose pixels are not read yet. Raises ImportError without Pillow, and whatever Pillow does.

    Pillow's own limit of pixels is not asked: it is another one than ours, and it is a setting of the whole process.
    """
    from PIL import Image

    with nothing_printed():
        with _opening:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                # By their bytes Pillow reads dozens of other kinds, one of them by starting a program.
                picture = Image.open(BytesIO(content), formats=_KINDS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with picture:
            yield picture


@contextmanager
def nothing_printed() -> Iterator[None]:
    """What Pillow warns of in the block is dropped, and libtiff prints no errors."""
    _silence_libtiff()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _silence_libtiff() -> None:
    """Take away the function with which the libtiff that Pillow loaded prints errors; Pillow raises them as well."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    loaded = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/libtiff" in line}
    for library in loaded:
        set_handler = ctypes.CDLL(library).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = (ctypes.c_void_p,), ctypes.c_void_p
        set_handler(None)
