"""Solved widths are the closest there are."""

from collections.abc import Sequence

import pytest

from kancl import KAN, MLP
from kancl.models.cost import forward_flops, n_parameters
from kancl.models.matching import match_hidden


def mlp(hidden: Sequence[int]) -> MLP:
    return MLP([784, *hidden, 10])


@pytest.mark.parametrize("by", ["params", "flops"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_no_neighbour_is_closer(by: str, n_layers: int) -> None:
    measure = n_parameters if by == "params" else forward_flops
    target = measure(KAN([784, 64, 10]))
    hidden = match_hidden(mlp, n_layers, target, by)  # type: ignore[arg-type]
    assert len(hidden) == n_layers and len(set(hidden)) == 1

    def error(width: int) -> int:
        return abs(measure(mlp([width] * n_layers)) - target)

    assert error(hidden[0]) < min(error(hidden[0] - 1), error(hidden[0] + 1))
    assert error(hidden[0]) < 0.005 * target


def test_a_kan_can_be_matched_to_an_mlp() -> None:
    target = n_parameters(MLP([784, 400, 400, 10]))
    hidden = match_hidden(lambda h: KAN([784, *h, 10]), 1, target, "params")
    # 794 edges per hidden unit, 10 parameters each: 478,410 / 7,940 = 60.25
    assert hidden == [60]


def test_exact_sizes_are_found_again() -> None:
    for width in (1, 2, 3, 100):
        target = n_parameters(mlp([width]))
        assert match_hidden(mlp, 1, target, "params") == [width]


def test_nothing_to_solve_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        match_hidden(mlp, 0, 1000, "params")
