"""A run that is killed goes on, by the same command, to the same bytes."""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kancl.observe.recorder import RecorderPlugin
from kancl.strategies import GROUP

MakeRun = Callable[..., tuple[dict[str, Any], Path]]

BYTES = ("model.pt", "metrics.csv", "accuracy_matrix.csv")
FEW = {
    "mem_size": 24,
    "replay_batch_size": 8,
    "candidates": 10,
    "patterns_per_experience": 8,
    "n_features": 20,
    "fisher_samples": 8,
    "feature_samples": 16,
    "structure": "blocks",
}
SUMS = ["ewc+replay", "gram+labels_trick", "grow_grids+occupancy", "hard_mask+si"]
SMALL = ["scenario.n_experiences=2", "keep_model=true", "training.batch_size=12"]


class Killed(BaseException):
    """No Exception, so that nothing is written down on the way out."""


@contextmanager
def killed_at(iteration: int) -> Iterator[None]:
    """Inside, the run ends without a word at this training iteration."""
    after = RecorderPlugin.after_training_iteration

    def dying(self: RecorderPlugin, strategy: Any, **kwargs: Any) -> None:
        after(self, strategy, **kwargs)
        if self.iteration == iteration:
            raise Killed

    RecorderPlugin.after_training_iteration = dying  # type: ignore[method-assign]
    try:
        with pytest.raises(Killed):
            yield
    finally:
        RecorderPlugin.after_training_iteration = after  # type: ignore[method-assign]


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in summary.items()
        if not key.endswith("_seconds") and key != "iterations_per_second"
    }


def few(strategy: str) -> list[str]:
    known = GROUP.options(strategy)
    options = [f"strategy.{k}={v}" for k, v in FEW.items() if k in known]
    return [f"strategy={strategy}", *options]


def check_bytes(
    make_run: MakeRun,
    tmp_path: Path,
    words: list[str],
    *kills: int,
    every: int = 4,
    at_boundary: int | None = None,
) -> None:
    """Kill a run at these iterations, one after the other; lay it beside a whole one.

    Args:
        at_boundary: the iteration of the boundary to resume from, not one inside.
    """
    words = [*SMALL, *words]
    whole, undisturbed = make_run(*words, log_dir=tmp_path / "a")
    assert whole["status"] == "completed", whole
    words += [f"checkpoint.every_iterations={every}"]
    for iteration in kills:
        with killed_at(iteration):
            make_run(*words, log_dir=tmp_path / "b")
    if at_boundary is not None:
        for path in tmp_path.glob("b/*/*/*/checkpoint/iteration-*"):
            path.unlink()
    again, folder = make_run(*words, log_dir=tmp_path / "b")
    assert again["status"] == "completed", again
    resumed_at = json.loads((folder / "env.json").read_text())["resumed_at_iterations"]
    start, expected = 0, []
    for kill in kills:  # counted anew from where the run goes on
        start += (kill - 1 - start) // every * every
        expected.append(start)
    assert resumed_at == (expected if at_boundary is None else [at_boundary])
    for name in BYTES:
        one, other = (undisturbed / name).read_bytes(), (folder / name).read_bytes()
        assert one == other, name
    assert timeless(whole) == timeless(again)
    assert not (folder / "checkpoint").exists()


MIXTURES = {
    "dropout, growing head, two kills in one epoch": [
        *"model=mlp model.dropout=.5 scenario.head=growing training.epochs=3".split(),
        *"training.lr_gamma=.5 scenario.validation=.005".split(),
    ],
    "a head per experience, several samplers, outputs of old": [
        *few("ewc+lwf"),
        *"scenario.incremental=task training.epochs=2 training.iterations=11".split(),
    ],
    "grids that grow, lazy steps, a mask": [
        *"model=kan_local training.epochs=3".split(),
        "strategy=drift_penalty+ewc+grow_grids+hard_mask",
        "strategy.off_grid=.01",
    ],
    "quantile grids of the first experience": [
        *"model=kan_local model.input_grid=quantile model.input_grid_size=4".split(),
        *"training.epochs=3".split(),
    ],
    "a replay loader that never ends, samples with outputs": [
        *few("der"),
        "training.epochs=3",
    ],
    "early stopping, the best epoch's weights": [
        *few("ewc"),
        *"training.early_stopping=2 training.restore_best=true model=mlp".split(),
        *"training.epochs=8 scenario.validation=0.01 optimizer.lr=0.05".split(),
    ],
    "blurred boundaries, an online stream, kept samples of both": [
        *few("replay"),
        *"scenario.blurry_boundaries=.25 scenario.batches_per_experience=2".split(),
        *"training.epochs=3 model=mlp".split(),
    ],
}


