"""The model of a job in words: how large it is, and which part of it is trained and leaves."""

from __future__ import annotations

from archipel.vocabulary import Job, TensorSchema
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import quote_lines, quote_name

_MOST_NAMES = 30
"""Tensors of a part that are listed; a large network has hundreds."""


def trained_model(job: Job) -> list[str]:
    """What the plan trains, as the end of a sentence and further sentences; names of tensors are quoted lines."""
    sent, local = job.tensors, job.local
    numbers, size = _whole(job)
    if job.frozen is None and local is None:
        return [f"a model of {numbers:,} numbers ({size_in_words(size)})."]
    trained = sent.elements + (local.tensors.elements if local is not None else 0)
    trained_size = sent.nbytes + (local.tensors.nbytes if local is not None else 0)
    words = [
        f"{trained:,} of the {numbers:,} numbers of a model ({size_in_words(trained_size)} of {size_in_words(size)})."
    ]
    if job.frozen is None:
        words = [f"a model of {numbers:,} numbers ({size_in_words(size)})."]
    words += _named("The trained part" if local is None else "The part that is sent", sent)
    if local is not None:
        own = local.tensors
        words += [
            f"Another {own.elements:,} numbers ({size_in_words(own.nbytes)}) are local: they begin with the "
            "researcher's values, are trained on the data here, and stay at this site. They are removed when the "
            "experiment ends.",
            *_named("The local part", own),
        ]
    if job.frozen is not None:
        others = job.frozen.tensors
        words += [
            f"The other {others.elements:,} numbers ({size_in_words(others.nbytes)}) are frozen: the researcher chose "
            "them, this site fetches them from the server, and no round changes them.",
            *_named("The frozen part", others),
        ]
    return words


def leaving_model(job: Job) -> str:
    """What of the model leaves after a round."""
    sent = job.tensors
    numbers, size = _whole(job)
    if job.frozen is None and job.local is None:
        return f"the trained model ({size_in_words(sent.nbytes)})"
    part = "the trained part of the model" if job.local is None else "a part of the model"
    return (
        f"{part}: of its {numbers:,} numbers only {sent.elements:,} leave ({size_in_words(sent.nbytes)} of "
        f"{size_in_words(size)})"
    )


def _whole(job: Job) -> tuple[int, int]:
    """How many numbers and bytes all parts of the model have."""
    parts = [job.tensors, *(part.tensors for part in (job.frozen, job.local) if part is not None)]
    return sum(part.elements for part in parts), sum(part.nbytes for part in parts)


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
