"""Whether the pictures of a dataset agree: one type, one shape, one class for the same pixels, one file per name.

What few pictures have is said of each; what many have is one line with their number, and an option that settles it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from archipel.data.files import FileFacts
from archipel.data.formats.picture_options import PictureOptions, Refusal
from archipel.data.picture_files import PictureFacts
from archipel.data.samples import DataIssue, Sample

Looked = tuple[Sample, FileFacts[PictureFacts]]
"""A sample of one picture, and what is known of the file."""
_FEW = 5
_SHARE = 0.1
"""Up to this share, pictures that differ are the odd ones; more are a part of the dataset."""


def refuse_unfit(pictures: dict[str, Looked], asked: PictureOptions, name: str, problems: list[DataIssue]) -> None:
    """Take out of ``pictures`` (by place) those that a plan cannot get together with the others, and say why.

    ``name`` is the dataset's folder.
    """
    _refuse_what_options_do_not_settle(pictures, asked, name, problems)
    _refuse_other_types(pictures, name, problems)
    _refuse_other_shapes(pictures, asked, name, problems)


def _refuse_what_options_do_not_settle(
    pictures: dict[str, Looked], asked: PictureOptions, name: str, problems: list[DataIssue]
) -> None:
    total = len(pictures)
    refused: dict[Refusal, list[str]] = defaultdict(list)
    for place, (_, looked) in pictures.items():
        refusal = asked.refusal(looked.require_facts())
        if refusal is not None:
            refused[refusal].append(place)
    for refusal, places in refused.items():
        if len(places) > _FEW:
            cause = f"{len(places)} of {total} pictures {refusal.several} (first {places[0]})"
            problems.append(DataIssue(thing=name, cause=cause, remedy=refusal.remedy))
        for place in places:
            sample, _ = pictures.pop(place)
            if len(places) <= _FEW:
                problems.append(_about(sample, place, refusal.one, f"{refusal.remedy}, or leave it out"))


def _refuse_other_types(pictures: dict[str, Looked], name: str, problems: list[DataIssue]) -> None:
    """A model would learn the depth, which tells from which machine or folder a picture comes."""
    types = Counter(looked.require_facts().type for _, looked in pictures.values())
    if len(types) < 2:
        return
    (usual, held), total = types.most_common(1)[0], len(pictures)
    odd = [place for place, (_, looked) in pictures.items() if looked.require_facts().type != usual]
    if len(odd) <= _FEW and len(odd) <= _SHARE * total:
        for place in odd:
            sample, looked = pictures.pop(place)
            facts = looked.require_facts()
            cause = (
                f"stores {facts.type} values ({facts.minimum:g} to {facts.maximum:g}), {held} of {total} pictures "
                f"store {usual}"
            )
            problems.append(_about(sample, place, cause, "save it in the type of the others, or leave it out"))
        return
    words = []
    for kind, count in types.most_common():
        own = [(sample, looked.require_facts()) for sample, looked in pictures.values()
               if looked.require_facts().type == kind]  # fmt: skip
        low, high = min(facts.minimum for _, facts in own), max(facts.maximum for _, facts in own)
        first = next(iter(own[0][0].files.values()))
        words.append(f"{kind} ({count}, values {low:g} to {high:g}, first {first})")
    cause = f"pictures are stored in several types: {', '.join(words)}; a model would learn the type, so none is used"
    remedy = "save all of them in one type, or move those of the other types to another folder"
    problems.append(DataIssue(thing=name, cause=cause, remedy=remedy))
    pictures.clear()


def _refuse_other_shapes(
    pictures: dict[str, Looked], asked: PictureOptions, name: str, problems: list[DataIssue]
) -> None:
    """Rows of arrays must have one shape."""
    forms = Counter(asked.form(looked.require_facts()) for _, looked in pictures.values())
    if len(forms) < 2:
        return
    usual = forms.most_common(1)[0][0]
    odd = [place for place, (_, looked) in pictures.items() if asked.form(looked.require_facts()) != usual]
    same = next(looked.require_facts() for _, looked in pictures.values()
                if asked.form(looked.require_facts()) == usual)  # fmt: skip
    remedy = f"resize all pictures with --option size={same.width}x{same.height} (or another size)"
    if len(odd) > _FEW:
        cause = (
            f"{len(odd)} of {len(pictures)} pictures have other pixels than most, which have {usual}: "
            f"{len(forms)} sizes in all (first {odd[0]})"
        )
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy))
    for place in odd:
        sample, looked = pictures.pop(place)
        if len(odd) <= _FEW:
            cause = f"has pixels {asked.form(looked.require_facts())}, most have {usual}"
            problems.append(_about(sample, place, cause, f"{remedy}, or leave it out"))


def refuse_repeated(pictures: dict[str, Looked], remedy: str, name: str, problems: list[DataIssue]) -> None:
    """Pictures of one patient and name: which of them counts, or whether these are several patients, is not known.

    ``name`` is the dataset's folder.
    """
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place, (sample, _) in pictures.items():
        places[sample.key].append(place)
    repeated = {subject: several for (subject, _), several in places.items() if len(several) > 1}
    for subject, several in repeated.items():
        if len(repeated) <= _FEW:
            cause = f"is there {len(several)} times ({', '.join(several)})"
            problems.append(DataIssue(thing=subject, cause=cause, remedy=remedy, subject=subject))
        for place in several:
            del pictures[place]
    if len(repeated) > _FEW:
        first = next(iter(repeated.values()))
        cause = f"{len(repeated)} names are there several times (first {' and '.join(first[:_FEW])})"
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy))


def warn_of_twins(pictures: Mapping[str, Looked], column: str, problems: list[DataIssue]) -> None:
    """The same pixels under two values of ``column``, the class: one of the two is wrong."""
    twins: dict[str, list[str]] = defaultdict(list)
    for place, (_, looked) in pictures.items():
        twins[looked.require_facts().pixels].append(place)
    for places in twins.values():
        if len({pictures[place][0].values.get(column) for place in places}) > 1:
            cause = f"has the same pixels as {', '.join(places[1:])}, in another class"
            remedy = "find out which class is right, and remove the other"
            problems.append(DataIssue(thing=places[0], cause=cause, remedy=remedy, severity="warning"))


def _about(sample: Sample, place: str, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=place, cause=cause, remedy=remedy, subject=sample.subject)
