"""What people do with a layer, by every implementation: the values of ``reference``."""

import copy
import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    stack_module_state,
    vmap,
)
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.tensorboard import SummaryWriter

from kancl import KAN, KANLinear
from kancl.models.cost import forward_flops
from kancl.models.spline_activation import SplineActivation

CASES: dict[str, Callable[[str, Path], None]] = {}
CPU = ["reference", "dense", "sparse"]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def case(function: Callable[[str, Path], None]) -> Callable[[str, Path], None]:
    CASES[function.__name__] = function
    return function


class Kind:
    """Of the networks that the cases take: options, and what was done to the layers."""

    options: dict[str, Any] = {}

    @staticmethod
    def change(layer: KANLinear) -> None: ...


def network(implementation: str, dtype: torch.dtype = torch.float32) -> KAN:
    model = KAN([8, 16, 4], implementation=implementation, **Kind.options).to(dtype)
    for layer in model.layers:
        nn.init.normal_(layer.coefficients, 0, 0.3)
        Kind.change(layer)
    return model


def warp(layer: KANLinear) -> None:
    layer.warp_grid(torch.randn(500, layer.in_features).clamp(-1, 1).to(layer.grid))


def prune(layer: KANLinear) -> None:
    layer.edge_mask = (torch.rand(layer.in_features, layer.out_features) < 0.7).float()


KINDS: dict[str, tuple[dict[str, Any], Callable[[KANLinear], None] | None]] = {
    "warped": ({}, warp),
    "pruned": ({}, prune),
    "anchored": ({"anchor": 0.1, "base": False}, None),
    "clamp": ({"outside": "clamp", "enable_standalone_scale_spline": False}, None),
    "linear": ({"outside": "linear"}, None),
}


