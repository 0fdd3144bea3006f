"""Format ``layout``: files found by path templates, those of a known layout or the site's own.

The templates say which part of a path is the subject, the session, the modality or the structure; every other named
part becomes a value of the sample. A table beside the volumes may hold more values.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.known_layouts import LAYOUTS
from archipel.data.formats.layout_files import read_layout
from archipel.data.formats.layout_finder import described, find_layout, first_match, says_more
from archipel.data.formats.layout_tables import only_table, say_what_is_not_read, table_of
from archipel.data.formats.path_templates import MODALITY, SESSION, STRUCTURE, SUBJECT, PathTemplate
from archipel.data.formats.unclear_folders import why_no_layout
from archipel.data.formats.volume_names import all_volumes, is_of, listed, nothing_found
from archipel.data.samples import LABEL, DataIssue, Scan, sample_name
from archipel.data.volumes import structure_key
from archipel.vocabulary import BadInput, Thing, Value
from archipel.vocabulary.counting import abbreviate, pluralise

IMAGE = "image"
_NAMED = re.compile(r"([^={}/]+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Templates:
    """What the options say: image templates by modality ("" where the template names it), and the others."""

    images: Sequence[tuple[str, PathTemplate]]
    labels: Sequence[PathTemplate]
    unused: Sequence[str]

    @classmethod
    def of(cls, options: Options) -> Templates:
        """Raises BadInput for a template that is not clear, or where there is none for images."""
        images = []
        for text in listed(options, IMAGE):
            match = _NAMED.fullmatch(text)
            images.append((match[1], PathTemplate(match[2])) if match else ("", PathTemplate(text)))
        if not images:
            raise BadInput("format layout", "is given no template for images", _EXAMPLE)
        labels = [PathTemplate(text) for text in listed(options, LABEL)]
        return cls(images, labels, listed(options, "unused"))

    def has_structures(self) -> bool:
        """Whether a label is a file for each structure."""
        return any(STRUCTURE in one.parts for one in self.labels)

    def meant(self, place: str) -> tuple[str, dict[str, str]] | None:
        """What a place is, the modality of an image or ``LABEL``, and its parts; None for one that is not meant."""
        label = first_match(self.labels, place)
        image = first_match([template for _, template in self.images], place)
        if label is not None and not says_more(image, label):
            return LABEL, label.parts
        if image is None:
            return None
        named = next(name for name, template in self.images if template is image.template)
        return named or image.parts.get(MODALITY) or IMAGE, image.parts


@dataclass
class Case:
    """What was found of one sample: files by modality, and by structure ("" for a whole label), and its values."""

    images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    values: dict[str, Value] = field(default_factory=dict)


class Layout(VolumeFormat):
    """Volumes by path templates."""

    name: ClassVar[str] = "layout"
    title: ClassVar[str] = f"files by path templates; known: {', '.join(LAYOUTS)}"
    options: ClassVar[Mapping[str, str]] = {
        "layout": "a known layout, or a TOML file with these options (by default the known one that fits)",
        IMAGE: "templates of images, with commas between them, e.g. {subject}/{subject}_{modality}.nii.gz or "
        "CT={subject}/ct.nii.gz",
        LABEL: "templates of labels, e.g. {subject}/{subject}_seg.nii.gz or {subject}/segmentations/{structure}.nii.gz",
        "structures": "the structures to read, whose labels are 1, 2, ... (by default all that are there)",
        "unused": "files that are not read, e.g. imagesTs/*",
        "table": "a table of values beside the volumes (by default the only one in the folder)",
        "id_column": "the table's column with the subjects (by default the first)",
    }

    def fits(self, folder: Folder) -> str:
        """A known layout that explains every volume."""
        found = find_layout(all_volumes(folder, []))
        return described(found) if found is not None else ""

    def settled(self, root: Path, options: Options) -> dict[str, str]:
        """The options with the known layout's templates and the structures that are there, in their order: what a value
        of the label means stays the same when other files come. Raises BadInput."""
        folder = Folder(root)
        known = {**_of_layout(folder, options), **{name: value for name, value in options.items() if name != "layout"}}
        if "table" not in known:
            known |= only_table(folder)
        templates = Templates.of(known)
        if templates.has_structures() and "structures" not in known:
            names = sorted({name for _, name in _structures(templates, all_volumes(folder, []))})
            known["structures"] = ",".join(names)
        return known

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each sample with its modalities, its label or structures, and its values."""
        settled = self.settled(folder.root, options)
        templates = Templates.of(settled)
        structures = listed(settled, "structures")
        collector = FoundVolumes(folder, dict(enumerate(("background", *structures))) if structures else None)
        cases = _cases(templates, all_volumes(folder, collector.problems), folder, collector)
        _name_subjects(templates, collector)
        if not cases:
            nothing_found(folder, collector, abbreviate(one.text for _, one in templates.images))
        subjects = sorted({subject for subject, _ in cases})
        table = table_of(folder, settled, collector, subjects)
        if "table" not in settled:
            say_what_is_not_read(folder, collector, subjects)
        modalities = {name for case in cases.values() for name in case.images}
        unread: set[str] = set()
        for key in sorted(cases):
            case = cases[key]
            unread |= set(case.labels) - {""} - set(structures)
            fault = _fault(key, case, templates, structures)
            if fault is not None:
                issue = DataIssue(thing=sample_name(*key), cause=fault[0], remedy=fault[1])
                collector.report(issue, key[0])
                continue
            files = _files(case, structures)
            if len(modalities) == 1 and not templates.images[0][0]:
                files = {IMAGE if name in modalities else name: place for name, place in files.items()}
            known = dict(table.of(key[0], collector)) if table is not None else {}
            before = len(collector.problems)
            if not collector.add(key[0], files, key[1], values=known | case.values) and len(case.images) > 1:
                _propose_one_alone(collector, before, sample_name(*key), templates, sorted(case.images))
        if unread:
            cause = f"{'is' if len(unread) == 1 else 'are'} there and not read ({abbreviate(sorted(unread))})"
            remedy = "name them with --option structures=... when the dataset is added, to have them as labels"
            collector.warn(DataIssue(thing=pluralise(len(unread), "structure"), cause=cause, remedy=remedy))
        return collector.scan()


