"""Every TensorBoard tag with its meaning, as ``tags.md`` declares them."""

import re
from importlib import resources

CURVES = "{}_on_every_experience"
"""Group of the forgetting curves, by the name of the score."""

TEXT = (resources.files("kancl.reporting") / "tags.md").read_text()

TAGS, TAGS_ON_REQUEST, OVER_SEEDS = (
    dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", part, re.MULTILINE))
    for part in TEXT.split("\n## ")[1:]
)
"""Tags that all runs write; those of regressions, locality and plugins; those of runs
over seeds."""