def truth(model: nn.Module) -> Any:
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, KANLinear):
            layer.implementation = "reference"
    return model


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def energy(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: model(x[None]).square().sum()


def slow_hessian(model: nn.Module, x: Tensor) -> Tensor:
    """By differentiating twice backwards, one row at a time."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(model)(x), x, create_graph=True)
    rows = [torch.autograd.grad(s, x, retain_graph=True)[0] for s in slope]
    return torch.stack(rows)


@case
def forward(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(7, 8)
    close(model(x), truth(model)(x))
    close(model(x.reshape(7, 1, 8)), truth(model)(x).unsqueeze(1))


@case
def double_backward(implementation: str, path: Path) -> None:
    model = network(implementation, torch.double)
    x = torch.randn(3, 8, dtype=torch.double, requires_grad=True)

    def second(model: nn.Module) -> tuple[Tensor, ...]:
        y = model(x).square().sum()
        slope = torch.autograd.grad(y, x, create_graph=True)[0].square().sum()
        return torch.autograd.grad(slope, [x, *model.parameters()])

    close(second(model), second(truth(model)))


@case
def forward_mode(implementation: str, path: Path) -> None:
    model, x, v = network(implementation), torch.randn(5, 8), torch.randn(5, 8)
    expected = jacrev(truth(model))(x).flatten(2) @ v.flatten()
    close(jvp(model, (x,), (v,))[1], expected)
    with forward_ad.dual_level():
        dual = model(forward_ad.make_dual(x, v))
        close(forward_ad.unpack_dual(dual).tangent, expected)
    close(jacfwd(model)(x), jacrev(truth(model))(x))


@case
def forward_mode_by_parameters(implementation: str, path: Path) -> None:
    model, x = network(implementation, torch.double), torch.randn(5, 8).double()
    point = {name: p.detach() for name, p in model.named_parameters()}
    way = {name: torch.randn_like(p) for name, p in point.items()}
    found = jvp(lambda p: functional_call(model, p, (x,)), (point,), (way,))[1]
    slow = truth(model)
    jacobian = jacrev(lambda p: functional_call(slow, p, (x,)))(point)
    close(found, sum(jacobian[n].flatten(2) @ way[n].flatten() for n in point))


@case
def hessians(implementation: str, path: Path) -> None:
    for layers in ([8, 16, 4], [2, 5, 1]):
        model = KAN(layers, implementation=implementation).double()
        x, v = torch.randn(2, layers[0]).double()
        expected = slow_hessian(truth(model), x)
        assert bool(expected.any())
        close(slow_hessian(model, x), expected)
        close(hessian(energy(model))(x), expected)
        close(jacfwd(jacfwd(energy(model)))(x), expected)
        close(torch.autograd.functional.hessian(energy(model), x), expected)
        close(jvp(grad(energy(model)), (x,), (v,))[1], expected @ v)


@case
def vmap_over_data(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(6, 5, 8)
    close(vmap(model)(x), truth(model)(x))
    across = vmap(model, in_dims=2, out_dims=1)(x.movedim(0, 2))
    close(across, truth(model)(x).movedim(0, 1))


@case
def vmap_over_models(implementation: str, path: Path) -> None:
    models, x = [network(implementation) for _ in range(10)], torch.randn(5, 8)
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]

    def energy(parameters: Any, buffers: Any) -> tuple[Tensor, Tensor]:
        y = functional_call(models[0], (parameters, buffers), (x,))
        return y.square().sum(), y

    gradients, y = vmap(grad(energy, has_aux=True))(parameters, buffers)
    close(y, torch.stack([truth(model)(x) for model in models]))
    for number, model in enumerate(map(truth, models)):
        model(x).square().sum().backward()
        for name, parameter in model.named_parameters():
            close(gradients[name][number], parameter.grad, 1e-4)


@case
def functional_call_with_a_moved_grid(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(7, 8)
    model(x)
    moved = truth(model)
    for layer in moved.layers:
        layer.grid.add_(0.1)
    close(functional_call(model, dict(moved.state_dict()), (x,)), moved(x))


@case
def average(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(5, 8)
    averaged = AveragedModel(model, use_buffers=True)
    averaged.update_parameters(model)
    averaged(x)
    for layer in model.layers:
        layer.grid.add_(0.1)
    averaged.update_parameters(model)
    close(averaged(x), truth(averaged.module)(x))
    close(averaged.module.layers[0].grid, model.layers[0].grid - 0.05)


@case
def jit_trace(implementation: str, path: Path) -> None:
    model, x = network(implementation).eval(), torch.randn(9, 8)
    traced = torch.jit.trace(model, torch.randn(4, 8))
    close(traced(x), truth(model)(x))


@case
def add_graph(implementation: str, path: Path) -> None:
    with SummaryWriter(path) as writer:
        writer.add_graph(network(implementation), torch.randn(2, 8))
    (file,) = path.iterdir()
    assert b"layers" in file.read_bytes()


def in_onnxruntime(file: Path, x: Tensor) -> Tensor:
    session = pytest.importorskip("onnxruntime").InferenceSession(file)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.cpu().numpy()})
    return torch.from_numpy(found).to(x.device)


@case
def onnx_by_export(implementation: str, path: Path) -> None:
    pytest.importorskip("onnxscript")
    model, x = network(implementation).eval(), torch.randn(9, 8)
    batch = ({0: torch.export.Dim("batch")},)
    options: dict[str, Any] = dict(dynamo=True, dynamic_shapes=batch, verbose=False)
    program = torch.onnx.export(model, (torch.randn(4, 8),), **options)
    assert program is not None
    program.save(path / "model.onnx")
    close(in_onnxruntime(path / "model.onnx", x), truth(model)(x), 1e-6)


@case
def onnx_by_trace(implementation: str, path: Path) -> None:
    pytest.importorskip("onnx")
    model, x, file = network(implementation).eval(), torch.randn(9, 8), path / "m.onnx"
    names: dict[str, Any] = dict(input_names=["x"], dynamic_axes={"x": {0: "batch"}})
    torch.onnx.export(model, (torch.randn(4, 8),), str(file), dynamo=False, **names)
    close(in_onnxruntime(file, x), truth(model)(x), 1e-6)


@case
def export(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(9, 8)
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (torch.randn(4, 8),), dynamic_shapes=batch)
    close(program.module()(x), truth(model)(x))


@case
def compiled_and_moved(implementation: str, path: Path) -> None:
    torch.compiler.reset()
    layer = KANLinear(8, 4, outside="linear", implementation=implementation)
    x, compiled = torch.randn(5, 8), torch.compile(layer, backend="eager")
    close(compiled(x), truth(layer)(x))
    layer.grid[:, 5] += 0.1  # behind the graph's back
    with pytest.raises(RuntimeError, match="the knots were moved after the graph"):
        compiled(x)
    if implementation != "reference":
        for moved in (layer, compiled):
            with pytest.raises(ValueError, match="needs a uniform grid"):
                moved(x)
        layer.implementation = "auto"
    layer(x)
    close(compiled(x), truth(layer)(x))


@case
def written_past_the_counter(implementation: str, path: Path) -> None:
    layer, x = KANLinear(8, 4, implementation=implementation), torch.rand(5, 8)
    layer(x)
    layer.grid.data.add_(0.1)
    close(layer(x), truth(layer)(x))
    if not x.is_cuda:
        layer.grid.numpy()[:] += 0.1
        close(layer(x), truth(layer)(x))


@case
def no_memory_at_first(implementation: str, path: Path) -> None:
    with torch.device("meta"):
        empty = KANLinear(8, 4, grid_range=(0, 2), anchor=0.5)
        model = KAN([8, 16, 4], implementation=implementation)
        assert model(torch.empty(3, 8)).shape == (3, 4)
    like, x = network(implementation), torch.rand(30, 8)
    empty = empty.to_empty(device=x.device)
    empty.reset_parameters()
    fresh = KANLinear(8, 4, grid_range=(0, 2), anchor=0.5)
    close([empty.grid, empty.anchor], [fresh.grid, fresh.anchor])
    assert bool(empty(x).isfinite().all())
    model = model.to_empty(device=x.device)
    model.load_state_dict(like.state_dict())
    close(model(x), like(x))


@case
def empty_batch(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.rand(0, 8, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 8)
    assert not any(bool(p.grad.any()) for p in model.parameters())


@case
def freed_storage(implementation: str, path: Path) -> None:
    layer, x = KANLinear(8, 4, implementation=implementation), torch.randn(3, 8)
    y = layer(x)
    for tensor in (layer.coefficients, layer.edge_scale, layer.grid):
        storage, kept = tensor.data.untyped_storage(), tensor.detach().clone()
        size = storage.size()
        storage.resize_(0)
        storage.resize_(size)
        tensor.data.copy_(kept)
    close(layer(x), y)
    layer(x).sum().backward()


@case
def flops(implementation: str, path: Path) -> None:
    for grid_size in (3, 5, 20):
        for options in ({}, dict(base=False, anchor=0.0), dict(outside="linear")):
            model: nn.Module = KAN(
                [8, 16, 4], grid_size, implementation=implementation, **options
            )
            counts(model)
    counts(nn.Sequential(nn.Linear(8, 4), SplineActivation(4)))
    moved = KANLinear(8, 4)
    moved.update_grid(torch.rand(99, 8) ** 2)
    counts(moved)


def counts(model: nn.Module) -> None:
    x = torch.randn(10, 8)
    with FlopCounterMode(display=False) as counter:
        y = model(x)
    assert counter.get_total_flops() == 10 * forward_flops(model)
    close(y, model(x))
    with FlopCounterMode(display=False) as counter:
        model(x).square().sum().backward()
    assert counter.get_total_flops() > 20 * forward_flops(model) - 20000
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model(x).square().sum().backward()
    close(found, [p.grad for p in model.parameters() if p.grad is not None], 1e-4)


@case
def dtypes(implementation: str, path: Path) -> None:
    for base in (True, False):
        layer = KANLinear(8, 4, base=base, implementation=implementation)
        x, linear = torch.rand(3, 8), nn.Linear(8, 4)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            if dtype != torch.float32:
                with pytest.raises(ValueError, match="inputs are .* and weights"):
                    layer(x.to(dtype))
            assert copy.deepcopy(layer).to(dtype)(x.to(dtype)).dtype == dtype
            with torch.autocast(x.device.type, torch.bfloat16):
                assert base is False or layer(x).dtype == linear(x).dtype


@case
def narrow_cells_far_from_0(implementation: str, path: Path) -> None:
    options: dict[str, Any] = dict(grid_range=(5, 5.001), base=False)
    layer = KANLinear(2, 2, 256, 1, implementation=implementation, **options)
    x = 5 + 0.001 * torch.rand(50, 2)
    exact = copy.deepcopy(layer).double()
    exact.implementation = "dense"
    close(layer(x).double(), exact(x.double()))


@case
def modes_of_training(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(5, 8, requires_grad=True)
    with torch.inference_mode():
        y = model(x)
    close(y.clone(), truth(model)(x).detach())
    expected = torch.autograd.grad(truth(model)(x).sum(), x)
    close(torch.autograd.grad(model(x).sum(), x), expected)
    y = checkpoint(model, x, use_reentrant=False)
    close(torch.autograd.grad(y.sum(), x), expected)
    with torch.autocast(x.device.type, torch.bfloat16):
        close(model(x).float(), truth(model)(x.float()).float(), 0.05)


@case
def saved_and_loaded(implementation: str, path: Path) -> None:
    model, x = network(implementation), torch.randn(5, 8)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    close(loaded(x), truth(model)(x))
    assert math.prod(loaded.layers[0].grid.shape) == 8 * 12


ONCE = {
    "compiled_and_moved",
    "dtypes",
    "flops",
    "freed_storage",
    "hessians",
    "narrow_cells_far_from_0",
    "no_memory_at_first",
    "written_past_the_counter",
}
"""They make layers of their own, alike for every kind of network."""
LONG = {name for name in CASES if "onnx" in name or "export" in name}
SEVERAL_SECONDS = {
    *itertools.product(["onnx_by_export"], ["dense", "sparse"]),
    *itertools.product(["compiled_and_moved"], ["reference", "dense"]),
}
"""Another implementation stands for them by default."""
PAIRS = [
    pytest.param(*pair, marks=[pytest.mark.proof] * (pair in SEVERAL_SECONDS))
    for pair in itertools.product(CASES, CPU)
]
PAIRS += [pytest.param(n, "triton", marks=[pytest.mark.cuda, NO_GPU]) for n in CASES]
OF_KINDS = [
    pytest.param(name, marks=[pytest.mark.proof] * (name in LONG))
    for name in CASES
    if name not in ONCE
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("implementation", CPU)
@pytest.mark.parametrize(
    "kind",
    [
        "warped",
        "pruned",
        *(pytest.param(k, marks=pytest.mark.proof) for k in list(KINDS)[2:]),
    ],
)
@pytest.mark.parametrize("name", OF_KINDS)
def test_same_values_for_every_kind(
    name: str,
    kind: str,
    implementation: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, change = KINDS[kind]
    monkeypatch.setattr(Kind, "options", options)
    if change is not None:
        monkeypatch.setattr(Kind, "change", staticmethod(change))
    torch.manual_seed(0)
    CASES[name](implementation, tmp_path)


@pytest.mark.filterwarnings("ignore")  # tracers and exporters warn of themselves
@pytest.mark.parametrize(("name", "implementation"), PAIRS)
def test_same_values_as_reference(
    name: str, implementation: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    with torch.device("cuda" if implementation == "triton" else "cpu"):
        CASES[name](implementation, tmp_path)
