"""What a sweep gains is measured on real sweeps, in processes of their own."""

import pytest

from kancl.bench import sweep

TINY = "model=mlp model.hidden=[4] scenario.train_samples=20 scenario.test_samples=10"


def test_ratios_are_paired_and_held_to_the_first() -> None:
    seconds = {"one": [10.0, 20.0, 30.0], "two": [5.0, 8.0, 20.0]}
    assert sweep.ratios(seconds) == {"one": 1.0, "two": 2.0}


def test_a_sweep_is_timed_and_has_to_be_done() -> None:
    words = [*TINY.split(), "scenario.n_experiences=2", "tensorboard=none"]
    assert 1 < sweep.sweep_seconds(words, 2) < 300
    with pytest.raises(RuntimeError, match="no_such_key"):
        sweep.sweep_seconds(["no_such_key=1"], 2)


def test_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(sweep.ConfigError, match="one core"):
        sweep.main(["--runs", "1"])
