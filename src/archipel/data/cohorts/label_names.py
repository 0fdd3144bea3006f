"""Names of labels: where a mapping contradicts what the files call their values, and masks whose values were stretched.

Pure: it reads the dataset's schema and never a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archipel.data.cohorts.mapping import DataMapping
from archipel.data.samples import DataIssue, DataSchema
from archipel.data.volumes import same_name
from archipel.vocabulary.counting import abbreviate

_WHITE = 255
_MOST_STRETCHED = 8


def name_faults(mapping: DataMapping, schema: DataSchema) -> tuple[DataIssue, ...]:
    """Names that a mapping may not give: of labels where the dataset has no label volumes, and of a value that the
    files call otherwise while they have the name for another value. A dataset that was not counted has no answers."""
    if not schema.samples or not mapping.label_names:
        return ()
    given = abbreviate(f"{value} {name}" for value, name in mapping.label_names.items())
    if not schema.label_values:
        cause = f"are named ({given}), and the dataset has no label volumes"
        remedy = "leave out --label and label_names, or add the dataset with its label volumes"
        return (DataIssue(thing="labels", cause=cause, remedy=remedy),)
    return tuple(
        fault for value, name in mapping.label_names.items() if (fault := _fault(int(value), name, mapping, schema))
    )


def _fault(value: int, name: str, mapping: DataMapping, schema: DataSchema) -> DataIssue | None:
    there = {int(stored): said for stored, said in schema.label_names.items() if stored in schema.label_values}
    own = [stored for stored in there if mapping.label_value(stored) == value]
    meant = [stored for stored, said in there.items() if same_name(said, name)]
    if not own or not meant or any(mapping.label_value(stored) == value for stored in meant):
        return None
    cause = (
        f"is called {name} by the mapping; the files call {own[0]} {there[own[0]]}, and {meant[0]} {there[meant[0]]}"
    )
    remedy = f"map by name: {meant[0]} = {value} and {own[0]} = another value under [labels] in the mapping"
    return DataIssue(thing=f"label {value}", cause=cause, remedy=remedy)


def stretched(values: Iterable[int]) -> Mapping[int, int]:
    """The label that each value stands for in a mask that was saved as a picture: 0 to 255 in equal steps.

    >>> stretched([0, 255]), stretched([0, 127, 255]), stretched([0, 1, 2])
    ({255: 1}, {127: 1, 255: 2}, {})
    """
    drawn = sorted(set(values) - {0})
    if not drawn or drawn[-1] != _WHITE or len(drawn) > _MOST_STRETCHED:
        return {}
    steps = [_WHITE * label / len(drawn) for label in range(1, len(drawn) + 1)]
    if any(abs(value - step) >= 1 for value, step in zip(drawn, steps, strict=True)):
        return {}
    return {value: label for label, value in enumerate(drawn, 1)}


def stretched_masks(name: str, mapping: DataMapping, schema: DataSchema) -> tuple[DataIssue, ...]:
    """A warning of masks that were saved as pictures, for the dataset of this ``name``; none where there are no such
    masks, or where the mapping knows their values."""
    meant = stretched(map(int, schema.label_values))
    known = mapping.labels.keys() | mapping.label_names.keys() | schema.label_names.keys()
    if not meant or mapping.drop_other_labels or any(str(value) in known for value in meant):
        return ()
    lines = ", ".join(f"{value} = {label}" for value, label in meant.items())
    samples = schema.label_values[str(_WHITE)]
    cause = (
        f"its masks hold {abbreviate(map(str, (0, *meant)), None)}, as pictures do (255 in {samples} of "
        f"{schema.samples} samples)"
    )
    remedy = f"if 255 is white, write {lines} under [labels] in the mapping; else name it: --label 255=NAME"
    return (DataIssue(thing=name, cause=cause, remedy=remedy, severity="warning"),)


def still_open(problems: Iterable[DataIssue], mapping: DataMapping) -> tuple[DataIssue, ...]:
    """The problems without those of label values that the mapping names, maps or drops."""
    found = []
    for problem in problems:
        left = tuple(value for value in problem.label_values if not _is_settled(value, mapping))
        if left == problem.label_values:
            found.append(problem)
        elif left:
            before, after = (f"({', '.join(map(str, values))})" for values in (problem.label_values, left))
            cause = problem.cause.replace(before, after)
            remedy = problem.remedy.replace(f"--label {problem.label_values[0]}=", f"--label {left[0]}=")
            found.append(problem.model_copy(update={"cause": cause, "remedy": remedy, "label_values": left}))
    return tuple(found)


def _is_settled(value: int, mapping: DataMapping) -> bool:
    text = str(value)
    return text in mapping.labels or mapping.drop_other_labels or text in mapping.label_names
