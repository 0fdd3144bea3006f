"""Unclear folders: why a folder with volumes has no known layout, and what to type so that it is read as it is meant.

Each proposal is made of the names that are there, so that it works when it is typed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set

from archipel.data.formats.layout_finder import FoundLayout, nearly
from archipel.data.formats.name_words import MASK_WORDS, are_patients, endings_shared, has_any_of, look_like_ids
from archipel.data.formats.path_templates import suffix_and_rest
from archipel.data.volumes import NIFTI
from archipel.vocabulary.counting import abbreviate, pluralise

_NUMBERED_NAME = re.compile(r"([A-Za-z_ -]+)([0-9]+)")
_LOOKED_AT = 5_000
"""Volumes whose names are compared to find an example."""


def typed(found: FoundLayout) -> str:
    """A layout's templates as they are typed."""
    images, labels = ([f"--{option} '{text}'" for text in texts]
                      for option, texts in (("image", found.image), ("mask", found.label)))  # fmt: skip
    return " ".join((*images, *labels))


def why_no_layout(places: Sequence[str]) -> tuple[str, str]:
    """Cause and remedy for volumes that no known layout explains."""
    stems = [suffix_and_rest(place)[1] for place in places]
    shared = endings_shared(stems) if all("/" not in stem for stem in stems) else ()
    if shared:
        return _of_endings(shared, stems)
    almost = nearly(places)
    if almost is not None:
        found, strange = almost
        cause = f"is {found.title}, but for {pluralise(len(strange), 'volume')} ({abbreviate(strange, 3)})"
        return cause, f"rename or remove them, or add the dataset without them: --layout {found.name}"
    names = _names_in_folders(stems)
    if names is not None:
        return _of_equal_names(*names, all(place.lower().endswith(NIFTI) for place in places))
    cause = f"holds {pluralise(len(places), 'volume')} that no known layout explains ({abbreviate(places, 3)})"
    return cause, f"say where images and labels are, for example {_example(stems[:_LOOKED_AT])}"


def _of_endings(shared: Sequence[str], stems: Iterable[str]) -> tuple[str, str]:
    named = [one for one in shared if one]
    # The sign before the ending, as most names have it.
    signs = Counter(stem[-len(one) - 1] for stem in stems for one in named if stem.endswith(one) and stem != one)
    sign = signs.most_common(1)[0][0]
    if len(named) == len(shared):
        cause = f"holds names with {abbreviate(shared)} at their end, which may be images of one patient or patients"
        return cause, f"say which: --image '{{subject}}{sign}{{modality}}' or --image '{{subject}}'"
    cause = f"holds names that are others with {abbreviate(named)} at their end, so that one of two may be the label"
    longer = f"{{subject}}{sign}{named[0]}"
    either = f"--image '{{subject}}' --mask '{longer}' or --image '{longer}'"
    return cause, f"say which: {either} --mask '{{subject}}', or --image '{{subject}}' if each is a patient's image"


def _names_in_folders(stems: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """The folders that have mostly the same names, which are rather patients' than images', and these names."""
    folders: dict[str, set[str]] = defaultdict(set)
    for stem in stems:
        folder, *rest = stem.split("/")
        if not rest:
            return None
        folders[folder].add(rest[0])
    names = Counter(name for held in folders.values() for name in held)
    everywhere = sorted(name for name, count in names.items() if count > 1)
    if len(folders) < 2 or 2 * len(everywhere) < len(names) or not are_patients(everywhere, folders):
        return None
    return sorted(folders), everywhere


def _of_equal_names(folders: Sequence[str], names: Sequence[str], is_nifti: bool) -> tuple[str, str]:
    cause = f"holds the names {abbreviate(names, 3)} in each of the folders {abbreviate(folders, 3)}"
    ways = []
    if is_nifti:
        ways.append("if the folders are groups of patients, --format nifti-groups --option names=per-folder")
    if len(folders) == 2:
        first, second = folders
        ways.append(f"if one holds the labels, --image '{first}/{{subject}}' --mask '{second}/{{subject}}'")
    ways += [
        "if a folder is a modality, --image '{modality}/{subject}'",
        "if a folder is a patient, --image '{subject}/{modality}'",
    ]
    return f"{cause}, so that it is not clear whose they are", f"say it: {'; '.join(ways)}"


def _example(stems: Sequence[str]) -> str:
    """Templates of the images and of the labels that most patients have, made of names that are there."""
    subjects: dict[str, set[str]] = defaultdict(set)
    hits: Counter[str] = Counter()
    for stem in stems:
        for template, subject in _templates(stem):
            subjects[template].add(subject)
            hits[template] += 1

    def best(*, drawn: bool, of: Set[str] = frozenset()) -> str:
        those = [
            (-len(names & of), not look_like_ids(names), -len(names), template.split("{subject}")[0].count("/"),
             template.count("{*}"), len(template), template)
            for template, names in subjects.items()
            if has_any_of(template.replace("{subject}", ""), MASK_WORDS) == drawn
            and (hits[template] == len(names) or "{*}" not in template)
        ]  # fmt: skip
        return min(those)[-1] if those else ""

    image = best(drawn=False) or "{subject}"
    label = best(drawn=True, of=subjects[image])
    return f"--image '{image}'" + (f" --mask '{label}'" if label else "")


def _templates(stem: str) -> Iterator[tuple[str, str]]:
    """Each way to take one part of a place for the subject: the template, and the subject. What is beside that part is
    as it is there, or may be anything; of the last part the subject may be the number."""
    *folders, name = stem.split("/")
    if any(mark in stem for mark in "{}*?,'"):
        return
    parts = [*folders, name]
    for at, subject in enumerate(parts):
        others = [one if place < at else one.replace(subject, "{subject}") for place, one in enumerate(parts)]
        yield "/".join(others), subject
        if len(parts) > 1:
            yield "/".join("{subject}" if place == at else "{*}" for place in range(len(parts))), subject
    numbered = _NUMBERED_NAME.fullmatch(name)
    if numbered is not None:
        for before in dict.fromkeys(("/".join(folders), "/".join("{*}" for _ in folders))):
            yield f"{before}/{numbered[1]}{{subject}}".removeprefix("/"), numbered[2]
