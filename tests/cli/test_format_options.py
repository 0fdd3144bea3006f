"""Options of a format as they are typed: one that is given several times is a list."""

from __future__ import annotations

import pytest

from archipel.cli.site_dataset import read_options
from archipel.vocabulary import BadInput


def test_an_option_that_is_given_twice_is_a_list() -> None:
    typed = ["number=age", "rows=site=a", "number=weight (kg)"]
    assert read_options(typed) == {"number": "age,weight (kg)", "rows": "site=a"}


@pytest.mark.parametrize("text", ["number", "=age", ""])
def test_what_is_not_name_and_value_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not NAME=VALUE"):
        read_options([text])
