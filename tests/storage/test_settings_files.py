"""Configuration: every key known, every mistake named with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.storage import load_settings
from archipel.vocabulary import ArchipelError, ErrorCode, Record


class Bulb(Record):
    watts: int = 7


class Lamp(Record):
    bulb: Bulb = Bulb()
    brightness: int = 3
    colour: str = "white"


def test_a_file_is_a_frozen_record(tmp_path: Path) -> None:
    (tmp_path / "lamp.toml").write_text('brightness = 5\ncolour = "grün"\n', encoding="utf-8")
    assert load_settings(tmp_path / "lamp.toml", Lamp) == Lamp(brightness=5, colour="grün")


@pytest.mark.parametrize(
    ("text", "thing", "remedy"),
    [
        ("brigthness = 5", "lamp.toml: brigthness", "did you mean brightness?"),
        ("zzz = 5", "lamp.toml: zzz", "known keys are brightness, bulb, colour"),
        ("[bulb]\nwats = 5", "lamp.toml: bulb.wats", "did you mean bulb.watts?"),
        ("[bulb]\nzzz = 5", "lamp.toml: bulb.zzz", "known keys are watts"),
        ("[bulb]\nwatts = 'x'", "lamp.toml: bulb.watts", "give a whole number"),
        ('brightness = "much"', "lamp.toml: brightness", "give a whole number"),
        ("brightness = ", "lamp.toml", "fix that line"),
        ("brightness = 1\nbrightness = 2", "lamp.toml", "fix that line"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, text: str, thing: str, remedy: str) -> None:
    (tmp_path / "lamp.toml").write_text(text)
    with pytest.raises(ArchipelError) as refused:
        load_settings(tmp_path / "lamp.toml", Lamp)
    assert refused.value.thing == f"{tmp_path}/{thing}"
    assert refused.value.remedy == remedy
    assert refused.value.code is ErrorCode.CONFIGURATION


def test_a_missing_file_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArchipelError, match="is not there; run init first"):
        load_settings(tmp_path / "lamp.toml", Lamp)
    (tmp_path / "lamp.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ArchipelError, match="is not valid TOML"):
        load_settings(tmp_path / "lamp.toml", Lamp)
