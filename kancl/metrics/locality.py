"""Why something was forgotten: occupancy, overlap, drift, conflict, inference, forecast."""

# Of one layer: bases (n_samples, in_features, n_basis), as KANLinear.b_splines gives them,
# coefficients (in_features, n_basis, out_features), as KANLinear.scaled_coefficients. A
# linear layer is the case n_basis = 1, its inputs being the bases.

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from scipy.stats import spearmanr
from torch import Tensor

from kancl.metrics.score_matrix import UndefinedMetric

AT_ONCE = 500  # samples; bounds the memory of their bases
VISITED = 1e-3  # what some sample has to give a basis for its coefficient to count


@dataclass(frozen=True)
class Occupancy:
    """How much an experience's samples used each coefficient, ``(in_features, n_basis)``."""

    mean: Tensor  # o_pg = mean |B_g(x_p)|; some bases can be negative
    largest: Tensor  # max |B_g(x_p)|
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
        """Return the occupancy of both sets of samples together."""
        n = self.n_samples + other.n_samples
        mean = (self.mean * self.n_samples + other.mean * other.n_samples) / n
        return Occupancy(mean, torch.maximum(self.largest, other.largest), n)

    def visited(self, threshold: float = VISITED) -> Tensor:
        """``V``: the coefficients that some sample touched."""
        return self.largest > threshold

    @property
    def off_grid_mass(self) -> Tensor:
        """``z_p = 1 - sum_g o_pg``, ``(in_features,)``, unless bases are anchored."""
        return 1 - self.mean.sum(-1)

    @property
    def share(self) -> Tensor:
        """``mean``, normalised per input."""
        smallest = torch.finfo(self.mean.dtype).tiny
        return self.mean / self.mean.sum(-1, keepdim=True).clamp(min=smallest)

    @property
    def effective_fraction(self) -> Tensor:
        """``exp(-sum_g o log o) / n_basis``, ``(in_features,)``, ``o`` normalised: 1 if
        all are used alike, 0 for a feature that was never on the grid.
        """
        share = self.share
        spread = torch.special.entr(share).sum(-1).exp() / share.shape[-1]
        return torch.where(self.mean.sum(-1) > 0, spread, 0)


@dataclass(frozen=True)
class Overlap:
    """How far two experiences use the same coefficients; 0 if they share none.

    ``V``: visited, ``o``: occupancy, normalised per input; means over the inputs in use.
    """

    jaccard: float  # |V_s and V_t| / |V_s or V_t|
    coactivation: float  # |V_s and V_t| of all coefficients
    bhattacharyya: float  # mean_p sum_g sqrt(o_s o_t)
    exposure: float  # mean_p sum_g o_s 1[g in V_t]: old mass where the new one touches
    kernel_ratio: float  # of the mean sizes of the bases


VIEWS = tuple(field.name for field in fields(Overlap))


def overlap(old: Occupancy, new: Occupancy) -> Overlap:
    """How far ``new`` samples use what ``old`` ones used.

    Raises: ValueError if the layers differ in shape; UndefinedMetric if one of the two
        visited no coefficient at all.
    """
    if old.mean.shape != new.mean.shape:
        raise ValueError(
            "occupancies must be of the same layer, got shapes "
            f"{tuple(old.mean.shape)} and {tuple(new.mean.shape)}"
        )
    v_old, v_new = old.visited(), new.visited()
    if not bool(v_old.any() and v_new.any()):
        raise UndefinedMetric(
            "an experience that visited no coefficient has no overlap"
        )
    both = (v_old & v_new).sum()
    uses_old, uses_new = v_old.any(-1), v_new.any(-1)
    roots = (old.share * new.share).sqrt().sum(-1)
    exposed = (old.share * v_new).sum(-1)
    return Overlap(
        jaccard=float(both / (v_old | v_new).sum()),
        coactivation=float(both / v_old.numel()),
        bhattacharyya=float(roots[uses_old | uses_new].mean()),
        exposure=float(exposed[uses_old].mean()),
        kernel_ratio=kernel_ratio([old.mean], [new.mean]),
    )


def kernel_ratio(old: Sequence[Tensor], new: Sequence[Tensor]) -> float:
    """How far a step on a new sample moves an old one's output, of what it moves its own.

    ``rho_st = K_st / sqrt(K_ss K_tt)``, ``K_st = sum_layers mean_s(phi) . mean_t(phi)`` of
    mean features. Of one layer under gradient descent, forgetting is proportional to it.

    Raises: ValueError for unlike layers; UndefinedMetric if one side has no features.
    """
    shapes = [[mean.shape for mean in side] for side in (old, new)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"both sides must be of the same layers, got {shapes}")

    def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        products = [(x.double() * y.double()).sum() for x, y in zip(a, b)]
        return torch.stack(products).sum()

    own = (inner(old, old) * inner(new, new)).sqrt()
    if not bool(own > 0):
        raise UndefinedMetric("an experience without features moves nothing")
    return float(inner(old, new) / own)


