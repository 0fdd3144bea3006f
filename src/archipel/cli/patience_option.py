"""``--patience``: the rule by which an experiment ends early by itself, as people type it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archipel.vocabulary import Patience

PatienceOption = Annotated[
    str | None,
    typer.Option(
        "--patience",
        help="METRIC:ROUNDS[:GAIN], end early after so many rounds without a gain (by default any) in a validation "
        "metric; for example dice:5:0.01.",
    ),
]


def read_patience(text: str | None) -> Patience | None:
    """The rule in a text. Raises BadInput for one that is not a metric, a number of rounds and a gain.

    >>> read_patience("dice:5:0.01")
    Patience(metric='dice', rounds=5, smallest_gain=0.01)
    """
    if text is None:
        return None
    from pydantic import ValidationError

    from archipel.vocabulary import BadInput, Patience
    from archipel.vocabulary.wrong_values import wrong_value

    metric, *numbers = text.split(":")
    names = ("rounds", "smallest_gain")[: len(numbers)]
    try:
        if len(numbers) not in (1, 2):
            raise ValueError("it has not two or three parts")
        return Patience.model_validate({"metric": metric, **dict(zip(names, numbers, strict=True))}, strict=False)
    except ValueError as error:
        cause = "is not a metric, a number of rounds and a smallest gain"
        if isinstance(error, ValidationError):
            wrong = wrong_value(error, Patience)
            cause += f" ({wrong.place} {wrong.cause})"
        raise BadInput(
            f"--patience {text}", cause, "give METRIC:ROUNDS or METRIC:ROUNDS:GAIN, such as dice:5:0.01"
        ) from None
