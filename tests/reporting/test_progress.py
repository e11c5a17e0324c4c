"""The progress display of real runs, in a terminal and out of one."""

import io
import re
import time
from types import SimpleNamespace

import pytest
from avalanche.training.supervised import JointTraining
from rich.console import Console

from kancl.observe.curves import ForgettingCurvePlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.reporting.progress import (
    UPDATES_PER_SECOND,
    Place,
    ProgressPlugin,
    duration,
    finished,
)
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through


def _run(epochs=2, n_train=64, quiet=False, width=120, place=None, **console):
    file = io.StringIO()
    benchmark = stream_of_digits(2, n_train=n_train)
    recorder = RecorderPlugin(2)
    curve = ForgettingCurvePlugin(recorder, benchmark.test_stream, 4, 64)
    total = 2 * epochs * n_train // 16
    bar = ProgressPlugin(
        recorder,
        title="mlp-naive",
        total_iterations=total,
        console=Console(file=file, width=width, **console),
        quiet=quiet,
        place=place,
    )
    strategy = naive(small_mlp(), [recorder, curve, bar], epochs=epochs)
    started = time.perf_counter()
    with bar:
        train_through(strategy, benchmark)
    return file.getvalue(), recorder, time.perf_counter() - started


def test_a_log_gets_one_plain_line_per_experience():
    text, recorder, _ = _run(force_terminal=False)
    first, second = text.splitlines()
    seen = 100 * recorder.matrix[2].mean()
    fall = 100 * (recorder.matrix[1, 0] - recorder.matrix[2, 0])
    assert first.startswith(
        "mlp-naive: after experience 1 of 2, 8 iterations, accuracy"
    )
    assert "forgetting" not in first  # there is nothing yet to forget
    assert f"accuracy {seen:.1f} %" in second
    assert f"forgetting {fall:.1f} %" in second
    assert "\x1b" not in text


def test_a_terminal_shows_where_the_run_is():
    text, _, _ = _run(force_terminal=True)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    for words in [
        "experience 1/2 epoch 1/2",
        "experience 2/2",
        "epoch 2/2",
        "it/s",
        "left",
        "accuracy",
        "forgetting",
    ]:
        assert words in plain
    assert plain.count("after experience") == 2  # the lines that stay


def test_all_of_it_fits_80_columns():
    text, _, _ = _run(force_terminal=True, width=80)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    for words in ["exp 1/2 ep 1/2", "it/s", "acc", "forg"]:
        assert words in plain
    lines = re.split(r"[\r\n]+", plain)
    assert max(len(line.rstrip()) for line in lines) <= 80
    stays = [line.strip() for line in lines if line.strip().startswith("after exp")]
    assert [line.partition(":")[0] for line in stays] == [
        f"after experience {k} of 2" for k in (1, 2)
    ]
    assert re.search(
        r"accuracy [\d.]+ %, learning [\d.]+ %, forgetting -?[\d.]+ %$", stays[1]
    )


def test_one_of_several_runs_is_one_line_that_goes():
    place = Place(12)
    place.n_begun = 4
    text, _, _ = _run(force_terminal=True, width=80, place=place)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    assert re.search(r"run 4 of 12, \d+ s left .* mlp-naive exp 2/2 ep 2/2 +acc", plain)
    assert "after experience" not in plain and "it/s" not in plain
    lines = re.split(r"[\r\n]+", plain)
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert _run(force_terminal=False, place=place)[0] == ""


def test_the_line_of_a_finished_run_is_whole_at_80_columns():
    place, title = Place(12), "kan_local-labels_trick_gram lr=0.001 seed 12"
    place.n_begun, place._started = 4, time.perf_counter() - 60
    scores = {"average_accuracy": 0.194, "forgetting": 0.987}
    line = finished(place, "kan-ewc seed 1", {"status": "completed", **scores}, 80)
    expected = (
        "run 4 of 12, 2 min left: kan-ewc seed 1, accuracy 19.4 %, forgetting 98.7 %"
    )
    assert line == expected
    line = finished(place, title, {"status": "completed", **scores}, 80)
    assert len(line) == 80 and "kan_local-labels_t…, accuracy" in line
    line = finished(place, "kan-si seed 0", {"status": "diverged", **scores}, 80)
    assert line == "run 4 of 12, 2 min left: kan-si seed 0, diverged"
    line = finished(
        place, "kan-si seed 0", {"status": "completed", "average_rmse": 0.5}, 80
    )
    assert line.endswith("kan-si seed 0, RMSE 0.5")
    place.n_begun = 12
    assert place.text() == "run 12 of 12"


