"""A real run's event files, read back by TensorBoard's own reader."""

import io
import json
import re
import shlex
from urllib.parse import parse_qsl, urlsplit

import pytest
import torch
from avalanche.training.supervised import JointTraining
from matplotlib.text import Text
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
from kancl.reporting.events import (
    FIRST,
    PULSE,
    TAGS,
    TAGS_ON_REQUEST,
    dashboard_url,
    tensorboard_command,
)
from kancl.reporting.tensorboard import (
    TensorBoardPlugin,
    network_picture,
    stock_evaluator,
)
from kancl.runs.names import CURVE
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through

LABEL = "kan-naive"
ALL = {"images": 0, "scalars": 0, "histograms": 0}  # without sampling
HPARAMS = {"zeta": 1, "model.name": "kan", "strategy.name": "naive", "seed": 3}
HPARAMS |= {"optimizer.lr": 0.1, "model.hidden": [16], "alpha": 2}


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


def test_a_run_is_at_most_three_of_tensorboards(folder, recorder):
    runs = {file.parent.relative_to(folder).as_posix() for file in events_in(folder)}
    assert runs == {".", "boundaries"}


def events_in(folder):
    return sorted(folder.rglob("events.out.*"))


def test_every_experience_has_a_curve_of_its_own(main, recorder):
    for experience in range(5):
        curve = scalars(main, f"accuracy/experience_{experience + 1}")
        assert curve == recorder.series(CURVE, experience)


def test_boundaries_go_straight_up_and_down_where_an_experience_ends(folder, recorder):
    boundaries = read(folder / "boundaries")
    assert recorder.boundaries == [8, 16, 24, 32, 40]
    curves = ["seen", *(f"experience_{k}" for k in range(1, 6))]
    assert {*boundaries.Tags()["scalars"]} == {f"accuracy/{curve}" for curve in curves}
    for tag in boundaries.Tags()["scalars"]:
        steps, heights = scalars(boundaries, tag)
        assert steps == [b for b in [8, 16, 24, 32] for _ in PULSE]  # none at the end
        assert heights == PULSE * 4
    assert max(PULSE) == 1 and PULSE[0] == PULSE[-1] == 0


def test_the_accuracy_on_the_seen_is_there_from_the_curves_and_the_whole_test_sets(
    main, recorder
):
    borders, values = scalars(main, "after_each_experience/average_accuracy")
    expected = [average_seen_accuracy(recorder.matrix, n) for n in range(1, 6)]
    assert (borders, values) == (recorder.boundaries, expected)

    curves = Curves.from_measurements(recorder.measurements, "x").seen()
    steps, values = scalars(main, "accuracy/seen")
    assert (steps, values) == ([at for at, _ in curves], [a for _, a in curves])


def test_forgetting_stands_beside_learning_accuracy(main, recorder):
    parts = [recorder.matrix[: n + 1, :n] for n in range(1, 6)]
    steps, values = scalars(main, "after_each_experience/learning_accuracy")
    assert (steps, values) == (
        recorder.boundaries,
        [learning_accuracy(p) for p in parts],
    )
    steps, values = scalars(main, "after_each_experience/forgetting")
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
    [
        *[("accuracy_matrix", 6), ("forgetting_curves", 5), ("network", 5)],
        ("confusion_matrix", 1),
    ],
)
def test_pictures_can_be_looked_at_after_each_experience(main, name, n_pictures):
    events = main.Images(f"{LABEL}/{name}")
    assert len(events) == n_pictures
    for event in events:
        with Image.open(io.BytesIO(event.encoded_image_string)) as image:
            assert min(image.size) > 100
            assert len(set(image.convert("L").tobytes())) > 10  # not blank


def test_of_a_single_sample_the_network_is_drawn_over_its_grids():
    benchmark, strategy = stream_of_digits(n_train=1), naive(small_kan())
    strategy.experience = benchmark.train_stream[0]
    figure = network_picture(strategy)
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "an even sample of the grids" in texts


def test_pictures_that_would_take_too_long_wait_for_the_last_experience(
    tmp_path, seeds_shown
):
    recorder = recorded_run(tmp_path, small_kan(), n=2, picture_share=0.0)
    assert len(seeds_shown) == 4 and {*seeds_shown} == {"kan-naive, 1 seed"}
    main = read(tmp_path)
    for name in ("accuracy_matrix", "forgetting_curves", "network"):
        (event,) = main.Images(f"{LABEL}/{name}")
        assert event.step == recorder.iteration == recorder.boundaries[-1]


def test_coefficients_have_histograms_of_their_number(main):
    first, second = (main.Histograms(f"{LABEL}/coefficients_layer_{k}") for k in (1, 2))
    assert [event.step for event in first] == [8, 16, 24, 32, 40]
    assert first[0].histogram_value.num == 784 * 16 * 8
    assert second[0].histogram_value.num == 16 * 10 * 8


def _plugin_data(accumulator, plugin, tag):
    content = accumulator.PluginTagToContent(plugin)[tag]
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_hyperparameters_stand_beside_the_final_metrics(main, recorder):
    start = _plugin_data(main, "hparams", "_hparams_/session_start_info")
    values = start.session_start_info.hparams
    assert values["1. model"].string_value == "kan"
    assert values["3. learning rate"].number_value == 0.1
    assert values["model.hidden"].string_value == "[16]"
    experiment = _plugin_data(main, "hparams", "_hparams_/experiment").experiment
    columns = sorted(experiment.hparam_infos, key=lambda c: (not c.differs, c.name))
    shown = [c.display_name or c.name for c in columns]
    assert (
        shown[:4]
        == ["model", "strategy", "learning rate", "seed"]
        == [*FIRST.values()][:4]
    )
    assert shown[4:] == ["alpha", "model.hidden", "zeta"]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics[:2] == ["final/average_accuracy", "final/forgetting"]
    assert experiment.metric_infos[0].display_name == "average accuracy"
    summary = summarise(recorder.matrix)
    del summary["undefined"]
    assert {*metrics} == {f"final/{key}" for key in summary}
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
    charts = {c.title: c.multiline.tag for cat in layout.category for c in cat.chart}
    (curves,) = charts["accuracy on every experience"]
    tags = main.Tags()["scalars"]
    matched = [tag for tag in tags if re.match(curves, tag)]
    assert matched == [f"accuracy/experience_{k}" for k in range(1, 6)]
    for regexes in charts.values():
        assert any(re.match(r, tag) for r in regexes for tag in tags)


