"""Descriptions: ``dataset.json`` as MSD and nnU-Net write it, read once and checked before it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from archipel.data.files import Folder, Purpose
from archipel.data.samples import DataIssue
from archipel.vocabulary import BadInput, ErrorCode, JsonObject, Record

_LARGEST = 8 << 20
"""Bytes; the list of ten thousand cases has one MiB of them, and takes some fifty times as much in memory."""
_MOST_NUMBERED = 1000
"""Channels or labels; the largest atlases have some hundred."""
_DIGITS = re.compile("[0-9]{1,9}")
_REMEDY = "fix it as the layout asks, or add the folder in another format"


class Description(Record):
    """What a person wrote into a description: any JSON object, checked key by key where it is used."""

    content: JsonObject


_DESCRIPTION = Purpose("json/3", Description)


def description(folder: Folder, place: str, problems: list[DataIssue]) -> JsonObject | None:
    """The JSON object in a file; None, with the reason among ``problems``, when there is none."""
    # It may list every patient's files.
    looked = folder.unstored.look(place, _DESCRIPTION, _parsed) if folder.has(place) else None
    if looked is None:
        if not any(problem.thing == place for problem in problems):
            list(folder.files(place, problems))
            cause = f"has no {place}"
            problems.append(DataIssue(thing=folder.root.name, cause=cause, remedy="add it, or choose another format"))
        return None
    if looked.problem is not None:
        problems.append(looked.problem)
        return None
    return looked.require_facts().content


def _parsed(path: Path) -> Description:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise TypeError("not an object")
        # What is kept goes through JSON again; NaN, lone surrogates and depth are refused here.
        return Description.model_validate_json(json.dumps({"content": content}, allow_nan=False))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise bad_description(path.name, f"cannot be read as JSON ({str(error)[:120]})") from error


def bad_description(place: str, cause: str) -> BadInput:
    """The error for a description that does not say what it should."""
    return BadInput(place, cause, _REMEDY, code=ErrorCode.BAD_DATA)


def by_number(place: str, key: str, stored: JsonValue) -> dict[int, str]:
    """Channels or labels, by number: from ``{"0": "T1"}``, or the other way round as nnU-Net writes labels.

    Regions (a list of values under one name) name no value of their own. Raises BadInput.
    """
    if not isinstance(stored, Mapping) or not stored:
        raise bad_description(place, f"has no {key}")
    if len(stored) > _MOST_NUMBERED:
        raise bad_description(place, f"its {key} name {len(stored)} numbers; at most {_MOST_NUMBERED} are allowed")
    names: dict[int, str] = {}
    for left, right in stored.items():
        number, name = (left, right) if _DIGITS.fullmatch(str(left)) else (right, left)
        if isinstance(number, list):
            continue
        if (
            not isinstance(number, str | int | float)
            or isinstance(number, bool)
            or not _DIGITS.fullmatch(str(number))
            or not isinstance(name, str)
            or not name.strip()
        ):
            raise bad_description(place, f"its {key} hold {left!r}: {right!r}, which is not a number and a name")
        if int(number) in names:
            raise bad_description(place, f"its {key} name {number} twice")
        names[int(number)] = name.strip()
    return dict(sorted(names.items()))


def modalities_of(place: str, key: str, channels: Mapping[int, str]) -> list[str]:
    """The modalities' names in the order of channels, ``image`` where there is only one. Raises BadInput."""
    if list(channels) != list(range(len(channels))):
        raise bad_description(place, f"its {key} are not numbered from 0 without a gap")
    names = list(channels.values())
    twice = sorted({name for name in names if names.count(name) > 1 or name == "label"})
    if twice:
        raise bad_description(place, f"its {key} use the name {', '.join(twice)} twice, or for an image")
    return ["image"] if len(names) == 1 else names
