"""Configuration files: TOML, every key known, every mistake named with its remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from archipel.vocabulary import ArchipelError, ErrorCode, Record
from archipel.vocabulary.misspelt import suggest_key
from archipel.vocabulary.wrong_values import wrong_value

Settings = TypeVar("Settings", bound=Record)


def load_settings(path: Path, model: type[Settings]) -> Settings:
    """The settings in a TOML file as a frozen record.

    Raises ArchipelError (code configuration) for a missing or malformed file, an unknown key (with the nearest known
    one of its section) and a value that does not fit.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _wrong(str(path), "is not there", "run init first, or name the right folder with --state") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(str(path), f"is not valid TOML ({error})", "fix that line") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise _wrong(f"{path}: {key}", "is not a known key", suggest_key(model, first["loc"])) from error
        wrong = wrong_value(error, model)
        raise _wrong(f"{path}: {wrong.field or key}", wrong.cause, wrong.remedy) from error


def _wrong(thing: str, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(thing, cause, remedy, code=ErrorCode.CONFIGURATION)
