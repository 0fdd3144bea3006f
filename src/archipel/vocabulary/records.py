"""The base of every record: frozen, closed to unknown keys, finite numbers only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value that crosses a border as JSON.

    Unknown keys, NaN and infinities are refused when a record is made, so a record that exists is well formed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
