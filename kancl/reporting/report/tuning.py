"""How settings were chosen, as ``kancl tune`` wrote it down beside the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kancl.reporting.report.variants import Benchmark, Variant, shown

CELL = ("scenario", "incremental", "model", "strategy")


@dataclass(frozen=True)
class Tuning:
    """What was chosen for one scenario, model and strategy, and on what.

    Args:
        cell: ``("split_mnist", "class", "kan", "ewc")``.
        chosen: values by key, as they are shown.
        at_edge: keys whose best value lay at the edge of what was tried.
    """

    cell: tuple[str | None, ...]
    n_trials: int
    seeds: Sequence[int]
    chosen: dict[str, str]
    at_edge: Sequence[str]

    def is_of(self, benchmark: Benchmark, variant: Variant) -> bool:
        """Whether the variant was run with what was chosen here."""
        options, settings = benchmark.options, variant.settings
        scenario = options["name"], options.get("incremental")
        chosen = (shown(settings.get(key)) == v for key, v in self.chosen.items())
        return self.cell == (*scenario, variant.model, variant.strategy) and all(chosen)


def find_tunings(paths: Sequence[Path | str]) -> list[Tuning]:
    """Those of every file in a folder ``tuned`` in or below the paths.

    Raises: ValueError for a file there that ``kancl tune`` did not write.
    """
    tunings = []
    for file in sorted({f for path in paths for f in Path(path).rglob("tuned/*.yaml")}):
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(file))
            for record in content["tuning"]:
                cell = tuple(record[key] for key in CELL)
                seeds = [int(seed) for seed in record["seeds"]]
                chosen = {key: _shown(text) for key, text in record["chosen"].items()}
                n, at_edge = int(record["trials"]), record["at_edge"]
                tunings.append(Tuning(cell, n, seeds, chosen, at_edge))
        except Exception as error:  # whatever YAML stumbles over
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            text = f"{file} was not written by kancl tune: {reason}"
            raise ValueError(text) from error
    return tunings


def _shown(text: str) -> str:
    """A value as it was typed, the way a setting is shown."""
    try:
        return shown(float(text)) if any(c in text for c in ".e") else text
    except ValueError:
        return text
