"""Configuration files: TOML, every key known, every mistake named with its line of remedy."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from archipel.vocabulary import ArchipelError, ErrorCode, Record

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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(str(path), f"is not valid TOML ({error})", "mend that line") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            section = [str(part) for part in first["loc"][:-1]]
            known = _keys(model, section)
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            remedy = f"did you mean {'.'.join([*section, *near])}?" if near else f"known keys are {', '.join(known)}"
            raise _wrong(f"{path}: {key}", "is not a known key", remedy) from error
        raise _wrong(f"{path}: {key}", first["msg"], "mend its value") from error


def _keys(model: type[Record], section: list[str]) -> list[str]:
    """The known keys of a section, which is itself a record in a record; of none, the topmost."""
    for name in section:
        inner = model.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, Record)):
            return []
        model = inner
    return sorted(model.model_fields)


def _wrong(thing: str, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(thing, cause, remedy, code=ErrorCode.CONFIGURATION)
