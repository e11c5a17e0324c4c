"""Learning without forgetting: distil the network of before into the present one."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from avalanche.models import avalanche_forward
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from kancl.config.values import NonNegative, Positive
from kancl.models.module_state import load_module_state, module_state
from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup


@dataclass(kw_only=True, eq=False)
class LwFPlugin(Plugin):
    """Keep the outputs for past classes as they were (learning without forgetting).

    ``loss += alpha * KL(softmax(teacher/T) || softmax(student/T))`` on the current
    samples, averaged over the batch; teacher: the network after the experience before,
    in evaluation mode. Single and growing heads: the units of the classes of before.
    Multi-head: summed over past heads, so ``(t - 1)`` times their mean.

    Args:
        alpha: strength.
        temperature: T, of both softmaxes.
        alpha_schedule: constant, or experiences: ``alpha * (t - 1)`` in the t-th
            experience, as van de Ven has it for domain-incremental learning (its
            multi-head sum has that factor already).
        student: units of a single or growing head that the student's softmax runs
            over: old ones, as the teacher's; seen, old and current ones, as van de Ven
            has it where the loss runs over the classes seen; or all, the teacher's too.
    Source: Li and Hoiem 2016, arXiv:1606.09282, eqs. 2-4; van de Ven and Tolias 2019,
        arXiv:1904.07734. No factor T^2, as there. differs from Avalanche, whose teacher
        stays in training mode (dropout stays on) and runs past heads twice.
    """

    stage = Stage.OUTPUTS
    state = ("_teacher", "_classes")
    transient = ("_model", "_indices")
    needs = Needs(
        class_labels="it distils class probabilities; use strategy=l2_anchor or "
        "strategy=si instead"
    )

    alpha: NonNegative = 1.0
    temperature: Positive = 2.0
    alpha_schedule: Literal["constant", "experiences"] = "constant"
    student: Literal["old", "seen", "all"] = "old"
    _teacher: nn.Module | None = field(default=None, init=False)
    _classes: dict[int, set[int]] = field(default_factory=dict, init=False)
    """Classes of past experiences, by task label."""
    _model: nn.Module | None = field(default=None, init=False)
    _indices: dict[Any, Tensor] = field(default_factory=dict, init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        self._model = setup.model

    def state_dict(self) -> dict[str, Any]:
        teacher = None if self._teacher is None else module_state(self._teacher)
        return {"teacher": teacher, "classes": self._classes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The network has to be as it was made still: a teacher begins as its copy."""
        self._classes = state["classes"]
        if state["teacher"] is not None:
            teacher = self._model if self._teacher is None else self._teacher
            assert teacher is not None
            self._teacher = copy.deepcopy(teacher).requires_grad_(False)
            load_module_state(self._teacher, state["teacher"])

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if self._teacher is None:
            return
        past = strategy.clock.train_exp_counter
        alpha = self.alpha * (past if self.alpha_schedule == "experiences" else 1)
        strategy.loss += alpha * self._distillation(strategy)

    def _distillation(self, strategy: Any) -> Tensor:
        assert self._teacher is not None
        x, model = strategy.mb_x, strategy.model
        if not is_multi_task_module(model):
            with torch.no_grad():
                taught = self._teacher(x)
            old = sorted(set.union(*self._classes.values()))
            if self.student == "all":
                old = list(range(taught.shape[1]))
            now = set(strategy.experience.classes_in_this_experience)
            seen = old if self.student == "old" else sorted(set(old) | now)
            return self._cross_entropy(strategy.mb_output, taught, old, seen)
        total = torch.zeros((), device=x.device)
        for task, classes in self._classes.items():
            with torch.no_grad():
                taught = avalanche_forward(self._teacher, x, task)
            output = avalanche_forward(model, x, task)
            old = sorted(classes)
            total = total + self._cross_entropy(output, taught, old, old)
        return total

    def _cross_entropy(
        self, output: Tensor, taught: Tensor, old: list[int], seen: list[int]
    ) -> Tensor:
        log_q = (self._columns(output, seen) / self.temperature).log_softmax(1)
        log_q = self._columns(log_q, [seen.index(c) for c in old])
        p = (self._columns(taught, old) / self.temperature).softmax(1)
        return nn.functional.kl_div(log_q, p, reduction="batchmean")

    def _columns(self, outputs: Tensor, numbers: list[int]) -> Tensor:
        """Their tensor is made once: a list as an index is copied each time."""
        key = outputs.device, *numbers
        if key not in self._indices:
            self._indices[key] = torch.tensor(numbers, device=outputs.device)
        return outputs.index_select(1, self._indices[key])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        experience = strategy.experience
        self._teacher = copy.deepcopy(strategy.model).eval().requires_grad_(False)
        for task in set(experience.task_labels):
            classes = set(experience.classes_in_this_experience)
            self._classes.setdefault(int(task), set()).update(classes)
