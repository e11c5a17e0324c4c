"""The forgetting curve against whole evaluations, and that it leaves no trace."""

import pytest
import torch
from avalanche.models import MTSimpleMLP, SimpleMLP
from avalanche.models.dynamic_modules import IncrementalClassifier
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import JointTraining
from torch import nn

from kancl.observe.curves import ForgettingCurvePlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.runs.names import CURVE
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through


def _watched(benchmark, every=5, samples=64, **options):
    n = len(list(benchmark.test_stream))
    recorder = RecorderPlugin(n)
    curve = ForgettingCurvePlugin(
        recorder, benchmark.test_stream, every, samples, **options
    )
    return recorder, curve


@pytest.fixture(scope="module")
def run():
    """Five experiences of 12 iterations; the curve sees the whole test sets."""
    benchmark = stream_of_digits(n_train=96)
    recorder, curve = _watched(benchmark, early_iterations=(1, 3))
    train_through(naive(small_mlp(), [recorder, curve]), benchmark)
    return recorder, curve


def test_points_are_at_the_start_after_boundaries_regularly_and_at_each_end(run):
    expected = [0]
    for start in range(0, 60, 12):
        expected += [start + i for i in (1, 3, 5, 10, 12)]
    ends = [0, 12, 24, 36, 48, 60]
    for experience in range(5):  # one to come: at the ends alone, here
        begun = [at for at in expected if at > 12 * experience or at in ends]
        assert run[0].series(CURVE, experience)[0] == begun


def test_experiences_to_come_are_measured_at_every_fifth_regular_point():
    benchmark = stream_of_digits(2, n_train=96)  # 12 iterations
    recorder, curve = _watched(benchmark, every=2, early_iterations=(1,))
    train_through(naive(small_mlp(), [recorder, curve]), benchmark)
    assert recorder.series(CURVE, 0)[0][:8] == [0, 1, 2, 4, 6, 8, 10, 12]
    assert recorder.series(CURVE, 1)[0][:4] == [0, 10, 12, 13]


def test_no_point_is_there_twice(run):
    recorder, curve = _watched(benchmark := stream_of_digits(2, n_train=96), every=4)
    train_through(naive(small_mlp(), [recorder, curve]), benchmark)
    for experience in range(2):  # the third regular point is the end as well
        points = recorder.series(CURVE, experience)[0]
        assert points == sorted(set(points)) and 12 in points and 24 in points


def test_at_the_boundaries_the_curve_is_the_accuracy_matrix(run):
    recorder = run[0]
    for experience in range(5):
        curve = dict(zip(*recorder.series(CURVE, experience)))
        at_boundaries = [curve[it] for it in [0, *recorder.boundaries]]
        assert at_boundaries == pytest.approx(recorder.matrix[:, experience].tolist())


def test_forgetting_shows_within_an_experience(run):
    curve = dict(zip(*run[0].series(CURVE, 0)))
    assert curve[12] > 0.9 and curve[24] < 0.1


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_is_the_same_to_the_bit_with_and_without_it(dropout):
    trained, states = [], []
    for with_curve in [False, True]:
        benchmark = stream_of_digits(2, n_train=64)
        plugins = _watched(benchmark, every=1) if with_curve else ()
        model = small_mlp(dropout=dropout)
        train_through(naive(model, plugins), benchmark)
        trained.append(torch.cat([p.flatten() for p in model.parameters()]))
        states.append(torch.get_rng_state())
    assert torch.equal(*trained)
    assert torch.equal(*states)


def test_each_module_gets_its_own_mode_back():
    class Modes(SupervisedPlugin):
        seen = []

        def before_training_iteration(self, strategy, **kwargs):
            self.seen.append([m.training for m in strategy.model.modules()])

    class Frozen(nn.Dropout):
        def train(self, mode=True):  # stays in evaluation mode, as frozen layers do
            return super().train(False)

    benchmark = stream_of_digits(2, n_train=64)
    model = small_mlp()
    model[3] = Frozen()
    strategy = naive(model, [*_watched(benchmark, every=1), Modes()])
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    expected = [not isinstance(m, Frozen) for m in model.modules()]
    assert Modes.seen == [expected] * len(Modes.seen) and Modes.seen


