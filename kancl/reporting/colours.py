"""One fixed colour per experience, told apart by the colour-blind too.

Source: Okabe & Ito 2008, "Color universal design"; Tol 2021, SRON/EPS/TN/09-002.
"""

from collections.abc import Iterable
from itertools import cycle

EXPERIENCES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#882255",
    "#999933",
    "#332288",
    "#44AA99",
)
INK, FAINT = "#222222", "#9A9A9A"
CELL_INK = "#212121"
"""On a pale cell. Unlike ``INK`` it stays dark where a page turns INK light."""

KAN, MLP, OTHER = "#0072B2", "#D55E00", "#777777"
KINDS_OF_KAN = (KAN, "#009E73", "#56B4E9", "#7A6FD0")
KINDS_OF_MLP = (MLP, "#E69F00", "#CC79A7")


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """A colour per model: blue and green for KANs, red and yellow for MLPs."""
    colours: dict[str, str] = {}
    families = {"kan": cycle(KINDS_OF_KAN), "mlp": cycle(KINDS_OF_MLP)}
    for model in dict.fromkeys(models):
        family = families.get(model[:3], cycle([OTHER]))
        colours[model] = next(family)
    return colours


def experience_colour(experience: int) -> str:
    """The colour of an experience (0-based); they repeat after ten."""
    return EXPERIENCES[experience % len(EXPERIENCES)]