def overlap_matrix(occupancies: Sequence[Occupancy], view: str) -> Tensor:
    """One view of ``overlap`` for all pairs: row = old, column = new experience.

    Raises: ValueError for a view that ``Overlap`` does not have.
    """
    if view not in VIEWS:
        raise ValueError(f"view must be one of {VIEWS}, got {view!r}")
    rows = [[getattr(overlap(s, t), view) for t in occupancies] for s in occupancies]
    return torch.tensor(rows, dtype=torch.float64)


def drift_per_knot(before: Tensor, after: Tensor) -> Tensor:
    """``|c_after - c_before|`` over the outputs, ``(in_features, n_basis)``."""
    return (after - before).norm(dim=-1)


def drift_bound(occupancy: Occupancy, before: Tensor, after: Tensor) -> Tensor:
    """``sum_pg o_pg |change of c_pgq|``, ``(out_features,)``.

    At least ``E |change of f_q(x)|`` over the samples; 0 if nothing occupied has moved.
    """
    change = (after - before).abs().to(occupancy.mean.dtype)
    return torch.einsum("ig,igo->o", occupancy.mean, change)


def output_drift(before: Tensor, after: Tensor) -> Tensor:
    """Mean change of each output: ``(n_samples, out_features)`` -> ``(out_features,)``."""
    return (after - before).abs().mean(0, dtype=torch.float64)


def leak(visited: Tensor, before: Tensor, after: Tensor) -> float:
    """Largest move of a coefficient that no sample visited: 0 if training is local."""
    return float((after - before).abs().masked_fill(visited.unsqueeze(-1), 0).max())


def gradient_cosines(old: Tensor, new: Tensor) -> Tensor:
    """Cosines between gradients: ``(n, p)``, ``(m, p)`` -> ``(n, m)``; 0 for a zero one."""
    lengths = torch.outer(old.norm(dim=1), new.norm(dim=1))
    return (old @ new.T) / lengths.clamp(min=torch.finfo(old.dtype).tiny)


def conflict_rate(cosines: Tensor) -> float:
    """Share of pairs of gradients that point against each other (cosine below 0)."""
    return _rate(cosines < 0)


def _rate(hits: Tensor) -> float:
    return float(hits.double().mean())


@dataclass(frozen=True)
class Inference:
    """What class-incremental accuracy is made of: the product of the first two."""

    experience_inference: float  # how often the winner is of the right experience
    within_experience_accuracy: float  # how often it is then the sample's class
    oracle_accuracy: float  # accuracy if the experience were known
    accuracy: float


def inference(
    outputs: Tensor, targets: Tensor, class_experience: Sequence[int] | Tensor
) -> Inference:
    """Split accuracy into finding the experience and finding the class within it.

    Shape: ``(n, n_classes)``, ``(n,)``, ``(n_classes,)``: each class's experience.
    Raises: UndefinedMetric without samples, or if no experience was ever right.
    """
    if len(outputs) == 0:
        raise UndefinedMetric("no samples, no accuracy")
    of_class = torch.as_tensor(class_experience, device=outputs.device)
    winner, experience = outputs.argmax(1), of_class[targets]
    inferred = of_class[winner] == experience
    if not bool(inferred.any()):
        raise UndefinedMetric("the right experience was never inferred")
    other = of_class.unsqueeze(0) != experience.unsqueeze(1)  # (n, n_classes)
    oracle = outputs.masked_fill(other, float("-inf")).argmax(1)
    hits = winner == targets
    return Inference(*map(_rate, (inferred, hits[inferred], oracle == targets, hits)))


def recency_bias(outputs: Tensor, new_classes: Sequence[int]) -> float:
    """``mean over old samples of (mean new logit - mean old logit)``.

    It should be well below 0: old classes are to win on old data.

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


def falls(
    matrix: Tensor, higher_is_better: bool = True
) -> dict[tuple[int, int], float]:
    """What training on ``t`` took from ``s``: ``R[t-1][s] - R[t][s]``, ``s < t``.

    Returns: by ``(s, t)``, 0-based, without pairs that were not measured; errors
        (``higher_is_better=False``) are turned round.
    """
    taken = (matrix[:-1] - matrix[1:]) * (1.0 if higher_is_better else -1.0)
    n = len(taken)
    pairs = {(s, t): float(taken[t, s]) for s in range(n) for t in range(s + 1, n)}
    return {pair: fall for pair, fall in pairs.items() if fall == fall}


def forecast_quality(forecast: Sequence[float], forgetting: Sequence[float]) -> float:
    """Spearman's rank correlation of a forecast (overlap) with what was forgotten.

    Raises: ValueError for unequal lengths; UndefinedMetric for fewer than three pairs,
        or if one side is constant.
    """
    if len(forecast) != len(forgetting):
        raise ValueError(
            f"expected a forecast for each of {len(forgetting)} pairs, got {len(forecast)}"
        )
    if len(forecast) < 3:
        raise UndefinedMetric(f"a rank correlation needs 3 pairs, got {len(forecast)}")
    if len(set(forecast)) == 1 or len(set(forgetting)) == 1:
        raise UndefinedMetric("a constant has no rank correlation")
    return float(spearmanr(forecast, forgetting).statistic)
