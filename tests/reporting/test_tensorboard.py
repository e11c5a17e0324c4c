"""A real run's event files, read back by TensorBoard's own reader."""

import io

import pytest
import torch
from avalanche.training.supervised import JointTraining
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.api_pb2 import Status
from torch import nn

from kancl.metrics.score_matrix import (
    average_seen_accuracy,
    forgetting,
    learning_accuracy,
    summarise,
)
from kancl.models import kan
from kancl.models.heads import with_head
from kancl.observe.curves import ForgettingCurvePlugin, OffGridPlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.reporting.curves import Curves
from kancl.reporting.tensorboard import (
    PULSE,
    TAGS,
    TensorBoardPlugin,
    dashboard_url,
    stock_evaluator,
    write_comparison,
)
from kancl.runs.names import CURVE
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through

TAG = "accuracy_on_every_experience/kan-naive"
ALL = {"images": 0, "scalars": 0, "histograms": 0}  # without sampling
HPARAMS = {"model": "kan", "lr": 0.1, "seed": 3, "hidden": [16]}


def small_kan(head="single", n_outputs=10):
    torch.manual_seed(1)
    return with_head(kan(784, n_outputs, hidden=(16,)), head, n_outputs)


def recorded_run(
    folder, model, label="kan-naive", n=5, figures=True, picture_share=1.0, **options
):
    """Train through a small stream with everything attached; its recorder."""
    benchmark = stream_of_digits(n, n_train=64, **options)
    recorder = RecorderPlugin(n, every_iterations=4)
    plugins = [
        recorder,
        ForgettingCurvePlugin(recorder, benchmark.test_stream, 4, 20),
        OffGridPlugin(recorder, benchmark.test_stream),
    ]
    board = TensorBoardPlugin(
        folder,
        recorder,
        label=label,
        card="A *small* run.",
        figures=figures,
        picture_share=picture_share,
    )
    train_through(naive(model, [*plugins, board]), benchmark)
    board.close(HPARAMS, summarise(recorder.matrix) | {"status": "completed"})
    return recorder


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance=ALL)
    accumulator.Reload()
    return accumulator


