"""The fixed part of a run's configuration, as dataclasses; and its groups.

The four groups ``scenario``, ``model``, ``strategy`` and ``optimizer`` name a builder
each; what else they take is read off the builder's signature (`kancl.config.groups`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Mapping

Head = Literal["auto", "single", "growing", "multi"]
Schedule = Literal["constant", "linear"]
Match = Literal["none", "params", "width", "flops"]


@dataclass(frozen=True)
class Choice:
    """A builder by name, with all of its options."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
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
        experience_gamma: the learning rate is multiplied by this after every experience.
    """

    epochs: int = 1
    iterations: int | None = None
    batch_size: int = 128
    eval_batch_size: int | None = None
    lr_gamma: float | None = None
    experience_gamma: float | None = None


@dataclass(frozen=True)
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
    """

    points_per_experience: int = 10
    every_iterations: int | None = None
    samples: int = 200
    each_epoch: bool = False
    locality: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """When a run's state is written down, to go on from after a kill.

    Args:
        every_seconds: at most so often; less often where writing would take more than
            2 % of the time. null: by iterations only.
        every_iterations: every n training iterations. null: by seconds only.
        keep: leave the last checkpoints there once the run is completed.
    """

    every_seconds: float | None = 30.0
    every_iterations: int | None = None
    keep: bool = False


@dataclass(frozen=True)
class Seeds:
    """Seeds of single kinds of draws, for crossed designs; null: that of the run.

    Args:
        init: initial weights.
        order: class order, permutations, held-out and chosen images.
        batches: order of the images, dropout.
        buffers: kept and replayed images, images of importances.
    """

    init: int | None = None
    order: int | None = None
    batches: int | None = None
    buffers: int | None = None


@dataclass(frozen=True)
class RunConfig:
    """One run, resolved: every key has a value of its type.

    Args:
        scenario, model, strategy, optimizer: builders by name, with their options.
        head: last layer: single, growing with the classes seen, multi (one per
            experience), or auto: what the scenario says. Key ``scenario.head``.
        reset_optimizer: make the optimizer anew for each experience. Key
            ``optimizer.reset_each_experience``.
        schedule: constant, or linear: the learning rate falls to 0 within each
            experience and starts anew with the next. Key ``optimizer.schedule``.
        match: give the model the hidden widths at which it has as many parameters
            (or FLOPs, or the very widths) as the model ``match_to``.
        match_to: the reference, a model that keeps its hidden widths; ``model.*`` keys
            of the command line that it knows apply to it too, and it has its own as
            ``match_to.*``. Without options where nothing is to be matched.
        seed: one number for initialisation, class order, permutations, batches and
            buffers, each with a random stream of its own.
        seeds: other seeds for some of these streams.
        device: auto is cuda where there is one.
        threads: CPU threads of torch; null leaves torch's default. The order of sums,
            so every last bit, depends on it: with 1, machines with more or fewer cores
            agree, and runs side by side do not wait for each other's threads.
        deterministic: torch's deterministic algorithms alone, so that a GPU gives the same
            bytes each time, more slowly; a CPU does so anyhow.
        data_dir: a torchvision-layout folder; null is the MNIST in the package.
        log_dir: where run folders go.
        overwrite: repeat a run that is completed.
        tensorboard: what events to write: all, only numbers (no pictures), or none.
        keep_model: write the trained weights as ``model.pt`` into the run folder.
    """

    scenario: Choice
    model: Choice
    strategy: Choice
    optimizer: Choice
    head: Head = "auto"
    reset_optimizer: bool = False
    schedule: Schedule = "constant"
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    match: Match = "none"
    match_to: Choice = Choice("kan", {})
    seed: int = 0
    seeds: Seeds = field(default_factory=Seeds)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = 1
    deterministic: bool = False
    data_dir: str | None = None
    log_dir: str = "logs"
    overwrite: bool = False
    tensorboard: Literal["all", "numbers", "none"] = "all"
    keep_model: bool = False

    @property
    def is_matched(self) -> bool:
        """Whether the model's hidden widths are to be solved."""
        return self.match != "none" and self.model.name != self.match_to.name


GROUPS = ("scenario", "model", "strategy", "optimizer")

SECTIONS = {
    "training": Training,
    "evaluation": Evaluation,
    "checkpoint": Checkpoint,
    "seeds": Seeds,
}

GROUP_KEYS = {
    ("scenario", "head"): "head",
    ("optimizer", "reset_each_experience"): "reset_optimizer",
    ("optimizer", "schedule"): "schedule",
}
"""Keys of a group that are no option of its builder, and the field they fill."""

NOT_HASHED = (
    "device",
    "threads",
    "deterministic",
    "data_dir",
    "log_dir",
    "overwrite",
    "tensorboard",
    "keep_model",
    "training.eval_batch_size",
    "checkpoint.every_seconds",
    "checkpoint.every_iterations",
    "checkpoint.keep",
)
"""Keys that say where and how a run is made, not what it is: no part of its hash."""

AT_LEAST = {
    "training.epochs": 1,
    "training.iterations": 1,
    "training.batch_size": 1,
    "training.eval_batch_size": 1,
    "evaluation.points_per_experience": 1,
    "evaluation.every_iterations": 1,
    "evaluation.samples": 0,
    "checkpoint.every_seconds": 0,
    "checkpoint.every_iterations": 1,
    "seed": 0,
    "seeds.init": 0,
    "seeds.order": 0,
    "seeds.batches": 0,
    "seeds.buffers": 0,
    "threads": 1,
}
"""Smallest value of each whole number."""

AT_MOST = {"threads": 1024}
"""Largest value of a whole number that has one."""
