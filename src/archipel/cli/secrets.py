"""Secrets of commands: from a file, the environment or a hidden prompt.

A secret is never an argument: ``ps`` shows the arguments of every command to everybody on the machine, and a shell
keeps them in its history.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import typer

from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.remedies import JoinFederation

_LONGEST = 64 << 10
_PROXY = re.compile(r"http://(?P<user>[^\s/@:]+)(?P<password>:[^@]*)?@(?P<rest>.+)")


def asked(variable: str, question: str) -> str | None:
    """The secret in the environment's ``variable`` or in the file that ``variable``_FILE names, else what a person
    types at the terminal; None where nobody is there to be asked.
    """
    if found := os.environ.get(variable):
        return found
    if place := os.environ.get(f"{variable}_FILE"):
        return read(place)
    if not sys.stdin.isatty():
        return None
    return str(typer.prompt(question, hide_input=True, err=True)).strip()


def read(place: str) -> str:
    """The secret in a file, or on standard input if ``place`` is ``-``. Raises BadInput."""
    thing: str = Thing.file(place)
    if place == "-":
        thing, text = "standard input", sys.stdin.readline(_LONGEST)
    else:
        try:
            with Path(place).open(encoding="utf-8") as file:
                text = file.read(_LONGEST)
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "is not text"
            raise BadInput(
                thing, f"cannot be read ({cause})", "name a text file with nothing but the secret"
            ) from error
    if not text.strip():
        raise BadInput(thing, "has no secret in it", "give one line of text, the secret alone")
    return text.strip()


def join_token(place: str | None, arguments: Sequence[str]) -> str:
    """The token with which a site joins: from a file, the environment, a prompt, or the first line of standard input.

    Raises BadInput for one that was given as an argument.
    """
    if arguments:
        raise BadInput(
            "join token",
            "was given as an argument, which everybody on this machine can read",
            "run `archipel site join` without it and paste it when you are asked; in scripts use --token-file or "
            "ARCHIPEL_JOIN_TOKEN",
            command=JoinFederation(),
        )
    return (read(place) if place else asked("ARCHIPEL_JOIN_TOKEN", "Join token")) or read("-")


def access_token(context: typer.Context, place: str | None) -> str | None:
    """The value of ``--token-file``: the token in that file; None where the environment has it or nobody gave one."""
    if context.resilient_parsing:
        return None
    return read(place) if place else asked("ARCHIPEL_TOKEN", "Access token")


def proxy(context: typer.Context, parameter: typer.CallbackParam, address: str | None) -> str | None:
    """The value of ``--proxy``, with the password of its user. Raises BadInput for one on the command line."""
    found = _PROXY.fullmatch(address or "")
    if context.resilient_parsing or found is None:
        return address
    user, rest = found["user"], found["rest"]
    if found["password"]:
        source = context.get_parameter_source(parameter.name or "")
        # By its name, since Typer has a copy of Click's enumeration of its own.
        if source is not None and source.name == "COMMANDLINE":
            raise BadInput(
                Thing("proxy", rest),
                "has its password on the command line, which everybody on this machine can read",
                f"give http://{user}@{rest} and type the password when you are asked; in scripts set "
                "ARCHIPEL_PROXY_PASSWORD or ARCHIPEL_PROXY_PASSWORD_FILE",
            )
        return address
    password = asked("ARCHIPEL_PROXY_PASSWORD", f"Password of {user} at the web proxy")
    return address if password is None else f"http://{user}:{quote(password, safe='')}@{rest}"