def _propose_one_alone(
    collector: FoundVolumes, before: int, name: str, templates: Templates, modalities: Sequence[str]
) -> None:
    """Add to what is said of a sample's images together, that they are on two grids, how one of them is read alone."""
    texts = [text.text for named, text in templates.images if named in ("", modalities[0])]
    part = re.compile(r"\{modality(:[^{}]*)?\}")
    images = [part.sub(f"{{modality:{modalities[0].lower()}}}", text) for text in texts]
    words = [f"--image '{text}'" for text in images] + [f"--mask '{one.text}'" for one in templates.labels]
    for at, problem in enumerate(collector.problems[before:], before):
        if problem.thing == name:
            remedy = f"{problem.remedy}; or read {modalities[0]} alone: {' '.join(words)}"
            collector.problems[at] = problem.model_copy(update={"remedy": remedy})


_EXAMPLE = "give one, for example --image '{subject}/{modality}.nii.gz' --mask '{subject}/seg.nii.gz'"


def _of_layout(folder: Folder, options: Options) -> dict[str, str]:
    """The options that a known layout, a TOML file, or the names in the folder stand for."""
    asked = options.get("layout", "")
    if asked.endswith(".toml"):
        inside = folder.root / asked
        return read_layout(inside if inside.is_file() else Path(asked))
    if not asked and IMAGE in options:
        return {}
    places = all_volumes(folder, [])
    found = find_layout(places, only=asked) if places or asked else None
    if found is None:
        thing = Thing.worded(f"layout {asked}", layout=asked) if asked else Thing.folder(folder.root)
        if asked and asked not in LAYOUTS:
            raise BadInput(thing, "is unknown", f"name a .toml file, or one of {', '.join(LAYOUTS)}")
        raise BadInput(thing, *(why_no_layout(places) if places else ("holds no volume", _EXAMPLE)))
    chosen = {IMAGE: found.image, LABEL: found.label, "unused": found.unused}
    return {name: ",".join(texts) for name, texts in chosen.items() if texts}