def scalars(accumulator, tag):
    events = accumulator.Scalars(tag)
    return [e.step for e in events], pytest.approx([e.value for e in events], abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs") / "kan-naive" / "seed3"


@pytest.fixture(scope="module")
def recorder(folder):
    return recorded_run(folder, small_kan())


@pytest.fixture(scope="module")
def main(folder, recorder):
    return read(folder)


def test_every_curve_is_a_run_of_its_own_under_one_tag(folder, recorder):
    for experience in range(5):
        sub_run = read(folder / f"experience_{experience + 1}")
        assert sub_run.Tags()["scalars"] == [TAG]
        steps, values = scalars(sub_run, TAG)
        assert (steps, values) == recorder.series(CURVE, experience)


def test_boundaries_go_straight_up_and_down_where_an_experience_ends(folder, recorder):
    steps, heights = scalars(read(folder / "boundaries"), TAG)
    n = len(PULSE)
    assert recorder.boundaries == [8, 16, 24, 32, 40]
    assert steps == [b for b in [8, 16, 24, 32] for _ in range(n)]  # none at the end
    assert heights == PULSE * 4
    assert max(PULSE) == 1 and PULSE[0] == PULSE[-1] == 0


def test_the_accuracy_on_the_seen_is_there_from_the_curves_and_the_whole_test_sets(
    main, recorder
):
    borders, values = scalars(main, "accuracy_on_seen/test")
    expected = [average_seen_accuracy(recorder.matrix, n) for n in range(1, 6)]
    assert (borders, values) == (recorder.boundaries, expected)

    curves = Curves.from_measurements(recorder.measurements, "x").seen()
    steps, values = scalars(main, "accuracy_on_seen/curve")
    assert (steps, values) == ([at for at, _ in curves], [a for _, a in curves])


def test_forgetting_stands_beside_learning_accuracy(main, recorder):
    parts = [recorder.matrix[: n + 1, :n] for n in range(1, 6)]
    steps, values = scalars(main, "forgetting/learning_accuracy")
    assert (steps, values) == (
        recorder.boundaries,
        [learning_accuracy(p) for p in parts],
    )
    steps, values = scalars(main, "forgetting/forgetting")
    expected = [forgetting(p) for p in parts[1:]]  # undefined for one experience
    assert (steps, values) == (recorder.boundaries[1:], expected)


def test_training_loss_is_the_recorders(main, recorder):
    rows = [m for m in recorder.measurements if m.name == "batch_loss"]
    steps, values = scalars(main, "training/loss")
    assert (steps, values) == ([m.iteration for m in rows], [m.value for m in rows])


def test_the_share_off_the_grid_is_there_for_every_layer(main, recorder):
    for layer in (1, 2):
        expected = recorder.series(f"off_grid_share_layer_{layer}")
        assert expected[0] == [0, *recorder.boundaries]
        assert scalars(main, f"off_grid_share/layer_{layer}") == expected


@pytest.mark.parametrize(
    "name, n_pictures",
    [("accuracy_matrix", 6), ("forgetting_curves", 5), ("network", 5)],
)
def test_pictures_can_be_looked_at_after_each_experience(main, name, n_pictures):
    events = main.Images(f"picture/{name}")
    assert len(events) == n_pictures
    for event in events:
        with Image.open(io.BytesIO(event.encoded_image_string)) as image:
            assert min(image.size) > 100
            assert len(set(image.convert("L").tobytes())) > 10  # not blank


def test_pictures_that_would_take_too_long_wait_for_the_last_experience(tmp_path):
    recorder = recorded_run(tmp_path, small_kan(), n=2, picture_share=0.0)
    main = read(tmp_path)
    for name in ("accuracy_matrix", "forgetting_curves", "network"):
        (event,) = main.Images(f"picture/{name}")
        assert event.step == recorder.iteration == recorder.boundaries[-1]


def test_coefficients_have_histograms_of_their_number(main):
    first, second = (main.Histograms(f"coefficients/layer_{k}") for k in (1, 2))
    assert [event.step for event in first] == [8, 16, 24, 32, 40]
    assert first[0].histogram_value.num == 784 * 16 * 8
    assert second[0].histogram_value.num == 16 * 10 * 8


def _plugin_data(accumulator, plugin, tag):
    content = accumulator.PluginTagToContent(plugin)[tag]
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_hyperparameters_stand_beside_the_final_metrics(main, recorder):
    start = _plugin_data(main, "hparams", "_hparams_/session_start_info")
    values = start.session_start_info.hparams
    assert values["model"].string_value == "kan"
    assert values["lr"].number_value == 0.1
    assert values["hidden"].string_value == "[16]"
    experiment = _plugin_data(main, "hparams", "_hparams_/experiment").experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    summary = summarise(recorder.matrix)
    del summary["undefined"]
    assert metrics == {f"final/{key}" for key in summary}
    for key, value in summary.items():
        assert scalars(main, f"final/{key}") == ([40], [value])


@pytest.mark.parametrize(
    "status, expected",
    [("completed", Status.STATUS_SUCCESS), ("diverged", Status.STATUS_FAILURE)],
)
def test_a_diverged_run_is_no_success(tmp_path, status, expected):
    recorder = RecorderPlugin(2)
    board = TensorBoardPlugin(tmp_path, recorder, label="mlp-naive")
    board.close(
        HPARAMS, {"status": status, "average_accuracy": None, "x": float("nan")}
    )
    end = _plugin_data(read(tmp_path), "hparams", "_hparams_/session_end_info")
    assert end.session_end_info.status == expected
    assert recorder.listeners == []


def test_the_layout_of_the_custom_scalars_charts_the_curves(main):
    event = main.Tensors("custom_scalars__config__")[0]
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (chart,) = layout.category[0].chart
    assert list(chart.multiline.tag) == [TAG]


def test_a_card_says_what_the_run_is_and_what_every_tag_means(main):
    (text,) = main.Tensors("about/text_summary")[0].tensor_proto.string_val
    assert "A *small* run." in text.decode()
    assert all(f"`{tag}`" in text.decode() for tag in TAGS)


def test_every_tag_written_is_documented(folder, main):
    written = set()
    for part in [main, read(folder / "experience_1"), read(folder / "boundaries")]:
        for kind in ["scalars", "images", "histograms"]:
            written |= set(part.Tags()[kind])
    for tag in written:
        known = [t for t in TAGS if tag.startswith(t.split("<")[0])]
        assert known, tag
    for tag in TAGS:
        used = [t for t in written | {"about"} if t.startswith(tag.split("<")[0])]
        assert used, tag


@pytest.mark.parametrize("head, incremental", [("growing", "class"), ("multi", "task")])
def test_several_heads_are_the_last_layer(tmp_path, head, incremental):
    width = 10 if head == "growing" else 2
    model = small_kan(head, width)
    recorder = recorded_run(tmp_path, model, figures=False, incremental=incremental)
    accumulator = read(tmp_path)
    assert len(recorder.series("off_grid_share_layer_2")[0]) == 6
    counts = [
        event.histogram_value.num
        for event in accumulator.Histograms("coefficients/layer_2")
    ]
    assert counts == [n * 2 * 16 * 8 for n in range(1, 6)]  # a head more each time


def test_an_mlp_has_the_same_charts_less_what_only_splines_have(tmp_path):
    recorded_run(tmp_path, small_mlp(), "mlp-naive", n=2)
    tags = read(tmp_path).Tags()
    assert tags["histograms"] == []
    assert set(tags["images"]) == {
        "picture/accuracy_matrix",
        "picture/forgetting_curves",
    }


def test_a_jointly_trained_run_has_curves_and_no_forgetting(tmp_path):
    benchmark = stream_of_digits(2, n_train=32)
    recorder = RecorderPlugin(2, trains_jointly=True)
    curve = ForgettingCurvePlugin(recorder, benchmark.test_stream, 4, 20)
    board = TensorBoardPlugin(tmp_path, recorder, label="mlp-joint")
    strategy = naive(small_mlp(), [recorder, curve, board], cls=JointTraining)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream, eval_streams=[])
    strategy.eval(benchmark.test_stream)
    board.close({}, summarise(recorder.matrix) | {"status": "completed"})
    tags = read(tmp_path).Tags()["scalars"]
    assert "forgetting/forgetting" not in tags and "final/forgetting" not in tags
    assert "final/average_accuracy" in tags
    assert read(tmp_path / "experience_2").Tags()["scalars"]
    assert not (tmp_path / "boundaries").exists()


