"""A wrong value of a record in the product's own words: which field, what is wrong with it and what to give instead.

Records that people write by hand, in a plan, a script or a notebook, are ``Terms``: they raise an error with these
words where others raise pydantic's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from archipel.vocabulary.errors import BadInput
from archipel.vocabulary.misspelt import suggest_key
from archipel.vocabulary.names import NAME
from archipel.vocabulary.records import Record

_LONGEST_SHOWN = 60
_KNOWN_TO_PYDANTIC = frozenset(get_args(ErrorType))
"""Its own kinds of error. Those of our validators have other names, and say what is wrong in our words."""
_KINDS = {"bool", "int", "float", "str"}
"""How pydantic names the kinds of a field that takes several."""


class WrongValue(NamedTuple):
    """The first wrong value of a record: its field, what is wrong, the remedy, and the value as people write it where
    the value is wrong. A value of a settings file may be a secret, such as a password in a proxy's address.
    """

    field: str
    cause: str
    remedy: str
    shown: str = ""

    @property
    def place(self) -> str:
        """The field with its value."""
        return "=".join(part for part in (self.field, self.shown) if part)


class BadTerms(BadInput, ValueError):
    """A person wrote a record with a value that it cannot have. It is a ValueError too, so that a record that makes
    another one of its fields while it is checked reports it as its own.
    """


class Terms(Record):
    """Base of the records that people write by hand.

    >>> from archipel.vocabulary import GpuTerms
    >>> GpuTerms(memory_mb=1)
    Traceback (most recent call last):
    archipel.vocabulary.wrong_values.BadTerms: GpuTerms, memory_mb=1: is too small; give at least 256
    """

    # A type checker sees the fields as arguments.
    if not TYPE_CHECKING:

        def __init__(self, *positional: object, **fields: object) -> None:
            name = type(self).__name__
            if positional:
                known = next(iter(type(self).model_fields))
                example = f"write {name}({known}={_shown(positional[0])})"
                raise BadTerms(f"{name}({_shown(positional[0])})", "takes each value by its name", example)
            try:
                super().__init__(**fields)
            except ValidationError as error:
                wrong = wrong_value(error, type(self))
                place = f"{name}, {wrong.place}" if wrong.place else name
                raise BadTerms(place, wrong.cause, wrong.remedy) from None

        # Records within records are checked as before, without this: pydantic would call it for each of them.
        __init__.__pydantic_base_init__ = True


def wrong_value(error: ValidationError, kind: type[Record] | None = None) -> WrongValue:
    """The first wrong value that pydantic found, for a record of this ``kind``."""
    first = error.errors()[0]
    where, value, found = first["loc"], first["input"], first["type"]
    context: Mapping[str, object] = first.get("ctx", {})
    if where and where[-1] == "[key]":
        where = (*where[:-2], "a key")
    is_of_no_kind = len(where) > 1 and where[-1] in _KINDS
    field = ".".join(map(str, where[:-1] if is_of_no_kind else where))
    if found == "missing":
        return WrongValue(field, "is missing", f"give {where[-1]}=...")
    if found == "extra_forbidden":
        return WrongValue(field, "is not a field here", _known_fields(kind, where))
    if found == "value_error":
        raised = context.get("error")
        cause, remedy = _parts(str(raised) if raised is not None else first["msg"])
        return WrongValue(field, cause, remedy)
    if found not in _KNOWN_TO_PYDANTIC:
        return WrongValue(field, *_parts(first["msg"]))
    shown = _shown(value)
    if is_of_no_kind:
        return WrongValue(field, "is not a value that it can have", "give True or False, a number or a text", shown)
    if found in _SENTENCES:
        cause, remedy = _SENTENCES[found](context)
        return WrongValue(field, cause, remedy, shown)
    text = first["msg"]
    return WrongValue(field, f"cannot be used ({text[:1].lower()}{text[1:]})", "give another value", shown)


def _parts(sentence: str) -> tuple[str, str]:
    cause, _, remedy = sentence.partition("; ")
    return cause, remedy or "fix its value"


def _known_fields(kind: type[Record] | None, where: tuple[int | str, ...]) -> str:
    names = [part for part in where if isinstance(part, str)]
    if kind is None or len(names) < len(where):
        return "leave it out"
    return suggest_key(kind, names).replace("known keys are", "the fields are")


def _shown(value: object) -> str:
    text = f"{type(value).__name__}(...)" if isinstance(value, BaseModel) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _sentence(cause: str, remedy: str) -> Callable[[Mapping[str, object]], tuple[str, str]]:
    return lambda context: (cause.format(**context), remedy.format(**context))


def _pattern(context: Mapping[str, object]) -> tuple[str, str]:
    if context["pattern"] == NAME:
        rule = "letters, digits, and the signs _ . -, at most 63, the first a letter or _"
        return "is not a name", f"use {rule}"
    return "does not have the form of such a value", f"give one that matches {context['pattern']}"


_WHOLE = _sentence("is not a whole number", "give a whole number")
_NUMBER = _sentence("is not a number", "give a number")
_YES_NO = _sentence("is not True or False", "give True or False")
_TEXT = _sentence("is not a text", "give a text between quotation marks")
_LIST = _sentence("is not a list", 'give a list, such as ["a", "b"]; of one item: ["a"]')
_TABLE = _sentence("is not a dictionary", "give a value for each name: {{...: ...}}")
_ONE_OF = _sentence("is not one of the values that it can have", "give {expected}")
_LONG = _sentence("is too long", "give at most {max_length}")
_SENTENCES: Mapping[str, Callable[[Mapping[str, object]], tuple[str, str]]] = {
    "greater_than": _sentence("is too small", "give more than {gt}"),
    "greater_than_equal": _sentence("is too small", "give at least {ge}"),
    "less_than": _sentence("is too large", "give less than {lt}"),
    "less_than_equal": _sentence("is too large", "give at most {le}"),
    "finite_number": _sentence("is not a finite number", "give a finite number"),
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER,
    "bool_type": _YES_NO, "bool_parsing": _YES_NO,
    "string_type": _TEXT,
    "string_too_short": _sentence("is too short", "give at least {min_length} characters"),
    "string_too_long": _sentence("is too long", "give at most {max_length} characters"),
    "string_pattern_mismatch": _pattern,
    "tuple_type": _LIST, "list_type": _LIST, "iterable_type": _LIST,
    "too_long": _LONG,
    "dict_type": _TABLE, "mapping_type": _TABLE,
    "model_type": _sentence("is not a {class_name}", "give {class_name}(...)"),
    "model_attributes_type": _sentence("is not a record", "give a record, or its values by their names"),
    "literal_error": _ONE_OF, "enum": _ONE_OF,
}  # fmt: skip
