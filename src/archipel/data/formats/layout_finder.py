"""Which known layout a folder has: the first whose templates explain every volume in it.

Only names are read. A layout that explains some of the files is not taken: what it does not explain would be left out,
or taken for something that it is not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from archipel.data.formats.known_layouts import KNOWN_LAYOUTS, KnownLayout
from archipel.data.formats.name_words import (
    LABEL_WORDS,
    MASK_WORDS,
    MOST_MODALITIES,
    NOBODY,
    are_patients,
    endings_shared,
    has_any_of,
)
from archipel.data.formats.path_templates import (
    MODALITY,
    SESSION,
    STRUCTURE,
    SUBJECT,
    PathTemplate,
    choice_of,
    suffix_and_rest,
)
from archipel.vocabulary.counting import abbreviate

SPLITS = "{split:train|training|trainset|train_set|val|valid|validation|dev|test|testing|tr|ts}/"
"""A folder for each part of a dataset that is split already; the part becomes the value ``split``."""
_COMPARED = 5_000
"""Volumes by whose names the layout is found that explains most."""
_ALONE = frozenset(("images-alone", "images-in-a-folder"))
_ONE_IMAGE = frozenset(("subject-folders-of-one-image", "subject-folders-of-one-image-and-seg-nrrd"))


class FoundLayout(NamedTuple):
    """A layout that explains a folder: its name among the known ones, "" for one put together from the names."""

    name: str
    title: str
    image: tuple[str, ...]
    label: tuple[str, ...]
    unused: tuple[str, ...]


def find_layout(places: Sequence[str], only: str = "") -> FoundLayout | None:
    """The first layout that explains all of these volumes, or the one named ``only`` whatever it explains.

    None if none does.
    """
    return _find_layout(tuple(places), only)


@lru_cache(maxsize=2)
def _find_layout(places: tuple[str, ...], only: str) -> FoundLayout | None:
    # A folder is asked for its layout when its format is detected and when its options are settled.
    if only:
        named = [
            _with_prefix(known, prefix) for known in KNOWN_LAYOUTS if known.name == only for prefix in ("", SPLITS)
        ]
        fits = next((_narrowed(one, places) for one in named if _explains(one, places)), None)
        # What a layout does not explain is said when the dataset is read.
        return fits or min(named, key=lambda one: len(_tally(one, places, len(places)).strange), default=None)
    if not places:
        return None
    for prefix in ("", SPLITS):
        for known in KNOWN_LAYOUTS:
            found = _with_prefix(known, prefix)
            if _explains(found, places):
                return _narrowed(found, places)
    return _by_affixes(places)


def nearly(places: Sequence[str]) -> tuple[FoundLayout, list[str]] | None:
    """The layout with labels that explains most of these volumes, at least two thirds, and those that it does not."""
    for found in _nearest_first(places[:: len(places) // _COMPARED + 1]):
        tally = _tally(found, places, len(places) // 3)
        is_near = 0 < 3 * len(tally.strange) <= len(places)
        if is_near and tally.is_sound(with_labels=True) and _is_plain(found, tally):
            return found, tally.strange
    return None


def _nearest_first(places: Sequence[str]) -> list[FoundLayout]:
    """The layouts with labels by how many of these volumes they do not explain."""
    found = [_with_prefix(known, prefix) for prefix in ("", SPLITS) for known in KNOWN_LAYOUTS if known.label]
    strange = [(len(_tally(one, places, len(places) // 3).strange), at) for at, one in enumerate(found)]
    return [found[at] for count, at in sorted(strange) if 3 * count <= len(places)]


def in_each_folder(places: Sequence[str]) -> FoundLayout | None:
    """The layout that all the folders have in which these volumes are, with the folder's name as the value ``part``."""
    for known in (one for one in KNOWN_LAYOUTS if one.label):
        found = _with_prefix(known, "{part}/")
        if _explains(found, places):
            return _narrowed(found, places)
    return None


