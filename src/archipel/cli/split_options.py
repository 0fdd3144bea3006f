"""The options by which one dataset is divided among virtual sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archipel.simulation import VirtualSites

_KINDS = "site-column, label, quantity or feature"
Split = Annotated[str | None, typer.Option("--split", help=f"Divide one dataset among virtual sites: by {_KINDS}.")]
Count = Annotated[int | None, typer.Option("--virtual-sites", help="Number of virtual sites.")]
Alpha = Annotated[
    float | None,
    typer.Option("--alpha", help="For --split label and quantity: smaller is more uneven (Dirichlet distribution)."),
]
SplitColumn = Annotated[
    str | None, typer.Option("--split-column", help="The column for --split site-column and feature.")
]
SplitSeed = Annotated[int, typer.Option("--split-seed", min=0, help="Seed of the division.")]


def read_split(
    by: str | None, sites: int | None, alpha: float | None, column: str | None, seed: int
) -> VirtualSites | None:
    """The division that the options ask for, None for none. Raises BadInput for one that is not known, and for options
    of a division without one.
    """
    from archipel.simulation import Skew, VirtualSites
    from archipel.vocabulary import BadInput

    if by is None:
        if sites is not None or alpha is not None or column is not None:
            raise BadInput("--split", "is missing, and another option needs it", f"give {_KINDS}")
        return None
    if by not in list(Skew):
        raise BadInput(f"--split {by}", "is not a known division", f"give {_KINDS}")
    return VirtualSites(by=Skew(by), sites=sites, alpha=alpha, column=column or "", seed=seed)
