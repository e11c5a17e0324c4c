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


def experience_colour(experience: int) -> str:
    """The colour of an experience (0-based); they repeat after ten."""
    return EXPERIENCES[experience % len(EXPERIENCES)]
