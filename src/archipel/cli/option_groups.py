"""Options that several commands have: a dataclass whose fields are the options, as one parameter of each command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command for typer: each parameter whose type is a dataclass is replaced by the fields of this, in their
    place, and the command is given an instance.
    """
    parameters: list[Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    hints = get_type_hints(command, include_extras=True)
    for one in signature(command).parameters.values():
        kind = hints[one.name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            parameters.append(one.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))
            continue
        groups[one.name] = kind, [field.name for field in fields(kind)]
        own = get_type_hints(kind, include_extras=True)
        # The class itself has the default of a field as an attribute, where there is one.
        parameters += [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=getattr(kind, field.name, Parameter.empty),
                annotation=own[field.name],
            )
            for field in fields(kind)
        ]

    @wraps(command)
    def called(**given: object) -> None:
        made = {name: make(**{part: given.pop(part) for part in parts}) for name, (make, parts) in groups.items()}
        command(**made, **given)

    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called
