"""The model of a job in words: how large it is, and which part of it is trained and leaves."""

from __future__ import annotations

from archipel.vocabulary import Job, TensorSchema
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import quote_lines, quote_name

_MOST_NAMES = 30
"""Tensors of a part that are listed; a large network has hundreds."""


def trained_model(job: Job) -> list[str]:
    """What the plan trains, as the end of a sentence and further sentences; names of tensors are quoted lines."""
    sent, frozen = job.tensors, job.frozen
    if frozen is None:
        return [f"a model of {sent.elements:,} numbers ({size_in_words(sent.nbytes)})."]
    others = frozen.tensors
    return [
        f"{sent.elements:,} of the {sent.elements + others.elements:,} numbers of a model "
        f"({size_in_words(sent.nbytes)} of {size_in_words(sent.nbytes + others.nbytes)}).",
        *_named("The trained part", sent),
        f"The other {others.elements:,} numbers ({size_in_words(others.nbytes)}) are frozen: the researcher chose "
        "them, this site fetches them from the server, and no round changes them.",
        *_named("The frozen part", others),
    ]


def leaving_model(job: Job) -> str:
    """What of the model leaves after a round."""
    sent, frozen = job.tensors, job.frozen
    if frozen is None:
        return f"the trained model ({size_in_words(sent.nbytes)})"
    return (
        f"the trained part of the model: of its {sent.elements + frozen.tensors.elements:,} numbers only "
        f"{sent.elements:,} leave ({size_in_words(sent.nbytes)} of "
        f"{size_in_words(sent.nbytes + frozen.tensors.nbytes)})"
    )


def _named(part: str, schema: TensorSchema) -> list[str]:
    """The first names of a part's tensors, which are the researcher's words."""
    names = [quote_name(spec.name) for spec in schema.tensors]
    further = len(names) - _MOST_NAMES
    more = [f"and {further:,} more, which the job names."] if further > 0 else []
    return [f"{part} is {pluralise(len(names), 'tensor')}:", quote_lines(", ".join(names[:_MOST_NAMES])), *more]


def size_in_words(count: int) -> str:
    """A number of bytes in the unit that people would use.

    >>> size_in_words(3 << 20)
    '3 MiB'
    """
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
