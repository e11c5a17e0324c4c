"""The keys that every run has, as dataclasses: types, bounds, defaults and meaning.

The four groups ``scenario``, ``model``, ``strategy`` and ``optimizer`` name a builder
each; what else they take is read off the builder's signature (`kancl.config.groups`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints

from kancl.config.groups import signature_options
from kancl.config.values import (
    Bounds,
    Count,
    Device,
    Name,
    Natural,
    NonNegative,
    Positive,
    PositiveShare,
)


@dataclass(frozen=True)
class Choice:
    """A builder by name, with all of its options."""

    name: str  # as it was chosen; folders and tables show it
    options: Mapping[str, Any]
    preset_of: str = ""  # the builder, if ``name`` is a preset of it

    @property
    def builder(self) -> str:
        return self.preset_of or self.name


@dataclass(frozen=True, kw_only=True)
class Training:
    """How each experience is trained.

    Args:
        epochs: passes over an experience's training data.
        iterations: batches per experience instead of epochs: incomplete batches are
            dropped and the data reshuffled endlessly. null: go by epochs.
        batch_size: samples of the current experience per iteration.
        eval_batch_size: samples per batch when evaluating; no result depends on it.
            null: 256 on a CPU, whose cache such a batch fits, 1000 on a GPU.
        lr_gamma: the learning rate is multiplied by this after every epoch, starting
            anew with each experience. null: it is constant.
        early_stopping: after so many epochs in a row without a better accuracy on the
            experience's validation data (``scenario.validation``) its training ends;
            test data decide nothing. null: all epochs are trained.
        restore_best: go on from the weights of the experience's best epoch, by its
            validation data, instead of those of the last.
        experience_gamma: the learning rate is multiplied by this after every experience.
    """

    epochs: Count = 1
    iterations: Count | None = None
    batch_size: Count = 128
    eval_batch_size: Count | None = None
    lr_gamma: Positive | None = None
    early_stopping: Count | None = None
    restore_best: bool = False
    experience_gamma: PositiveShare | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured while training.

    Args:
        points_per_experience: how often each experience measures all of them.
        every_iterations: measure every n iterations instead. null: by the points.
        samples: test samples of each experience that the curve is measured on (the
            accuracy matrix always uses all of them); 0: no curve.
        each_epoch: evaluate the whole training data and the validation data (the test
            data, if none are held out) after every epoch, for learning curves.
        locality: occupancy, overlap, drift and what rolling parameters back regains,
            for ``kancl locality``; keeps the network's states.
        forecast: before each experience but the first, foretell what its training will
            take from every earlier one: probe trains a copy for 0.3 of the iterations;
            kernel trains nothing (SGD only); stored is a probe without old images; all
            makes the three. An overlap is measured beside them, as the control.
        forecast_ceiling: train a copy to the end, in another order of batches: as good as
            a forecast can be; doubles the time.
        forecast_rank: of the covariances that stored keeps; null: full, 2.4 MiB per
            experience of MNIST.
    """

    points_per_experience: Count = 10
    every_iterations: Count | None = None
    samples: Natural = 200
    each_epoch: bool = False
    locality: bool = False
    forecast: Literal["none", "probe", "kernel", "stored", "all"] = "none"
    forecast_ceiling: bool = False
    forecast_rank: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When a run's state is written down, to go on from after a kill.

    Args:
        every_seconds: at most so often; less often where writing would take more than
            2 % of the time. null: by iterations only.
        every_iterations: every n training iterations. null: by seconds only.
        keep: leave the last checkpoints there once the run is completed.
    """

    every_seconds: NonNegative | None = 30.0
    every_iterations: Count | None = None
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds of single kinds of draws, for crossed designs; null: that of the run.

    Args:
        init: initial weights.
        order: class order, permutations, held-out and chosen images.
        batches: order of the images, dropout.
        buffers: kept and replayed images, images of importances.
    """

    init: Natural | None = None
    order: Natural | None = None
    batches: Natural | None = None
    buffers: Natural | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, resolved: every key has a value of its type.

    Fields without a line here are groups and sections.

    Args:
        head: last layer: single, growing with the classes seen, multi (one per
            experience), or auto: what the scenario says.
        reset_optimizer: make the optimizer anew for each experience.
        schedule: constant, or linear: the learning rate falls to 0 within each
            experience and starts anew with the next.
        match: give the model the hidden widths at which it has as many parameters
            (or FLOPs, or the very widths) as the model ``match_to``.
        match_to: the reference, a model that keeps its hidden widths; ``model.*`` keys
            of the command line that it knows apply to it too, and it has its own as
            ``match_to.*``. Without options where nothing is to be matched.
        seed: one number for initialisation, class order, permutations, batches and
            buffers, each with a random stream of its own.
        device: auto is cuda where there is one; cuda:1 is the second GPU.
        threads: CPU threads of torch; null leaves torch's default. The order of sums,
            so every last bit, depends on it: with 1, machines with more or fewer cores
            agree, and runs side by side do not wait for each other's threads.
        deterministic: torch's deterministic algorithms alone, so that a GPU gives the same
            bytes each time, more slowly; a CPU does so anyhow.
        data_dir: a torchvision-layout folder; null is the MNIST in the package.
        log_dir: where run folders go.
        name: of this run, or of this comparison, whose folder is called so.
        overwrite: repeat a run that is completed.
        tensorboard: what events to write: all, only numbers (no pictures), or none.
        loggers: who is told the measurements: tensorboard; wandb and mlflow with the
            extras of these names.
        keep_model: write the trained weights as ``model.pt`` into the run folder.
    """

    scenario: Choice
    model: Choice
    strategy: Choice
    optimizer: Choice
    head: Literal["auto", "single", "growing", "multi"] = "auto"
    reset_optimizer: bool = False
    schedule: Literal["constant", "linear"] = "constant"
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    match: Literal["none", "params", "width", "flops"] = "none"
    match_to: Choice = Choice("kan", {})
    seed: Natural = 0
    seeds: Seeds = field(default_factory=Seeds)
    device: Device = "auto"
    threads: Annotated[int, Bounds(1, 1024)] | None = 1
    deterministic: bool = False
    data_dir: str | None = None
    log_dir: str = "logs"
    name: Annotated[str, Name()] | None = None
    overwrite: bool = False
    tensorboard: Literal["all", "numbers", "none"] = "all"
    loggers: Sequence[Literal["tensorboard", "wandb", "mlflow"]] = ("tensorboard",)
    keep_model: bool = False

    @property
    def label(self) -> str:
        return f"{self.model.name}-{self.strategy.name}"

    @property
    def events(self) -> Literal["all", "numbers", "none"]:
        """What events TensorBoard is given."""
        return self.tensorboard if "tensorboard" in self.loggers else "none"

    @property
    def is_matched(self) -> bool:
        """Whether the model's hidden widths are to be solved."""
        return self.match != "none" and self.model.name != self.match_to.name


