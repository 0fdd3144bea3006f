"""Pictures of every depth and colour: the values that the file stores, or an error that names what is stored."""

from __future__ import annotations

import io
import re
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from archipel.data import scan
from archipel.data.formats import format_named
from archipel.data.picture_files import decoded
from archipel.vocabulary import BadInput

GREY = np.random.default_rng(1).integers(0, 256, (6, 5), np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (6, 5, 3), np.uint8)
DEEP = GREY.astype(np.uint16) * 256 + 77


def saved(image: Image.Image, kind: str, **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def tiff(values: np.ndarray, form: int = 1, light: int = 1, channels: int = 1, order: str = "<") -> bytes:
    """A TIFF file of one strip, in a type that Pillow does not write."""
    height, width = values.shape[:2]
    data, each = values.tobytes(), values.dtype.itemsize * 8
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, each), (259, 3, 1, 1), (262, 3, 1, light)),
        *((273, 4, 1, 8), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)), (339, 3, 1, form)),
    ]
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        directory += struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8 + len(data)) + data + directory + bytes(4)


def png(values: np.ndarray, kind: int, more: bytes = b"") -> bytes:
    """A PNG file of 16 bits in a colour type that Pillow does not write; ``more`` are chunks before the pixels."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(GREY).convert("P")
    image.putpalette(colours)
    return image


HOUNSFIELD = GREY.astype(np.int32) * 8 - 1024
SHARES = (GREY / 255).astype(np.float32)
INVERTED = [255 - value for value in range(256) for _ in range(3)]
BLUE = [value for shade in range(256) for value in (0, 0, shade)]
EXACT = {
    "8-bit grey": (saved(Image.fromarray(GREY), "PNG"), GREY),
    "BMP": (saved(Image.fromarray(GREY), "BMP"), GREY),
    "BMP in colour": (saved(Image.fromarray(COLOUR), "BMP"), COLOUR),
    "16-bit grey PNG": (saved(Image.fromarray(DEEP), "PNG"), DEEP),
    "12 bits in 16": (saved(Image.fromarray(GREY.astype(np.uint16) * 16), "PNG"), GREY.astype(np.uint16) * 16),
    "16-bit grey TIFF": (tiff(DEEP), DEEP),
    "signed 16 bits": (tiff(HOUNSFIELD.astype(np.int16), 2), HOUNSFIELD.astype(np.int16)),
    "signed 32 bits": (tiff(HOUNSFIELD, 2), HOUNSFIELD),
    "unsigned 32 bits": (tiff(GREY.astype(np.uint32) * 10_000_000), GREY.astype(np.uint32) * 10_000_000),
    "floating-point Hounsfield": (tiff(HOUNSFIELD.astype(np.float32), 3), HOUNSFIELD.astype(np.float32)),
    "floating-point 0 to 1": (tiff(SHARES, 3), SHARES),
    "signed 16 bits, big-endian": (tiff(HOUNSFIELD.astype(">i2"), 2, order=">"), HOUNSFIELD.astype(np.int16)),
    "16 bits, big-endian": (tiff(DEEP.astype(">u2"), order=">"), DEEP),
    "floating point, big-endian": (tiff(SHARES.astype(">f4"), 3, order=">"), SHARES),
    "white as 0": (tiff(GREY, light=0), 255 - GREY),
    "1 bit": (saved(Image.fromarray(GREY > 127), "PNG"), (GREY > 127).astype(np.uint8) * 255),
    "an inverted palette": (saved(with_palette(INVERTED), "PNG"), 255 - GREY),
    "a palette of colours": (saved(with_palette(BLUE), "PNG"), np.stack([0 * GREY, 0 * GREY, GREY], -1)),
    "colours": (saved(Image.fromarray(COLOUR), "PNG"), COLOUR),
    "colours that are all grey": (saved(Image.fromarray(np.stack([GREY] * 3, -1)), "PNG"), GREY),
    "opaque": (saved(Image.fromarray(GREY).convert("RGBA"), "PNG"), GREY),
    "opaque grey": (saved(Image.fromarray(GREY).convert("LA"), "PNG"), GREY),
}
DARK = np.minimum(GREY, 254)
REFUSED = {
    "transparent grey": (
        saved(Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (5, 6), 128))), "PNG"),
        "is transparent in 30 of 30 pixels",
    ),
    "one transparent shade": (saved(Image.fromarray(DARK), "PNG", transparency=int(DARK[0, 0])), "is transparent in"),
    "one transparent shade of 16 bits": (
        png(DEEP, 0, chunk(b"tRNS", struct.pack(">H", int(DEEP[0, 0])))), "is transparent in",
    ),
    "16-bit colours": (png(np.stack([DEEP] * 3, -1), 2), "stores 16 bits for each colour or with a transparency"),
    "16-bit grey with transparency": (png(np.stack([DEEP] * 2, -1), 4), "stores 16 bits for each colour or with"),
    "CMYK": (saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "stores CMYK, the colours of print"),
    "CMYK TIFF": (saved(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), "stores CMYK, the colours of print"),
    "LAB": (saved(Image.new("LAB", (5, 6)), "TIFF"), "stores LAB colours"),
    "64-bit floating point": (tiff(SHARES.astype(np.float64), 3), "stores 1 floating-point value of 64 bits"),
    "16-bit floating point": (tiff(SHARES.astype(np.float16), 3), "stores 1 floating-point value of 16 bits"),
    "floating-point colours": (
        tiff(np.stack([SHARES] * 3, -1), 3, light=2, channels=3), "stores 3 floating-point values of 32 bits for each",
    ),
    "unsigned 32 bits, big-endian": (tiff(GREY.astype(">u4"), order=">"), "stores 1 unsigned value of 32 bits"),
    "signed 8 bits": (tiff(GREY.view(np.int8), 2), "stores signed values of 8 bits"),
    "deep with white as 0": (tiff(DEEP, light=0), "stores 16 bits with white as 0"),
    "not a number": (tiff(np.full((6, 5), np.nan, np.float32), 3), "stores 30 floating-point values that are NaN"),
    "several pages": (
        saved(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]),
        "holds more than one picture",
    ),
    "a TIFF that ends early": (tiff(DEEP)[:60], "is not a picture, or a damaged one"),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_a_picture_has_the_values_that_its_file_stores(case: str) -> None:
    content, expected = EXACT[case]
    values = decoded("a.png", content)
    assert values.dtype == expected.dtype and np.array_equal(values, expected)


@pytest.mark.parametrize("case", REFUSED)
def test_a_picture_that_cannot_be_read_exactly_is_refused_by_its_type(case: str) -> None:
    content, words = REFUSED[case]
    with pytest.raises(BadInput) as caught:
        decoded("a.png", content)
    assert str(caught.value).startswith(f"a.png: {words}"), str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_tags_of_a_tiff_file_are_one_line() -> None:
    whole = tiff(SHARES.astype(np.float64), 3)
    numbers = np.random.default_rng(3)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in numbers.integers(len(whole) - 130, len(whole), 4):
            damaged[place] = numbers.integers(256)
        try:
            decoded("a.tif", bytes(damaged))
        except BadInput as error:
            assert "\n" not in str(error)


def folders(root, content: bytes, count: int = 8, ending: str = "png"):
    """Two classes with ``count`` pictures of the same content; their names alone differ."""
    for number in range(count):
        place = root / "ab"[number % 2] / f"{number}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return root


def given(root, **options: str) -> np.ndarray:
    found = scan("class-folders", root, options)
    assert not found.errors, found.errors
    (one, *_) = format_named("class-folders").read(root, found.samples, options)
    x = one.arrays["x"]
    assert found.schema.arrays == {"x": f"{x.dtype} {list(x.shape)}"}
    return x


def test_grey_is_repeated_at_its_own_depth_where_colours_are_asked_for(tmp_path) -> None:
    x = given(folders(tmp_path, EXACT["16-bit grey PNG"][0]), mode="rgb")
    assert x.dtype == np.uint16 and np.array_equal(x, np.stack([DEEP] * 3, -1))


def test_a_window_maps_the_values_that_the_owner_names_to_8_bits(tmp_path) -> None:
    x = given(folders(tmp_path, EXACT["signed 16 bits"][0]), window="-1000,400")
    assert x.dtype == np.uint8
    assert np.array_equal(x, np.rint(((HOUNSFIELD + 1000) * (255 / 1400)).clip(0, 255)))
    assert np.array_equal(given(tmp_path, window="-1000,400", mode="rgb"), np.stack([x] * 3, -1))


@pytest.mark.parametrize("case", ["16-bit grey PNG", "signed 16 bits", "floating-point Hounsfield", "8-bit grey"])
def test_resizing_keeps_the_type_and_the_range(tmp_path, case: str) -> None:
    content, values = EXACT[case]
    x = given(folders(tmp_path, content), size="3x4")
    assert x.dtype == values.dtype and x.shape == (4, 3)
    assert values.min() <= x.min() and x.max() <= values.max() and abs(x.mean() - values.mean()) < values.std()


def proposals(root, **options: str) -> list[dict[str, str]]:
    """What the only error proposes to type."""
    (problem,) = scan("class-folders", root, options).errors
    found = re.findall(r"--option ([a-z]+)=(\S+?)[.;,]?(?=\s|$)", problem.remedy)
    assert found, problem
    return [{name: value} for name, value in found]


def test_colours_are_asked_about_once_and_each_option_that_is_proposed_works(tmp_path) -> None:
    root = folders(tmp_path, EXACT["colours"][0])
    (problem,) = scan("class-folders", root).errors
    assert str(problem).startswith(f"{root.name}: 8 of 8 pictures are in colour (first a/0.png);")
    assert proposals(root) == [{"mode": "rgb"}, {"mode": "gray"}]
    shades = np.asarray(Image.fromarray(COLOUR).convert("L"))
    for options, expected in zip(proposals(root), (COLOUR, shades), strict=True):
        assert np.array_equal(given(root, **options), expected)


def test_values_that_resizing_would_round_are_refused_until_a_window_is_chosen(tmp_path) -> None:
    root = folders(tmp_path, EXACT["unsigned 32 bits"][0])
    (options,) = proposals(root, size="3x4")
    assert given(root, size="3x4", **options).dtype == np.uint8


def test_a_few_pictures_in_colour_among_grey_ones_are_named_and_rgb_takes_all(tmp_path) -> None:
    root = folders(tmp_path, EXACT["8-bit grey"][0])
    (root / "a" / "c.png").write_bytes(EXACT["colours"][0])
    (problem,) = scan("class-folders", root).errors
    assert str(problem).startswith("a/c.png: is in colour;") and problem.subject == "c"
    found = scan("class-folders", root, {"mode": "rgb"})
    assert not found.errors and len(found.samples) == 9 and found.schema.arrays == {"x": "uint8 [6, 5, 3]"}


def test_a_window_is_not_for_colours(tmp_path) -> None:
    root = folders(tmp_path, EXACT["colours"][0])
    (problem,) = scan("class-folders", root, {"mode": "rgb", "window": "0,100"}).errors
    assert "8 of 8 pictures are in colour, and a window is for shades of grey" in str(problem)
    assert given(root, mode="gray", window="0,255").dtype == np.uint8


@pytest.mark.parametrize("ending", ["bmp", "BMP", "PNG", "TIF"])
def test_an_ending_may_be_in_capital_letters(tmp_path, ending: str) -> None:
    assert np.array_equal(given(folders(tmp_path, EXACT["BMP"][0], ending=ending)), GREY)


def sized(width: int, height: int) -> bytes:
    """The beginning of a PNG file that says its size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (sized(20_000, 20_000), "has 20000 x 20000 pixels; at most 134217728 are allowed"),
        (sized(1 << 30, 1 << 30), "has 1073741824 x 1073741824 pixels; at most 134217728 are allowed"),
        (sized(9_500, 9_500), f"has 9500 x 9500 pixels in {len(sized(1, 1))} bytes, and so nearly nothing in them"),
    ],
)
def test_a_picture_of_too_many_pixels_is_named_by_its_size(content: bytes, said: str) -> None:
    """Before its pixels are unpacked, and by our limits: Pillow's own would say something else."""
    with pytest.raises(BadInput) as refused:
        decoded("a.png", content)
    assert refused.value.cause == said


