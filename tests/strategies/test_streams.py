"""Every strategy on streams of one's own: it trains, or is refused before training."""

from typing import Any

import numpy as np
import pytest
import torch

from kancl.benchmarks import from_arrays
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.strategies import GROUP, STRATEGIES, TrainingSetup, build, trains_jointly
from tests.strategies.test_sums import SMALL

UNEVEN, REPEATED = [[0, 1, 2], [3, 4], [5, 6]], [[0, 1], [2, 3, 4], [1, 0], [4, 5]]
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {  # head and options
    "uneven-single": ("single", {"experiences": UNEVEN}),
    "uneven-growing": ("growing", {"experiences": UNEVEN}),
    "repeated-single": ("single", {"experiences": REPEATED}),
    "repeated-growing": ("growing", {"experiences": REPEATED}),
    "wider-domain": ("single", {"experiences": UNEVEN[::-1], "incremental": "domain"}),
    "wider-task": ("multi", {"experiences": UNEVEN[::-1], "incremental": "task"}),
    "blurry": ("growing", {"experiences": UNEVEN, "blurry_boundaries": 0.2}),
    "online": (
        "growing",
        {"experiences": UNEVEN, "batches_per_experience": 2, "batch_size": 8},
    ),
    "online-task": (
        "multi",
        {
            **{"experiences": REPEATED, "incremental": "task"},
            **{"batches_per_experience": 2, "batch_size": 8},
        },
    ),
}
DEFAULT = ("uneven-growing", "repeated-single")


@pytest.mark.parametrize(
    "stream",
    [pytest.param(s, marks=[] if s in DEFAULT else pytest.mark.proof) for s in STREAMS],
)
@pytest.mark.parametrize("name", STRATEGIES)
def test_it_trains_or_is_refused(name: str, stream: str) -> None:
    head, options = STREAMS[stream]
    y = np.arange(70) % 7
    x = np.random.default_rng(0).normal(size=(70, 6)) + y[:, None]
    if stream.startswith("repeated") or stream == "online-task":
        x, y = x[y < 6], y[y < 6]
    benchmark = from_arrays(x, y, x, y, **options)
    torch.manual_seed(0)
    n_outputs = benchmark.info.n_outputs
    network = KAN([6, 4, n_outputs], 2, 2, enable_standalone_scale_spline=False)
    model = with_head(network, head, n_outputs)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    setup = TrainingSetup(model, optimizer, batch_size=8, iterations=2)
    wished = {**SMALL, "features": "network"}  # patches are of images
    keys = {k: v for k, v in wished.items() if k in GROUP.options(name)}
    try:
        strategy = build(name, setup, **keys)
    except ValueError as refusal:
        assert name in str(refusal) and "\n" not in str(refusal)
        return
    stream_of = benchmark.train_stream
    for part in [stream_of] if trains_jointly(name) else stream_of:
        strategy.train(part)
        strategy.eval(benchmark.test_stream)
    assert all(torch.isfinite(p).all() for p in model.parameters())