@dataclass
class _Tally:
    """What a layout's templates make of the names: samples by subject and session, and what they do not explain."""

    images: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    labels: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    strange: list[str] = field(default_factory=list)
    image_names: set[str] = field(default_factory=set)

    def is_sound(self, *, with_labels: bool) -> bool:
        """Whether it can be meant: nothing twice, modalities that subjects share, and labels that belong to images."""
        counts = [*self.images.values(), *self.labels.values()]
        if not self.images or any(count > 1 for one in counts for count in one.values()):
            return False
        if with_labels:
            with_both = len(self.images.keys() & self.labels.keys())
            if 2 * with_both < max(len(self.images), len(self.labels)):
                return False
        samples = Counter(modality for one in self.images.values() for modality in one)
        shared = sum(count for count in samples.values() if count > 1)
        if len(self.images) > 1 and 5 * shared < 4 * samples.total():
            return False
        if are_patients(samples, {subject for subject, _ in self.images}):
            return False
        return len(samples) <= MOST_MODALITIES and not any(has_any_of(one, MASK_WORDS) for one in samples)


def _explains(found: FoundLayout, places: Sequence[str]) -> bool:
    tally = _tally(found, places, 0)
    return not tally.strange and tally.is_sound(with_labels=bool(found.label)) and _is_plain(found, tally)


def _is_plain(found: FoundLayout, tally: _Tally) -> bool:
    """Whether no name says that more is meant than one image of each subject."""
    if found.name in _ONE_IMAGE:
        # The images are of one kind: their names differ in numbers only.
        return len({re.sub(r"[^a-z]", "", name.lower()) for name in tally.image_names}) == 1
    return found.name not in _ALONE or not endings_shared([subject for subject, _ in tally.images])


def _tally(found: FoundLayout, places: Iterable[str], most_strange: int) -> _Tally:
    """What the templates make of the places, until there are more strange ones than ``most_strange``."""
    images = [PathTemplate(text) for text in found.image]
    labels = [PathTemplate(text) for text in found.label]
    tally = _Tally()
    for place in places:
        if any(fnmatchcase(place.lower(), pattern.lower()) for pattern in found.unused):
            continue
        label, image = first_match(labels, place), first_match(images, place)
        if label is not None and not says_more(image, label):
            tally.labels[key_of(label.parts)][label.parts.get(STRUCTURE, "")] += 1
            continue
        parts = image.parts if image is not None else None
        if (
            parts is None
            or parts[SUBJECT].lower() in NOBODY
            or (MODALITY not in parts and has_any_of(parts[SUBJECT], LABEL_WORDS))
        ):
            tally.strange.append(place)
            if len(tally.strange) > most_strange:
                return tally
            continue
        tally.images[key_of(parts)][parts.get(MODALITY, "")] += 1
        if found.name in _ONE_IMAGE:
            tally.image_names.add(suffix_and_rest(place)[1].rpartition("/")[2].replace(parts[SUBJECT], ""))
    return tally


class Match(NamedTuple):
    """The template that means a place, and the place's parts."""

    template: PathTemplate
    parts: dict[str, str]


def first_match(templates: Iterable[PathTemplate], place: str) -> Match | None:
    """The first template that means a place."""
    return next((Match(one, parts) for one in templates if (parts := one.parts_of(place)) is not None), None)


def says_more(image: Match | None, label: Match) -> bool:
    """Whether a place is rather an image than a label, as p1_ct is by {subject}_ct where labels are {subject}."""
    return image is not None and image.template.literal > label.template.literal


def key_of(parts: Mapping[str, str]) -> tuple[str, str]:
    """Subject and session."""
    return parts[SUBJECT], parts.get(SESSION) or ""


def _with_prefix(known: KnownLayout, prefix: str) -> FoundLayout:
    image, label, unused = (
        tuple(f"{before}{text}" for text in texts)
        for before, texts in ((prefix, known.image), (prefix, known.label), ("*/" if prefix else "", known.unused))
    )
    return FoundLayout(known.name, known.title, image, label, (*unused, *known.unused) if prefix else unused)


