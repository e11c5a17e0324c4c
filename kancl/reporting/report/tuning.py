"""How settings were chosen, as ``kancl tune`` wrote it down beside the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kancl.reporting.report.variants import Benchmark, Side, shown


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
    seeds: tuple[int, ...]
    chosen: dict[str, str]
    at_edge: tuple[str, ...]

    def is_of(self, benchmark: Benchmark, side: Side) -> bool:
        """Whether the side was run with what was chosen here."""
        options = benchmark.options
        if self.scenario != (options["name"], options.get("incremental")):
            return False
        if (self.model, self.strategy) != (side.model, side.strategy):
            return False
        return all(shown(side.settings.get(k)) == v for k, v in self.chosen.items())


def find_tunings(paths: Sequence[Path | str]) -> list[Tuning]:
    """Those of every file in a folder ``tuned`` in or below the paths.

    Raises: ValueError for a file there that ``kancl tune`` did not write.
    """
    files = {f for path in paths for f in Path(path).rglob("tuned/*.yaml")}
    found = []
    for file in sorted(files):
        try:
            content: Any = OmegaConf.to_container(OmegaConf.load(file))
            found += [_tuning(record) for record in content["tuning"]]
        except Exception as error:  # whatever YAML stumbles over
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise ValueError(
                f"{file} was not written by kancl tune: {reason}"
            ) from error
    return found


def _tuning(record: dict[str, Any]) -> Tuning:
    return Tuning(
        (record["scenario"], record["incremental"]),
        record["model"],
        record["strategy"],
        int(record["trials"]),
        tuple(int(seed) for seed in record["seeds"]),
        {key: _shown(value) for key, value in record["chosen"].items()},
        tuple(record["at_edge"]),
    )


def _shown(text: str) -> str:
    """A value as it was typed, the way a setting is shown."""
    try:
        return shown(float(text)) if any(c in text for c in ".e") else text
    except ValueError:
        return text
