"""Heads grow, mask and join the optimizer, for KAN and MLP alike."""

import pytest
import torch
from avalanche.logging import BaseLogger
from avalanche.models import avalanche_forward
from avalanche.models.dynamic_optimizers import update_optimizer
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from kancl.benchmarks import split_mnist
from kancl.models.heads import UNSEEN, with_head
from kancl.runner.registry import GROUPS


class Experience:
    """What heads read of an Avalanche experience."""

    def __init__(self, index: int, classes: list[int], task_label: int = 0) -> None:
        self.current_experience = index
        self.classes_in_this_experience = classes
        self.task_labels = [task_label]


def network(model: str) -> nn.Module:
    return GROUPS["model"].build(model, 6, 10, hidden=(4,))


@pytest.fixture(params=sorted(GROUPS["model"].names))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 2, 3)


def test_single_head_is_the_network_itself(model: str, x: Tensor) -> None:
    plain = network(model)
    assert torch.equal(with_head(plain, "single", 10)(x), plain(x.flatten(1)))


def test_growing_head_shows_seen_classes_only(model: str, x: Tensor) -> None:
    head = with_head(network(model), "growing", 10)
    assert torch.equal(head(x), torch.full((5, 10), UNSEEN))
    head.adaptation(Experience(0, [7, 2]))
    outputs = head(x)
    seen = torch.zeros(10, dtype=torch.bool)
    seen[[2, 7]] = True
    assert (outputs[:, ~seen] == UNSEEN).all()
    expected = head.heads[0](head.network.features(x.flatten(1)))
    assert torch.equal(outputs[:, [2, 7]], expected)


def test_growing_keeps_old_outputs_and_parameters(model: str, x: Tensor) -> None:
    head = with_head(network(model), "growing", 10)
    head.adaptation(Experience(0, [0, 1]))
    before, parameters = head(x), dict(head.named_parameters())
    head.adaptation(Experience(1, [1, 5]))
    after = head(x)
    assert torch.equal(after[:, :2], before[:, :2])
    assert (after[:, 5] != UNSEEN).all() and (after[:, 2:5] == UNSEEN).all()
    for name, parameter in parameters.items():
        assert head.get_parameter(name) is parameter


def test_a_fresh_network_takes_a_grown_ones_state(model: str, x: Tensor) -> None:
    grown = with_head(network(model), "growing", 10)
    grown.adaptation(Experience(0, [7, 2]))
    grown.adaptation(Experience(1, [2, 5, 0]))
    fresh = with_head(network(model), "growing", 10)
    fresh.load_state_dict(grown.state_dict())
    assert fresh.classes == grown.classes == [[2, 7], [0, 5]]
    assert torch.equal(fresh(x), grown(x))
    fresh.adaptation(Experience(2, [5, 9]))  # and goes on growing
    assert fresh.classes[2:] == [[9]]
    early = with_head(network(model), "growing", 10)
    early.adaptation(Experience(0, [2, 7]))
    early.load_state_dict(grown.state_dict())
    assert torch.equal(early(x), grown(x))


def test_heads_for_other_classes_are_not_loaded(model: str) -> None:
    grown, other = (with_head(network(model), "growing", 10) for _ in range(2))
    grown.adaptation(Experience(0, [0, 1]))
    other.adaptation(Experience(0, [2, 3]))
    with pytest.raises(RuntimeError, match=r"for the classes \[\[2, 3\]\].*\[\[0, 1"):
        other.load_state_dict(grown.state_dict())


def test_a_fresh_network_takes_the_heads_of_every_task(model: str, x: Tensor) -> None:
    grown, fresh = (with_head(network(model), "multi", 2) for _ in range(2))
    for label in (0, 3):
        grown.adaptation(Experience(label, [0, 1], task_label=label))
    fresh.load_state_dict(grown.state_dict())
    for label in (0, 1, 3):
        labels = torch.full((5,), label)
        assert torch.equal(fresh(x, labels), grown(x, labels))