def test_a_card_says_what_the_run_is_and_what_every_tag_means(main):
    (text,) = main.Tensors("about/text_summary")[0].tensor_proto.string_val
    assert "A *small* run." in text.decode()
    assert all(f"`{tag}`" in text.decode() for tag in TAGS)


def test_every_tag_written_is_documented(folder, main):
    written = set()
    for part in [main, read(folder / "boundaries")]:
        for kind in ["scalars", "images", "histograms"]:
            written |= set(part.Tags()[kind])
    shapes = {tag: re.compile(re.sub("<.*?>", "[^/]+", tag)) for tag in TAGS}
    for tag in written:
        assert any(shape.fullmatch(tag) for shape in shapes.values()), tag
    for tag, shape in shapes.items():
        assert any(map(shape.fullmatch, written | {"about"})), tag


@pytest.mark.parametrize("head, incremental", [("growing", "class"), ("multi", "task")])
def test_several_heads_are_the_last_layer(tmp_path, head, incremental):
    width = 10 if head == "growing" else 2
    model = small_kan(head, width)
    recorder = recorded_run(tmp_path, model, figures=False, incremental=incremental)
    accumulator = read(tmp_path)
    assert len(recorder.series("off_grid_share_layer_2")[0]) == 6
    counts = [
        event.histogram_value.num
        for event in accumulator.Histograms(f"{LABEL}/coefficients_layer_2")
    ]
    assert counts == [n * 2 * 16 * 8 for n in range(1, 6)]  # a head more each time


def test_an_mlp_has_the_same_charts_less_what_only_splines_have(tmp_path, seeds_shown):
    recorded_run(tmp_path, small_mlp(), "mlp-naive", n=2)
    assert set(seeds_shown) == {"mlp-naive, 1 seed"}
    tags = read(tmp_path).Tags()
    assert tags["histograms"] == []
    assert set(tags["images"]) == {
        "mlp-naive/accuracy_matrix",
        "mlp-naive/confusion_matrix",
        "mlp-naive/forgetting_curves",
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
    assert "after_each_experience/forgetting" not in tags
    assert "final/average_accuracy" in tags and "final/forgetting" not in tags
    assert "accuracy/experience_2" in tags
    assert not (tmp_path / "boundaries").exists()


def test_whole_streams_evaluated_in_training_stand_in_one_chart_with_it(tmp_path):
    benchmark = stream_of_digits(1, n_train=64, validation=0.002)
    recorder = RecorderPlugin(1, every_iterations=2)
    board = TensorBoardPlugin(tmp_path, recorder, label="mlp-naive")
    strategy = naive(small_mlp(), [recorder, board], eval_every=1)
    validation = benchmark.validation_stream
    strategy.train(benchmark.train_stream[0], eval_streams=[validation])
    board.close({}, {"status": "completed"})
    main = read(tmp_path)
    for what in ["loss", "accuracy"]:
        expected = recorder.series(f"validation_{what}", 0)
        assert expected[0][-1] == 8
        assert scalars(main, f"evaluated/validation_{what}") == expected
        assert any(tag.startswith("evaluated/<") for tag in TAGS_ON_REQUEST)


def test_a_validation_stream_at_the_boundaries_doubles_no_point(tmp_path):
    benchmark = stream_of_digits(2, n_train=64, validation=0.1)
    recorder = RecorderPlugin(2)
    board = TensorBoardPlugin(tmp_path, recorder, label="mlp-naive")
    strategy = naive(small_mlp(), [recorder, board])
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        for stream in (benchmark.test_stream, benchmark.validation_stream):
            strategy.eval(stream)
    board.close({}, {"status": "completed"})
    main = read(tmp_path)
    for tag in main.Tags()["scalars"]:
        steps, _ = scalars(main, tag)
        assert len({*steps}) == len(steps), tag
    assert len(main.Images("mlp-naive/confusion_matrix")) == 1


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


def test_the_address_pins_the_curves_of_the_runs_asked_for_unsmoothed():
    url = urlsplit(dashboard_url(r"(^|/a b/)x$", address="http://host:1234"))
    assert (url.netloc, url.fragment) == ("host:1234", "timeseries")
    query = dict(parse_qsl(url.query))
    pins = [card["tag"] for card in json.loads(query["pinnedCards"])]
    assert pins == ["accuracy/seen", "accuracy/experience_1"]
    assert (query["runFilter"], query["smoothing"]) == (r"(^|/a b/)x$", "0")
    group = query["runColorGroup"].removeprefix("regex:")
    runs = ["kan-ewc", "kan-ewc/low", "kan-ewc/high", "logs/kan-ewc"]
    colours = [re.match(group, run).groups() for run in runs]
    assert colours == [("kan-ewc",)] * 3 + [("logs/kan-ewc",)]


def test_the_command_is_typed_as_it_stands():
    command = tensorboard_command("my logs/a(b)")
    assert shlex.split(command)[:3] == ["tensorboard", "--logdir", "my logs/a(b)"]
