"""Format ``class-folders``: 2-D images, one folder per class: ``pneumonia/0012.png``, ``normal/0031.png``.

The patient is the file's name without its ending, or the part of it that a pattern finds. Plans get the pixels as ``x``
and the class's number as ``y``, or the class by name when they ask for it as their target.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from archipel.data.files import FileFacts, Folder, Purpose, content_hash, read_whole, short_of_memory
from archipel.data.formats.base import Options, verify_files
from archipel.data.formats.name_patterns import found_in
from archipel.data.limits import DATA_LIMITS
from archipel.data.sample_data import SampleData
from archipel.data.samples import ColumnSummary, DataIssue, DataSchema, Sample, Scan, SubjectId, problem_of
from archipel.tensors import BlobHasher, blob_hash
from archipel.vocabulary import BadInput, DataKind, ErrorCode, Record, Thing

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
CLASS, NUMBER = "class", "class_number"
"""The values of a sample: its class by name and, counted from 0, in the order of the classes."""
_KINDS = ("PNG", "JPEG", "TIFF")
_MODES = {"gray": "L", "rgb": "RGB"}
_SUBJECT = TypeAdapter(SubjectId)


class ClassFolders:
    """One folder per class."""

    name: ClassVar[str] = "class-folders"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = "<class>/<image>.png, .jpg or .tif: 2-D images, one folder per class"
    options: ClassVar[Mapping[str, str]] = {
        "size": "WIDTHxHEIGHT: resize every image, for example 28x28",
        "mode": "gray (default) or rgb",
        "classes": "the classes in their order, for example normal,pneumonia (by default the folders by name)",
        "subject": "a regular expression that finds the patient in a file's name, for example ^[^_]+",
    }

    def fits(self, folder: Folder) -> str:
        """Pictures in two folders or more."""
        classes = {PurePosixPath(place).parts[0] for place in _places(folder, [])}
        return f"folders {', '.join(sorted(classes)[:5])} hold pictures" if len(classes) > 1 else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every picture; one that has not changed is not opened again."""
        asked = _Asked(options)
        problems: list[DataIssue] = []
        places = list(_places(folder, problems))
        classes = asked.classes or sorted({PurePosixPath(place).parts[0] for place in places})
        pictures: dict[str, _Looked] = {}
        unread = [one.thing for one in problems if one.thing.lower().endswith(SUFFIXES)]
        subjects = asked.subjects(
            sorted({PurePosixPath(place).stem for place in (*places, *unread)}), folder.limits.pattern_s
        )
        problems = [one.model_copy(update={"subject": subjects.get(PurePosixPath(one.thing).stem, "")})
                    for one in problems]  # fmt: skip
        for place in places:
            subject = subjects[PurePosixPath(place).stem]
            sample = _sample(folder, place, subject, asked, classes, problems)
            if sample is not None:
                pictures[place] = sample
        _refuse_repeated(pictures, problems)
        _refuse_odd_ones(pictures, asked, problems)
        _warn_of_twins(pictures, problems)
        if not pictures and not problems:
            cause = f"holds no class/image ({', '.join(SUFFIXES)})"
            problems.append(
                DataIssue(thing=folder.root.name, cause=cause, remedy="put the pictures in one folder per class")
            )
        for name in classes:
            if pictures and not any(sample.values[CLASS] == name for sample, _ in pictures.values()):
                problems.append(
                    _warning(
                        name, "is a class without a picture", "add pictures, or use the dataset without this class"
                    )
                )
        samples = sorted((sample for sample, _ in pictures.values()), key=lambda sample: sample.key)
        return Scan(tuple(samples), tuple(problems), _schema(samples, pictures, asked))

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """``x`` uint8 (uint16 where a gray picture has 16 bits) ``[height, width]``, or ``[height, width, 3]`` for
        mode rgb, and ``y`` int64, the class's number."""
        asked = _Asked(options)
        for sample in samples:
            place = sample.files["image"]
            try:
                x = asked.pixels(_opened(place, read_whole(root / place)))
            except OSError as error:
                raise _bad(place, f"cannot be read ({error.strerror})") from error
            except MemoryError as error:
                raise short_of_memory(root / place) from error
            yield SampleData(
                arrays={"x": x, "y": np.asarray(sample.values[NUMBER], dtype=np.int64)}, values=sample.values
            )

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every file again."""
        for sample in samples:
            verify_files(root, sample)


class PictureFacts(Record):
    """A picture: its size in pixels, Pillow's name of its mode, and a hash of the pixels."""

    width: int
    height: int
    mode: str
    pixels: str


