"""The options that name the plan of a command, and the model that it starts from."""

from __future__ import annotations

from typing import Annotated

import typer

PLAN = "The plan: a Python file, or a folder of Python files that import each other."
Entry = Annotated[
    str | None,
    typer.Option("--entry", help="The file with the plan class, where the plan is a folder (by default plan.py)."),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start-from",
        metavar="FILE|NAME[:last|best]",
        help="The model to start from: a .safetensors file, or an experiment's last (the default) or best model.",
    ),
]
