"""What a run keeps for its diagnosis: learned functions, locality."""

from __future__ import annotations

import io
from collections.abc import Sequence

from avalanche.training.plugins import SupervisedPlugin
from matplotlib.figure import Figure

from kancl.config import RunConfig
from kancl.plugins.diagnosis.learned_function import LearnedFunctionPlugin
from kancl.plugins.recorder import RecorderPlugin
from kancl.reporting import TensorBoardPlugin
from kancl.reporting.learned_function import LearnedFunction, learned_functions
from kancl.runner.build import Parts
from kancl.runner.folder import RunFolder

LEARNED = "learned_function.csv"


class Diagnosis:
    """The plugins that look closer, and the files that come of them.

    Put ``plugins`` behind the recorder.
    """

    def __init__(
        self, config: RunConfig, parts: Parts, recorder: RecorderPlugin
    ) -> None:
        info = parts.benchmark.info
        self._config = config
        self._learned: LearnedFunctionPlugin | None = None
        if info.function is not None:
            self._learned = LearnedFunctionPlugin(
                recorder, info.function, info.in_features, info.input_range
            )

    @property
    def plugins(self) -> list[SupervisedPlugin]:
        return [] if self._learned is None else [self._learned]

    def write(self, folder: RunFolder, board: Sequence[TensorBoardPlugin]) -> None:
        """Write files and, where pictures are wanted, draw them."""
        if self._learned is not None and self._learned.functions:
            self._write_learned(folder, self._learned, board)

    def _write_learned(
        self,
        folder: RunFolder,
        plugin: LearnedFunctionPlugin,
        board: Sequence[TensorBoardPlugin],
    ) -> None:
        columns = [*plugin.points.T, plugin.target, *plugin.functions]
        inputs = [f"x{k + 1}" for k in range(plugin.points.shape[1])]
        phases = [f"phase_{k + 1}" for k in range(len(plugin.functions))]
        folder.write_table(
            LEARNED, [*inputs, "target", *phases], zip(*(c.tolist() for c in columns))
        )
        if self._config.tensorboard != "all":
            return
        label = f"{self._config.model.name}-{self._config.strategy.name}"
        function = LearnedFunction(
            label, plugin.points, plugin.target, plugin.functions
        )
        figure = learned_functions([function])
        folder.write_file("learned_function.png", png(figure))
        for writer in board:
            writer.picture("learned_function", figure)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
