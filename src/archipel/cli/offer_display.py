"""An offered experiment as a person reads it before deciding: earlier decisions, the answers, the plan's text.

The answers are the site's; what researcher and server wrote is behind a bar, and the plan's text behind line numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.syntax import Syntax
from rich.text import Text

from archipel.cli.rows import Lines, NumberedLines
from archipel.cli.site_terminal import console, print_table
from archipel.vocabulary.visible import escape_hidden, escape_hidden_lines, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archipel.site.services import OfferDocument, OfferRow

_LONGEST_LINE = 2_000
"""Characters of a line of a plan that is shown in colours: their time grows with the square of a line's length."""


def print_offers(rows: Sequence[OfferRow]) -> None:
    """Print the offers as a table."""
    if not rows:
        console().print("no experiment has been offered yet")
        return
    columns = ["experiment", "state", "asked_by", "title", "plan", "rounds", "offered_at", "note"]
    print_table(columns, [dict(row) | {"asked_by": _quoted(row.asked_by), "title": _quoted(row.title)} for row in rows])


def _quoted(text: str) -> str:
    return quote(text) if text else ""


def show_offer(offer: OfferDocument) -> None:
    """Print all that a person decides on."""
    screen = console()
    screen.print(Text(f"experiment {offer.experiment} ({offer.state.value})", style="bold"))
    print_earlier(offer)
    for question, answer in offer.explanation:
        screen.print(Text(f"\n{question}", style="bold"))
        screen.print(Lines(escape_hidden_lines(answer), indent=2))
    plan = offer.job.plan
    for path in plan.paths:
        what = "The plan" if path == plan.entry else "A file of the plan"
        screen.print(Text(f"\n{what}, {path}, {plan.files[path]}", style="bold"))
        if offer.files is None:
            screen.print("has not been fetched yet; the running agent fetches it")
        else:
            screen.print(source_code(offer.files[path]))
    screen.print(Text(f"\njob {offer.job_hash}"))


def source_code(text: str) -> RenderableType:
    """A plan's text, each line with the number that Python gives it in an error."""
    # Python takes both for the end of a line; a lone carriage return is refused in a plan.
    shown = escape_hidden_lines(text.replace("\r\n", "\n"))
    if max(map(len, shown.split("\n"))) > _LONGEST_LINE:
        return NumberedLines(shown)
    return Syntax(shown, "python", line_numbers=True, word_wrap=True, background_color="default")


def print_earlier(offer: OfferDocument) -> None:
    """What was decided here before, each decision on a line."""
    for decision in offer.earlier:
        console().print(escape_hidden(f"decided before: {str(decision).replace(chr(10), ' ')}"))
