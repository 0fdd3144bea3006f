"""Things that a job names: each kind has declared parameters and is made from their values.

Strategies and privacy steps are registered in one of these each. A name counts in one process: whatever runs the job,
or is asked to accept it, must have registered it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from archipel.vocabulary.errors import BadInput, Conflict
from archipel.vocabulary.names import Value
from archipel.vocabulary.parameters import HyperParameter, check_arguments

T = TypeVar("T")


@dataclass(frozen=True)
class _Kind(Generic[T]):
    parameters: tuple[HyperParameter, ...]
    make: Callable[[Mapping[str, Value]], T]


class Registry(Generic[T]):
    """Kinds of ``T`` by name; ``noun`` is what errors call one of them.

    >>> scales: Registry[float] = Registry("scale")
    >>> factor = HyperParameter(name="factor", kind="float", default=1.0, minimum=0, maximum=10)
    >>> forget = scales.register("constant", lambda values: float(values["factor"]), factor)
    >>> scales.make("constant", {"factor": 2.5}), scales.make("constant", {})
    (2.5, 1.0)
    >>> forget()
    >>> "constant" in scales
    False
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._kinds: dict[str, _Kind[T]] = {}

    def register(
        self, name: str, make: Callable[[Mapping[str, Value]], T], *parameters: HyperParameter
    ) -> Callable[[], None]:
        """Make a kind known by ``name``; ``make`` gets the value of each of the parameters. Returns how to undo that.

        Raises Conflict when the name is taken.
        """
        if name in self._kinds:
            raise Conflict(f"{self._noun} {name}", "is registered already", "choose another name")
        self._kinds[name] = _Kind(parameters, make)

        def forget() -> None:
            del self._kinds[name]

        return forget

    def __contains__(self, name: str) -> bool:
        return name in self._kinds

    def make(self, name: str, values: Mapping[str, Value]) -> T:
        """A new one of the kind ``name``; a parameter that ``values`` lacks has its default.

        Raises BadInput for an unknown name, for a parameter that the kind does not declare and for a value outside its
        bounds.
        """
        kind = self._kinds.get(name)
        if kind is None:
            known = ", ".join(sorted(self._kinds)) or "none"
            raise BadInput(f"{self._noun} {name}", "is not known here", f"choose one of: {known}")
        return kind.make(check_arguments(kind.parameters, values, owner=f"{self._noun} {name}"))
