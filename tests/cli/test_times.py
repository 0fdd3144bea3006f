"""Times that people read have one form, in tables and in sentences."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.cli.site_terminal import console, words
from archipel.cli.tables import cell
from archipel.cli.times import readable


@pytest.mark.parametrize("shown", [readable, cell, words])
@pytest.mark.parametrize("moment", ["2026-11-21T19:48:32.120001+00:00", "2026-11-21T19:48:32+00:00"])
def test_a_time_says_that_it_is_utc_and_has_no_fraction(shown: object, moment: str) -> None:
    assert shown(moment) == "2026-11-21 19:48:32 UTC"  # type: ignore[operator]
    assert shown(f"not connected (since {moment})") == "not connected (since 2026-11-21 19:48:32 UTC)"  # type: ignore[operator]


def test_a_sentence_of_a_site_says_times_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("frozen 2026-11-21T19:48:32.120001+00:00")
    assert capsys.readouterr().out == "frozen 2026-11-21 19:48:32 UTC\n"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_that_is_kept_is_readable(moment: datetime) -> None:
    text = moment.isoformat(timespec="microseconds")
    assert readable(text) == f"{text[:10]} {text[11:19]} UTC"


@given(st.text())
def test_what_is_no_time_stays(text: str) -> None:
    assert readable(text) == text
