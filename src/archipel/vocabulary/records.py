"""The base of every record: frozen, closed to unknown keys, finite numbers only; and the lists that records hold."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, JsonValue

T = TypeVar("T")

Many = Annotated[tuple[T, ...], FailFast()]
"""A list in a record. It is refused at its first item that is wrong: to name the others would cost without bound."""


JsonObject = dict[str, JsonValue]
"""A JSON object of unknown keys, from a file or a program outside Archipel; everything else is a record."""


class Record(BaseModel):
    """A frozen value that crosses a border as JSON.

    Unknown keys, NaN and infinities are refused when a record is made, so a record that exists is well formed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
