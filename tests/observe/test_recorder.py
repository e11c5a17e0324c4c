"""The recorder against plain PyTorch and Avalanche's own metrics, on real digits."""

import time

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import JointTraining

from kancl.observe.recorder import Measurement, RecorderPlugin
from kancl.plugins.plugin import Diverged
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through


class Batches(SupervisedPlugin):
    """Loss and accuracy of every single iteration, the slow way."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def after_training_iteration(self, strategy, **kwargs):
        hits = (strategy.mb_output.argmax(1) == strategy.mb_y).float()
        self.rows.append((strategy.loss.item(), hits.sum().item(), len(hits)))


@pytest.fixture(scope="module")
def run():
    recorder, batches = RecorderPlugin(5, every_iterations=5), Batches()
    evaluator = EvaluationPlugin(
        accuracy_metrics(experience=True),
        loss_metrics(experience=True),
        loggers=[BaseLogger()],
        strict_checks=False,
    )
    heard = []
    recorder.listeners.append(heard.append)
    strategy = naive(small_mlp(), [recorder, batches], evaluator=evaluator)
    benchmark = stream_of_digits(n_train=96)
    started = time.perf_counter()
    train_through(strategy, benchmark)
    recorder.wall = time.perf_counter() - started
    return recorder, batches, evaluator.get_all_metrics(), heard


def test_the_matrix_is_avalanches_accuracy(run):
    recorder, _, stock, _ = run
    expected = [
        stock[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{k:03}"][1]
        for k in range(5)
    ]
    expected = torch.tensor(expected, dtype=torch.float64).T
    assert expected.shape == (6, 5)
    torch.testing.assert_close(recorder.matrix, expected)


def test_test_losses_are_avalanches(run):
    recorder, _, stock, _ = run
    for k in range(5):
        expected = stock[f"Loss_Exp/eval_phase/test_stream/Task000/Exp{k:03}"]
        at, losses = recorder.series("test_loss", k)
        assert at == [0, 12, 24, 36, 48, 60]
        assert losses == pytest.approx(expected[1], rel=1e-5)


def test_batch_rows_are_means_over_the_batches_since_the_last_row(run):
    recorder, batches, _, _ = run
    # 96 images, 16 a batch, 2 epochs: 12 iterations; rows after 5, 10 and, at the end, 2
    for experience in range(5):
        first = 12 * experience
        windows = [(0, 5), (5, 10), (10, 12)]
        at, losses = recorder.series("batch_loss", experience)
        _, accuracies = recorder.series("batch_accuracy", experience)
        assert at == [first + stop for _, stop in windows]
        for (start, stop), loss, accuracy in zip(windows, losses, accuracies):
            rows = batches.rows[first + start : first + stop]
            assert loss == pytest.approx(sum(r[0] for r in rows) / len(rows))
            hits, n = sum(r[1] for r in rows), sum(r[2] for r in rows)
            assert accuracy == pytest.approx(hits / n)


def test_listeners_hear_every_row_as_it_comes(run):
    recorder, _, _, heard = run
    assert heard == recorder.measurements
    assert all(type(m.value) is float for m in heard)


def test_borders_and_experiences_seen(run):
    recorder = run[0]
    assert recorder.boundaries == [12, 24, 36, 48, 60]
    assert [recorder.n_seen(it) for it in (0, 1, 12, 13, 60)] == [0, 1, 1, 2, 5]


def test_training_and_evaluation_share_the_time_between_them(run):
    recorder = run[0]
    assert recorder.train_seconds > 0 and recorder.eval_seconds > 0
    assert recorder.train_seconds + recorder.eval_seconds <= recorder.wall
    assert recorder.train_seconds + recorder.eval_seconds > 0.6 * recorder.wall


def test_evaluation_inside_training_counts_as_evaluation():
    class Slow(SupervisedPlugin):
        def after_eval_iteration(self, strategy, **kwargs):
            time.sleep(0.05)

    recorder = RecorderPlugin(2)
    benchmark = stream_of_digits(2, n_train=16, validation=0.004)
    strategy = naive(small_mlp(), [recorder, Slow()], eval_every=1, epochs=1)
    strategy.train(
        benchmark.train_stream[0], eval_streams=[benchmark.validation_stream]
    )
    n_evaluations = len(recorder.series("validation_accuracy", 0)[0])
    assert n_evaluations >= 2  # before and after the epoch
    assert recorder.eval_seconds > 0.05 * n_evaluations
    assert recorder.train_seconds < recorder.eval_seconds


def test_evaluations_inside_training_do_not_enter_the_matrix():
    recorder = RecorderPlugin(2)
    benchmark = stream_of_digits(2, n_train=16)
    strategy = naive(small_mlp(), [recorder], eval_every=1)
    strategy.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])
    assert recorder.series("test_accuracy", 1)[1]
    assert recorder.matrix.isnan().all()


def test_only_the_test_stream_fills_the_matrix():
    recorder = RecorderPlugin(2)
    benchmark = stream_of_digits(2, n_train=16, validation=0.004)
    strategy = naive(small_mlp(), [recorder])
    strategy.eval(benchmark.validation_stream)
    assert recorder.matrix.isnan().all()
    assert len(recorder.series("validation_accuracy", 1)[1]) == 1


def test_joint_training_fills_the_first_and_the_last_row():
    recorder = RecorderPlugin(2, trains_jointly=True)
    benchmark = stream_of_digits(2, n_train=32)
    strategy = naive(small_mlp(), [recorder], cls=JointTraining)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream, eval_streams=[])
    strategy.eval(benchmark.test_stream)
    assert (~recorder.matrix.isnan()).all(1).tolist() == [True, False, True]
    assert recorder.n_seen() == 2
    assert {m.experience for m in recorder.measurements if m.name == "batch_loss"} == {
        None
    }


def test_a_diverging_run_is_stopped_soon_and_told_why():
    recorder = RecorderPlugin(2, every_iterations=3)
    benchmark = stream_of_digits(2, n_train=256)
    strategy = naive(small_mlp(), [recorder], lr=1e30)
    with pytest.raises(Diverged, match="loss by iteration 3 is .*optimizer.lr"):
        strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert recorder.measurements[-2].name == "batch_loss"


def test_divergence_by_the_last_step_shows_in_the_evaluation():
    recorder = RecorderPlugin(2)
    benchmark = stream_of_digits(2, n_train=16)
    model = small_mlp()
    strategy = naive(model, [recorder])
    with torch.no_grad():
        model[1].weight.fill_(float("nan"))
    with pytest.raises(Diverged, match="test loss on experience 1 is nan"):
        strategy.eval(benchmark.test_stream)


def test_the_device_is_not_waited_for_between_rows(monkeypatch):
    waits = []
    for name in ["item", "tolist", "cpu", "numpy"]:
        original = getattr(torch.Tensor, name)

        def counted(self, *args, _original=original, **kwargs):
            waits.append(1)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    counts = {}
    for plugins in [(), (RecorderPlugin(2, every_iterations=1000),)]:
        strategy = naive(small_mlp(), plugins, epochs=1)
        waits.clear()
        experience = stream_of_digits(2, n_train=256).train_stream[0]
        strategy.train(experience, eval_streams=[])
        counts[len(plugins)] = len(waits)
    assert counts[1] == counts[0] + 1  # the one row, at the end of the experience


def test_parameters_are_the_same_with_and_without_the_recorder():
    trained = []
    for plugins in [(), (RecorderPlugin(2, every_iterations=1),)]:
        model = small_mlp(dropout=0.5)
        train_through(naive(model, plugins), stream_of_digits(2, n_train=64))
        trained.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*trained)


def test_a_measurement_can_be_added_at_any_time():
    recorder = RecorderPlugin(2)
    recorder.add("temperature", 3)
    assert recorder.measurements == [Measurement(0, None, "temperature", 3.0)]


def test_rows_every_zero_iterations_are_refused():
    with pytest.raises(ValueError, match="every_iterations must be at least 1, got 0"):
        RecorderPlugin(2, every_iterations=0)