def _structures(templates: Templates, places: Iterable[str]) -> Iterator[tuple[str, str]]:
    for place in places:
        label = first_match(templates.labels, place)
        if label is not None and STRUCTURE in label.parts:
            yield place, subject_id(label.parts[STRUCTURE])


def _cases(
    templates: Templates, places: Iterable[str], folder: Folder, collector: FoundVolumes
) -> dict[tuple[str, str], Case]:
    """The samples by subject and session; a warning for the files that no template means."""
    cases: dict[tuple[str, str], Case] = defaultdict(Case)
    strange = []
    for place in places:
        meant = templates.meant(place)
        if meant is None:
            is_unused = any(fnmatchcase(place.lower(), one.lower()) for one in templates.unused)
            if not is_unused and not is_of(place, folder.leaves_out):
                strange.append(place)
            continue
        kind, parts = meant
        case = cases[subject_id(parts[SUBJECT]), subject_id(parts.get(SESSION) or "")]
        if kind == LABEL:
            case.labels[subject_id(parts.get(STRUCTURE) or "")].append(place)
        else:
            case.images[subject_id(kind)].append(place)
        others = {name: text for name, text in parts.items() if name not in _MEANT and text}
        case.values |= {name: subject_id(text) for name, text in others.items()}
    if strange:
        cause = f"are meant by no template ({abbreviate(strange, 3)}) and are left out"
        remedy = "name them with another template, or with --option unused=PATTERN if they are not part of the dataset"
        collector.warn(DataIssue(thing=pluralise(len(strange), "volume"), cause=cause, remedy=remedy))
    return cases


def _name_subjects(templates: Templates, collector: FoundVolumes) -> None:
    """Give the issues of files, which were found with the files, the subjects that the templates find in them."""
    for at, problem in enumerate(collector.problems):
        meant = templates.meant(problem.thing)
        if meant is not None and not problem.subject:
            collector.problems[at] = problem.model_copy(update={"subject": subject_id(meant[1][SUBJECT])})


_MEANT = frozenset((SUBJECT, SESSION, MODALITY, STRUCTURE))


def _fault(key: tuple[str, str], case: Case, templates: Templates, structures: Sequence[str]) -> tuple[str, str] | None:
    """Cause and remedy where a sample lacks a file or has one twice."""
    parts = {**{name: str(value) for name, value in case.values.items()}, SUBJECT: key[0], SESSION: key[1]}
    for kind, places in [*case.images.items(), *case.labels.items()]:
        if len(places) > 1:
            return f"has {len(places)} files for {kind or LABEL} ({abbreviate(places, 3)})", "keep one of them"
    if not case.images:
        looked = abbreviate(one.filled(parts) for _, one in templates.images)
        return f"has a label and no image (looked for {looked})", "add the file or remove the label"
    if templates.labels and not case.labels:
        looked = abbreviate(one.filled(parts) for one in templates.labels)
        return f"no label beside the image (looked for {looked})", "add the file or leave the subject out"
    missing = [name for name in structures if name not in case.labels]
    if case.labels and "" not in case.labels and missing:
        cause = f"has no file for {pluralise(len(missing), 'structure')} ({abbreviate(missing)})"
        return cause, "add them, or name the structures that all have with --option structures=NAME,NAME"
    return None


def _files(case: Case, structures: Sequence[str]) -> dict[str, str]:
    """The sample's files by role, a label's of structures by the value that each becomes."""
    images = {name: places[0] for name, places in sorted(case.images.items())}
    if "" in case.labels:
        return {**images, LABEL: case.labels[""][0]}
    values = enumerate(structures if case.labels else (), 1)
    return {**images, **{structure_key(value): case.labels[name][0] for value, name in values}}
