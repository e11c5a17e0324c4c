"""What training on new samples does to outputs on old ones, told from gradients alone."""

# Linear in the weights around where they are (neural tangent kernel; Jacot et al. 2018,
# arXiv:1806.07572), layer by layer. A layer is z = features(x) @ weights; slopes are
# df/dz, (n, n_outputs, out_features).

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from kancl.models.inspect import ROWS, eval_mode, rows_by_task
from kancl.models.layer_features import has_features, layer_features

N_STEPS, ENOUGH = 150, 0.05
"""Steps of the flow, and the mean loss on the new samples that ends it before."""
MOST_OUTPUTS = 6_000
"""Outputs of all new samples together: the kernel has the square of that."""
N_POWER = 30

Samples = tuple[Tensor, Tensor, Tensor]
"""Inputs ``(n, ...)``, targets and task labels ``(n,)``, all of one task."""
Shrink = Callable[[str, Tensor], Tensor]
"""What a strategy leaves of a step of the named layer, ``(n_features, out_features)``."""


@dataclass(frozen=True)
class Linearised:
    """A network around its weights, at samples; by the name of each trained layer."""

    outputs: Tensor  # (n, n_outputs)
    features: dict[str, Tensor]  # (n, n_features)
    slopes: dict[str, Tensor]  # (n, n_outputs, out_features)


def linearised(model: nn.Module, x: Tensor, task_labels: Tensor) -> Linearised:
    """Raises: ValueError for samples of several tasks, or a layer without features."""
    task, *more = (task for task, _ in rows_by_task(task_labels))
    if more:
        raise ValueError(
            f"samples of one task were expected, got those of {task, *more}"
        )
    inputs: dict[str, Tensor] = {}
    summed: dict[str, Tensor] = {}  # what enters, and leaves, each layer

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(layer: nn.Module, entered: tuple[Tensor, ...], z: Tensor) -> None:
            inputs[name], summed[name] = entered[0].detach(), z

        return keep

    layers = {
        name: layer
        for name, layer in model.named_modules()
        if has_features(layer) and any(p.requires_grad for p in layer.parameters())
    }
    hooks = [layer.register_forward_hook(hook(n)) for n, layer in layers.items()]
    try:
        with eval_mode(model), torch.enable_grad():
            outputs = avalanche_forward(model, x, task)
            slopes = [
                torch.autograd.grad(
                    outputs[:, c].sum(),
                    list(summed.values()),
                    retain_graph=True,
                    materialize_grads=True,
                )
                for c in range(outputs.shape[1])
            ]
    finally:
        for each in hooks:
            each.remove()
    with torch.no_grad():
        features = {n: layer_features(layers[n], part) for n, part in inputs.items()}
    by_layer = dict(zip(summed, (torch.stack(each, 1) for each in zip(*slopes))))
    return Linearised(outputs.detach(), features, by_layer)


@torch.no_grad()
def kernel(at: Linearised, shrink: Shrink) -> Tensor:
    """``K[(x, c), (x', c')] = sum_l phi_l(x)^T P_l phi_l(x') J_l[x, c] . J_l[x', c']``.

    Returns: ``(n * n_outputs, n * n_outputs)``.
    """
    n, n_outputs = at.outputs.shape
    total = at.outputs.new_zeros(n, n_outputs, n, n_outputs)
    for name, features in at.features.items():
        alike = features @ shrink(name, features.T.contiguous())
        slopes = at.slopes[name].flatten(0, 1)
        total += (slopes @ slopes.T).view_as(total) * alike[:, None, :, None]
    return total.flatten(0, 1).flatten(1, 2)


@torch.no_grad()
def flow(
    outputs: Tensor, targets: Tensor, kernel: Tensor, lr: float
) -> tuple[Tensor, int]:
    """Gradient descent on the mean cross-entropy of outputs that move by a kernel.

    ``alpha <- alpha + h (Y - softmax(f + K alpha)) / n``, h = min(lr, n / lambda_max).

    Returns: alpha, ``(n, n_outputs)``, and how many steps were taken.
    """
    n = len(outputs)
    wanted = one_hot(targets, outputs.shape[1]).to(outputs)
    h = min(lr, n / max(_largest_eigenvalue(kernel), 1e-12))
    alpha = torch.zeros_like(outputs)
    for step in range(N_STEPS):
        now = outputs + (kernel @ alpha.flatten()).view_as(outputs)
        if cross_entropy(now, targets) < ENOUGH:
            return alpha, step
        alpha += h / n * (wanted - now.softmax(1))
    return alpha, N_STEPS


def _largest_eigenvalue(kernel: Tensor) -> float:
    """By power iteration."""
    vector = torch.ones(len(kernel), dtype=kernel.dtype, device=kernel.device)
    for _ in range(N_POWER):
        vector = kernel @ (vector / vector.norm())
    return float(vector.norm())


@torch.no_grad()
def weight_changes(
    model: nn.Module, new: Samples, lr: float, shrink: Shrink
) -> dict[str, Tensor]:
    """The change of each layer's weights that the flow on the new samples ends with.

    Of more than ``MOST_OUTPUTS`` outputs, samples at even distances are taken.
    """
    n_outputs = linearised(model, new[0][:1], new[2][:1]).outputs.shape[1]
    every = ceil(len(new[0]) * n_outputs / MOST_OUTPUTS)
    x, y, task_labels = (part[::every] for part in new)
    at = linearised(model, x, task_labels)
    alpha, _ = flow(at.outputs, y, kernel(at, shrink), lr)
    return {
        name: shrink(name, features.T @ torch.einsum("nc,nco->no", alpha, slopes))
        for (name, features), slopes in zip(at.features.items(), at.slopes.values())
    }


def foretold_outputs(
    model: nn.Module, old: Samples, changes: Mapping[str, Tensor], at_once: int = ROWS
) -> tuple[Tensor, Tensor]:
    """Outputs on old samples before and, to first order, after changes of the weights."""
    before, after = [], []
    for x, labels in zip(old[0].split(at_once), old[2].split(at_once)):
        at = linearised(model, x, labels)
        later = at.outputs.clone()
        for name, features in at.features.items():
            if name in changes:  # the head of another task does not move
                moved = features @ changes[name]
                later += torch.einsum("no,nco->nc", moved, at.slopes[name])
        before.append(at.outputs)
        after.append(later)
    return torch.cat(before), torch.cat(after)
