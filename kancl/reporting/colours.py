"""One fixed colour per experience and per model, told apart by the colour-blind too.

Source: Okabe & Ito 2008, "Color universal design"; Tol 2021, SRON/EPS/TN/09-002.
"""

from collections.abc import Iterable
from itertools import cycle

from kancl.reporting.pairing import role

EXPERIENCES = (
    "#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #882255 #999933 #332288 #44AA99"
).split()
INK, FAINT = "#222222", "#9A9A9A"
CELL_INK = "#212121"
"""On a pale cell. Unlike ``INK`` it stays dark where a page turns INK light."""

KAN, MLP, OTHER = "#0072B2", "#D55E00", "#777777"
FAMILIES = (
    (KAN, "#009E73", "#56B4E9", "#7A6FD0"),
    (OTHER, "#44AA99", "#882255"),
    (MLP, "#E69F00", "#CC79A7"),
)


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """A colour per model: blue and green for KANs, red and yellow for MLPs."""
    families = [cycle(family) for family in FAMILIES]
    return {model: next(families[role(model)]) for model in dict.fromkeys(models)}


def experience_colour(experience: int) -> str:
    return EXPERIENCES[experience % len(EXPERIENCES)]