_PICTURE = Purpose("picture/3", PictureFacts)
_Looked = tuple[Sample, FileFacts[PictureFacts]]


class _Asked:
    """The options, understood. Raises BadInput for one that is not valid."""

    def __init__(self, options: Options) -> None:
        size = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", options.get("size", "1"))
        mode = options.get("mode", "gray")
        if size is None:
            raise BadInput(
                Thing.worded(f"option size={options['size']}", option="size", value=options["size"]),
                "is not valid",
                "give for example size=28x28",
            )
        if mode not in _MODES:
            raise BadInput(
                Thing.worded(f"option mode={mode}", option="mode", value=mode),
                "is not valid",
                "give mode=gray or mode=rgb",
            )
        self.size = (int(size[1]), int(size[2] or size[1])) if "size" in options else None
        self.mode = _MODES[mode]
        self.classes = [name.strip() for name in options["classes"].split(",")] if "classes" in options else []
        self.pattern = options.get("subject", "")

    def subjects(self, stems: Sequence[str], seconds: int) -> Mapping[str, str]:
        """The patient in each name, "" where none is found. Raises BadInput for a pattern that cannot be used."""
        return found_in(stems, self.pattern, seconds) if self.pattern else {stem: stem for stem in stems}

    def pixels(self, picture: Any) -> NDArray[Any]:
        """The picture in the mode and size that were asked for."""
        deep = self.mode == "L" and picture.mode.startswith("I")
        picture = picture.convert("F" if deep else self.mode)
        if self.size is not None and picture.size != self.size:
            picture = picture.resize(self.size, 2)  # bilinear
        values = np.asarray(picture)
        return np.rint(values).clip(0, 65_535).astype(np.uint16) if deep else values

    def shape(self, facts: PictureFacts) -> str:
        """Type and shape of a picture's pixels, as a schema has them."""
        width, height = self.size or (facts.width, facts.height)
        if self.mode == "RGB":
            return f"uint8 [{height}, {width}, 3]"
        return f"{'uint16' if facts.mode.startswith('I') else 'uint8'} [{height}, {width}]"


def _places(folder: Folder, problems: list[DataIssue]) -> Iterator[str]:
    return (place for place in folder.files("*/*", problems) if place.lower().endswith(SUFFIXES))


def _sample(
    folder: Folder, place: str, subject: str, asked: _Asked, classes: Sequence[str], problems: list[DataIssue]
) -> _Looked | None:
    path = PurePosixPath(place)
    if folder.leaves_out(subject):
        return None
    if path.parts[0] not in classes:
        cause = f"is in folder {path.parts[0]}, which is not one of the classes {', '.join(classes)}"
        problems.append(DataIssue(thing=place, cause=cause, remedy="name the class in classes=..., or move the file"))
        return None
    try:
        _SUBJECT.validate_python(subject)
    except ValidationError:
        problems.append(DataIssue(thing=place, cause="has no patient in its name", remedy="fix subject=..., or rename"))
        return None
    looked = folder.look_at_bytes(
        place, _PICTURE, lambda path, content: _examined(path, content, folder.limits.picture_pixels)
    )
    if looked.problem is not None:
        problems.append(looked.problem.model_copy(update={"thing": place, "subject": subject}))
        return None
    hashes = {"image": looked.hash, CLASS: blob_hash(path.parts[0].encode())}
    sample = Sample(
        subject=subject,
        session=path.stem[:100] if asked.pattern else "",
        files={"image": place},
        values={CLASS: path.parts[0], NUMBER: list(classes).index(path.parts[0])},
        hash=content_hash(hashes),
        file_hashes=hashes,
    )
    return sample, looked


