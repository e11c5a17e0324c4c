"""The plugin that writes checkpoints while a run trains, and resumes it from one.

How a run resumes from a state inside an experience: the state at the boundary where that
experience begins is restored, and training it begins as always, by the code that began
it then; the pass over the data is walked forward to where it was, and there the state
inside is restored. So nothing has to be known of what a strategy prepares.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import GeneratorType
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from kancl.config.schema import Checkpoint
from kancl.interruption import Interruption
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage
from kancl.plugins.state import Unresumable
from kancl.runner.checkpoint.live_run import LiveRun
from kancl.runs.checkpoints import CheckpointFolder, ResumePoint

SHARE = 0.02  # most of the time that writing may take: slow disks get fewer


class CheckpointPlugin(Plugin):
    """Keep the run's state every n iterations or seconds; give it back after a kill.

    Args:
        point: where to resume; None begins.
        interruption: asked, after each iteration, whether the run is to stop.
        say: hears what cannot be kept; the run then goes without checkpoints.
    """

    stage = Stage.CHECKPOINT

    def __init__(
        self,
        folder: CheckpointFolder,
        options: Checkpoint,
        point: ResumePoint | None = None,
        interruption: Interruption | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self._folder, self._options, self._say = folder, options, say
        self._point = point
        self.resumed_at = None if point is None else point.iteration  # None: begins
        self._interruption = interruption or Interruption()
        self._unwritten: Callable[[], None] | None = None  # writes the boundary
        self._n_experiences_done = 0
        self._n_iterations = 0  # since the last checkpoint
        self._every = options.every_iterations or 0
        self._next = self._due_after(0.0)
        self._keeps_boundaries = self._keeps_iterations = True

    def attach(
        self,
        strategy: Any,
        benchmark: Any,
        recorder: RecorderPlugin,
        displays: Sequence[Any] = (),
    ) -> int:
        """Join a strategy that is just built; give it the state of the point's boundary.

        Returns: how many experiences (or, jointly, trainings) are behind it.
        Raises: Unresumable, if the state is not one of this run.
        """
        self._recorder, self._displays = recorder, list(displays)
        self._live = LiveRun(strategy, benchmark, self._displays)
        strategy.plugins.append(self)
        if self._point is None:
            self._state(inside=False)
            return 0
        self._restore(self._point.boundary)
        n_experiences_done = self._point.n_experiences_done
        if self._point.inside is None:
            self._point = None
        return n_experiences_done

    def at_boundary(
        self, n_experiences_done: int, muted: Sequence[SupervisedPlugin] = ()
    ) -> None:
        """Note the state between two trainings; write it only when it is time.

        A copy stays in memory: the first checkpoint inside the experience needs it.

        Args:
            muted: observers, left out until a resumed run is where its state inside was
                taken: that holds what they saw at the beginning of the experience.
        """
        self._n_experiences_done = n_experiences_done
        if self._point is not None:  # the boundary is on the disk
            plugins = self._live.strategy.plugins
            self._all_plugins = list(plugins)
            plugins[:] = [p for p in plugins if not any(p is other for other in muted)]
        elif (state := self._state(inside=False)) is not None:
            place = n_experiences_done, self._recorder.iteration, deepcopy(state)
            self._unwritten = partial(self._folder.write, *place, inside=False)
            if time.monotonic() >= self._next:
                self.write(inside=False)

    def write(self, *, inside: bool) -> bool:
        """Write what is not written yet: the boundary and, if asked for, the state now.

        Returns: whether the run can be resumed.
        Raises: WriteError, naming what to do.
        """
        start = time.monotonic()
        for display in self._displays:
            if hasattr(display, "flush"):
                display.flush()
        if self._unwritten is not None:
            self._unwritten()
            self._unwritten = None
        state = self._state(inside=True) if inside else None
        if state is not None:
            assert self._loader.running is not None
            state["epoch"] = self._live.strategy.clock.train_exp_epochs
            state["pass"] = self._loader.running.state_dict()
            place = self._n_experiences_done, self._recorder.iteration
            self._folder.write(*place, state, inside=True)
        self._n_iterations = 0
        self._next = self._due_after(time.monotonic() - start)
        return self._keeps_boundaries

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, value in vars(strategy).items():
            if isinstance(value, GeneratorType):  # DER's and ER-ACE's endless replay
                setattr(strategy, name, ReplayableIterator(value))
        if self._point is not None and self._point.inside is not None:
            self._epochs = strategy.train_epochs
            strategy.train_epochs -= self._point.inside["epoch"]

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if not isinstance(strategy.dataloader, ReplayableLoader):
            strategy.dataloader = ReplayableLoader(strategy.dataloader)
        self._loader: ReplayableLoader = strategy.dataloader
        if self._point is not None and self._point.inside is not None:
            strategy.train_epochs = self._epochs
            self._loader.resume(self._point.inside["pass"], self._resume)
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

    after_training_exp = after_training_epoch  # of one that was stopped early

    def _state(self, *, inside: bool) -> dict[str, Any] | None:
        """None, after saying why, if something can't be kept."""
        if not self._keeps_boundaries or inside and not self._keeps_iterations:
            return None
        self._recorder.settle(self._live.strategy.device)
        try:
            return self._live.state()
        except Unresumable as error:
            if inside:
                kept = "checkpoints between experiences only"
            else:
                kept = "no checkpoints, so this run can't be resumed"
                self._keeps_boundaries = False
            self._keeps_iterations = False
            self._say(f"{kept}: {error}")
            return None

    def _restore(self, state: Any) -> None:
        self._live.restore(state)
        self._recorder.settle(self._live.strategy.device, count=False)

    def _resume(self) -> None:
        """Called where the pass over the data was when the state was taken."""
        assert self._point is not None
        strategy = self._live.strategy
        strategy.plugins[:] = self._all_plugins
        self._restore(self._point.inside)
        self._point = None
        for display in self._displays:
            if hasattr(display, "catch_up"):
                display.catch_up(strategy)

    def _due_after(self, seconds_it_took: float) -> float:
        every = self._options.every_seconds
        if every is None:
            return math.inf
        return time.monotonic() + max(every, seconds_it_took / SHARE)


