"""Who acts at a site or a server: the person whom the journal names, and how it is known that it is this person."""

from __future__ import annotations

import os
import pwd
from typing import Annotated, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from archipel.vocabulary.records import Record
from archipel.vocabulary.visible import escape_hidden

TERMINAL = "terminal"
"""The operating system authenticated the person: it is the account that the command runs under."""
TOKEN = "token"  # noqa: S105 - a word, no secret
"""The server authenticated the person: they sent an access token, which has this name."""


class Actor(Record):
    """A person who decides or changes something at a site or a server; every such act takes one and journals it.

    ``authentication`` says who vouches for the name: "terminal" is the operating system, "token" a server whose access
    token of this name the person sent, and another program that lets people in (a web console, say) names itself. That
    program must have authenticated them: a site and a server believe what they are given.

    >>> Actor(name="anna", authentication="terminal").journal_name
    'anna'
    >>> Actor(name="anna", authentication="console").journal_name
    'console:anna'
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    authentication: Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,31}$")]

    @field_validator("name")
    @classmethod
    def _is_visible(cls, name: str) -> str:
        if escape_hidden(name) != name or name != name.strip():
            raise ValueError("a name has no control or format characters and no space at its ends")
        return name

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        if self.authentication == TERMINAL and ":" in self.name:
            raise ValueError("an account's name has no colon: it would read as another kind of authentication")
        return self

    @classmethod
    def of_terminal(cls) -> Actor:
        """The account that this process runs under, which the environment cannot change. For command lines only.

        An account without a usable name is named by its number, as in ``uid 1000``.
        """
        try:
            return cls(name=pwd.getpwuid(os.getuid()).pw_name, authentication=TERMINAL)
        except (KeyError, ValidationError):
            return cls(name=f"uid {os.getuid()}", authentication=TERMINAL)

    @property
    def journal_name(self) -> str:
        """The name as journal lines have it: an account's own name, any other after how it was authenticated."""
        return self.name if self.authentication == TERMINAL else f"{self.authentication}:{self.name}"
