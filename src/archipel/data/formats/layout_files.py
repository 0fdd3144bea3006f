"""Layout files: a site's own layout in TOML, with the options of the format ``layout`` as its keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from archipel.vocabulary import BadInput, Record
from archipel.vocabulary.wrong_values import wrong_value

_LARGEST = 1 << 20


class LayoutFile(Record):
    """What a layout file may say. ``image`` is a template, several, or one for each modality."""

    image: str | tuple[str, ...] | dict[str, str]
    label: str | tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    table: str = ""
    id_column: str = ""

    def options(self) -> dict[str, str]:
        """The options of the format ``layout``."""
        images = [f"{name}={text}" for name, text in self.image.items()] if isinstance(self.image, Mapping) else None
        said = {
            "image": ",".join(images) if images is not None else _joined(self.image),
            "label": _joined(self.label),
            "structures": ",".join(self.structures),
            "unused": ",".join(self.unused),
            "table": self.table,
            "id_column": self.id_column,
        }
        return {name: text for name, text in said.items() if text}


def read_layout(path: Path) -> dict[str, str]:
    """The options that a layout file stands for. Raises BadInput naming the file and the key that is wrong."""
    thing, remedy = f"layout {path.name}", "see Layouts we read in the documentation"
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(thing, f"is larger than {_LARGEST >> 20} MiB", remedy)
        return LayoutFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).options()
    except OSError as error:
        raise BadInput(thing, f"cannot be read ({error.strerror})", remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        known = ", ".join(LayoutFile.model_fields)
        if first["type"] == "extra_forbidden":
            raise BadInput(f"{thing}: {key}", "is not a known key", f"the keys are {known}") from error
        wrong = wrong_value(error, LayoutFile)
        raise BadInput(f"{thing}: {wrong.place}", wrong.cause, f"{wrong.remedy}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(thing, f"is not TOML: {error}", remedy) from error


def _joined(texts: str | tuple[str, ...] | dict[str, str]) -> str:
    return texts if isinstance(texts, str) else ",".join(texts)
