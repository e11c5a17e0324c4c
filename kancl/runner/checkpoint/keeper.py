"""The plugin that writes checkpoints while a run trains, and takes it up from one.

How a run goes on from a state inside an experience: the state at the border where that
experience begins is restored, and training it begins as always, by the code that began
it then; the pass over the data is walked forward to where it was, and there the state
inside is restored. So nothing has to be known of what a strategy prepares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from types import GeneratorType
from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from kancl.config.schema import Checkpoint
from kancl.interruption import Interruption
from kancl.plugins.measuring.recorder import RecorderPlugin
from kancl.runner.checkpoint.files import CheckpointFolder, Point
from kancl.runner.checkpoint.known import Unresumable
from kancl.runner.checkpoint.randomness import random_state, restore_random_state
from kancl.runner.checkpoint.retraced import Retraced, RetracedLoader
from kancl.runner.checkpoint.state import World

SHARE = 0.02
"""Most of the time that writing may take: slow disks get fewer checkpoints."""


class CheckpointPlugin(SupervisedPlugin):
    """Keep the run's state every n iterations or seconds; give it back after a kill.

    Put it last in ``strategy.plugins``, behind Avalanche's clock: at the end of an
    iteration everything has then been done. Where no checkpoint is due, an iteration
    costs two comparisons.

    Args:
        folder: where to.
        options: when.
        point: where to go on from; None begins.
        interruption: asked, after each iteration, whether the run is to stop.
        say: hears what cannot be kept.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        options: Checkpoint,
        point: Point | None = None,
        interruption: Interruption | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self._folder, self._options, self._say = folder, options, say
        self._point = point
        self.goes_on_at = None if point is None else point.iteration
        """Iteration at which the run is taken up; None: it begins."""
        self.name = "" if point is None else point.name
        """Of the checkpoint it is taken up from."""
        self._interruption = interruption or Interruption()
        self._border: dict[str, Any] | None = None
        self._border_at = 0
        self._n_trained = 0
        self._n_iterations = 0  # since the last checkpoint
        self._every = options.every_iterations or 0
        self._next = self._due_after(0.0)
        self._only_borders = False

    def attach(
        self,
        strategy: Any,
        benchmark: Any,
        recorder: RecorderPlugin,
        displays: Sequence[Any] = (),
    ) -> int:
        """Join a strategy that is just built; give it the state of the point's border.

        Args:
            displays: plugins that show the run and hold nothing that decides it.
        Returns: how many experiences (or, jointly, trainings) are behind it.
        Raises: Unresumable, if the state is not one of this run.
        """
        strategy.plugins.append(self)
        self._recorder, self._displays = recorder, list(displays)
        self._world = World(strategy, benchmark, [self, *self._displays])
        if self._point is None:
            return 0
        self._restore(self._point.border)
        self._n_trained = self._point.n_trained
        if self._point.inside is None:
            self._point = None
        return self._n_trained

    def at_border(self, n_trained: int) -> None:
        """Note the state between two trainings; write it only when it is time.

        A copy stays in memory: the first checkpoint inside the experience needs it.
        """
        self._n_trained = n_trained
        if self._point is not None:  # it is on the disk, and goes on from there
            return
        self._border_at = self._recorder.iteration
        self._border = deepcopy(self._state())
        if time.monotonic() >= self._next:
            self.write(inside=False)

    def write(self, *, inside: bool) -> None:
        """Write what is not written yet: the border and, if asked for, the state now.

        Raises: WriteError, naming what to do.
        """
        start = time.monotonic()
        for display in self._displays:
            if hasattr(display, "flush"):
                display.flush()
        if self._border is not None:
            self._folder.write_border(self._n_trained, self._border_at, self._border)
            self._border = None
        if inside and not self._only_borders:
            self._write_inside()
        self._n_iterations = 0
        self._next = self._due_after(time.monotonic() - start)

    # hooks

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, value in vars(strategy).items():
            if isinstance(value, GeneratorType):  # DER's and ER-ACE's endless replay
                setattr(strategy, name, Retraced(value))
        if self._point is not None:
            self._epochs = strategy.train_epochs
            assert self._point.inside is not None
            strategy.train_epochs -= self._point.inside["epoch"]

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if not isinstance(strategy.dataloader, RetracedLoader):
            strategy.dataloader = RetracedLoader(strategy.dataloader)
        self._loader: RetracedLoader = strategy.dataloader
        if self._point is not None:
            strategy.train_epochs = self._epochs
            inside = self._point.inside
            assert inside is not None
            self._loader.take_up(inside["position"], inside["draws"], self._go_on)
        self._interruption.can_wait = True

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._n_iterations += 1
        if self._interruption.signal is not None:
            self.write(inside=True)
            self._interruption.leave()
        if self._n_iterations == self._every or time.monotonic() >= self._next:
            self.write(inside=True)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._interruption.can_wait = False

    # states

    def mute(self, muted: Sequence[SupervisedPlugin]) -> None:
        """Leave these out until the run is where its state inside was taken.

        They observe; what they saw at the beginning of the experience is in that state.
        """
        if self._point is None:
            return
        plugins = self._world.strategy.plugins
        self._all_plugins = list(plugins)
        ids = {id(plugin) for plugin in muted}
        plugins[:] = [plugin for plugin in plugins if id(plugin) not in ids]

    def _state(self) -> dict[str, Any]:
        self._recorder.settle(self._world.strategy.device)
        return {**self._world.state(), "random": random_state()}

    def _write_inside(self) -> None:
        running, strategy = self._loader.running, self._world.strategy
        assert running is not None
        where = {
            "epoch": strategy.clock.train_exp_epochs,
            "position": running.position,
            "draws": [list(draw) for draw in running.draws],
        }
        try:
            state = {**self._state(), **where}
        except Unresumable as error:
            self._only_borders = True
            self._say(f"checkpoints between experiences only: {error}")
            return
        iteration = self._recorder.iteration
        self._folder.write_inside(self._n_trained, iteration, state)

    def _restore(self, state: Any) -> None:
        self._world.restore(state)
        restore_random_state(state["random"])
        self._recorder.settle(self._world.strategy.device, count=False)

    def _go_on(self) -> None:
        """Called where the pass over the data was when the state was taken."""
        assert self._point is not None
        strategy = self._world.strategy
        strategy.plugins[:] = self._all_plugins
        self._restore(self._point.inside)
        self._point = None
        for display in self._displays:
            if hasattr(display, "catch_up"):
                display.catch_up(strategy)

    def _due_after(self, seconds_it_took: float) -> float:
        every = self._options.every_seconds
        if every is None:
            return float("inf")
        return time.monotonic() + max(every, seconds_it_took / SHARE)
