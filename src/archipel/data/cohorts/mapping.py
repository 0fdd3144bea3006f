"""Mapping: a site's own names for what plans ask for, so that no hospital renames a file.

A mapping is written once for a dataset, in a TOML file, frozen into each cohort, and applied to every sample after it
is read. Applying it is pure: the same sample and mapping give the same values.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from archipel.data.sample_data import Affine, SampleData
from archipel.data.volumes import Orientation
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, Name, Record, Thing, Value, ValueRange
from archipel.vocabulary.misspelt import suggest_key
from archipel.vocabulary.needs import LabelValue
from archipel.vocabulary.wrong_values import wrong_value


class ColumnMapping(Record):
    """Where a plan's column comes from: ``scale * stored + offset`` for numbers, ``values`` for categories.

    ``source`` is the stored column, "" one of the plan's own name. ``fill`` is what plans get where it is missing: a
    constant that a person chose, never a figure computed from other patients.
    """

    source: str = ""
    scale: float = 1.0
    offset: float = 0.0
    values: dict[str, str] = {}
    fill: Value | None = None


class DataMapping(Record):
    """What stored values and names mean to plans.

    ``labels``: stored label value to the value that plans use (several may become one; 0 is background); a value that
    is not named stays as it is, unless ``drop_other_labels`` makes it background. ``label_names``: the names of values
    after that. ``modalities``: a plan's modality to the stored one. ``columns``: a plan's column to the stored one.
    ``values``: the scale and the unit of what is stored, by stored modality or ``x``, which plans are compared with and
    which is disclosed; no number is changed.
    ``drop_incomplete``: samples that lack a column that the plan needs are left out, and counted.
    ``orientation``: ``RAS`` turns every volume to the canonical axes, "" leaves it as stored.
    """

    labels: dict[LabelValue, Annotated[int, Field(ge=0, le=32_767)]] = {}
    drop_other_labels: bool = False
    label_names: dict[LabelValue, str] = {}
    modalities: dict[Name, str] = {}
    columns: dict[Name, ColumnMapping] = {}
    values: dict[str, ValueRange] = {}
    drop_incomplete: bool = False
    orientation: Annotated[str, Field(pattern="^(RAS)?$")] = ""

    def label_value(self, stored: int) -> int:
        """What plans get for a stored label value."""
        return self.labels.get(str(stored), 0 if self.drop_other_labels else stored)

    def stored_modality(self, asked: str) -> str:
        """The stored name of a plan's modality."""
        return self.modalities.get(asked, asked)

    def stored_input(self, needs: DataNeeds, asked: str) -> str:
        """The stored name of what a plan reads: a modality, or the array that all datasets of arrays have."""
        return self.stored_modality(asked) if needs.kind == "volumes" else asked

    def stored_column(self, asked: str) -> str:
        """The stored name of a plan's column."""
        rule = self.columns.get(asked)
        return rule.source if rule and rule.source else asked

    def fills(self, column: str) -> bool:
        """Whether plans get a constant where the column is missing."""
        rule = self.columns.get(column)
        return rule is not None and rule.fill is not None

    def required_columns(self, needs: DataNeeds) -> frozenset[str]:
        """The stored columns without which a sample is incomplete for a plan; what is filled is not among them."""
        return frozenset(self.stored_column(one.name) for one in needs.all_columns if not self.fills(one.name))

    def value(self, column: str, stored: Mapping[str, Value]) -> Value | None:
        """A plan's column from the stored values of a sample; None when it is missing there."""
        rule = self.columns.get(column)
        value = stored.get(self.stored_column(column))
        if rule is None:
            return value
        if value is None:
            return rule.fill
        if isinstance(value, str):
            return rule.values.get(value, value)
        if rule.values:
            return rule.values.get(f"{value:g}", rule.values.get(str(value), str(value)))
        return value * rule.scale + rule.offset


def read_mapping(file: Path) -> DataMapping:
    """The mapping in a TOML file. Raises BadInput naming the file and the key that is wrong."""
    thing, remedy = f"mapping {file}", "see From folder to cohort in the documentation"
    try:
        mapping = DataMapping.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(thing, f"cannot be read ({error.strerror})", remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{thing}: {'.'.join(map(str, first['loc']))}"
        if first["type"] == "extra_forbidden":
            raise BadInput(place, "is not a known key", suggest_key(DataMapping, first["loc"])) from error
        wrong = wrong_value(error, DataMapping)
        raise BadInput(f"{thing}: {wrong.place}", wrong.cause, f"{wrong.remedy}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(thing, f"is not TOML: {error}", remedy) from error
    for name, rule in mapping.columns.items():
        if rule.scale == 0:
            raise BadInput(
                Thing.worded(f"{thing}: columns.{name}", column=name), "scale 0 makes every value the same", remedy
            )
    return mapping


def apply(mapping: DataMapping, reading: SampleData) -> SampleData:
    """The sample as plans get it: labels and orientation. Names of modalities and columns are looked up when asked."""
    label = reading.label
    if label is not None and (mapping.labels or mapping.drop_other_labels):
        stored = np.unique(label)
        table = np.array([mapping.label_value(int(value)) for value in stored], dtype=np.int16)
        label = table[np.searchsorted(stored, label)]
    images, affine = reading.images, reading.affine
    if mapping.orientation and affine is not None:
        turn = Orientation.of(affine)
        shape = next(iter(images.values())).shape if images else (label.shape if label is not None else (1, 1, 1))
        images = {name: np.ascontiguousarray(turn.apply(image)) for name, image in images.items()}
        label = None if label is None else np.ascontiguousarray(turn.apply(label))
        affine = turn.turned(affine, shape)
    return SampleData(images=images, label=label, affine=affine, arrays=reading.arrays, values=reading.values)


def grid_after(mapping: DataMapping, shape: Sequence[int], affine: Affine) -> tuple[tuple[int, ...], Affine]:
    """Shape and affine of a volume as plans get it, from those that are stored."""
    if not mapping.orientation:
        return tuple(shape), affine
    turn = Orientation.of(affine)
    return tuple(shape[axis] for axis in turn.axes), turn.turned(affine, tuple(shape))


def missing_modality(sample: str, asked: str, held: list[str]) -> BadInput:
    """The error for a sample without an image that the plan reads."""
    return BadInput(
        Thing.worded(sample, sample=sample),
        f"has no {asked} (it has {', '.join(held) or 'no image'})",
        "map another modality to it, add the file or leave the subject out",
        code=ErrorCode.BAD_DATA,
    )