def test_pillows_own_limit_of_pixels_is_not_asked_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(decoded("a.png", saved(Image.fromarray(GREY), "PNG")), GREY)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_jpeg_of_many_scans_is_refused_before_they_are_read() -> None:
    """Each goes over the whole picture, and takes 30 bytes of the file."""
    whole = saved(Image.fromarray(GREY), "JPEG", progressive=True)
    scan_of_all = whole[whole.rindex(b"\xff\xda") : -2]
    usual = whole.count(b"\xff\xda")
    assert decoded("a.jpg", whole[:-2] + scan_of_all * (100 - usual) + whole[-2:]).shape == GREY.shape
    with pytest.raises(BadInput, match=r"a\.jpg: is stored in 101 scans; at most 100 are allowed"):
        decoded("a.jpg", whole[:-2] + scan_of_all * (101 - usual) + whole[-2:])


def damaged_tiff(compression: str) -> bytes:
    content = bytearray(saved(Image.fromarray(np.tile(GREY, (9, 9))), "TIFF", compression=compression))
    content[20:60] = b"\xff" * 40
    return bytes(content)


def with_tags_beyond_its_end() -> bytes:
    whole = saved(Image.fromarray(GREY), "TIFF")
    count = struct.unpack_from("<H", whole, 8)[0]
    tags = whole[10 : 10 + 12 * count] + struct.pack("<HHII", 65_000, 7, 1 << 20, 8)
    return b"II*\0" + struct.pack("<I", len(whole)) + whole[8:] + struct.pack("<H", count + 1) + tags + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        *map(damaged_tiff, ("tiff_deflate", "tiff_lzw", "jpeg")),
        with_tags_beyond_its_end(),
        sized(9_500, 9_500),
        tiff(GREY)[:60],
    ],
    ids=["deflate", "lzw", "jpeg", "tags", "size", "end"],
)
@pytest.mark.filterwarnings("error")
def test_nothing_that_a_library_says_reaches_a_terminal(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither Pillow's warnings nor the lines that libtiff prints."""
    with suppress(BadInput):
        decoded("a.tif", content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is an empty file, not a picture"), (b"\n<html>Access denied</html>", "is a web page or another text"),
     (b"\xff\xd8\xff\xe0", "is not a picture, or a damaged one")],
)  # fmt: skip
def test_what_is_in_the_place_of_a_picture_is_named(content: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        decoded("a.jpg", content)


def test_a_pointer_of_git_lfs_is_named_in_the_place_of_a_picture():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
    with pytest.raises(BadInput, match="pointer of Git LFS in the place of the picture; fetch it with git lfs pull"):
        decoded("a.png", pointer)
