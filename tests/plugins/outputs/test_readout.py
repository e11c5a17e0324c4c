"""Closed-form last layers on filters: whatever the order, and not on permuted pixels."""

import numpy as np
import pytest
import torch

import kancl
from kancl.benchmarks import from_arrays
from kancl.models.readouts import RIDGES

SMALL = ("scenario.train_samples=400", "scenario.test_samples=200")
FILTERS = ("strategy.features=conv", "strategy.n_features=320")


@pytest.mark.parametrize("model", ["kan", "mlp"])
def test_the_order_of_experiences_changes_rounding_only(model):
    generator = np.random.default_rng(0)
    y = np.arange(600) % 4
    x = generator.normal(size=(4, 28, 28))[y] + generator.normal(size=(600, 28, 28))
    data = x[:400], y[:400], x[400:], y[400:]
    heads, hits = [], []
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        run = kancl.run(
            "strategy=ridge_readout",
            *FILTERS,
            scenario=from_arrays(*data, experiences=[order[:2], order[2:]]),
            model=model,
            log_dir=None,
            quiet=True,
        )
        heads.append(run.model.network.head.weight.detach())
        hits.append(run.summary["average_accuracy"])
    torch.testing.assert_close(*heads, rtol=1e-3, atol=1e-3)
    assert hits[0] == pytest.approx(hits[1], abs=0.01) and hits[0] > 0.8


def test_filters_are_refused_where_pixels_are_permuted():
    with pytest.raises(ValueError, match="features=conv .* permuted: set strategy"):
        kancl.run("strategy=ridge_readout", *FILTERS, *SMALL, scenario="permuted_mnist")


@pytest.mark.parametrize("batch_size", [7, 20])
def test_a_strength_chosen_on_samples_held_out_is_solved_with_all(batch_size):
    images, few = torch.rand(60, 28, 28).numpy(), np.arange(60) % 3
    data = from_arrays(images, few, images, few, experiences=[[0, 1, 2]])

    def weights(ridge):
        run = kancl.run(
            "strategy=ridge_readout",
            *("strategy.features=conv", "strategy.n_features=80"),
            f"strategy.ridge={ridge}",
            *("evaluation.samples=0", f"training.batch_size={batch_size}"),
            scenario=data,
            model="mlp",
            log_dir=None,
            quiet=True,
        )
        return run.model.network.head.weight, run.metrics

    chosen, metrics = weights("null")
    (ridge,) = [row.value for row in metrics if row.name == "ridge"]
    assert ridge in RIDGES
    assert torch.equal(chosen, weights(ridge)[0])