def _narrowed(found: FoundLayout, places: Sequence[str]) -> FoundLayout:
    """The layout with those choices of its parts that occur, so that people can read it."""
    image, label = (
        tuple(_with_choices_that_occur(text, places) for text in _that_occur(one, places))
        for one in (found.image, found.label)
    )
    return found._replace(image=image, label=label)


def _that_occur(texts: Sequence[str], places: Sequence[str]) -> Sequence[str]:
    """Those templates by which a place is found; of several kinds of one file a folder has mostly one."""
    templates = [PathTemplate(text) for text in texts]
    found = {next((at for at, one in enumerate(templates) if one.parts_of(place) is not None), -1) for place in places}
    return [text for at, text in enumerate(texts) if at in found] or texts


def _with_choices_that_occur(text: str, places: Sequence[str]) -> str:
    for part in dict.fromkeys(re.findall(r"\{([a-z]*:[^{}]*\|[^{}]*)\}", text)):
        name, _, choices = part.partition(":")
        named = name or "choice"
        template = PathTemplate(text.replace(f"{{{part}}}", f"{{{named}:{choices}}}"))
        texts = {parts[named] for place in places if (parts := template.parts_of(place)) is not None}
        patterns = {one: re.compile(choice_of(one), re.IGNORECASE) for one in choices.split("|")}
        there = [one for one, pattern in patterns.items() if any(map(pattern.fullmatch, texts))]
        is_word = len(there) == 1 and not name and not set("*?#") & set(there[0])
        kept = f"{{{name}:{'|'.join(there or choices.split('|'))}}}"
        text = text.replace(f"{{{part}}}", there[0] if is_word else kept)
    return text


def _by_affixes(places: Sequence[str]) -> FoundLayout | None:
    """A folder of images and one of labels whose names differ in what stands before and after the subject's id."""
    stems: dict[str, list[str]] = defaultdict(list)
    for place in places:
        folder, _, name = suffix_and_rest(place)[1].rpartition("/")
        stems[folder].append(name)
    labels = [folder for folder in stems if has_any_of(folder.rpartition("/")[2], LABEL_WORDS)]
    images = [folder for folder in stems if folder not in labels]
    if len(labels) != 1 or len(images) != 1 or not images[0]:
        return None
    folders = images[0], labels[0]
    befores, afters = zip(*(_affixes(stems[folder]) for folder in folders), strict=True)
    # What both have belongs to the id.
    befores = ("", "") if befores[0] == befores[1] else befores
    texts = [
        f"{folder}/{before}{{subject}}{after}" for folder, before, after in zip(folders, befores, afters, strict=True)
    ]
    if any(mark in text.replace("{subject}", "") for text in texts for mark in "{}*?"):
        return None
    found = FoundLayout("", f"{texts[0]} with {texts[1]}", (texts[0],), (texts[1],), ())
    return found if _explains(found, places) else None


def _affixes(names: Sequence[str]) -> tuple[str, str]:
    """What all of some names begin and end with, beside the id: letters before a number, and what follows a sign.

    >>> _affixes(["p1_ct", "p2_ct"]), _affixes(["label0001", "label0002"])
    (('p', '_ct'), ('label', ''))
    """
    if len(names) < 2:
        return "", ""
    before = _common(names)
    before = re.sub(r"[0-9]+$", "", before)
    after = _common([name[::-1] for name in names])[::-1]
    sign = re.search(r"[_.\- ].*", after)
    return before, sign[0] if sign else ""


def _common(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    alike = 0
    while alike < min(len(first), len(last)) and first[alike] == last[alike]:
        alike += 1
    return first[:alike]


def described(found: FoundLayout) -> str:
    """Why a folder has this layout, for people to read."""
    labels = f" and labels {abbreviate(found.label)}" if found.label else "; no labels"
    return f"{found.title} (images {abbreviate(found.image)}{labels})" if found.name else f"{found.title}"
