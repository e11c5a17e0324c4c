"""One fixed colour per experience, told apart by the colour-blind too.

Source: Okabe & Ito 2008, "Color universal design"; Tol 2021, SRON/EPS/TN/09-002.
"""

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


def model_colour(model: str) -> str:
    """One colour for every KAN, one for every MLP."""
    if model.startswith("kan"):
        return KAN
    return MLP if model.startswith("mlp") else OTHER


def experience_colour(experience: int) -> str:
    """The colour of an experience (0-based); they repeat after ten."""
    return EXPERIENCES[experience % len(EXPERIENCES)]