def test_the_time_left_waits_until_some_of_it_is_known():
    place = Place(4)
    place.n_begun, place._started = 1, time.perf_counter() - 10
    assert place.text(0.01) == "run 1 of 4"
    assert place.text(0.5) == "run 1 of 4, 1 min left"  # 10 s for a half: 70 s for 3.5


def test_a_short_name_is_whole_in_80_columns_without_its_seed():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    bar = ProgressPlugin(RecorderPlugin(5), title="kan-naive seed 0", console=console)
    with console.capture() as shown:
        console.print(bar._live.get_renderable())
    assert "kan-naive" in shown.get() and "…" not in shown.get()
    assert "seed" not in shown.get()


@pytest.mark.parametrize("jointly", [False, True])
def test_the_longest_line_fits_80_columns(jointly):
    file = io.StringIO()
    recorder = RecorderPlugin(10, trains_jointly=jointly)
    console = Console(file=file, width=80, force_terminal=True)
    title = "kan_local-labels_trick_gram seed 12"
    bar = ProgressPlugin(
        recorder, title=title, total_iterations=99_999, console=console
    )
    recorder.boundaries, recorder.n_experiences_done = list(range(9)), 9
    recorder.iteration, bar._epoch, bar._loss = 50_000, 10, 0.12345
    bar._scores, bar._best = dict.fromkeys(range(10), 0.0), dict.fromkeys(
        range(10), 1.0
    )
    bar._first = (0, time.perf_counter() - 40)
    bar._draw(SimpleNamespace(train_epochs=10))
    with console.capture() as shown:
        console.print(bar._live.get_renderable())
    (line,) = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.get()).splitlines()
    assert line.startswith("kan_loca… ") and line.count("…") == 1
    for words in [" ep 10/10 ", "1250 it/s, 40 s ", "acc 0.0 %"]:
        assert words in line
    assert ("loss 0.123" if jointly else "forg 100.0 %") in line
    assert len(line.rstrip()) <= 80


def test_it_is_drawn_a_few_times_per_second_at_most():
    text, _, seconds = _run(force_terminal=True, epochs=20)
    n_drawn = text.count("mlp-naive") - 2  # less the lines that stay
    always = 2 + 2 * 2 + 2  # start, stop and each experience's begin and end
    assert n_drawn <= UPDATES_PER_SECOND * seconds + always + 2


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal):
    assert _run(force_terminal=terminal, quiet=True)[0] == ""


def test_joint_training_counts_no_experiences():
    file = io.StringIO()
    recorder = RecorderPlugin(2, trains_jointly=True)
    bar = ProgressPlugin(recorder, title="joint", console=Console(file=file, width=120))
    benchmark = stream_of_digits(2, n_train=32)
    strategy = naive(small_mlp(), [recorder, bar], cls=JointTraining)
    with bar:
        strategy.train(benchmark.train_stream, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    assert file.getvalue().startswith("joint: after all 2 experiences at once, 8 iter")
    assert "forgetting" not in file.getvalue()


def test_the_line_is_cleared_when_the_run_fails():
    file = io.StringIO()
    recorder = RecorderPlugin(2)
    console = Console(file=file, force_terminal=True)
    with pytest.raises(RuntimeError):
        with ProgressPlugin(recorder, title="kan", console=console):
            raise RuntimeError
    assert "\x1b[?25h" in file.getvalue()  # the cursor is back
    assert recorder.listeners == []


@pytest.mark.parametrize(
    "seconds, text", [(3.4, "3 s"), (59, "59 s"), (600, "10 min"), (5400, "1.5 h")]
)
def test_time_left_is_said_in_one_unit(seconds, text):
    assert duration(seconds) == text