def test_validation_shares_the_training_charts_as_a_run_of_its_own(tmp_path):
    benchmark = stream_of_digits(1, n_train=64, validation=0.002)
    recorder = RecorderPlugin(1, every_iterations=2)
    board = TensorBoardPlugin(tmp_path, recorder, label="mlp-naive")
    strategy = naive(small_mlp(), [recorder, board], eval_every=1)
    validation = benchmark.validation_stream
    strategy.train(benchmark.train_stream[0], eval_streams=[validation])
    board.close({}, {"status": "completed"})
    for what in ["loss", "accuracy"]:
        expected = recorder.series(f"validation_{what}", 0)
        assert expected[0][-1] == 8
        assert scalars(read(tmp_path / "validation"), f"training/{what}") == expected


def test_writing_events_changes_no_parameter(tmp_path):
    trained = []
    for with_board in [False, True]:
        benchmark = stream_of_digits(2, n_train=64)
        model = small_mlp(dropout=0.5)
        recorder = RecorderPlugin(2)
        plugins = [recorder]
        if with_board:
            plugins += [TensorBoardPlugin(tmp_path, recorder, label="mlp-naive")]
        train_through(naive(model, plugins), benchmark)
        if with_board:
            plugins[1].close({}, {"status": "completed"})
        trained.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*trained)


def test_a_comparison_is_one_picture_of_several_runs(tmp_path, recorder):
    curves = Curves.from_measurements(recorder.measurements, "kan-naive")
    write_comparison(tmp_path, [curves, curves])
    (event,) = read(tmp_path).Images("picture/forgetting_curves")
    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        assert image.width > 2 * image.height


def test_avalanches_own_tags_keep_their_names(tmp_path):
    evaluator = stock_evaluator(tmp_path)
    benchmark = stream_of_digits(2, n_train=32)
    train_through(naive(small_mlp(), evaluator=evaluator), benchmark)
    evaluator.loggers[0].writer.close()
    tags = read(tmp_path).Tags()["scalars"]
    for tag in [
        "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp001",
        "Top1_Acc_Stream/eval_phase/test_stream/Task000",
        "Top1_Acc_Seen_Stream/eval_phase/test_stream",
        "Loss_MB/train_phase/train_stream/Task000",
        "StreamForgetting/eval_phase/test_stream",
    ]:
        assert tag in tags


def test_the_address_pins_the_curves_and_switches_smoothing_off():
    url = dashboard_url(["kan-naive", "mlp-ewc"], "http://host:1234")
    assert url.startswith("http://host:1234/?pinnedCards=")
    assert "accuracy_on_every_experience%2Fmlp-ewc" in url
    assert "smoothing=0" in url and url.endswith("#timeseries")
