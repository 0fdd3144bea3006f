"""The base of what a server answers with."""

from __future__ import annotations

from pydantic import ConfigDict

from archipel.vocabulary import Record


class Reply(Record):
    """An answer of the server. Further fields of a newer server are ignored, not refused."""

    model_config = ConfigDict(extra="ignore")
