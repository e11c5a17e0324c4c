"""What a plugin says about itself: its keys, place, state and needs; and its set-up."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Any, ClassVar

import torch
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import nn

from kancl.config.groups import signature_options
from kancl.config.values import convert
from kancl.models import KANLinear
from kancl.plugins.state import Unresumable, from_state, to_state
from kancl.splines import Insertion


class Stage(IntEnum):
    """The order in which plugins act, from top to bottom, at every hook.

    In one stage, plugins of the set-up act first, then those of the strategy, in the
    order of their names on the command line. Avalanche's evaluator, periodic evaluation
    and clock act between ``LOADER`` and ``DISPLAY``.
    """

    EVALUATION_GUARD = auto()  # keeps training as if nothing had been evaluated
    SEED = auto()  # sets the random streams
    SELECT = auto()  # chooses the epoch whose weights stay
    RECORD = auto()  # collects the measurements
    OBSERVE = auto()  # only looks
    SCHEDULE = auto()  # sets the learning rate
    RESET = auto()  # puts initial weights back before an experience
    WATCH_STEP = auto()  # sees the loss before any penalty joins it
    GRID = auto()  # changes grids before an experience
    CLIP = auto()  # shortens gradients before the step
    STEP = auto()  # changes the step, or its gradients
    PULL = auto()  # pulls parameters towards old ones after the step
    RESTORE = auto()  # puts parameters back that must not move
    REHEARSAL = auto()  # brings back samples
    OUTPUTS = auto()  # acts on outputs
    PENALTY = auto()  # adds a penalty on parameters
    OPTIMIZER = auto()  # forgets the optimizer's state
    LOADER = auto()  # swaps loaders for faster ones
    DISPLAY = auto()  # shows the run
    CHECKPOINT = auto()  # writes the state, when all else is done


METHOD_STAGES = range(Stage.RESET, Stage.OPTIMIZER)
"""Stages of plugins that make up a strategy: their state is its memory."""


@dataclass(frozen=True)
class Needs:
    """What a plugin cannot work without. Each field says why, and what to use instead."""

    alone: str = ""  # it is no part of a sum
    class_labels: str = ""  # targets are classes, not values
    spline_bases: str = ""  # the network has KAN layers
    fixed_head: str = ""  # the head does not grow with the classes
    one_head: str = ""  # there are not several heads
    fixed_grids: str = ""  # no plugin changes grids
    own_loss: str = ""  # no other plugin replays samples or acts on outputs
    free_weights: str = ""  # no other plugin ties steps or weights to the past


class Diverged(ArithmeticError):
    """Training has left the finite numbers: a loss, or what is made of features."""


Record = Callable[[str, float], None]
"""Takes a measurement's name and value."""


@dataclass
class TrainingSetup:
    """Model, optimizer and loop settings, shared by every strategy.

    Plugins keep state: make a new set-up, with new plugins, for each run.

    Args:
        model: the network with its head, as ``kancl.models.heads.with_head`` returns it.
        optimizer: over its parameters; heads that grow join it by themselves.
        batch_size: samples per iteration (replayed ones come on top).
        epochs: passes over each experience, if ``iterations`` is None.
        iterations: exactly this many full batches per experience; None trains by epochs.
        plugins: the user's plugins, beside those of the strategy.
        evaluator: Avalanche's metrics and loggers; None for none (and no warning).
        reset_optimizer: forget moments and momentum at the start of each experience.
        seed: for draws that a plugin makes apart from training's random stream.
        learns_values: the targets are values, not classes.
        image_shape: of an input, ``(channels, height, width)`` for images; None: not
            known, and taken for a square of one channel where a method needs images.
        pixels_permuted: pixels that belong together are not side by side.
        record: takes what plugins measure (``free_share_layer_1``, ...).
    Raises: ValueError if a size or count is below 1.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    batch_size: int = 128
    epochs: int = 1
    iterations: int | None = None
    eval_batch_size: int = 1024
    device: str | torch.device = "cpu"
    plugins: Sequence[SupervisedPlugin] = ()
    evaluator: EvaluationPlugin | None = None
    reset_optimizer: bool = False
    seed: int = 0
    learns_values: bool = False
    image_shape: tuple[int, ...] | None = None
    pixels_permuted: bool = False
    record: Record = lambda name, value: None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "iterations", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


class Plugin(SupervisedPlugin):
    """A mechanism of continual learning, or an observer, for any Avalanche strategy.

    The keyword-only arguments of ``__init__`` are the keys of the command line
    (``strategy.<key>=``); their meaning stands under ``Args:`` in the class's docstring.
    Those of a dataclass are checked against their types. Whatever else is kept on the
    object is named in ``state`` or ``transient``, or the plugin is refused before
    anything is trained.

    Attributes:
        stage: where the plugin acts among the others.
        state: names of the attributes that a checkpoint holds, and whose bytes are the
            strategy's memory.
        transient: names of the attributes that training makes anew by itself.
        needs: what is refused, and what to use instead.
        changes_grids: whether it changes grids while training.
    """

    stage: ClassVar[Stage] = Stage.OBSERVE
    state: ClassVar[tuple[str, ...]] = ()
    transient: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Needs] = Needs()
    changes_grids: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_keys(self)

    def prepare(self, setup: TrainingSetup) -> None:
        """Take from the set-up what the plugin works with, or change the set-up.

        Called once, before the strategy is made, in the order of the stages.

        Raises: ValueError saying why the plugin can't work, and what to use instead.
        """

    def on_grid_change(
        self, model: nn.Module, name: str, layer: KANLinear, insertion: Insertion
    ) -> None:
        """Carry along what is known of a KAN layer whose grid has changed.

        Args:
            insertion: how the new coefficients follow from the old ones.
        Raises: ValueError if the plugin needs grids that stay.
        """
        if self.needs.fixed_grids:
            raise ValueError(f"{type(self).__name__}: {self.needs.fixed_grids}")

    def state_dict(self) -> dict[str, Any]:
        """Return the declared state as plain data.

        Raises: Unresumable naming an attribute that no state can hold.
        """
        return {name: to_state(getattr(self, name), name) for name in self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state:
            setattr(self, name, from_state(getattr(self, name), state[name]))


def check_keys(item: Any) -> None:
    """Raises: ConfigError, a ValueError, naming a key that is out of its bounds."""
    for key, option in signature_options(type(item)).items():  # type: ignore[arg-type]
        setattr(item, key, convert(getattr(item, key), option.annotation, key))


def undeclared(plugin: Plugin) -> list[str]:
    """Return the attributes that are no argument, no state and not transient."""
    arguments = inspect.signature(type(plugin)).parameters
    known = {*plugin.state, *plugin.transient, *arguments}
    return [name for name in vars(plugin) if name not in known]


def check_declared(plugin: Plugin) -> None:
    """Raises: Unresumable if the plugin keeps something that it doesn't declare."""
    names = undeclared(plugin)
    if names:
        raise Unresumable(
            f"{type(plugin).__name__} keeps {', '.join(names)} and declares it neither in "
            "state (what a checkpoint holds) nor in transient (what training makes anew)"
        )
