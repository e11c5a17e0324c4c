"""The front door for Python: what a run gives, in threads, many times, without a folder."""

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from avalanche.benchmarks import CLScenario, benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from matplotlib.figure import Figure
from torch.utils.data import TensorDataset

import kancl
from kancl.benchmarks import Benchmark
from kancl.cli import main
from kancl.data.rows import as_tensors
from kancl.runner.launchers import _HYDRA
from kancl.runner.machine import taking_turns
from kancl.runner.request.compose import _PARSING

SMALL = (
    *("scenario.train_samples=48", "scenario.test_samples=20", "device=cpu"),
    *("training.batch_size=16", "evaluation.samples=10", "tensorboard=none"),
    *("evaluation.points_per_experience=2", "scenario.n_experiences=2"),
)

FEW: dict[str, dict[str, int]] = {
    "ridge_readout": {"strategy.n_features": 20},
    "nearest_mean": {"strategy.n_features": 20},
}


def small(*words: str, **keys: Any) -> kancl.Run:
    given = {
        "model": "kan",
        "quiet": True,
        "log_dir": None,
        "model.hidden": [4],
        **keys,
    }
    return kancl.run(*SMALL, *words, **given)


def test_a_run_without_a_folder_tells_all(tmp_path: Path) -> None:
    run = small("strategy=ewc", "training.epochs=2", scenario="split_mnist", seed=3)
    assert run.completed and run.summary["strategy"] == "ewc" and run.seed == 3
    assert run.accuracy_matrix.shape == (3, 2) and not run.folder.exists()
    mean = run.accuracy_matrix[-1].mean().item()
    assert run.summary["average_accuracy"] == pytest.approx(mean)
    # the confusion matrix counts the very samples that the accuracy matrix is of
    for k in range(2):
        confused = run.confusion_matrix(k)
        share = confused.diagonal().sum() / confused.sum()
        assert share.item() == pytest.approx(run.accuracy_matrix[-1, k].item())
    assert run.confusion_matrix().sum() == 40
    x, y, _ = as_tensors(run.benchmark.test_stream[1].dataset)
    predicted = run.predict(x.numpy())
    hits = (predicted == y).double().mean().item()
    assert hits == pytest.approx(run.accuracy_matrix[-1, 1].item())
    assert isinstance(run.plot_forgetting(), Figure)
    assert "completed, average accuracy" in repr(run) and len(repr(run)) < 300


def test_pandas_takes_the_records() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(small().metrics)
    assert [*frame] == ["iteration", "experience", "name", "value"]
    assert (frame.name == "test_accuracy").sum() == 6


def test_a_folder_gives_the_same_run(tmp_path: Path) -> None:
    made = small(log_dir=tmp_path / "my logs")
    read = kancl.load(made.folder)
    assert read.summary == made.summary and [*read.metrics] == [*made.metrics]
    for name, tensor in made.model.state_dict().items():
        assert tensor.equal(read.model.state_dict()[name])
    (made.folder / "model.pt").unlink()
    with pytest.raises(ValueError, match="keep_model=true overwrite=true"):
        kancl.load(made.folder).model
    with pytest.raises(ValueError, match="there is no run in"):
        kancl.load(tmp_path)
    # completed: read back, not made again
    assert small(log_dir=tmp_path / "my logs").summary == made.summary


@pytest.mark.parametrize("strategy", ["ridge_readout", "grow_grids", "lwf"])
@pytest.mark.parametrize("head", ["single", "growing", "multi"])
def test_networks_come_back(strategy: str, head: str) -> None:
    kind = "task" if head == "multi" else "class"
    options = {"scenario.head": head, "scenario.incremental": kind}
    run = small(strategy=strategy, **FEW.get(strategy, {}), **options)
    confused = run.confusion_matrix(1)
    accuracy = (confused.diagonal().sum() / confused.sum()).item()
    assert accuracy == pytest.approx(run.accuracy_matrix[-1, 1].item())


def test_what_cannot_be_predicted_is_refused() -> None:
    run = small(**{"scenario.incremental": "task"})
    with pytest.raises(ValueError, match="experience=0 to 1"):
        run.predict(torch.rand(2, 784))
    assert run.predict(np.random.rand(2, 784), experience=1).shape == (2,)
    with pytest.raises(ValueError, match="scale it"):
        run.predict(torch.zeros(2, 784, dtype=torch.uint8), experience=1)


def test_wrong_keys_and_values_are_refused_before_training() -> None:
    for keys, culprit in [
        ({"strategy": "EWC"}, "ewc"),
        ({"training.epochs": 0}, "training.epochs"),
        ({"sed": 3}, "seed"),
    ]:
        with pytest.raises(ValueError, match=culprit):
            small(**keys)