def test_the_sample_shows_every_class_though_experiences_are_sorted():
    benchmark = stream_of_digits(2)
    _, curve = _watched(benchmark, samples=10)
    first, second = curve.targets
    assert len(first) == len(second) == 10
    assert set(first.tolist()) == {0, 1, 2, 3, 4}
    assert set(second.tolist()) == {5, 6, 7, 8, 9}


def test_small_batches_give_the_same_curve():
    curves = []
    for batch_size in [7, None]:
        benchmark = stream_of_digits(2, n_train=64)
        recorder, curve = _watched(benchmark, batch_size=batch_size)
        train_through(naive(small_mlp(), [recorder, curve]), benchmark)
        curves.append([m for m in recorder.measurements if m.name == CURVE])
    assert curves[0] == curves[1]


def test_a_growing_head_scores_nothing_on_classes_it_does_not_know():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = IncrementalClassifier(784, 1)

        def forward(self, x):
            return self.head(x.flatten(1))

    benchmark = stream_of_digits(n_train=64)
    recorder, curve = _watched(benchmark)
    train_through(naive(Growing(), [recorder, curve]), benchmark, evaluate=False)
    curve_of_last = dict(zip(*recorder.series(CURVE, 4)))
    assert all(curve_of_last[it] == 0 for it in curve_of_last if it <= 32)
    assert curve_of_last[40] > 0.5


def test_heads_are_chosen_by_task_label_and_left_out_before_they_exist():
    benchmark = stream_of_digits(n_train=64, incremental="task")
    recorder, curve = _watched(benchmark)
    model = MTSimpleMLP(hidden_size=32)
    train_through(naive(model, [recorder, curve]), benchmark, evaluate=False)
    for experience in range(5):
        iterations, accuracies = recorder.series(CURVE, experience)
        assert iterations[0] == 8 * experience + (2 if experience else 0)
        assert accuracies[-1] > 0.6


def test_a_missing_head_of_a_trained_experience_is_a_defect_not_a_gap():
    benchmark = stream_of_digits(n_train=64, incremental="task")
    recorder, curve = _watched(benchmark)
    model = MTSimpleMLP(hidden_size=32)
    strategy = naive(model, [recorder, curve])
    strategy.train(benchmark.train_stream[:2], eval_streams=[])
    del model.classifier.classifiers["0"]
    with pytest.raises(KeyError):
        strategy.train(benchmark.train_stream[2], eval_streams=[])


def test_a_foreign_data_set_is_measured_too(points_benchmark):
    benchmark = points_benchmark()
    recorder, curve = _watched(benchmark, samples=24)
    model = SimpleMLP(num_classes=6, input_size=6, hidden_size=16)
    train_through(naive(model, [recorder, curve]), benchmark)
    for experience in range(3):
        _, accuracies = recorder.series(CURVE, experience)
        assert accuracies[-1] == pytest.approx(recorder.matrix[3, experience].item())


def test_joint_training_gives_curves_too():
    benchmark = stream_of_digits(n_train=32)
    recorder = RecorderPlugin(5, trains_jointly=True)
    curve = ForgettingCurvePlugin(recorder, benchmark.test_stream, 5, 64)
    strategy = naive(small_mlp(), [recorder, curve], cls=JointTraining)
    strategy.train(benchmark.train_stream, eval_streams=[])
    for experience in range(5):
        assert recorder.series(CURVE, experience)[0] == [0, 2, 5, 10, 15, 20]


def test_its_time_counts_as_evaluation():
    recorder, curve = _watched(benchmark := stream_of_digits(2, n_train=96))
    train_through(naive(small_mlp(), [recorder, curve]), benchmark, evaluate=False)
    assert 0 < recorder.eval_seconds < recorder.train_seconds + recorder.eval_seconds


@pytest.mark.parametrize("option", ["every_iterations", "samples_per_experience"])
def test_a_curve_of_nothing_is_refused(option):
    recorder, stream = RecorderPlugin(2), stream_of_digits(2).test_stream
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        ForgettingCurvePlugin(recorder, stream, **{option: 0})
    with pytest.raises(ValueError, match="no experience"):
        ForgettingCurvePlugin(recorder, [])


def test_a_checkpoint_holds_where_the_points_were(run):
    recorder, curve = run
    _, resumed = _watched(stream_of_digits(n_train=96))
    resumed.load_state_dict(curve.state_dict())
    assert (resumed._last, resumed._n_measured) == (60, 5)
