"""What a sweep gains is measured on real sweeps, in processes of their own."""

import time

import pytest

from kancl.bench import sweep
from kancl.bench.harness import Timing

TINY = "model=mlp model.hidden=[4] scenario.train_samples=20 scenario.test_samples=10"


@pytest.mark.parametrize(("seconds", "code"), [([5.0, 8.0, 20.0], 0), ([9.0] * 3, 1)])
def test_joblib_is_held_to_one_process(seconds, code, monkeypatch, capsys) -> None:
    timings = {"one process": Timing([10.0, 20.0, 30.0]), "joblib": Timing(seconds)}
    monkeypatch.setattr(sweep, "take_turns", lambda *_: timings)
    monkeypatch.setattr(sweep, "n_cores", lambda: 2 + code)
    assert sweep.main(["--runs", "2"]) == code
    out = capsys.readouterr().out
    assert ("PASS", "FAIL")[code] in out and "1.700" in out or code


def test_a_sweep_is_timed_and_has_to_be_done() -> None:
    words = [*TINY.split(), "scenario.n_experiences=2", "tensorboard=none"]
    start = time.perf_counter()
    sweep.sweep(words, 2)
    assert 1 < time.perf_counter() - start < 300
    with pytest.raises(RuntimeError, match="no_such_key"):
        sweep.sweep(["no_such_key=1"], 2)


def test_one_core_is_refused(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sweep, "n_cores", lambda: 1)
    with pytest.raises(SystemExit):
        sweep.main(["--runs", "1"])
    assert "one core" in capsys.readouterr().err