def test_a_regression_has_values(tmp_path: Path) -> None:
    words = ["training.iterations=3", "tensorboard=none", "device=cpu"]
    run = kancl.run(*words, scenario="gaussian_peaks", log_dir=None, quiet=True)
    assert run.predict(torch.rand(5, 1)).dtype == torch.float32
    with pytest.raises(ValueError, match="is a regression"):
        run.accuracy_matrix
    with pytest.raises(ValueError, match="is a regression"):
        run.confusion_matrix()


def test_a_comparison_is_that_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"model.hidden": [4], "log_dir": tmp_path, "quiet": True}
    compared = kancl.compare(*SMALL, strategy=["naive", "ewc"], seed=range(2), **keys)
    assert len(compared.runs) == 8
    assert {v.strategy for v in compared.verdicts} == {"naive", "ewc"}
    both = compared.verdicts[0].both
    assert [variant.model for variant in both] == ["kan", "mlp"]
    a, b = (np.mean(variant.numbers("average_accuracy")) for variant in both)
    (row,) = (
        r
        for r in compared.differences
        if (r["strategy"], r["metric"]) == (both[0].strategy, "average_accuracy")
    )
    assert row["mean"] == pytest.approx(a - b) and row["n_pairs"] == 2
    assert row["low"] <= row["mean"] <= row["high"]
    words = ["strategy=naive,ewc", "seed=range(2)", f"log_dir={tmp_path}"]
    assert main(["compare", "-q", *SMALL, "model.hidden=[4]", *words]) == 0
    printed = capsys.readouterr().out
    compared.table.show()
    assert capsys.readouterr().out in printed
    page = compared.report(tmp_path / "report")
    assert "too few seeds to tell (2)" in page.read_text()


