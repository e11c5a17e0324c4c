"""Who is compared with whom."""

from types import SimpleNamespace

import pytest

from kancl.reporting.pairing import pairs


def entrants(*models):
    return [SimpleNamespace(model=model, size=k) for k, model in enumerate(models)]


@pytest.mark.parametrize(
    ("models", "paired"),
    [
        (["mlp", "kan", "kan_local"], ["kan-mlp", "kan_local-mlp"]),
        (["kan", "mine", "mlp"], ["kan-mlp", "mine-mlp"]),
        (["kan", "mine"], ["kan-mine"]),
        (["mine", "yours"], []),
        (["kan", "kan_local"], []),
        ([], []),
    ],
)
def test_a_model_meets_its_reference_by_role(models, paired):
    found = pairs(entrants(*models), lambda entrant: None)
    assert [f"{a.model}-{b.model}" for a, b in found] == paired


def test_only_equals_of_a_group_meet_and_the_nearest_of_them():
    runs = entrants("kan", "mlp", "mlp", "kan", "mlp")
    by_size = pairs(runs, lambda run: None, lambda a, b: abs(a.size - b.size))
    assert [(a.size, b.size) for a, b in by_size] == [(0, 1), (3, 2), (3, 4)]
    kinds = pairs(
        runs, lambda run: None, lambda a, b: abs(a.size - b.size), lambda b: b.size < 2
    )
    assert [(a.size, b.size) for a, b in kinds] == [
        *((0, 1), (0, 2)),
        *((3, 1), (3, 2), (3, 4)),
    ]
    halves = pairs(runs, lambda run: run.size < 2)
    assert [(a.size, b.size) for a, b in halves] == [(0, 1), (3, 2), (3, 4)]
