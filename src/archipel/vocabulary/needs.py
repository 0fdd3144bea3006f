"""What a plan asks of a site's data: the kind, and by name the modalities, label values and columns it reads."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from archipel.vocabulary.bounds import LONGEST_NAME, MOST_CATEGORIES, MOST_COLUMNS, MOST_LABELS, MOST_MODALITIES
from archipel.vocabulary.names import Name
from archipel.vocabulary.records import Many, Record

DataKind = Literal["volumes", "table", "arrays"]
"""``volumes``: 3-D images on a grid in the patient's space; ``table``: named columns, one row per visit; ``arrays``:
one array ``x`` a sample, with a ``y`` or a class: 2-D images among them."""

LabelValue = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,4})$")]
LabelName = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
Unit = Annotated[str, StringConstraints(max_length=40)]


class ColumnNeed(Record):
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


class DataNeeds(Record):
    """What a site must have.

    ``modalities`` are the images of a subject that the plan reads; ``labels`` the label values of a segmentation and
    their names (none: no label volume is read). ``columns`` are the inputs of a plan on tables, in their order, and
    ``target`` what it predicts, of any kind of data: the ``categories`` of a target are the classes of the plan, and
    the place of a class in them is its number at every site. Sites bring their own names to these by a mapping.

    >>> DataNeeds(kind="volumes", modalities=("T1w",), labels={"1": "anterior", "2": "posterior"}).labels["2"]
    'posterior'
    """

    kind: DataKind
    modalities: Annotated[Many[Name], Field(max_length=MOST_MODALITIES)] = ()
    labels: Annotated[dict[LabelValue, LabelName], Field(max_length=MOST_LABELS)] = {}
    columns: Annotated[Many[ColumnNeed], Field(max_length=MOST_COLUMNS)] = ()
    target: ColumnNeed | None = None
    minimum_subjects: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "volumes" and (self.modalities or self.labels):
            raise ValueError(f"modalities and labels belong to volumes, not to {self.kind}")
        if self.kind != "table" and self.columns:
            raise ValueError(f"columns belong to tables, not to {self.kind}")
        if self.kind == "table" and not (self.columns and self.target):
            raise ValueError("a plan on tables names its columns and its target")
        names = [column.name for column in self.columns] + ([self.target.name] if self.target else [])
        for what, given in (("column", names), ("modality", list(self.modalities))):
            if len(set(given)) < len(given):
                raise ValueError(f"each {what} is named once")
        return self

    @property
    def all_columns(self) -> tuple[ColumnNeed, ...]:
        """Inputs and target."""
        return self.columns if self.target is None else (*self.columns, self.target)

    @property
    def images(self) -> tuple[str, ...]:
        """The modalities read, ``image`` where the plan names none."""
        return self.modalities or (("image",) if self.kind == "volumes" else ())
