"""What the benchmarks share: turns, ratios, command lines, tables."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from kancl.bench.harness import (
    Rows,
    Timing,
    finished_run,
    main,
    median_ratio,
    take_turns,
    time_steps,
)
from kancl.config import ConfigError


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        ([2.0, 9.0, 3.0], [1.0, 3.0, 2.0], 2.0),
        ([3.0, 4.0, 20.0], [1.0, 2.0, 4.0], 3.0),
        ([1.0, 2.0, 4.0], [4.0, 4.0, 16.0], 0.25),
        ([10.0, 20.0, 30.0], [5.0, 8.0, 20.0], 2.0),
    ],
)
def test_ratios_pair_the_turns(ours, theirs, ratio) -> None:
    assert median_ratio(ours, theirs) == ratio
    one, other = Timing(ours, theirs), Timing(theirs, ours)
    assert one.times(other) == ratio == other.cpu_times(one)
    assert one.cells(one)["times"] == 1.0


def test_preparation_is_not_timed_and_turns_alternate() -> None:
    order = []

    def prepare(name, turn):
        order.append((name, turn))
        return lambda: turn

    variants = {name: lambda turn, name=name: prepare(name, turn) for name in "ab"}
    timings = take_turns(variants, 2)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert timings["a"].results == [0, 1] and len(timings["b"].cpu_seconds) == 2


def test_a_turn_has_as_many_steps_as_fit_in() -> None:
    calls = []
    timings = time_steps({"step": lambda: calls.append(1)}, turns=3, turn_seconds=1e-4)
    assert len(calls) > 2 + 3 * 2 and len(timings["step"].seconds) == 3
    assert 0 < min(timings["step"].seconds) < 1e-4


def bench_something(
    *,
    size: int = 3,
    kind: Literal["a", "b"] = "a",
    names: Sequence[str] = ("x", "y"),
    limit: int | None = None,
    slow: bool = False,
) -> Iterator[Rows]:
    """Time something.

    Args:
        size: in 10 % of it.
    """
    if kind == "b":
        raise ValueError("b cannot be timed")
    for name in names:
        passed = "PASS" if limit is None or size <= limit else "FAIL"
        yield [{"name": name, "size": size, "slow": float(slow), "verdict": passed}]


def test_a_signature_is_a_command_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "new" / "table.csv"
    assert (
        main(
            bench_something,
            ["--size", "1200", "--slow", "--names", "p", "q", f"--csv={path}"],
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "1,200" in out and "1.000" in out and out.count("PASS") == 2
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["name"] for row in rows] == ["p", "q"]
    assert {row["size"] for row in rows} == {"1200"}
    assert main(bench_something, ["--limit", "2"]) == 1
    assert main(bench_something, []) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--size", "0"], "0 must be a whole number from 1"),
        (["--kind", "c"], "invalid choice"),
        (["--kind", "b"], "b cannot be timed"),
    ],
)
def test_a_wrong_option_is_refused(words, says) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        main(bench_something, words)
    assert "; kancl bench something --help shows" in str(refusal.value)


def test_a_bench_explains_itself(capsys) -> None:
    with pytest.raises(SystemExit):
        main(bench_something, ["--help"])
    said = capsys.readouterr().out
    assert "in 10 % of it" in said and "kancl bench something" in said


def test_a_run_that_fails_is_no_timing(tmp_path: Path) -> None:
    words = [f"log_dir='{tmp_path}'", "optimizer.lr=1e30", "optimizer=sgd", "model=mlp"]
    words += ["scenario.train_samples=40", "scenario.test_samples=10", "device=cpu"]
    with pytest.raises(RuntimeError, match="failed"):
        finished_run([*words, "training.batch_size=10", "model.hidden=[4]"])


def test_each_row_is_written_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"

    def bench_two() -> Iterator[Rows]:
        yield [{"what": "a", "result": 1}]
        assert path.read_text() == "what,result\na,1\n"
        yield [{"what": "b", "result": 2}]

    assert main(bench_two, [f"--csv={path}"]) == 0
    assert path.read_text().endswith("b,2\n")
