"""The model that a new experiment starts from: a file, or the last or best model of another experiment."""

from __future__ import annotations

import re
from pathlib import Path

from archipel.plans import StartingModel, read_starting_model
from archipel.researcher.connection import Connection
from archipel.researcher.experiment import Experiment
from archipel.tensors import blob_hash
from archipel.transport.rest import ModelView
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, NotFound, ParentChoice, ParentModel, Thing
from archipel.vocabulary.remedies import ListExperiments

StartFrom = str | Path | Experiment
"""A file, ``NAME``, ``NAME:last``, ``NAME:best``, or an experiment's handle. Without a choice it is the last model."""

_EXPERIMENT = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})(?::(?P<choice>.*))?")
_TRIES = 3


def names_experiment(given: StartFrom) -> bool:
    """Whether an experiment is meant, and not a file: a name has neither a dot nor a slash.

    >>> names_experiment("heart-1:best"), names_experiment("heart-1.safetensors"), names_experiment("./heart-1")
    (True, False, False)
    """
    return isinstance(given, Experiment) or (isinstance(given, str) and _EXPERIMENT.fullmatch(given) is not None)


def starting_model(connection: Connection, given: StartFrom) -> StartingModel:
    """The model with its lineage.

    Raises BadInput for a file that cannot be read and a choice that there is not; NotFound for an experiment that is
    not at the server and a model that it has not made; NotPermitted where the token may not download its models.
    """
    if not names_experiment(given):
        return read_starting_model(Path(str(given)))
    text = given.name if isinstance(given, Experiment) else str(given)
    name, _, choice = text.partition(":")
    try:
        which = ParentChoice(choice or "last")
    except ValueError:
        thing = Thing.worded(f"model {choice} of {name}", model=choice, experiment=name)
        remedy = f"give {name}:last or {name}:best"
        raise BadInput(thing, "is not one that another experiment can start from", remedy) from None
    return _fetched(connection, _known(connection, name), which)


def _known(connection: Connection, name: str) -> Experiment:
    try:
        return Experiment.known(connection, name)
    except NotFound as error:
        raise NotFound(
            error.thing,
            error.cause,
            f"name one that `archipel experiment list` shows; a file is given as ./{name}",
            command=ListExperiments(),
        ) from None


def _fetched(connection: Connection, parent: Experiment, which: ParentChoice) -> StartingModel:
    """The model as it is kept now. While the experiment runs, another one may be kept between two questions."""
    thing = Thing.worded(f"model {which} of {parent.name}", model=which, experiment=parent.name)
    for _ in range(_TRIES):
        path = f"/v1/experiments/{parent.name}/models"
        kept = {model.name: model for model in connection.ask_all(ModelView, path)}
        if which not in kept:
            raise _not_made(thing, parent, which)
        data = connection.download(f"{path}/{which}")
        if blob_hash(data) == kept[which].hash:
            lineage = ParentModel(
                experiment=parent.name, job_hash=parent.job_hash, model=which, round=kept[which].round
            )
            return StartingModel(thing, parent.whole(data), lineage, kept[which].hash)
    raise ArchipelError(
        thing, "is damaged: its bytes have another hash", "try again, or ask the server's operator",
        code=ErrorCode.TRUST,
    )  # fmt: skip


def _not_made(thing: Thing, parent: Experiment, which: ParentChoice) -> NotFound:
    if which is ParentChoice.BEST and parent.job.selection is None:
        cause = "does not exist: its plan does not say which model is the best"
        return NotFound(thing, cause, f"start from {parent.name}:last")
    cause = f"is not made yet: the experiment is {parent.status} and no round of it has been closed"
    return NotFound(thing, cause, "start from it when a round has been closed")
