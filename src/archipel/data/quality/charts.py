"""Charts of a report: histograms as SVG, drawn by numbers alone, and the colours that stand for classes and labels."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from html import escape

from archipel.data.quality.figures import number
from archipel.data.quality.records import Histogram
from archipel.data.volumes import Colour

# Okabe and Ito's colours, which colour-blind people can distinguish (jfly.uni-koeln.de/color, 2008).
_DISTINCT = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442"]
_GOLDEN = 0.618033988749895
WIDTH, HEIGHT = 240, 96


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class."""
    return {name: _hex(place) for place, name in enumerate(classes)}


def label_colour(value: int) -> str:
    """The colour of a label value, the same on every page."""
    return _hex(max(value - 1, 0))


def opacity(colour: str, alpha: int) -> Colour:
    """The colour for a palette."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue, alpha


def _hex(place: int) -> str:
    if place < len(_DISTINCT):
        return _DISTINCT[place]
    # The golden ratio spreads any number of hues evenly; lightness alternates, so that neighbours differ in it too.
    hue = (place * _GOLDEN) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, (0.42, 0.56, 0.68)[place % 3], 0.75)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"


def histogram_svg(histogram: Histogram, colours: Mapping[str, str], title: str) -> str:
    """Bars, those of classes on top of each other; the least and greatest value below."""
    totals = [sum(column) for column in zip(*histogram.counts.values(), strict=True)]
    highest = max(totals, default=0) or 1
    steps = len(totals)
    width = WIDTH / steps
    bars = []
    for place in range(steps):
        top = float(HEIGHT)
        for name, counts in histogram.counts.items():
            if counts[place]:
                tall = counts[place] / highest * (HEIGHT - 12)
                top -= tall
                bars.append(
                    f'<rect x="{place * width + 0.5:.1f}" y="{top:.1f}" width="{width - 1:.1f}" height="{tall:.1f}" '
                    f'fill="{colours.get(name, _DISTINCT[0])}"/>'
                )
    low, high = (number(histogram.edges[0]), number(histogram.edges[-1]))
    if steps > 1 and histogram.edges[1] - histogram.edges[0] == 1:
        low, high = f"{histogram.edges[0] + 0.5:g}", f"{histogram.edges[-1] - 0.5:g}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16}" role="img" aria-label="{escape(title)}">'
        f"{''.join(bars)}"
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="#777"/>'
        f'<text x="0" y="{HEIGHT + 13}">{low}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{high}</text>'
        f'<text x="{WIDTH}" y="9" text-anchor="end">{highest}</text></svg>'
    )
