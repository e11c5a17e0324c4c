"""Scores against the papers' formulas written out; pruned networks against their parts."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from kancl.models import KAN
from kancl.models.edges import edge_scores, n_edges, prune
from kancl.models.grid_changes import refine
from kancl.models.module_state import load_module_state, module_state
from kancl.plugins.penalties.per_sample_gradients import kan_moments

EXACT = {"implementation": "reference"}


def network(layers=(3, 4, 2), **options) -> KAN:
    return KAN(layers, scale_noise=0.5, **EXACT, **options).double()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(50, 3, dtype=torch.float64) * 2 - 1


def functions(model: KAN, x: Tensor) -> list[Tensor]:
    """Every edge's values ``(n, in, out)``, an edge at a time: the others' weights are 0."""
    values = []
    for number, layer in enumerate(model.layers):
        per_edge = torch.zeros(len(x), layer.in_features, layer.out_features)
        for i in range(layer.in_features):
            for o in range(layer.out_features):
                one = copy.deepcopy(layer)
                with torch.no_grad():
                    chosen = torch.zeros(layer.in_features, layer.out_features)
                    chosen[i, o] = 1
                    one.coefficients *= chosen.unsqueeze(1)
                    if one.base_weight is not None:
                        one.base_weight *= chosen.T
                    per_edge = per_edge.to(x.dtype)
                    per_edge[:, i, o] = one(x)[:, o]
        values.append(per_edge)
        x = layer(x).detach()
    return values


@pytest.mark.parametrize("base", [True, False])
def test_scores_are_the_papers_formulas(x: Tensor, base: bool) -> None:
    model = network(base=base)
    first, second = functions(model, x)
    scores = edge_scores(model, x)
    for score, values in zip(scores.l1, (first, second)):
        assert torch.allclose(score, values.abs().mean(0))
    node = torch.ones(2, dtype=torch.float64)
    for k, values in ((1, second), (0, first)):
        deviations = values.std(0, correction=0)
        of_nodes = values.sum(1).std(0, correction=0)
        expected = node * deviations / of_nodes
        assert torch.allclose(scores.attribution[k], expected)
        node = expected.sum(1)
        assert torch.allclose(scores.nodes[k], node)


def test_scores_do_not_depend_on_the_chunks(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    whole = edge_scores(model, x)
    monkeypatch.setattr("kancl.models.edges.NUMBERS_AT_ONCE", 80)
    parts = edge_scores(model, x)
    for a, b in zip(whole.attribution + whole.l1, parts.attribution + parts.l1):
        assert torch.allclose(a, b, atol=1e-12)


def test_an_input_that_does_nothing_has_score_0(x: Tensor) -> None:
    model = network(base=False)
    with torch.no_grad():
        model.layers[0].coefficients[1] = 0.7  # a partition of unity: constant
    scores = edge_scores(model, x)
    assert scores.nodes[0][1] < 1e-7 < scores.nodes[0][0]
    assert scores.l1[0][1].min() > 0  # which the L1 norm doesn't see


def test_sparsity_loss_is_the_papers(x: Tensor) -> None:
    model = network()
    expected = 0.0
    for values in functions(model, x):
        norms = values.abs().mean(0)
        share = norms / norms.sum()
        expected += 2 * norms.sum() - 3 * (share * share.log()).sum()
    assert torch.allclose(model.sparsity_loss(x, 2.0, 3.0), expected)


def test_sparsity_loss_reaches_every_parameter(x: Tensor) -> None:
    model = network()
    model.sparsity_loss(x).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    assert torch.autograd.gradcheck(model.sparsity_loss, x.requires_grad_())


def test_a_node_without_edges_out_is_taken_away_exactly(x: Tensor) -> None:
    model = network()
    with torch.no_grad():
        for parameter in (model.layers[1].coefficients, model.layers[1].base_weight.T):
            parameter[2] = 0.0
    pruned = prune(model, x, torch.rand(50, 2, dtype=torch.float64), edge_threshold=0)
    assert pruned.n_hidden_nodes == (4, 3)
    assert pruned.n_edges == (20, 15)
    assert [layer.in_features for layer in pruned.network.layers] == [3, 3]
    assert torch.allclose(pruned.network(x), model(x), atol=1e-12)
    assert pruned.before == pytest.approx(pruned.after, abs=1e-12)
    assert pruned.network.make_head(5).in_features == 3


@pytest.mark.parametrize("by", ["attribution", "l1"])
@pytest.mark.parametrize("scale", [True, False])
def test_pruned_edges_are_those_with_small_scores(
    x: Tensor, by: str, scale: bool
) -> None:
    model = network(enable_standalone_scale_spline=scale)
    kept = [score >= 0.3 for score in edge_scores(model, x).relative(by)]
    y = model(x).detach()
    pruned = prune(model, x, y, edge_threshold=0.3, node_threshold=0, by=by)
    expected = sum(
        torch.where(mask, values, 0.0).sum(1)
        for mask, values in zip(kept[:1], functions(model, x)[:1])
    )
    first, alive = pruned.network.layers[0], kept[1].any(1)
    assert torch.allclose(first(x), expected[:, alive])
    assert n_edges(pruned.network) == pruned.n_edges[1] < 20
    assert pruned.before == 0
    error = (pruned.network(x) - y).square().mean().sqrt().detach()
    assert pruned.after == pytest.approx(float(error))


def masked(x: Tensor, **options) -> KAN:
    model = network(**options)
    y = torch.rand(50, 2, dtype=torch.float64)
    pruned = prune(model, x, y, edge_threshold=0.4, node_threshold=0).network
    assert any(layer.edge_mask is not None for layer in pruned.layers)
    return pruned


def assert_pruned_stay_zero(model: KAN, masks: list[Tensor], x: Tensor) -> None:
    for layer, mask in zip(model.layers, masks):
        assert torch.equal(layer.edge_mask > 0, mask)
        values = layer.edge_outputs(x)
        assert (values[:, ~mask] == 0).all() and (values[:, mask] != 0).any()
        assert torch.allclose(layer(x), values.sum(1))
        x = layer(x)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_pruned_edges_stay_zero(
    x: Tensor, scale: bool, optimizer: type[torch.optim.Optimizer]
) -> None:
    model = masked(x, enable_standalone_scale_spline=scale)
    masks = [layer.edge_mask > 0 for layer in model.layers]
    steps = optimizer(model.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(3):
        steps.zero_grad()
        (model(x) - 1).square().sum().backward()
        steps.step()
    before = model(x).detach()
    refine(model.layers[0], 2, steps)
    assert torch.allclose(model(x), before, atol=1e-10)
    model.layers[0].update_grid(x)
    assert_pruned_stay_zero(model, masks, x)

    twin = network([3, model.feature_dim, 2], enable_standalone_scale_spline=scale)
    twin.load_state_dict(model.state_dict())
    assert_pruned_stay_zero(twin, masks, x)
    copied = copy.deepcopy(network([3, model.feature_dim, 2]))
    state = io.BytesIO()
    torch.save(module_state(model), state)
    state.seek(0)
    if scale:
        load_module_state(copied, torch.load(state, weights_only=True))
        assert torch.equal(copied(x), model(x))
    half = copy.deepcopy(model).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert_pruned_stay_zero(pickled(model), masks, x)


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_masks_leave_no_gradient_and_enter_per_sample_moments(x: Tensor) -> None:
    layer = masked(x).layers[0]
    gradients = []
    for row in x:
        layer.zero_grad()
        layer(row.unsqueeze(0)).sum().backward()
        gradients.append({n: p.grad.square() for n, p in layer.named_parameters()})
    ones = torch.ones(len(x), layer.out_features, dtype=x.dtype)
    with torch.no_grad():
        moments = kan_moments(layer, x, ones, 2)
    for name, moment in moments.items():
        assert torch.allclose(moment, sum(g[name] for g in gradients)), name
    assert (moments["edge_scale"][layer.edge_mask == 0] == 0).all()


def test_other_masks_and_states_without_one_are_read(x: Tensor) -> None:
    model = masked(x)
    plain = network([3, model.feature_dim, 2])
    model.load_state_dict(plain.state_dict())
    assert all(layer.edge_mask is None for layer in model.layers)
    assert torch.equal(model(x), plain(x))


def test_accuracy_is_what_class_ids_cost(x: Tensor) -> None:
    model = network()
    y = model(x).argmax(1)
    pruned = model.prune(x, y, edge_threshold=0.5)
    right = (pruned.network(x).argmax(1) == y).double().mean()
    assert (pruned.measure, pruned.before) == ("accuracy", 1.0)
    assert pruned.after == pytest.approx(float(right))
    assert str(pruned).startswith("accuracy 1 -> ")


def test_what_cannot_be_pruned_is_refused(x: Tensor) -> None:
    model, y = network(), torch.zeros(50, dtype=torch.long)
    with pytest.raises(ValueError, match="edge_threshold is a share from 0 to 1"):
        prune(model, x, y, edge_threshold=2.0)
    with pytest.raises(ValueError, match="by must be one of attribution, l1"):
        prune(model, x, y, by="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected y of shape \[50, 2\], got \[50\]"):
        prune(model, x, y.double())
    with pytest.raises(ValueError, match="two samples or more, got 1"):
        edge_scores(model, x[:1])
    with torch.no_grad():
        model.layers[1].coefficients.zero_()
        model.layers[1].base_weight.zero_()
    with pytest.raises(ValueError, match="no node of hidden layer 1 matters"):
        prune(model, x, y)
    model.remove_head()
    with pytest.raises(ValueError, match="prune a network with a single head"):
        prune(model, x, y)
