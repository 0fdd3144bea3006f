"""Hyper-parameters: typed, bounded, and changed between rounds only inside the bounds a site approved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from archipel.vocabulary.bounds import EXACT, LONGEST_NAME, LONGEST_TEXT, MOST_CHOICES
from archipel.vocabulary.errors import BadInput
from archipel.vocabulary.names import Name, Value
from archipel.vocabulary.records import Many
from archipel.vocabulary.wrong_values import Terms


class HyperParameter(Terms):
    """One argument of a plan: its type, its default and what it may be.

    A float or int has ``minimum`` and ``maximum`` (both inclusive); a choice lists its ``choices``; a bool is free.

    >>> rate = HyperParameter(name="learning_rate", kind="float", default=1e-3, minimum=1e-5, maximum=1e-2)
    >>> rate.check(0.005)
    0.005
    """

    name: Name
    kind: Literal["float", "int", "bool", "choice"]
    default: Value
    minimum: float | None = None
    maximum: float | None = None
    choices: Annotated[
        Many[Annotated[str, StringConstraints(max_length=LONGEST_NAME)]], Field(max_length=MOST_CHOICES)
    ] = ()
    description: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.kind in ("float", "int") and (self.minimum is None or self.maximum is None):
            raise ValueError(f"hyper-parameter {self.name}: a number needs minimum and maximum; give both")
        if any(abs(bound) >= EXACT for bound in (self.minimum, self.maximum) if bound is not None):
            raise ValueError(
                f"hyper-parameter {self.name}: bounds must be within 2**53, beyond which JSON is not exact; "
                "give smaller ones"
            )
        if self.kind == "choice" and not self.choices:
            raise ValueError(f"hyper-parameter {self.name}: a choice needs choices; give choices=(...)")
        try:
            self.check(self.default)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return self

    def check(self, value: Value) -> Value:
        """The value in the parameter's own type.

        Raises BadInput when the type is another one or the value lies outside the bounds.
        """
        thing = f"argument {self.name}={value!r}"
        match self.kind:
            case "bool":
                if isinstance(value, bool):
                    return value
                raise BadInput(thing, "is not a bool", "give True or False")
            case "choice":
                if isinstance(value, str) and value in self.choices:
                    return value
                raise BadInput(thing, "is not one of the choices", f"choose from {', '.join(self.choices)}")
            case "int":
                if isinstance(value, bool) or not (isinstance(value, int) or _is_whole(value)):
                    raise BadInput(thing, "is not a whole number", f"give an int in [{self.minimum}, {self.maximum}]")
                number: int | float = int(value)
            case "float":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise BadInput(thing, "is not a number", f"give a float in [{self.minimum}, {self.maximum}]")
                number = float(value)
        if not (self.minimum is not None and self.maximum is not None and self.minimum <= number <= self.maximum):
            raise BadInput(thing, "is outside its bounds", f"choose a value in [{self.minimum}, {self.maximum}]")
        return number


def _is_whole(value: Value) -> bool:
    return isinstance(value, float) and value.is_integer()


def check_arguments(
    parameters: Sequence[HyperParameter], given: Mapping[str, Value], *, owner: str = "the plan"
) -> dict[str, Value]:
    """Every parameter's value: the given one, checked, or its default.

    Raises BadInput for a name that no parameter has and for a value outside its bounds.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise BadInput(f"argument {name}", f"{owner} declares no such hyper-parameter", f"declared are: {names}")
    return {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}
