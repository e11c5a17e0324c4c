"""Checks of a device: on a GPU in full (``pytest -m cuda``), on a CPU small.

Each test gets a ``device``. The CPU's show that the checks themselves cannot rot; those of
CUDA are skipped where there is no GPU.
"""

import pytest
import torch

NO_GPU = "needs a CUDA device; torch finds none here"
CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return str(request.param)


@pytest.fixture(params=[CUDA])
def gpu(request: pytest.FixtureRequest) -> str:
    """For what a CPU has not: graphs, streams."""
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return str(request.param)


@pytest.fixture
def small(device: str) -> bool:
    """Whether to cut a check to what a CPU does in seconds."""
    return device == "cpu"
