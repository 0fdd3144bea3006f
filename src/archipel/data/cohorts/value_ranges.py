"""The numbers of a dataset's inputs: whether they are on the scale that a plan is written for, or a mapping declares.

Pure: it reads the dataset's schema and never a file. Numbers that all lie within a scale may still be on another one: 0
to 1 where 0 to 255 is meant. Where they take up less than a tenth of it, a person must say that it is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from archipel.data.cohorts.answers import Answer, Verdict
from archipel.data.cohorts.mapping import DataMapping
from archipel.data.samples import DataIssue, DataSchema, FoundValues
from archipel.vocabulary import ARRAY, DataNeeds, InputValues, ValueRange

_SMALL = 0.1
"""Numbers that take up less than this share of a scale may be on another one."""
_TINY = 0.01
"""So may those of one sample among others, which differ more."""
_ROUNDING = 1e-6


def check_values(needs: DataNeeds, schema: DataSchema, mapping: DataMapping) -> Iterator[Answer]:
    """One answer for each input of which the plan says what numbers it is written for; that a modality is not there is
    another need's answer."""
    for name, asked in needs.values.items():
        stored = mapping.stored_input(needs, name)
        if needs.kind == "volumes" and stored not in schema.modalities:
            continue
        verdict, why = _verdict(stored, asked, schema, mapping.values.get(stored, ValueRange()))
        yield Answer(need=f"values of {name}: {asked}", verdict=verdict, why=why)


def range_faults(mapping: DataMapping, schema: DataSchema) -> Iterator[DataIssue]:
    """Where a mapping declares a scale and the dataset holds numbers that are not on it. A dataset whose values were
    not measured has no answers."""
    for stored, declared in sorted(mapping.values.items()):
        found = schema.values.get(stored)
        outside = _outside(found, declared) if found is not None else ""
        if outside:
            remedy = f"write the scale that they have under [values.{stored}] in the mapping, or fix the files"
            yield DataIssue(
                thing=f"values of {stored}", cause=f"are {declared} by the mapping, and are {outside}", remedy=remedy
            )


def unknown_inputs(mapping: DataMapping, schema: DataSchema) -> Iterator[str]:
    """A sentence for each input that a mapping names and the dataset does not have."""
    there = list(schema.modalities) if schema.kind == "volumes" else [ARRAY] if schema.kind == "arrays" else []
    for stored in sorted(mapping.values):
        if stored not in there:
            yield f"values.{stored}: the dataset has no {stored} (there: {', '.join(there) or 'none'})"


def is_outside(asked: ValueRange, declared: ValueRange, found: FoundValues, own: FoundValues) -> bool:
    """Whether a sample with the range ``own`` holds numbers that are not on the scale, or may be on another one.

    ``found`` is the range of the whole dataset: where all of it may be on another scale, each of its samples may be,
    unless the mapping declares the plan's scale.
    """
    least = _SMALL if _share(found, asked) < _SMALL and not _settles(declared, asked) else _TINY
    return bool(_outside(own, asked)) or _share(own, asked) < least


def known_values(schema: DataSchema, mapping: DataMapping) -> dict[str, InputValues]:
    """What a dataset says of its inputs, by the names that plans use: the type of arrays, and the scale that the
    mapping declares; never a number that is computed from data."""
    if schema.kind == "arrays":
        kind = schema.arrays.get(ARRAY, "").partition(" ")[0] or None
        known = {ARRAY: InputValues(type=kind, **dict(mapping.values.get(ARRAY, ValueRange())))}
    else:
        names = {name: name for name in schema.modalities} | dict(mapping.modalities)
        known = {name: InputValues(**dict(mapping.values.get(stored, ValueRange()))) for name, stored in names.items()}
    return {name: one for name, one in sorted(known.items()) if one != InputValues()}


def _verdict(stored: str, asked: InputValues, schema: DataSchema, declared: ValueRange) -> tuple[Verdict, str]:
    here = schema.arrays.get(stored, "").partition(" ")[0]
    if asked.type and here and here != asked.type:
        window = "; for pictures, add the dataset with --option window=LOW,HIGH" if asked.type == "uint8" else ""
        return Verdict.NOT_MET, f"{stored} is {here} here; store it as {asked.type}{window}"
    if declared.contradicts(asked):
        why = f"{stored} is {declared} by the mapping (values.{stored}); correct it there, or store the plan's scale"
        return Verdict.NOT_MET, why
    bounds = asked.minimum, asked.maximum
    notes = ["the dataset does not say its unit"] if asked.unit and not declared.unit else []
    if bounds == (None, None):
        return Verdict.MET, ", ".join(notes)
    found = schema.values.get(stored)
    if found is None:
        remedy = "scan the dataset again (archipel site dataset check NAME)"
        return Verdict.NOT_MET, f"the values of {stored} were not measured yet; {remedy}"
    if outside := _outside(found, asked):
        return Verdict.NOT_MET, f"those of {stored} are {outside}; store them on the plan's scale"
    if _settles(declared, asked):
        return Verdict.MAPPED, ", ".join(("as the mapping declares", *notes))
    if _share(found, asked) < _SMALL:
        why = (
            f"those of {stored} are only {_ends(found)}, which looks like another scale; if it is this one, write "
            f"minimum = {asked.minimum:.10g} and maximum = {asked.maximum:.10g} under [values.{stored}] in the mapping"
        )
        return Verdict.NOT_MET, why
    if found.narrowest is not None:
        least = FoundValues(minimum=found.narrowest[0], maximum=found.narrowest[1])
        if _share(least, asked) < _TINY:
            notes.append(f"a sample has only {_ends(least)}; look at it")
    return Verdict.MET, ", ".join(notes)


def _outside(found: FoundValues, scale: ValueRange) -> str:
    """The range that is there, if it goes beyond the scale by more than rounding; else ""."""
    low, high = scale.minimum, scale.maximum
    allowed = _ROUNDING * max(abs(found.minimum), abs(found.maximum), 1e-30)
    is_below = low is not None and found.minimum < low - allowed
    is_above = high is not None and found.maximum > high + allowed
    return _ends(found) if is_below or is_above else ""


def _settles(declared: ValueRange, asked: ValueRange) -> bool:
    """Whether a person declared the plan's scale."""
    return (declared.minimum, declared.maximum) == (asked.minimum, asked.maximum)


def _share(found: FoundValues, scale: ValueRange) -> float:
    """How much of the scale the numbers take up; 1 where it has no two ends."""
    if scale.minimum is None or scale.maximum is None:
        return 1.0
    return (found.maximum - found.minimum) / (scale.maximum - scale.minimum)


def _ends(found: FoundValues) -> str:
    return f"{found.minimum:.6g} to {found.maximum:.6g}"
