"""Sums over samples of powers of per-sample gradients, mostly without a loop over them.

A layer ``y = phi(x) W^T`` without weight sharing has the per-sample gradient ``delta_n
phi_n^T``, so ``sum_n |g_n|^p = (|delta|^p)^T (|phi|^p)``: one matrix product. Summing
over several objectives only changes the first factor. The layers known here use that;
parameters of any other module are worked out sample by sample: exact, and slow.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from kancl.models import KANLinear
from kancl.models.inspect import ROWS, eval_mode, rows_by_task, trainable

Objectives = Callable[[Tensor, Tensor], Iterable[Tensor]]
"""From outputs (batch, n_outputs) and targets (batch,) to scalars, each (batch,)."""

CACHED = 2**20  # elements of a temporary tensor


def gradient_moments(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    task_labels: Tensor,
    objectives: Objectives,
    *,
    power: int,
) -> dict[str, Tensor]:
    """Sum ``|d objective / d parameter|^power`` over samples and objectives.

    The model is in evaluation mode meanwhile and stays as it was.

    Args:
        targets: handed to ``objectives`` along with the outputs.
        power: 2 for Fisher information, 1 for absolute sensitivities.
    Shape: x, targets and task_labels have samples first.
    Returns: by name, for every trainable parameter.
    """
    sums = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    with eval_mode(model):
        for task, all_rows in rows_by_task(task_labels):

            def scalars(rows: Tensor) -> Iterable[Tensor]:
                outputs = avalanche_forward(model, x[rows], task)
                return objectives(outputs, targets[rows])

            all_rows = all_rows.to(x.device)
            layers, others = _divide(model, x[all_rows[:2]], task)
            for rows in all_rows.split(ROWS):
                _add_by_layer(sums, model, layers, scalars, rows, power)
                if others:
                    parameters = {name: trainable(model)[name] for name in others}
                    _add_by_sample(sums, parameters, scalars, rows, power)
    return sums


def linear_moments(
    layer: nn.Linear, x: Tensor, delta: Tensor, power: int
) -> dict[str, Tensor]:
    """Return moments of parameters; ``delta`` are those of the outputs' gradients.

    Shape: x ``(batch, in_features)``, delta ``(batch, out_features)``.
    """
    moments = {"weight": delta.T @ x.abs() ** power}
    if layer.bias is not None:
        moments["bias"] = delta.sum(0)
    return moments


def kan_moments(
    layer: KANLinear, x: Tensor, delta: Tensor, power: int
) -> dict[str, Tensor]:
    """Moments of base weights, spline coefficients and factors per edge."""
    moments = {}
    if layer.base_weight is not None:
        moments["base_weight"] = delta.T @ layer.base_activation(x).abs() ** power
        if layer.edge_mask is not None:
            moments["base_weight"] *= layer.edge_mask.T.to(x.dtype)
    basis = layer.b_splines(x).to(x.dtype)  # (batch, in_features, n_basis)
    powers = (basis.abs() ** power).flatten(1)
    coefficients = (powers.T @ delta).view_as(layer.coefficients)
    if (factor := layer.edge_factor) is not None:
        coefficients = coefficients * (factor.abs() ** power).unsqueeze(1)
    moments["coefficients"] = coefficients
    if layer.edge_scale is None:
        return moments
    # A few inputs at a time, so that their splines stay in the cache.
    few = max(1, CACHED // delta.numel())
    scales = []
    for b, w in zip(basis.transpose(0, 1).split(few), layer.coefficients.split(few)):
        spline = b @ w  # (few, batch, out_features)
        scales.append((spline.abs_().pow_(power).mul_(delta)).sum(1))
    moments["edge_scale"] = torch.cat(scales)
    if layer.edge_mask is not None:
        moments["edge_scale"] *= layer.edge_mask.to(x.dtype)
    return moments


def layer_norm_moments(
    layer: nn.LayerNorm, x: Tensor, delta: Tensor, power: int
) -> dict[str, Tensor]:
    """Moments of gains and shifts; x and delta are both ``(batch, features)``."""
    moments = {}
    if layer.weight is not None:
        normed = nn.functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        moments["weight"] = (delta * normed.abs() ** power).sum(0)
    if layer.bias is not None:
        moments["bias"] = delta.sum(0)
    return moments


MOMENTS: dict[type[nn.Module], Callable[..., dict[str, Tensor]]] = {
    nn.Linear: linear_moments,
    nn.LayerNorm: layer_norm_moments,
    KANLinear: kan_moments,
}


def _divide(
    model: nn.Module, x: Tensor, task: int
) -> tuple[list[nn.Module], list[str]]:
    """Find the layers whose closed form holds here, and the parameters left over.

    It holds for a known layer that is called once, on (batch, features), and shares no
    parameter.
    """
    owners = Counter(
        id(p) for module in model.modules() for p in module._parameters.values()
    )
    known = [
        module
        for module in model.modules()
        if type(module) in MOMENTS
        and all(owners[id(p)] == 1 for p in module.parameters(recurse=False))
    ]
    with torch.enable_grad(), _recorded(known) as calls:
        outputs = avalanche_forward(model, x, task)
    n_calls = Counter(id(module) for module, _, _ in calls)
    flat = {id(module) for module, inputs, _ in calls if inputs.ndim == 2}
    layers = [m for m in known if n_calls[id(m)] == 1 and id(m) in flat]
    covered = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    left = {n: p for n, p in trainable(model).items() if id(p) not in covered}
    if not left:
        return layers, []
    used = torch.autograd.grad(outputs.sum(), list(left.values()), allow_unused=True)
    return layers, [name for name, g in zip(left, used) if g is not None]


def _add_by_layer(
    sums: dict[str, Tensor],
    model: nn.Module,
    layers: list[nn.Module],
    scalars: Callable[[Tensor], Iterable[Tensor]],
    rows: Tensor,
    power: int,
) -> None:
    names = {id(p): name for name, p in trainable(model).items()}
    with torch.enable_grad(), _recorded(layers) as calls:
        objectives = scalars(rows)
        calls = [call for call in calls if call[2].requires_grad]
        deltas = [torch.zeros_like(output) for _, _, output in calls]
        for objective in objectives:
            gradients = torch.autograd.grad(
                objective.sum(), [output for _, _, output in calls], retain_graph=True
            )
            for delta, gradient in zip(deltas, gradients):
                delta += gradient.abs() ** power
    with torch.no_grad():
        for (layer, inputs, _), delta in zip(calls, deltas):
            moments = MOMENTS[type(layer)](layer, inputs, delta, power)
            assert moments.keys() == dict(layer.named_parameters(recurse=False)).keys()
            for local, moment in moments.items():
                name = names.get(id(layer._parameters[local]))
                if name is not None:  # frozen parameters have no importance
                    sums[name] += moment


def _add_by_sample(
    sums: dict[str, Tensor],
    parameters: dict[str, nn.Parameter],
    scalars: Callable[[Tensor], Iterable[Tensor]],
    rows: Tensor,
    power: int,
) -> None:
    moments = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows.split(1):
        with torch.enable_grad():
            objectives = list(scalars(row))
        for objective in objectives:
            gradients = torch.autograd.grad(
                objective.sum(),
                list(parameters.values()),
                retain_graph=True,
                allow_unused=True,
            )
            for name, gradient in zip(parameters, gradients):
                if gradient is not None:
                    moments[name] += gradient.abs() ** power
    for name, moment in moments.items():
        sums[name] += moment


@contextmanager
def _recorded(
    layers: list[nn.Module],
) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Record (layer, input, output) of every call."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        calls.append((layer, args[0].detach(), output))
        return output.clone()  # a head may write its mask into what it gets

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(record))
        yield calls
