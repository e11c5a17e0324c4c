"""LwF's distillation written out, for single and several heads; stock's dropout."""

import copy

import pytest
import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import LwFPlugin as StockLwFPlugin
from torch import nn

from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins.outputs.lwf import LwFPlugin


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))


def divergence(taught, output, temperature=2.0):
    """KL of the softened student from the softened teacher, over all columns."""
    p = (taught / temperature).softmax(1)
    log_q = (output / temperature).log_softmax(1)
    return (p * (p.log() - log_q)).sum(1).mean()


class Spy(LwFPlugin):
    """Keeps what was added to the loss, with the batch it was added for."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.added, self.teachers = [], []

    def before_backward(self, strategy, **kwargs):
        before = strategy.loss.item()
        super().before_backward(strategy, **kwargs)
        added = strategy.loss.item() - before
        self.added.append((added, strategy.mb_x, strategy.mb_output.detach()))

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        self.teachers.append(copy.deepcopy(strategy.model).eval())


@pytest.mark.parametrize("student", ["old", "seen", "all"])
@pytest.mark.parametrize("schedule", ["constant", "experiences"])
def test_single_head(student, schedule, points_benchmark, naive):
    plugin = Spy(alpha=3.0, temperature=2.0, alpha_schedule=schedule, student=student)
    strategy = naive(network(), plugin)
    for t, experience in enumerate(points_benchmark().train_stream):
        plugin.added.clear()
        strategy.train(experience)
        for added, x, output in plugin.added:
            if t == 0:
                assert added == 0
                continue
            everything = plugin.teachers[t - 1](x).detach()
            taught = everything[:, : 2 * t]
            if student == "all":
                expected = divergence(everything, output)
            elif student == "old":
                expected = divergence(taught, output[:, : 2 * t])
            else:
                p = (taught / 2).softmax(1)
                log_q = (output[:, : 2 * t + 2] / 2).log_softmax(1)[:, : 2 * t]
                expected = (p * (p.log() - log_q)).sum(1).mean()
            scale = 3.0 * (t if schedule == "experiences" else 1)
            assert added == pytest.approx(scale * expected.item(), rel=1e-3, abs=1e-5)


def test_several_heads_are_summed(points_benchmark, naive):
    torch.manual_seed(0)
    plugin = Spy(alpha=3.0)
    strategy = naive(with_head(KAN([6, 5, 2]), "multi", 2), plugin)
    outputs = []

    class Recorder(LwFPlugin):
        def before_backward(self, strategy, **kwargs):
            with torch.no_grad():
                model = copy.deepcopy(strategy.model).eval()
                outputs.append(
                    [avalanche_forward(model, strategy.mb_x, k)[:, :2] for k in (0, 1)]
                )

        def after_training_exp(self, strategy, **kwargs):
            pass

    strategy.plugins.insert(0, Recorder())
    for t, experience in enumerate(points_benchmark("task").train_stream):
        plugin.added.clear(), outputs.clear()
        if t < 2:
            strategy.plugins[0].before_backward = lambda s, **k: None
        else:
            del strategy.plugins[0].before_backward
        strategy.train(experience)
    assert len(outputs) == 3
    for (added, x, _), now in zip(plugin.added, outputs):
        taught = [avalanche_forward(plugin.teachers[1], x, k)[:, :2] for k in (0, 1)]
        expected = sum(divergence(a, b) for a, b in zip(taught, now))
        assert added == pytest.approx(3.0 * expected.item(), rel=1e-3, abs=1e-5)


def test_the_teacher_has_no_dropout_where_stock_has(points_benchmark, naive):
    """The stock half fails once Avalanche's teacher is in evaluation mode."""
    stream = list(points_benchmark().train_stream)[:1]

    def teacher_outputs(plugin, teacher):
        model = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 6))
        naive(model, plugin).train(stream)
        x = torch.randn(4, 6)
        return teacher(plugin)(x), teacher(plugin)(x)

    a, b = teacher_outputs(LwFPlugin(), lambda plugin: plugin._teacher)
    assert torch.equal(a, b) and not a.requires_grad
    a, b = teacher_outputs(StockLwFPlugin(), lambda plugin: plugin.lwf.prev_model)
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": -1}, "alpha must be at least 0, not -1"),
        ({"temperature": 0}, "temperature must be above 0, not 0"),
        ({"alpha_schedule": "linear"}, "alpha_schedule=linear is not one of"),
        ({"student": "new"}, "student=new is not one of"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        LwFPlugin(**options)