def test_unseen_outputs_do_not_reach_the_softmax(model: str, x: Tensor) -> None:
    head = with_head(network(model), "growing", 10)
    head.adaptation(Experience(0, [3, 4]))
    loss = nn.functional.cross_entropy(head(x), torch.full((5,), 3))
    narrow = nn.functional.cross_entropy(head(x)[:, [3, 4]], torch.zeros(5).long())
    assert torch.equal(loss, narrow)


def test_evaluating_adds_no_head(model: str) -> None:
    for kind in ("growing", "multi"):
        head = with_head(network(model), kind, 10).eval()
        head.adaptation(Experience(0, [0, 1]))
        assert len(head.heads) == 0


def test_multi_head_routes_by_task_label(model: str, x: Tensor) -> None:
    head = with_head(network(model), "multi", 2)
    head.adaptation(Experience(0, [0, 1], task_label=0))
    head.adaptation(Experience(1, [0, 1], task_label=1))
    labels = torch.tensor([0, 1, 1, 0, 9])
    outputs = avalanche_forward(head, x, labels)
    features = head.network.features(x.flatten(1))
    for row, label in enumerate(labels.tolist()):
        expected = torch.full((1, 2), UNSEEN)
        if label != 9:
            expected = head.heads[str(label)](features[row : row + 1])
        torch.testing.assert_close(outputs[row : row + 1], expected)


def test_new_heads_join_the_optimizer_and_old_moments_stay(
    model: str, x: Tensor
) -> None:
    head = with_head(network(model), "growing", 10)
    optimizer = torch.optim.Adam(head.parameters())
    known = update_optimizer(optimizer, dict(head.named_parameters()), None, True)
    head.adaptation(Experience(0, [0, 1]))
    known = update_optimizer(optimizer, dict(head.named_parameters()), known)
    head(x)[:, :2].sum().backward()
    optimizer.step()
    first = next(head.network.parameters())
    moment = optimizer.state[first]["exp_avg"].clone()
    head.adaptation(Experience(1, [2, 3]))
    update_optimizer(optimizer, dict(head.named_parameters()), known)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in head.parameters()}
    assert torch.equal(optimizer.state[first]["exp_avg"], moment)
    assert moment.abs().sum() > 0


def test_no_parameter_of_the_removed_head_remains(model: str) -> None:
    for kind in ("growing", "multi"):
        plain = network(model)
        last = {id(p) for p in plain.head.parameters()}
        head = with_head(plain, kind, 10)
        assert not last & {id(p) for p in head.parameters()}


@pytest.mark.parametrize("kind", ["growing", "multi"])
def test_class_beyond_the_outputs_is_refused(kind: str) -> None:
    head = with_head(network("mlp"), kind, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class 7 of experience 4 .* 2 outputs"):
        head.adaptation(Experience(3, [7]))


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'double'"):
        with_head(network("mlp"), "double", 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_outputs"):
        with_head(network("mlp"), "single", 0)


def test_stock_avalanche_trains_every_head(model: str) -> None:
    for incremental, kind, width in [
        ("class", "growing", 10),
        ("task", "multi", 2),
    ]:
        benchmark = split_mnist(
            incremental=incremental, train_samples=16, test_samples=8
        )
        head = with_head(
            GROUPS["model"].build(model, 784, 10, hidden=(4,)), kind, width
        )
        before = torch.cat([p.flatten() for p in head.parameters()]).clone()
        strategy = Naive(
            model=head,
            optimizer=torch.optim.SGD(head.parameters(), 0.1),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=8,
            eval_mb_size=8,
            evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        )
        for experience in benchmark.train_stream:
            strategy.train(experience)
        assert len(head.heads) == 5
        after = torch.cat([p.flatten() for p in head.network.parameters()])
        assert not torch.equal(before, after)
        strategy.eval(benchmark.test_stream)
        assert len(head.heads) == 5