HEAVY = ("a head per experience", "grids that grow")


@pytest.mark.parametrize(
    "mixture",
    [
        pytest.param(m, marks=[pytest.mark.proof] * m.startswith(HEAVY))
        for m in MIXTURES
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(
    make_run: MakeRun, tmp_path: Path, mixture: str
) -> None:
    check_bytes(make_run, tmp_path, MIXTURES[mixture], 10, 21)


@pytest.mark.proof
@pytest.mark.parametrize("head", ["single", "growing", "multi"])
@pytest.mark.parametrize("strategy", [*GROUP.names, *SUMS])
def test_every_strategy_resumes_in_mid_epoch(
    make_run: MakeRun, tmp_path: Path, strategy: str, head: str
) -> None:
    if head != "single" and strategy == "der":
        pytest.skip("DER takes one head for all classes only")
    if head == "growing" and strategy == "grow_grids+occupancy":
        pytest.skip("shared occupancies can't follow grids that change one by one")
    incremental = "task" if head == "multi" else "class"
    words = [*few(strategy), f"scenario.incremental={incremental}"]
    words += [f"scenario.head={head}", "training.epochs=3"]
    kill = 11 if strategy in ("joint", "gdumb") else 22
    check_bytes(make_run, tmp_path, words, kill)


@pytest.mark.parametrize(
    "words",
    [
        "optimizer=sgd optimizer.momentum=.9",
        "scenario.head=growing",
        "scenario.incremental=task scenario.head=multi",
    ],
)
def test_the_optimizer_resumes_at_an_experience_boundary(
    make_run: MakeRun, tmp_path: Path, words: str
) -> None:
    options = [*words.split(), "model=mlp", "training.iterations=6"]
    check_bytes(make_run, tmp_path, options, 11, at_boundary=6)


def test_tensorboard_shows_each_step_once(make_run: MakeRun, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [*SMALL, "tensorboard=numbers", "training.epochs=3", "model=mlp"]
    shown = []
    for place, kill in (("a", None), ("b", 22)):
        options = [*words, "checkpoint.every_iterations=4"]
        if kill is not None:
            with killed_at(kill):
                make_run(*options, log_dir=tmp_path / place)
            time.sleep(1)  # event files are read in the order of seconds in their names
        _, folder = make_run(*options, log_dir=tmp_path / place)
        for run in ("", "boundaries"):
            events = EventAccumulator(str(folder / run), size_guidance={"scalars": 0})
            events.Reload()
            for tag in events.Tags()["scalars"]:
                if "second" not in tag:
                    points = [(e.step, e.value) for e in events.Scalars(tag)]
                    shown.append((place, run, tag, points))
    whole = [each[1:] for each in shown if each[0] == "a"]
    assert [each[1:] for each in shown if each[0] == "b"] == whole
    assert len(whole) > 5


def test_a_full_disk_ends_the_run_and_leaves_its_checkpoints(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses every file above some size, from iteration 9 on."""
    words = [*SMALL, "model=mlp", "training.epochs=3"]
    options = [*words, "checkpoint.every_iterations=4"]
    after = RecorderPlugin.after_training_iteration
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def filling(self: RecorderPlugin, strategy: Any, **kwargs: Any) -> None:
        after(self, strategy, **kwargs)
        if self.iteration == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))

    monkeypatch.setattr(RecorderPlugin, "after_training_iteration", filling)
    try:
        summary, folder = make_run(*options, log_dir=tmp_path / "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        monkeypatch.undo()
    assert summary["status"] == "failed" and "Make room for" in summary["error"]
    assert "iteration-000000012.ckpt" in summary["error"]
    left = {path.name for path in (folder / "checkpoint").iterdir()}
    assert left == {
        "experience-0001.ckpt",
        "iteration-000000004.ckpt",
        "iteration-000000008.ckpt",
    }
    again, folder = make_run(*options, log_dir=tmp_path / "b")
    whole, undisturbed = make_run(*words, log_dir=tmp_path / "a")
    assert timeless(again) == timeless(whole)
    for name in BYTES:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
