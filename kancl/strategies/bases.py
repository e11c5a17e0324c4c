"""The Avalanche strategy classes that plugins are put on, each with its keys and state."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import Cumulative, JointTraining, Naive
from avalanche.training.supervised.der import DER, ClassBalancedBufferWithLogits
from avalanche.training.supervised.er_ace import ER_ACE
from avalanche.training.templates import SupervisedTemplate

from kancl.config.values import Count, NonNegative
from kancl.models.inspect import eval_mode
from kancl.plugins.outputs.present_classes import asymmetric_cross_entropy
from kancl.plugins.plugin import Needs, check_keys
from kancl.plugins.rehearsal.memory import CLASSES, ResumableBuffer

OWN_LOSS = (
    "its training loop replays by itself, with a loss of its own; use strategy=replay "
    "in the sum instead"
)


class Base:
    """Train on one experience after the other, with no remedy ("none", fine-tuning).

    Keys, ``state`` (attributes of the strategy) and ``needs`` are as in a plugin.

    Attributes:
        trains_jointly: it trains once on the whole stream, not once per experience.
        trains_last_layer_only: all other layers stay as they were initialised.
    Source: the lower bound of van de Ven and Tolias 2019, arXiv:1904.07734. Avalanche's
        Naive.
    """

    template: ClassVar[type[SupervisedTemplate]] = Naive
    state: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Needs] = Needs()
    trains_jointly: ClassVar[bool] = False
    trains_last_layer_only: ClassVar[bool] = False

    __post_init__ = check_keys

    def make(self, batch_size: int, **arguments: Any) -> SupervisedTemplate:
        """Make the strategy from the arguments of every Avalanche strategy."""
        return self.template(train_mb_size=batch_size, **arguments)


class JointBase(Base):
    """Train once on the data of all experiences together: the upper bound.

    ``train`` takes the whole stream: nothing between experiences can be measured.

    Source: "offline" in van de Ven and Tolias 2019, arXiv:1904.07734. Avalanche's
        JointTraining.
    """

    template = JointTraining
    needs = Needs(
        alone="it trains once, on everything, so there is no past to protect; use "
        "strategy=joint by itself instead"
    )
    trains_jointly = True


class CumulativeBase(Base):
    """Train each experience on all data so far, going on from the weights reached.

    Source: Lomonaco and Maltoni 2017, arXiv:1705.03550. Avalanche's Cumulative.
    """

    template = Cumulative
    state = ("dataset",)
    needs = Needs(
        alone="it trains on all data so far, so there is nothing left to protect; use "
        "strategy=cumulative by itself instead"
    )


class ForwardOnly(Naive):
    """Avalanche's loop with all its hooks, less gradients and steps."""

    @torch.no_grad()
    def forward(self) -> Any:
        """Evaluate the network: dropout has no part in a solution's features."""
        with eval_mode(self.model):
            return super().forward()

    def backward(self) -> None:
        pass

    optimizer_step = backward


class ForwardOnlyBase(Base):
    """Take no steps: a plugin solves the last layer in closed form."""

    template = ForwardOnly
    needs = Needs(
        alone="it takes no gradient steps that another method could change; use it by "
        "itself instead"
    )
    trains_last_layer_only = True


@dataclass(kw_only=True, eq=False)
class _ReplayingBase(Base):
    """A strategy whose own training loop replays from a buffer balanced by class.

    Args:
        mem_size: samples kept in all, divided equally over the classes so far.
        replay_batch_size: samples replayed per iteration; null: as many as the batch
            size.
    """

    state = ("storage_policy", "replay_loader")
    buffer: ClassVar[type]

    mem_size: Count = 1000
    replay_batch_size: Count | None = None

    def make(self, batch_size: int, **arguments: Any) -> SupervisedTemplate:
        replayed = self.replay_batch_size or batch_size
        strategy = super().make(
            batch_size,
            mem_size=self.mem_size,
            batch_size_mem=min(replayed, self.mem_size),  # it replays none with fewer
            **arguments,
        )
        strategy.storage_policy = self.buffer(self.mem_size)
        return strategy


class _ClassBuffer(ClassBalancedBuffer, ResumableBuffer):
    pass


class _ClassBufferWithLogits(ClassBalancedBufferWithLogits, ResumableBuffer):
    pass


@dataclass(kw_only=True, eq=False)
class ERACEBase(_ReplayingBase):
    """Replay, with the current loss over the current batch's classes only (ER-ACE).

    ``L = (CE(current, over classes in the batch) + CE(replayed, over all)) / 2``.
    Current samples are among those kept.

    Source: Caccia et al. 2022, arXiv:2104.05025. Avalanche's ER_ACE, but for its loss,
        which is infinite once a probability rounds to 0.
    """

    template = ER_ACE
    buffer = _ClassBuffer
    needs = Needs(class_labels=CLASSES, own_loss=OWN_LOSS)

    def make(self, batch_size: int, **arguments: Any) -> SupervisedTemplate:
        strategy = super().make(batch_size, **arguments)
        strategy.ace_criterion = asymmetric_cross_entropy
        return strategy


@dataclass(kw_only=True, eq=False)
class DERBase(_ReplayingBase):
    """Replay with the outputs of old as targets (dark experience replay, DER++).

    ``L = CE(current) + alpha MSE(outputs, outputs kept) + beta CE(replayed)``;
    ``beta=0`` is plain DER.

    Args:
        alpha: weight of the outputs kept.
        beta: weight of the labels kept.
    Source: Buzzega et al. 2020, arXiv:2004.07211, section 3. Avalanche's DER, unchanged:
        outputs are kept as they are at the end of an experience, one replayed batch
        serves both terms.
    """

    template = DER
    buffer = _ClassBufferWithLogits
    needs = Needs(
        class_labels=CLASSES,
        fixed_head="the outputs it keeps lack the classes that come later; use "
        "head=single, or strategy=er_ace or strategy=replay instead",
        one_head="it asks the network for outputs without a task label; use "
        "strategy=er_ace or strategy=replay instead",
        own_loss=OWN_LOSS,
    )

    alpha: NonNegative = 0.1
    beta: NonNegative = 0.5

    def make(self, batch_size: int, **arguments: Any) -> SupervisedTemplate:
        return super().make(batch_size, alpha=self.alpha, beta=self.beta, **arguments)
