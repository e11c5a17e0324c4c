"""A run whose memory gives out says what to change; one that is over holds none."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.plugins import Plugin, TrainingSetup
from kancl.runner.machine import is_out_of_memory
from kancl.strategies import STRATEGIES

MakeRun = Callable[..., tuple[dict[str, Any], Path]]
Plant = Callable[[Callable[[], object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Have something done after each step of ``strategy=naive``."""

    def planted(work: Callable[[], object]) -> None:
        class Planted(SupervisedPlugin):
            """Do the work after each step."""

            def after_update(self, strategy: Any, **kwargs: Any) -> None:
                work()

        monkeypatch.setitem(STRATEGIES, "naive", [*STRATEGIES["naive"], Planted])

    return planted


def too_much() -> object:
    return torch.empty(2**50, dtype=torch.uint8)


def of_a_gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("asks", [too_much, of_a_gpu])
def test_out_of_memory_is_said_with_what_to_change(
    make_run: MakeRun, plant: Plant, asks: Callable[[], object]
) -> None:
    plant(asks)
    summary, folder = make_run("training.batch_size=17", "evaluation.locality=true")
    assert summary["status"] == "failed"
    assert summary["error"].startswith(
        "out of memory; try training.batch_size below 17"
    )
    assert "evaluation.locality=false" in summary["error"]
    assert asks.__name__ in (folder / "error.txt").read_text()


def test_other_errors_are_not_taken_for_it() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("strategy", ["naive", "gram", "replay"])
def test_no_run_stays_in_memory(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []

    class Noting(Plugin):
        """Note the network."""

        def prepare(self, setup: TrainingSetup) -> None:
            made.append(weakref.ref(setup.model))

    monkeypatch.setitem(STRATEGIES, strategy, [*STRATEGIES[strategy], Noting])
    for seed in range(2):
        make_run(f"strategy={strategy}", f"seed={seed}", "model=kan_local")
    gc.collect()
    assert len(made) == 2
    assert [ref() for ref in made] == [None, None]
