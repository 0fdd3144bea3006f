"""The options that name the plan of a command."""

from __future__ import annotations

from typing import Annotated

import typer

PLAN = "The plan: a Python file, or a folder of Python files that import each other."
Entry = Annotated[
    str | None,
    typer.Option("--entry", help="The file with the plan class, where the plan is a folder (by default plan.py)."),
]
