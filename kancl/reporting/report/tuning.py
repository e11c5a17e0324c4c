"""How settings were chosen, as ``kancl tune`` wrote it down beside the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kancl.reporting.report.variants import Benchmark, Variant, shown


@dataclass(frozen=True)
class Tuning:
    """What was chosen for one scenario, model and strategy, and on what.

    Args:
        scenario: its name and kind, ``("split_mnist", "class")``.
        chosen: values by key, as they are shown.
        at_edge: keys whose best value lay at the edge of what was tried.
    """

    scenario: tuple[str, str | None]
    model: str
    strategy: str
    n_trials: int
    seeds: Sequence[int]
    chosen: dict[str, str]
    at_edge: Sequence[str]

    def is_of(self, benchmark: Benchmark, variant: Variant) -> bool:
        """Whether the variant was run with what was chosen here."""
        options, settings = benchmark.options, variant.settings
        return (
            self.scenario == (options["name"], options.get("incremental"))
            and (self.model, self.strategy) == (variant.model, variant.strategy)
            and all(shown(settings.get(k)) == v for k, v in self.chosen.items())
        )


def find_tunings(paths: Sequence[Path | str]) -> list[Tuning]:
    """Those of every file in a folder ``tuned`` in or below the paths.

    Raises: ValueError for a file there that ``kancl tune`` did not write.
    """
    tunings = []
    for file in sorted({f for path in paths for f in Path(path).rglob("tuned/*.yaml")}):
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(file))
            for record in content["tuning"]:
                scenario = record["scenario"], record["incremental"]
                chosen = {key: _shown(text) for key, text in record["chosen"].items()}
                names = record["model"], record["strategy"]
                budget = int(record["trials"]), [int(seed) for seed in record["seeds"]]
                tuning = Tuning(scenario, *names, *budget, chosen, record["at_edge"])
                tunings.append(tuning)
        except Exception as error:  # whatever YAML stumbles over
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise ValueError(
                f"{file} was not written by kancl tune: {reason}"
            ) from error
    return tunings


def _shown(text: str) -> str:
    """A value as it was typed, the way a setting is shown."""
    try:
        return shown(float(text)) if any(c in text for c in ".e") else text
    except ValueError:
        return text