def test_threads_take_turns_and_get_what_they_get_alone(tmp_path: Path) -> None:
    alone = [small(seed=seed).metrics for seed in (0, 1)]
    before = torch.get_rng_state()
    runs: dict[int, Any] = {}
    codes: list[int] = []

    def make(seed: int) -> None:
        runs[seed] = small(seed=seed)

    def type_it(seed: int) -> None:
        words = [*SMALL, "model.hidden=[4]", f"seed={seed}", f"log_dir={tmp_path}"]
        codes.append(main(["run", "-q", "-m", *words, "hydra/launcher=basic"]))

    targets = [(make, 0), (make, 1), (type_it, 0), (type_it, 1)]
    threads = [threading.Thread(target=f, args=[seed]) for f, seed in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    assert [[*runs[seed].metrics] for seed in (0, 1)] == [[*each] for each in alone]
    typed = sorted(tmp_path.glob("*/*/seed*"))
    assert [[*kancl.load(f).metrics] for f in typed] == [[*each] for each in alone]
    assert torch.get_rng_state().equal(before)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    """It has none of them, and makes runs while one of them does."""
    words = [*SMALL, "model=mlp", "model.hidden=[4]", f"log_dir={tmp_path}"]
    words += ["seed=0,1", "hydra/launcher=basic"]
    # without gradients: torch's threads for them are lost in a fork, too
    words += ["strategy=nearest_mean", "strategy.n_features=20"]
    begun, ended = threading.Event(), threading.Event()

    def make() -> None:
        with taking_turns(), _HYDRA, _PARSING:
            begun.set()
            ended.wait()

    thread = threading.Thread(target=make)
    thread.start()
    begun.wait()
    if (pid := os.fork()) == 0:
        signal.alarm(60)
        os._exit(main(["run", "-m", "-q", *words]))
    _, status = os.waitpid(pid, 0)
    ended.set()
    thread.join()
    assert status == 0 and len([*tmp_path.glob("*/*/seed*/summary.json")]) == 2


def test_nothing_of_a_run_is_left_in_memory() -> None:
    gc.collect()  # what other tests left
    gc.disable()
    try:
        small()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are deprecated
            left = [o for o in gc.get_objects() if isinstance(o, Benchmark)]
    finally:
        gc.enable()
    assert left == []


@pytest.mark.proof
def test_a_hundred_runs_take_the_memory_of_ten() -> None:
    process, sizes = psutil.Process(), []
    for seed in range(100):
        small(seed=seed)
        sizes.append(process.memory_info().rss)
    assert sizes[99] <= 1.2 * sizes[9]


def test_importing_kancl_is_cheap() -> None:
    code = "import sys, kancl; print('torch' in sys.modules, len(dir(kancl)) > 10)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.split() == ["False", "True"]
    for name in kancl.__all__:
        assert getattr(kancl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Kan'"):
        kancl.Kan


def test_strategies_by_hand_give_the_metrics_of_a_run() -> None:
    benchmark = kancl.benchmarks.split_mnist(
        n_experiences=2, train_samples=40, test_samples=20
    )
    for name in ("naive", "joint"):
        model = kancl.KAN([784, 4, 10], grid_range=(0, 1))
        optimizer = torch.optim.Adam(model.parameters())
        setup = kancl.strategies.TrainingSetup(model, optimizer)
        strategy = kancl.strategies.build(name, setup)
        stream = benchmark.train_stream
        for part in [stream] if name == "joint" else stream:
            strategy.train(part)
            measured = strategy.eval(benchmark.test_stream)
        each = [measured[f"test_accuracy/experience_{k}"] for k in (1, 2)]
        assert measured["average_accuracy"] == pytest.approx(sum(each) / 2)
        assert ("forgetting" in measured) == (name == "naive")
        # what a run's accuracy is: that of the network, counted by hand
        x, y, _ = as_tensors(benchmark.test_stream[1].dataset)
        hits = (model.eval()(x).argmax(1) == y).double().mean().item()
        assert each[1] == pytest.approx(hits)


@pytest.mark.parametrize("strategy", ["ridge_readout", "nearest_mean"])
def test_what_was_drawn_before_is_no_matter(strategy: str) -> None:
    """Also for a last layer that is drawn with the strategy; alone or in a sweep."""
    found = []
    for number in range(2):
        torch.manual_seed(number)
        found.append(small(strategy=strategy, **FEW[strategy]))
    given = {"model": "kan", "quiet": True, "log_dir": None, "model.hidden": [4]}
    given |= FEW[strategy]
    words = [*SMALL, "match=none"]
    found += kancl.compare(*words, strategy=[strategy], seed=[1, 0], **given).runs[1:]
    assert all(
        torch.equal(run.accuracy_matrix, found[0].accuracy_matrix) for run in found
    )


def test_a_benchmark_in_memory_is_a_scenario(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((70, 5), np.float32), np.arange(70) % 7
    words = ["training.batch_size=16", "tensorboard=none", "device=cpu"]

    def made(values: Any, **keys: Any) -> kancl.Run:
        parts = [[0, 1, 2], [3, 4], [5, 6]]
        benchmark = kancl.benchmarks.from_arrays(
            values, y, values, y, experiences=parts
        )
        keys |= {"log_dir": tmp_path, "quiet": True}
        return kancl.run(*words, scenario=benchmark, **keys)

    first = made(x, strategy="replay")
    assert first.accuracy_matrix.shape == (4, 3)
    confused = first.confusion_matrix()
    assert confused.sum(1).tolist() == [10] * 7
    hits = (first.predict(x).numpy() == y).sum()
    assert confused.diagonal().sum().item() == hits
    # the same data are the same run, others are another
    assert made(x.copy(), strategy="replay").summary == first.summary
    assert made(x + 1, strategy="replay").folder != first.folder
    assert len([*tmp_path.glob("*/kan-replay/*")]) == 2
    stock = nc_benchmark(
        *(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)) for _ in range(2)),
        n_experiences=7,
        task_labels=False,
        class_ids_from_zero_in_each_exp=False,
        shuffle=False,
    )
    keys = {"log_dir": None, "quiet": True, "scenario": stock}
    assert kancl.run(*words, **keys).accuracy_matrix.shape == (8, 7)
    # one without a timeline of classes, which from_avalanche completes in a new one
    keys = {"log_dir": None, "quiet": True, "scenario": bare_benchmark()}
    assert kancl.run(*words, **keys).accuracy_matrix.shape == (3, 2)
    with pytest.raises(ValueError, match="from_arrays"):
        kancl.run(scenario=x, log_dir=None)


def bare_benchmark() -> CLScenario:
    """Two experiences of one class each, without a timeline of classes."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for label in range(2):
        y = [label] * 20
        data = TensorDataset(torch.rand(20, 5, generator=generator), torch.tensor(y))
        targets = DataAttribute(y, "targets")
        parts.append(
            TaskAwareSupervisedClassificationDataset(
                [data], data_attributes=[targets, TaskLabels([0] * 20)]
            )
        )
    return benchmark_from_datasets(train=parts, test=parts)


STOPPED = """
import os, signal, sys
import kancl
from kancl.plugins import Plugin

class StopPlugin(Plugin):
    def after_training_iteration(self, strategy, **kwargs):
        if not os.path.exists("stopped"):
            open("stopped", "w").close()
            os.kill(os.getpid(), signal.SIGINT)

kancl.strategies.STRATEGIES["stop"] = [StopPlugin]
words = dict(strategy="stop", quiet=True)
try:
    kancl.run(*sys.argv[1:], **words)
except KeyboardInterrupt as error:
    print(error)
run = kancl.run(*sys.argv[1:], **words)
print(run.status, run.environment["resumed_at_iterations"])
"""


@pytest.mark.proof
def test_a_stopped_call_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STOPPED)
    words = [sys.executable, script.name, *SMALL, "model.hidden=[4]"]
    told = subprocess.check_output(words, text=True, cwd=tmp_path).splitlines()
    assert told[0].startswith("stopped by SIGINT; the same call goes on")
    assert told[-1] == "completed [1]"
