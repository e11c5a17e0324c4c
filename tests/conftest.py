"""Settings that every test shares."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from kancl.collector import not_collecting

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    with not_collecting():
        return (yield)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    """Of a module's own fixtures, too: the last bit depends on how many there are."""
    import torch  # not where pytest only hands out tests

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    import torch

    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)  # manual_seed notes down the stack for GPUs
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture
def seeds_shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of seeds of every picture that goes to TensorBoard, or none."""
    from matplotlib.text import Text

    from kancl.reporting import events

    said: list[str] = []

    def drawn(figure: Any, draw: Any = events.as_pixels) -> Any:
        lines = [s for t in figure.findobj(Text) for s in t.get_text().split("\n")]
        said.append(next((line for line in lines if "seed" in line), "no seeds"))
        return draw(figure)

    monkeypatch.setattr(events, "as_pixels", drawn)
    return said
