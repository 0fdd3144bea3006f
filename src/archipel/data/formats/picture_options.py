"""What a site asks of its pictures: grey or colours, a window of values, a size; nothing else changes a value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import read_whole, short_of_memory
from archipel.data.formats.base import Options
from archipel.data.picture_files import PictureFacts, Pixels, bad_picture, decoded
from archipel.data.samples import FoundValues
from archipel.vocabulary import ARRAY, BadInput, Thing

PICTURE_OPTIONS: Mapping[str, str] = {
    "size": "WIDTHxHEIGHT: resize every image, for example 28x28",
    "mode": "gray: turn colours into shades; rgb: keep colours and repeat shades in all three (by default pictures in "
    "colour are refused)",
    "window": "LOW,HIGH: values from LOW to HIGH become 0 to 255, what is outside becomes 0 or 255; for example "
    "-1000,400",
}
_MODES = ("gray", "rgb")
_EXACT_IN_FLOAT32 = 1 << 24


class Refusal(NamedTuple):
    """Why pictures of a sort are not used: the cause for one of them and for several, and the remedy."""

    one: str
    several: str
    remedy: str


class PictureOptions:
    """The options, understood. Raises BadInput for one that is not valid."""

    def __init__(self, options: Options) -> None:
        size = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", options.get("size", "1"))
        self.mode = options.get("mode", "")
        if size is None:
            raise _not_valid("size", options, "give for example size=28x28")
        if self.mode not in ("", *_MODES):
            raise _not_valid("mode", options, "give mode=gray or mode=rgb")
        self.size = (int(size[1]), int(size[2] or size[1])) if "size" in options else None
        self.window = _window(options) if "window" in options else None

    def refusal(self, facts: PictureFacts) -> Refusal | None:
        """Why a picture of these facts cannot be given as it was asked for; None if it can."""
        if facts.is_coloured and not self.mode:
            return Refusal(
                "is in colour", "are in colour",
                "keep the colours with --option mode=rgb, or turn them into grey with --option mode=gray",
            )  # fmt: skip
        if facts.is_coloured and self.window and self.mode == "rgb":
            cause = "in colour, and a window is for shades of grey"
            return Refusal(f"is {cause}", f"are {cause}", "give --option mode=gray, or leave the option window out")
        largest = max(abs(facts.minimum), abs(facts.maximum))
        whole = np.dtype(facts.type).kind in "iu"
        if self.size and not self.window and whole and largest > _EXACT_IN_FLOAT32:
            cause = f"values of type {facts.type} up to {largest:.0f}, which resizing would round"
            low, high = facts.minimum, facts.maximum
            remedy = f"leave the option size out, or choose a window, for example --option window={low:.0f},{high:.0f}"
            return Refusal(f"has {cause}", f"have {cause}", remedy)
        return None

    def range_of(self, every: Iterable[PictureFacts]) -> dict[str, FoundValues]:
        """The range of what plans get of these pictures, as a schema has it; grey of colours is within theirs."""
        found: FoundValues | None = None
        for facts in every:
            ends = np.array([facts.minimum, facts.maximum])
            low, high = (ends if self.window is None else _windowed(ends, *self.window)).tolist()
            found = FoundValues(minimum=low, maximum=high, narrowest=(low, high)).joined(found)
        return {} if found is None else {ARRAY: found}

    def form(self, facts: PictureFacts) -> str:
        """Type and shape of what plans get of a picture, as a schema has them."""
        width, height = self.size or (facts.width, facts.height)
        colours = ", 3" if self.mode == "rgb" else ""
        return f"{'uint8' if self.window else facts.type} [{height}, {width}{colours}]"

    def read(self, root: Path, place: str) -> NDArray[Any]:
        """A picture as plans get it. Raises BadInput for one that cannot be read, or given so."""
        try:
            return self.given(place, decoded(place, read_whole(root / place)))
        except OSError as error:
            raise bad_picture(place, f"cannot be read ({error.strerror})") from error
        except MemoryError as error:
            raise short_of_memory(root / place) from error

    def given(self, place: str, pixels: Pixels) -> Pixels:
        """Pixels in the mode, window and size that were asked for, in this order; those of another type keep it.

        Raises BadInput for colours where no mode was asked for.
        """
        if pixels.ndim == 3 and self.mode != "rgb":
            if not self.mode:
                raise bad_picture(place, "is in colour", "give the dataset the option mode=rgb or mode=gray")
            pixels = np.asarray(_image(pixels).convert("L"))
        if self.window is not None:
            low, high = self.window
            pixels = _windowed(pixels, low, high)
        if self.size is not None and (pixels.shape[1], pixels.shape[0]) != self.size:
            pixels = _resized(pixels, self.size)
        if self.mode == "rgb" and pixels.ndim == 2:
            pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
        return pixels


def _not_valid(name: str, options: Options, remedy: str) -> BadInput:
    value = options[name]
    return BadInput(Thing.worded(f"option {name}={value}", option=name, value=value), "is not valid", remedy)


def _window(options: Options) -> tuple[float, float]:
    try:
        low, high = (float(text) for text in options["window"].split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _not_valid("window", options, "give the least and the greatest value, for example window=-1000,400")
    return low, high


def _image(pixels: Pixels) -> Any:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels))


def _windowed(pixels: Pixels, low: float, high: float) -> Pixels:
    shares = pixels.astype(np.float64)
    # In place: a large picture takes 1 GiB as float64, each copy as much again.
    shares -= low
    shares *= 255 / (high - low)
    return np.rint(shares.clip(0, 255, out=shares), out=shares).astype(np.uint8)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear, rounded to whole numbers where the type has only these."""
    if pixels.dtype == np.uint8:
        return np.asarray(_image(pixels).resize(size, 2))
    between = np.asarray(_image(pixels.astype(np.float32)).resize(size, 2))
    return between if pixels.dtype.kind == "f" else np.rint(between).astype(pixels.dtype)
