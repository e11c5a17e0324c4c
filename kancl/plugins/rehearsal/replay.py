"""What is done with kept samples: learn them again, or alone, or never step against them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from avalanche.models import avalanche_forward
from avalanche.models.utils import is_multi_task_module
from avalanche.training.plugins import GEMPlugin as AvalancheGEMPlugin
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from kancl.config.values import Bounds, Count, NonNegative, convert
from kancl.models.inspect import trainable
from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup
from kancl.plugins.rehearsal.memory import CLASSES, MemoryPlugin, RehearsalPlugin


@dataclass(kw_only=True, eq=False)
class ReplayPlugin(RehearsalPlugin):
    """Train on kept samples beside every current batch (experience replay, ER).

    ``L = w * L_current + (1 - w) * L_replayed``; ``w`` is the current share of all
    samples in the step (``weighting="images"``) or ``1/t`` in the t-th experience
    (``weighting="experiences"``). Penalties that other plugins added stay as they are.

    Args:
        weighting: how current and replayed loss share the step.
    Source: Rolnick et al. 2019, arXiv:1811.11682; weights as in van de Ven et al. 2022,
        "Three types of incremental learning". differs from Avalanche's ReplayPlugin:
        exemplars pass through the network apart from the current batch, so both losses
        are known; for its memory see ``GroupedExemplars``.
    """

    weighting: Literal["images", "experiences"] = "images"

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not self.n_kept:
            return
        x, y, task_labels = self.draw(strategy)
        replayed = strategy._criterion(
            avalanche_forward(strategy.model, x, task_labels), y
        )
        output, targets = strategy.mb_output, strategy.mb_y
        current = strategy._criterion(output, targets)
        if self.weighting == "images":
            n, n_replayed = targets.shape[0], y.shape[0]
            share = n / (n + n_replayed)
        else:
            share = 1 / (strategy.clock.train_exp_counter + 1)
        strategy.loss = strategy.loss + (share - 1) * current + (1 - share) * replayed


@dataclass(kw_only=True, eq=False)
class MIRPlugin(RehearsalPlugin):
    """Replay the kept samples that the coming step would hurt most (MIR).

    Of ``candidates`` exemplars drawn at random, those with the largest ``l(theta - lr *
    g) - l(theta)`` are replayed, ``g`` the gradient on the current batch.

    Args:
        candidates: kept samples looked at per iteration.
    Source: Aljundi et al. 2019, arXiv:1908.04742, section 3. differs from Avalanche,
        which leaves out every exemplar of a class that was in the last batch of an
        experience: all of them in domain- and task-incremental learning (it trains as
        naive does), the latest experience's in class-incremental learning.
    """

    candidates: Count = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_candidates(self.replay_batch_size or 1)

    def prepare(self, setup: TrainingSetup) -> None:
        super().prepare(setup)
        self._check_candidates(self.replay_batch_size or setup.batch_size)

    def _check_candidates(self, n_replayed: int) -> None:
        convert(self.candidates, Annotated[int, Bounds(n_replayed)], "candidates")

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not self.n_kept:
            return
        x, y, task_labels = self.draw(strategy, self.candidates)
        harm = self._interference(strategy, x, y, task_labels)
        n = min(self.replay_batch_size or strategy.train_mb_size, len(y))
        worst = harm.topk(n).indices
        output = avalanche_forward(strategy.model, x[worst], task_labels[worst])
        strategy.loss += strategy._criterion(output, y[worst])

    def _interference(
        self, strategy: Any, x: Tensor, y: Tensor, task_labels: Tensor
    ) -> Tensor:
        model = strategy.model
        parameters = trainable(model)
        gradients = torch.autograd.grad(
            strategy.loss,
            list(parameters.values()),
            retain_graph=True,
            allow_unused=True,
        )
        rate = strategy.optimizer.param_groups[0]["lr"]
        with torch.no_grad():
            stepped = {
                name: p if g is None else p - rate * g
                for (name, p), g in zip(parameters.items(), gradients)
            }
            arguments = (x, task_labels) if is_multi_task_module(model) else (x,)
            now = avalanche_forward(model, x, task_labels)
            then = functional_call(model, stepped, arguments)
            before = cross_entropy(now, y, reduction="none")
            return cross_entropy(then, y, reduction="none") - before


@dataclass(kw_only=True, eq=False)
class GEMPlugin(Plugin, AvalancheGEMPlugin):
    """Project the gradient off a rise of the loss on any past experience (GEM).

    The nearest gradient whose product with each past experience's is not negative: a
    quadratic program per iteration.

    Args:
        patterns_per_experience: samples kept of each experience.
        memory_strength: margin that favours backward transfer.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, eqs. 8-11. Avalanche's
        GEMPlugin, unchanged.
    """

    stage = Stage.REHEARSAL
    state = ("memory_x", "memory_y", "memory_tid", "G")
    needs = Needs(class_labels=CLASSES)

    patterns_per_experience: Count = 256
    memory_strength: NonNegative = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.patterns_per_experience, self.memory_strength
        AvalancheGEMPlugin.__init__(self, *sizes)


class AGEMPlugin(RehearsalPlugin):
    """Project the gradient off a rise of the loss on kept samples (A-GEM).

    With ``g_ref`` the gradient on exemplars: if ``g . g_ref < 0``, ``g <- g - (g .
    g_ref / g_ref . g_ref) g_ref``.

    Source: Chaudhry et al. 2019, arXiv:1812.00420, eq. 11. differs from Avalanche,
        which draws equally from each experience (and so fails once there are more
        experiences than ``sample_size``) and keeps a live generator.
    """

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not self.n_kept:
            return
        x, y, task_labels = self.draw(strategy)
        parameters = list(trainable(strategy.model).values())
        loss = strategy._criterion(avalanche_forward(strategy.model, x, task_labels), y)
        reference = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = [(p, r) for p, r in zip(parameters, reference) if r is not None]
        along = _total((p.grad * r).sum() for p, r in pairs if p.grad is not None)
        if along >= 0:
            return
        step = along / _total((r * r).sum() for _, r in pairs)
        for p, r in pairs:  # a head of the past has no gradient of its own
            p.grad = -step * r if p.grad is None else p.grad - step * r


def _total(parts: Iterator[Tensor]) -> float:
    """Their sum in double precision; the device is waited for once."""
    return sum(torch.stack(list(parts)).tolist())


class MemoryOnlyPlugin(MemoryPlugin):
    """Train on a balanced memory alone; each experience joins it before its training.

    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV, algorithm 1; no cosine schedule,
        no cutmix. differs from Avalanche's GDumbPlugin, which replaces the model by a
        copy; here ``FromScratchPlugin`` puts its weights back.
    """

    needs = Needs(
        class_labels=CLASSES,
        alone="it trains anew on its memory alone, so there is nothing left to protect; "
        "use strategy=gdumb by itself instead",
    )

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        strategy.adapted_dataset = self.exemplars.buffer