GROUPS = ("scenario", "model", "strategy", "optimizer")
CHOICES = (*GROUPS, "match_to")  # keys that name a builder; match_to: of a model

SECTIONS: dict[str, Any] = {
    name: kind
    for name, kind in get_type_hints(RunConfig).items()
    if is_dataclass(kind) and kind is not Choice
}
"""Nested parts of a configuration that are no groups: ``training`` and so on."""

_INSIDE_GROUPS = {
    "head": "scenario.head",
    "reset_optimizer": "optimizer.reset_each_experience",
    "schedule": "optimizer.schedule",
}
_OUTERMOST = signature_options(RunConfig, frozenset({*CHOICES, *SECTIONS}))

FIXED = {_INSIDE_GROUPS.get(name, name): option for name, option in _OUTERMOST.items()}
FIXED |= {
    f"{section}.{name}": replace(option, name=f"{section}.{name}")
    for section, kind in SECTIONS.items()
    for name, option in signature_options(kind).items()
}
"""All keys that no builder brings; an option's name is its path in a RunConfig."""

TOP = {*CHOICES, *(key.partition(".")[0] for key in FIXED)}
"""Keys of the outermost level."""

NOT_HASHED = (
    *"device threads deterministic data_dir log_dir name overwrite".split(),
    *"tensorboard loggers".split(),
    *"keep_model training.eval_batch_size checkpoint.every_seconds".split(),
    *"checkpoint.every_iterations checkpoint.keep".split(),
)
"""Keys that say where and how a run is made, not what it is: no part of its hash."""
