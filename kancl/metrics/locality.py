"""Why something was forgotten: occupancy, overlap, drift, conflict, inference.

Functions on tensors of one layer: ``bases`` are ``(n_samples, in_features, n_basis)``,
as ``KANLinear.b_splines`` gives them, coefficients ``(in_features, n_basis,
out_features)``, as ``KANLinear.scaled_coefficients``. A linear layer is the case
``n_basis = 1``, its inputs being the bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models.inspect import layer_bases

AT_ONCE = 500  # samples; bounds the memory of their bases
VISITED = 1e-3
"""A coefficient counts as visited if some sample gave its basis more than this."""


@dataclass(frozen=True)
class Occupancy:
    """How much an experience's samples used each coefficient of a layer.

    Args:
        mean: ``o_pg = mean |B_g(x_p)|``, ``(in_features, n_basis)``; without the bars
            wherever no basis is negative (all but anchored or extrapolated ones).
        largest: ``max |B_g(x_p)|``, of the same shape.
    """

    mean: Tensor
    largest: Tensor
    n_samples: int

    @classmethod
    def of(cls, bases: Tensor) -> "Occupancy":
        """Raises: ValueError for another shape than that of bases, or no sample."""
        if bases.dim() != 3 or len(bases) == 0:
            raise ValueError(
                "expected bases of one sample or more as (n_samples, in_features, "
                f"n_basis), got {tuple(bases.shape)}"
            )
        size = bases.abs()
        return cls(size.mean(0, dtype=torch.float64), size.amax(0), len(bases))

    def __add__(self, other: "Occupancy") -> "Occupancy":
        """That of both sets of samples together."""
        n = self.n_samples + other.n_samples
        mean = (self.mean * self.n_samples + other.mean * other.n_samples) / n
        return Occupancy(mean, torch.maximum(self.largest, other.largest), n)

    def visited(self, threshold: float = VISITED) -> Tensor:
        """``V``: the coefficients that some sample touched, ``(in_features, n_basis)``."""
        return self.largest > threshold

    @property
    def off_grid_mass(self) -> Tensor:
        """``z_p = 1 - sum_g o_pg``: what splines that fade to 0 lose, ``(in_features,)``.

        Of bases that add up to 1 on their grid; anchored ones don't, and have
        ``KANLinear.off_grid_share``.
        """
        return 1 - self.mean.sum(-1)

    @property
    def effective_fraction(self) -> Tensor:
        """``exp(-sum_g o log o) / n_basis``, ``o`` normalised: 1 if all are used alike.

        Shape: ``(in_features,)``; 0 for a feature that was never on the grid.
        """
        share = _normalised(self.mean)
        spread = torch.special.entr(share).sum(-1).exp() / share.shape[-1]
        return torch.where(self.mean.sum(-1) > 0, spread, 0)


class Overlap(NamedTuple):
    """How far two experiences use the same coefficients; 0 if they share none.

    Args:
        jaccard: ``|V_s and V_t| / |V_s or V_t|``.
        coactivation: ``|V_s and V_t|`` of all coefficients: for identical experiences
            the share that they visit.
        bhattacharyya: ``mean_p sum_g sqrt(o_s o_t)``, each normalised per input, over
            the inputs that one of the two uses.
        exposure: ``mean_p sum_g o_s 1[g in V_t]``, normalised likewise, over the inputs
            that the old one uses: the share of its mass on coefficients that the new
            one touches. The one that is not symmetric.
        kernel_ratio: ``K_st / sqrt(K_ss K_tt)``, ``K_st = sum_pg o_s o_t``: the mean
            inner product of a sample of s with one of t, hence how much a step on t
            moves outputs on s; known before training.
    """

    jaccard: float
    coactivation: float
    bhattacharyya: float
    exposure: float
    kernel_ratio: float


def overlap(old: Occupancy, new: Occupancy, threshold: float = VISITED) -> Overlap:
    """The five views of how far ``new`` samples use what ``old`` ones used.

    Raises: ValueError if the layers differ in shape; UndefinedMetric if one of the two
        visited no coefficient at all.
    """
    if old.mean.shape != new.mean.shape:
        raise ValueError(
            "occupancies must be of the same layer, got shapes "
            f"{tuple(old.mean.shape)} and {tuple(new.mean.shape)}"
        )
    v_old, v_new = old.visited(threshold), new.visited(threshold)
    if not bool(v_old.any() and v_new.any()):
        raise UndefinedMetric(
            "an experience that visited no coefficient has no overlap"
        )
    both = (v_old & v_new).sum()
    share_old, share_new = _normalised(old.mean), _normalised(new.mean)
    uses_old, uses_new = v_old.any(-1), v_new.any(-1)
    roots = (share_old * share_new).sqrt().sum(-1)
    exposed = (share_old * v_new).sum(-1)
    kernel = (old.mean * new.mean).sum()
    own = (old.mean.square().sum() * new.mean.square().sum()).sqrt()
    return Overlap(
        jaccard=float(both / (v_old | v_new).sum()),
        coactivation=float(both / v_old.numel()),
        bhattacharyya=float(roots[uses_old | uses_new].mean()),
        exposure=float(exposed[uses_old].mean()),
        kernel_ratio=float(kernel / own),
    )


def overlap_matrix(
    occupancies: Sequence[Occupancy], view: str, threshold: float = VISITED
) -> Tensor:
    """One view of ``overlap`` for all pairs: row = old, column = new experience.

    Raises: ValueError for a view that ``Overlap`` does not have.
    """
    if view not in Overlap._fields:
        raise ValueError(f"view must be one of {Overlap._fields}, got {view!r}")
    rows = [
        [getattr(overlap(old, new, threshold), view) for new in occupancies]
        for old in occupancies
    ]
    return torch.tensor(rows, dtype=torch.float64)


def drift_per_knot(before: Tensor, after: Tensor) -> Tensor:
    """``|c_after - c_before|`` over the outputs, ``(in_features, n_basis)``."""
    return (after - before).norm(dim=-1)


def drift_bound(occupancy: Occupancy, before: Tensor, after: Tensor) -> Tensor:
    """``sum_pg o_pg |change of c_pgq|``: no output drifts more, on average.

    For one layer, ``E |change of f_q(x)|`` over the samples of the occupancy is at most
    this, whatever happened since; 0 exactly if nothing occupied has moved.

    Shape: coefficients as above -> ``(out_features,)``.
    """
    change = (after - before).abs().to(occupancy.mean.dtype)
    return torch.einsum("ig,igo->o", occupancy.mean, change)


def output_drift(before: Tensor, after: Tensor) -> Tensor:
    """Mean change of each output: ``(n_samples, out_features)`` -> ``(out_features,)``."""
    return (after - before).abs().mean(0, dtype=torch.float64)


def leak(visited: Tensor, before: Tensor, after: Tensor) -> float:
    """Largest move of a coefficient that nobody visited: 0 if training is local.

    Args:
        visited: by any sample since ``before``, ``(in_features, n_basis)``; take
            ``Occupancy.visited(threshold=0)``.
    """
    moved = (after - before).abs().masked_fill(visited.unsqueeze(-1), 0)
    return float(moved.max())


@torch.no_grad()
def leak_of_layer(layer: nn.Module, x: Tensor, before: Tensor, after: Tensor) -> float:
    """``leak`` of a layer that was fed ``x`` in between, all of it, and nothing else.

    Args:
        layer: with the grid that it had; its coefficients do not matter.
        before, after: as ``layer_weights`` gives them.
    """
    parts = [Occupancy.of(layer_bases(layer, part)) for part in x.split(AT_ONCE)]
    visited = torch.stack([part.visited(threshold=0) for part in parts]).any(0)
    return leak(visited, before, after)


def gradient_cosines(old: Tensor, new: Tensor) -> Tensor:
    """Cosines between gradients: ``(n, p)``, ``(m, p)`` -> ``(n, m)``; 0 for a zero one.

    A row is a batch's gradient of a layer's parameters, all of them end to end.
    """
    lengths = torch.outer(old.norm(dim=1), new.norm(dim=1))
    return (old @ new.T) / lengths.clamp(min=torch.finfo(old.dtype).tiny)


def conflict_rate(old: Tensor, new: Tensor) -> float:
    """Share of pairs of gradients that point against each other (cosine below 0)."""
    return float((gradient_cosines(old, new) < 0).double().mean())


class Inference(NamedTuple):
    """What class-incremental accuracy is made of: ``accuracy = experience * within``.

    Args:
        experience: how often the winning class is one of the right experience.
        within: of those, how often it is the right class.
        given_experience: accuracy if the experience were known.
    """

    accuracy: float
    experience: float
    within: float
    given_experience: float


def inference(
    outputs: Tensor, targets: Tensor, class_experience: Sequence[int] | Tensor
) -> Inference:
    """Split accuracy into finding the experience and finding the class within it.

    Args:
        class_experience: which experience each class belongs to.
    Shape: ``(n, n_classes)``, ``(n,)``, ``(n_classes,)``.
    Raises: UndefinedMetric without samples, or if no experience was ever right.
    """
    if len(outputs) == 0:
        raise UndefinedMetric("no samples, no accuracy")
    of_class = torch.as_tensor(class_experience, device=outputs.device)
    winner, right = outputs.argmax(1), of_class[targets]
    found = of_class[winner] == right
    if not bool(found.any()):
        raise UndefinedMetric("the right experience was never inferred")
    other = of_class.unsqueeze(0) != right.unsqueeze(1)  # (n, n_classes)
    known = outputs.masked_fill(other, float("-inf")).argmax(1)
    hits = winner == targets
    return Inference(
        accuracy=float(hits.double().mean()),
        experience=float(found.double().mean()),
        within=float(hits[found].double().mean()),
        given_experience=float((known == targets).double().mean()),
    )


def recency_bias(outputs: Tensor, new_classes: Sequence[int]) -> float:
    """How far, on old data, outputs for the newest classes lie above those for old ones.

    ``mean over old samples of (mean new logit - mean old logit)``; 0 is unbiased only
    if old classes compete on equal terms: on old data it should be well below 0.

    Args:
        outputs: for samples of old classes, of the classes seen so far ``(n, n_seen)``.
    Raises: UndefinedMetric if there is no old class.
    """
    new = torch.zeros(outputs.shape[1], dtype=torch.bool, device=outputs.device)
    new[list(new_classes)] = True
    if bool(new.all()) or not bool(new.any()):
        raise UndefinedMetric("recency bias compares new classes with old ones")
    gap = outputs[:, new].mean(1) - outputs[:, ~new].mean(1)
    return float(gap.double().mean())


def forecast_quality(forecast: Sequence[float], forgetting: Sequence[float]) -> float:
    """Spearman's rank correlation of a forecast (overlap) with what was forgotten.

    Over pairs of experiences and seeds. Near 0: the forecast is worth nothing.

    Raises: ValueError for unequal lengths; UndefinedMetric for fewer than three pairs,
        or if one side is constant.
    """
    if len(forecast) != len(forgetting):
        raise ValueError(
            f"expected a forecast for each of {len(forgetting)} pairs, got "
            f"{len(forecast)}"
        )
    if len(forecast) < 3:
        raise UndefinedMetric(f"a rank correlation needs 3 pairs, got {len(forecast)}")
    if len(set(forecast)) == 1 or len(set(forgetting)) == 1:
        raise UndefinedMetric("a constant has no rank correlation")
    return float(spearmanr(forecast, forgetting).statistic)


def _normalised(mean: Tensor) -> Tensor:
    smallest = torch.finfo(mean.dtype).tiny
    return mean / mean.sum(-1, keepdim=True).clamp(min=smallest)
