"""What a plan asks of a site's data: the kind, and by name the modalities, label values and columns it reads, and
what numbers they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from archipel.vocabulary.bounds import LONGEST_NAME, MOST_CATEGORIES, MOST_COLUMNS, MOST_LABELS, MOST_MODALITIES
from archipel.vocabulary.names import Name
from archipel.vocabulary.records import Many
from archipel.vocabulary.visible import quote_name
from archipel.vocabulary.wrong_values import Terms

DataKind = Literal["volumes", "table", "arrays"]
"""``volumes``: 3-D images on a grid in the patient's space; ``table``: named columns, one row per visit; ``arrays``:
one array ``x`` a sample, with a ``y`` or a class: 2-D images among them."""

LabelValue = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,4})$")]
LabelName = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
Unit = Annotated[str, StringConstraints(max_length=40)]


class ColumnNeed(Terms):
    """A column of a table, or a value that belongs to each volume: a number in a unit, or one of some categories.

    Plans get a category as its place in ``categories``, counted from 0.
    """

    name: Name
    unit: Unit = ""
    categories: Annotated[
        Many[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=MOST_CATEGORIES)
    ] = ()

    @property
    def is_category(self) -> bool:
        """Whether its values are names rather than numbers."""
        return bool(self.categories)


ARRAY = "x"
"""The name of the array that plans read of kind ``arrays``."""
ValueType = Annotated[str, StringConstraints(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")]


class ValueRange(Terms):
    """The scale of an input's numbers: the least and the greatest value that they may have, and their unit, for example
    -1024 to 3071 HU. None and "" say nothing."""

    minimum: float | None = None
    maximum: float | None = None
    unit: Unit = ""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError("minimum is not less than maximum; give the smaller one as minimum")
        return self

    def contradicts(self, other: ValueRange) -> bool:
        """Whether both say an end or a unit, and not the same one."""
        pairs = ((self.minimum, other.minimum), (self.maximum, other.maximum), (self.unit or None, other.unit or None))
        return any(one is not None and two is not None and one != two for one, two in pairs)

    def __str__(self) -> str:
        low, high = (None if end is None else f"{end:.10g}" for end in (self.minimum, self.maximum))
        if low is None or high is None:
            span = f"from {low}" if low is not None else f"up to {high}" if high is not None else ""
        else:
            span = f"{low} to {high}"
        return f"{span} {quote_name(self.unit) if self.unit else ''}".strip()


class InputValues(ValueRange):
    """The numbers of one input, as a plan is written for them or a site discloses them: their scale, and for kind
    ``arrays`` the type in which plans get them.

    >>> str(InputValues(type="uint8", minimum=0, maximum=255)), str(InputValues(minimum=-1024, maximum=3071, unit="HU"))
    ('uint8, 0 to 255', '-1024 to 3071 HU')
    """

    type: ValueType | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (self.type or "", super().__str__()) if part)


class DataNeeds(Terms):
    """What a site must have.

    ``modalities`` are the images of a subject that the plan reads; ``labels`` the label values of a segmentation and
    their names (none: no label volume is read). ``columns`` are the inputs of a plan on tables, in their order, and
    ``target`` what it predicts, of any kind of data: the ``categories`` of a target are the classes of the plan, and
    the place of a class in them is its number at every site. ``values`` says what numbers the plan is written for, by
    modality or for the array ``x``. Sites bring their own names to these by a mapping.

    >>> DataNeeds(kind="volumes", modalities=("T1w",), labels={"1": "anterior", "2": "posterior"}).labels["2"]
    'posterior'
    """

    kind: DataKind
    modalities: Annotated[Many[Name], Field(max_length=MOST_MODALITIES)] = ()
    labels: Annotated[dict[LabelValue, LabelName], Field(max_length=MOST_LABELS)] = {}
    columns: Annotated[Many[ColumnNeed], Field(max_length=MOST_COLUMNS)] = ()
    target: ColumnNeed | None = None
    values: Annotated[dict[Name, InputValues], Field(max_length=MOST_MODALITIES)] = {}
    minimum_subjects: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "volumes" and (self.modalities or self.labels):
            raise ValueError(f"modalities and labels belong to volumes, not to {self.kind}; leave them out")
        if self.kind != "table" and self.columns:
            raise ValueError(f"columns belong to tables, not to {self.kind}; leave them out")
        if self.kind == "table" and not (self.columns and self.target):
            raise ValueError("a plan on tables names its columns and its target; give both")
        inputs = {"volumes": self.images, "arrays": (ARRAY,), "table": ()}[self.kind]
        strange = [name for name in self.values if name not in inputs]
        if strange:
            there = f"has {' and '.join(inputs)}" if inputs else "says units with its columns"
            raise ValueError(f"values names {strange[0]}; a plan of kind {self.kind} {there}")
        if self.kind == "volumes" and any(one.type for one in self.values.values()):
            raise ValueError("volumes are always float32; values says their minimum, maximum and unit only")
        names = [column.name for column in self.columns] + ([self.target.name] if self.target else [])
        for what, given in (("column", names), ("modality", list(self.modalities))):
            if len(set(given)) < len(given):
                raise ValueError(f"each {what} is named once; give each a name of its own")
        return self

    @property
    def all_columns(self) -> tuple[ColumnNeed, ...]:
        """Inputs and target."""
        return self.columns if self.target is None else (*self.columns, self.target)

    @property
    def images(self) -> tuple[str, ...]:
        """The modalities read, ``image`` where the plan names none."""
        return self.modalities or (("image",) if self.kind == "volumes" else ())


def differing_values(by_site: Mapping[str, Mapping[str, InputValues]]) -> Iterator[str]:
    """A sentence for each input whose type, scale or unit is not the same at all sites that say it: a model would take
    8 bits at one site and 16 at another for one and the same.

    >>> sites = {"a": {"x": InputValues(type="uint8")}, "b": {"x": InputValues(type="uint16")}, "c": {}}
    >>> next(differing_values(sites)).partition(";")[0]
    'the values of x are not the same everywhere: uint8 at a'
    """
    found: dict[str, dict[str, list[str]]] = {}
    for site, values in sorted(by_site.items()):
        for name, own in values.items():
            if said := str(own):
                found.setdefault(name, {}).setdefault(said, []).append(site)
    for name, groups in sorted(found.items()):
        if len(groups) > 1:
            words = "; ".join(f"{said} at {', '.join(sites)}" for said, sites in groups.items())
            remedy = f'say in the plan\'s needs which it is written for: values={{"{name}": InputValues(...)}}'
            yield f"the values of {name} are not the same everywhere: {words}; {remedy}"