class ReplayableIterator(Iterator[Any]):
    """Count the items of an iterator and remember the random state it drew from.

    What it gives follows from that. Draws are looked for item by item (5 us), unless the
    iterable says (``draws_at_start``) that there are none after the first.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._source = items
        self._items: Iterator[Any] | None = None
        self.position = 0
        self.draws: list[tuple[int, Tensor]] = []  # where, and torch's state before

    def __next__(self) -> Any:
        if self._items is not None and getattr(self._source, "draws_at_start", False):
            item = next(self._items)
        else:
            before = torch.get_rng_state()
            self._items = iter(self._source) if self._items is None else self._items
            item = next(self._items)
            if not torch.equal(before, torch.get_rng_state()):
                self.draws.append((self.position, before))
        self.position += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "draws": list(self.draws)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on to the position of the state, with the random numbers drawn then."""
        states = dict(state["draws"])
        while self.position < state["position"]:
            if self.position in states:
                torch.set_rng_state(states[self.position])
            next(self)


class ReplayableLoader:
    """A training loader whose passes can be resumed in their midst."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.running: ReplayableIterator | None = None  # the pass under way
        self._resume: tuple[Mapping[str, Any], Callable[[], None]] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def resume(self, state: Mapping[str, Any], then: Callable[[], None]) -> None:
        """Let the next pass begin where ``state`` was; there, ``then`` is called first."""
        self._resume = state, then

    def __iter__(self) -> Iterator[Any]:
        self.running = items = ReplayableIterator(self.loader)
        if self._resume is not None:
            state, then = self._resume
            self._resume = None
            items.load_state_dict(state)
            then()
        yield from items
