"""What a run keeps for its diagnosis: learned functions, locality, states to go back to."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from avalanche.training.plugins import SupervisedPlugin
from matplotlib.figure import Figure
from torch import Tensor

from kancl.benchmarks import Benchmark
from kancl.config import ConfigError, RunConfig
from kancl.metrics.locality import Occupancy
from kancl.observe.learned_function import LearnedFunctionPlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import LOCALITY, LocalityPlugin
from kancl.reporting import TensorBoardPlugin
from kancl.reporting.learned_function import LearnedFunction, learned_functions
from kancl.reporting.locality import (
    drift_of_knots,
    occupancy_maps,
    overlap_matrices,
    rollback_bars,
)
from kancl.runner.build import Parts
from kancl.runs import Measurement, RunFolder
from kancl.runs.names import LEARNED_FUNCTION, LEARNED_FUNCTION_PICTURE, LOCALITY_ARRAYS
from kancl.strategies import trains_jointly, trains_last_layer_only

PICTURES_SECONDS = 1.0
"""What drawing the pictures of locality takes, about."""
PICTURE_SHARE = 0.04


def check_diagnosis(config: RunConfig, benchmark: Benchmark) -> None:
    """Raises: ConfigError where there is nothing between experiences to look at."""
    if not config.evaluation.locality:
        return
    name = config.strategy.name
    reason = None
    if benchmark.info.n_experiences == 1:
        reason = f"scenario={config.scenario.name} has a single experience"
    elif trains_jointly(name):
        reason = f"strategy={name} trains on all experiences at once"
    elif trains_last_layer_only(name):
        reason = f"strategy={name} puts a last layer of its own in the network's place"
    if reason is not None:
        raise ConfigError(
            f"evaluation.locality=true follows a network from one experience to the next, "
            f"and {reason}; nearest: evaluation.locality=false"
        )


class Diagnosis:
    """The plugins that look closer, and the files that come of them.

    Put ``plugins`` behind the recorder.
    """

    def __init__(
        self, config: RunConfig, parts: Parts, recorder: RecorderPlugin
    ) -> None:
        self._config = config
        self._info = info = parts.benchmark.info
        self._recorder = recorder
        self.plugins: list[SupervisedPlugin] = []
        self._learned: LearnedFunctionPlugin | None = None
        self._locality: LocalityPlugin | None = None
        if info.function is not None:
            self._learned = LearnedFunctionPlugin(
                recorder, info.function, info.in_features, info.input_range
            )
            self.plugins.append(self._learned)
        if config.evaluation.locality:
            self._locality = LocalityPlugin(recorder, parts.benchmark.test_stream)
            self.plugins.append(self._locality)

    def write(self, folder: RunFolder, board: Sequence[TensorBoardPlugin]) -> None:
        """Write files and, where pictures are wanted, draw them.

        Pictures of locality that would take more than ``PICTURE_SHARE`` of the run's
        time are left to ``kancl locality``.
        """
        pictures = self._config.tensorboard == "all"
        if self._learned is not None and self._learned.functions:
            figure = self._write_learned(folder, self._learned, pictures)
            if figure is not None:
                show(board, {"learned_function": figure})
        if self._locality is not None and len(self._locality.snapshots) > 1:
            self._write_locality(folder, self._locality)
            recorder = self._recorder
            seconds = recorder.train_seconds + recorder.eval_seconds
            if pictures and PICTURES_SECONDS <= PICTURE_SHARE * seconds:
                arrays = locality_arrays(self._locality)
                shape = self._info.image_shape
                show(board, locality_figures(arrays, recorder.measurements, shape))

    def _write_learned(
        self, folder: RunFolder, plugin: LearnedFunctionPlugin, pictures: bool
    ) -> Figure | None:
        columns = [*plugin.points.T, plugin.target, *plugin.functions]
        inputs = [f"x{k + 1}" for k in range(plugin.points.shape[1])]
        phases = [f"phase_{k + 1}" for k in range(len(plugin.functions))]
        folder.write_table(
            LEARNED_FUNCTION,
            [*inputs, "target", *phases],
            zip(*(c.tolist() for c in columns)),
        )
        if not pictures:
            return None
        label = f"{self._config.model.name}-{self._config.strategy.name}"
        function = LearnedFunction(
            label, plugin.points, plugin.target, plugin.functions
        )
        figure = learned_functions([function])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        folder.write_file(LEARNED_FUNCTION_PICTURE, buffer.getvalue())
        return figure

    def _write_locality(self, folder: RunFolder, plugin: LocalityPlugin) -> None:
        """States as tensors alone, arrays without objects: reading them runs no code."""
        folder.write_snapshots(plugin.snapshots)
        folder.write_arrays(LOCALITY_ARRAYS, locality_arrays(plugin))


def locality_arrays(plugin: LocalityPlugin) -> dict[str, np.ndarray]:
    """``<what>_<layer>``: of each experience, ``(n, in_features, n_basis)``.

    A layer whose grid has grown between experiences is left out.
    """
    kinds = {
        "occupancy": plugin.occupancies,
        "largest": plugin.largest,
        "drift": plugin.drifts,
    }
    return {
        f"{what}_{layer}": torch.stack(list(found)).float().numpy()
        for what, by_layer in kinds.items()
        for layer, found in by_layer.items()
        if len({tensor.shape for tensor in found}) == 1
    }


def locality_figures(
    arrays: Mapping[str, np.ndarray],
    measurements: Iterable[Measurement],
    image_shape: tuple[int, ...],
) -> dict[str, Figure]:
    """The pictures by name, of what ``locality_arrays`` gives and ``metrics.csv`` holds."""
    kinds: dict[str, dict[str, list[Tensor]]] = {}
    for name, array in arrays.items():
        what, _, layer = name.partition("_")
        found = [torch.from_numpy(part) for part in array]
        kinds.setdefault(what, {})[layer] = found
    figures = {}
    used = kinds.get("occupancy", {})
    if used and len(image_shape) == 3:
        figures["occupancy"] = occupancy_maps(next(iter(used.values())), image_shape)
    if used:
        figures["overlap"] = overlap_matrices(
            {
                layer: [
                    Occupancy(mean.double(), most, 1)
                    for mean, most in zip(means, kinds["largest"][layer])
                ]
                for layer, means in used.items()
            }
        )
    if "drift" in kinds:
        figures["drift_per_knot"] = drift_of_knots(kinds["drift"])
    start = f"{LOCALITY}rollback_"
    regained: dict[str, dict[int, float]] = {}
    score = "accuracy"
    for m in measurements:
        if m.name.startswith(start) and m.experience is not None:
            group = m.name.removeprefix(start)
            regained.setdefault(group, {})[m.experience] = m.value
        elif m.name == "test_rmse":
            score = "RMSE"
    if regained:
        figures["rollback"] = rollback_bars(regained, score)
    return figures


def show(board: Sequence[TensorBoardPlugin], figures: Mapping[str, Figure]) -> None:
    for writer in board:
        for name, figure in figures.items():
            writer.picture(name, figure)