def _examined(path: Path, content: bytes, most_pixels: int) -> PictureFacts:
    """Size, mode and a hash of the pixels. Raises BadInput for a picture that is damaged."""
    picture = _opened(path.name, content, most_pixels)
    pixels = np.ascontiguousarray(np.asarray(picture))
    hasher = BlobHasher()
    hasher.update(f"{pixels.dtype.str}{pixels.shape}".encode())
    hasher.update(pixels.reshape(-1).view(np.uint8).data)
    return PictureFacts(width=picture.width, height=picture.height, mode=picture.mode, pixels=hasher.digest())


def _opened(place: str, content: bytes, most_pixels: int = DATA_LIMITS.picture_pixels) -> Any:
    """The decoded picture, upright. Raises BadInput."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise BadInput(place, "needs Pillow to be read", 'pip install "archipel[tables]"') from error
    try:
        # By their bytes Pillow reads dozens of other kinds, one of them by starting a program.
        with Image.open(BytesIO(content), formats=_KINDS) as picture:
            if picture.width * picture.height > most_pixels:
                cause = f"has {picture.width} x {picture.height} pixels; at most {most_pixels} are allowed"
                raise _bad(place, cause, "make it smaller, or exclude it")
            # Counting the pictures in a file would read each of them.
            if getattr(picture, "is_animated", False):
                raise _bad(place, "holds more than one picture", "store one picture per file")
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError,
            struct.error, zlib.error, Image.DecompressionBombError) as error:  # fmt: skip
        raise _bad(place, f"is not a picture, or a damaged one ({type(error).__name__})") from error
    return picture


def _bad(place: str, cause: str, remedy: str = "copy it again from its source or exclude it") -> BadInput:
    return BadInput(place, cause, remedy, code=ErrorCode.BAD_DATA)


def _warning(thing: str, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")


def _refuse_repeated(pictures: dict[str, _Looked], problems: list[DataIssue]) -> None:
    """Pictures of one name: if they are in two classes, the right class is unknown and none of them is used."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place, (sample, _) in pictures.items():
        places[sample.key].append(place)
    for (subject, _), several in places.items():
        if len(several) > 1:
            cause = f"is there {len(several)} times ({', '.join(several)})"
            problems.append(DataIssue(thing=subject, cause=cause, remedy="keep one of them", subject=subject))
            for place in several:
                del pictures[place]


def _refuse_odd_ones(pictures: dict[str, _Looked], asked: _Asked, problems: list[DataIssue]) -> None:
    """Pictures whose shape differs from most: rows of arrays must have one shape."""
    shapes = Counter(asked.shape(facts.require_facts()) for _, facts in pictures.values())
    if len(shapes) < 2:
        return
    usual = shapes.most_common(1)[0][0]
    for place, (sample, facts) in list(pictures.items()):
        own = asked.shape(facts.require_facts())
        if own != usual:
            odd = BadInput(place, f"has pixels {own}, most have {usual}", "set size=WIDTHxHEIGHT, or exclude it")
            problems.append(problem_of(odd).model_copy(update={"subject": sample.subject}))
            del pictures[place]


def _warn_of_twins(found: Mapping[str, _Looked], problems: list[DataIssue]) -> None:
    """The same pixels under two classes: one of the two is wrong."""
    twins: dict[str, list[str]] = defaultdict(list)
    for place, (_, facts) in found.items():
        twins[facts.require_facts().pixels].append(place)
    for places in twins.values():
        if len({PurePosixPath(place).parts[0] for place in places}) > 1:
            cause = f"has the same pixels as {', '.join(places[1:])}, in another class"
            problems.append(_warning(places[0], cause, "find out which class is right, and remove the other"))


def _schema(samples: Sequence[Sample], pictures: Mapping[str, _Looked], asked: _Asked) -> DataSchema:
    if not samples:
        return DataSchema(kind="arrays")
    x = asked.shape(next(iter(pictures.values()))[1].require_facts())
    people = {(sample.subject, str(sample.values[CLASS])) for sample in samples}
    counts = dict(sorted(Counter(name for _, name in people).items()))
    return DataSchema(
        kind="arrays",
        subjects=len({sample.subject for sample in samples}),
        samples=len(samples),
        columns={CLASS: ColumnSummary(type="category", categories=counts)},
        arrays={"x": x, "y": "int64 []"},
    )
