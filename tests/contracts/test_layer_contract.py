"""What a spline layer promises, for every degree, policy, branch and kind of grid."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from kancl import KANLinear

LAYERS = {
    **{f"degree{d}": dict(spline_order=d) for d in range(1, 6)},
    "clamp": dict(outside="clamp"),
    "linear": dict(outside="linear"),
    "no_base": dict(base=False),
    "no_scaler": dict(enable_standalone_scale_spline=False),
    "one_cell": dict(grid_size=1),
    "uneven": {},  # after update_grid: the reference path
    "per_input": dict(grid_range=torch.tensor([[-1.0, 1], [0, 2], [-3, -1]])),
    "anchored": dict(anchor=torch.tensor([0.1, -1, 5])),
    "warped": dict(anchor=0.1, outside="linear"),
    "tanh": dict(base_activation=nn.Tanh, grid_range=(0, 3), grid_size=64),
}
TRACED = {"clamp", "no_base", "no_scaler", "uneven", "warped"}
"""Layers that stand for all, by default, where torch follows each line of the code."""


def make(name: str) -> KANLinear:
    options = {"grid_size": 4, **LAYERS[name]}
    layer = KANLinear(3, 2, **options)  # type: ignore[arg-type]
    nn.init.normal_(layer.coefficients)
    if name == "uneven":
        layer.update_grid(torch.rand(200, 3) ** 2)
        assert not layer.uniform
    if name == "warped":
        layer.warp_grid(torch.rand(200, 3) ** 2)
        assert layer.warp is not None and layer.uniform
    return layer


def twin(layer: KANLinear, grid_size: int) -> KANLinear:
    """A fresh layer of the same kind."""
    return KANLinear(
        3,
        2,
        grid_size,
        layer.spline_order,
        enable_standalone_scale_spline=layer.edge_scale is not None,
        base_activation=type(layer.base_activation),
        base=layer.base_weight is not None,
        outside=layer.outside,
        anchor=None if layer.anchor is None else 0.0,
    )


@pytest.fixture(params=sorted(LAYERS))
def layer(request: pytest.FixtureRequest) -> KANLinear:
    return make(request.param)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 3) * 1.5


def summed_by_hand(layer: KANLinear, x: Tensor) -> Tensor:
    """One edge after the other."""
    basis = layer.b_splines(x)
    y = torch.zeros(len(x), layer.out_features, dtype=x.dtype)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            scale = 1 if layer.edge_scale is None else layer.edge_scale[i, o]
            y[:, o] += scale * (basis[:, i] @ layer.coefficients[i, :, o])
            if layer.base_weight is not None:
                y[:, o] += layer.base_weight[o, i] * layer.base_activation(x[:, i])
    return y


def test_output_is_the_sum_over_edges(layer: KANLinear, x: Tensor) -> None:
    torch.testing.assert_close(layer(x), summed_by_hand(layer, x))


def test_any_leading_dimensions(layer: KANLinear, x: Tensor) -> None:
    y = layer(x)
    torch.testing.assert_close(layer(x[0]), y[0])
    torch.testing.assert_close(layer(x[:6].view(2, 3, 3)), y[:6].view(2, 3, 2))
    assert layer(x[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    "options",
    [{"fast_mode": True, "rtol": 1e-4}, pytest.param({}, marks=pytest.mark.proof)],
)
def test_gradients(layer: KANLinear, x: Tensor, options: dict[str, Any]) -> None:
    layer.double()
    names = [name for name, _ in layer.named_parameters()]
    inputs = [x[:4].double(), *(p.detach().clone() for p in layer.parameters())]
    for tensor in inputs:
        tensor.requires_grad_()

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters)), (x,))

    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs, **options)


def test_per_sample_gradients(layer: KANLinear, x: Tensor) -> None:
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(layer, parameters, (row.unsqueeze(0),)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    by_input = vmap(grad(loss, argnums=1), in_dims=(None, 0))(parameters, x)
    for row in range(len(x)):
        single = x[row : row + 1].clone().requires_grad_()
        layer.zero_grad()
        layer(single).square().sum().backward()
        torch.testing.assert_close(by_input[row], single.grad[0])
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(found[name][row], parameter.grad)


def test_copies_give_the_same_outputs(layer: KANLinear, x: Tensor) -> None:
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)


def test_state_dict_is_complete(layer: KANLinear, x: Tensor, request: object) -> None:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = twin(layer, layer.grid_size)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), layer(x))
    assert fresh.uniform == layer.uniform


def test_state_dict_of_another_grid_size(layer: KANLinear, x: Tensor) -> None:
    other = twin(layer, layer.grid_size + 6)
    parameter = other.coefficients
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert other.grid_size == layer.grid_size
    assert other.coefficients is parameter  # optimizers hold the same tensor


traced = pytest.mark.parametrize(
    "layer",
    [
        pytest.param(name, marks=[pytest.mark.proof] * (name not in TRACED))
        for name in sorted(LAYERS)
    ],
    indirect=True,
)


@traced
def test_compiles_to_one_graph(layer: KANLinear, x: Tensor) -> None:
    torch.compiler.reset()  # or it counts recompilations over all layers
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(inputs[0]), compiled(inputs[1])]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


@traced
def test_exports_with_a_dynamic_batch(layer: KANLinear, x: Tensor) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(layer, (x,), dynamic_shapes=batch)
    more = torch.randn(29, 3)
    torch.testing.assert_close(program.module()(more), layer(more))


def test_nan_propagates(layer: KANLinear, x: Tensor) -> None:
    x[2, 1] = float("nan")
    y = layer(x)
    assert y[2].isnan().all()
    assert not y[[0, 1, 3, 4, 5, 6]].isnan().any()


def test_half_precision(layer: KANLinear, x: Tensor) -> None:
    x = x.clamp(-1, 1).bfloat16()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.bfloat16())  # the same weights on both sides
    expected = layer(x.float())
    low = copy.deepcopy(layer).bfloat16()
    assert low.grid.dtype == torch.float32
    y = low(x)
    assert y.dtype == torch.bfloat16
    size = expected.abs().max()
    assert (y.float() - expected).abs().max() < 0.02 * size
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.float())
    assert (y.float() - expected).abs().max() < 0.02 * size


def test_edge_functions_add_up_to_the_output(layer: KANLinear) -> None:
    x, y = layer.edge_functions(11)
    assert x.shape == (3, 11) and y.shape == (2, 3, 11)
    torch.testing.assert_close(layer(x.T), y.sum(1).T)


def test_wrong_width_is_refused(layer: KANLinear) -> None:
    with pytest.raises(ValueError, match="expected 3 input features .* 4"):
        layer(torch.zeros(5, 4))
