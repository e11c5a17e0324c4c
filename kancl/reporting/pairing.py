"""Who is compared with whom: a model with its reference, by their roles."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

T = TypeVar("T", bound=Any)
"""Has a ``model``, by its name."""


def role(model: str) -> int:
    """0: KANs, which are compared; 2: MLPs, the references; 1: any other model, which is
    compared with MLPs, and is the reference of KANs where there is no MLP.
    """
    return 0 if model.startswith("kan") else 2 if model.startswith("mlp") else 1


def pairs(
    entrants: Sequence[T],
    group: Callable[[T], object],
    distance: Callable[[T, T], float] = lambda compared, reference: 0,
    kind: Callable[[T], Hashable] = lambda reference: None,
) -> list[tuple[T, T]]:
    """Every ``(compared, reference)`` of equal group, in the order of the entrants; of
    several references of a kind, those nearest by ``distance``.
    """
    result = []
    for a in entrants:
        others = [b for b in entrants if group(b) == group(a)]
        highest = max(role(b.model) for b in others)
        if role(a.model) < highest:
            references = [b for b in others if role(b.model) == highest]
            away = [(kind(b), distance(a, b)) for b in references]
            nearest = {k: min(d for k2, d in away if k2 == k) for k, _ in away}
            result += [(a, b) for b, (k, d) in zip(references, away) if d == nearest[k]]
    return result


def model_title(model: str) -> str:
    """``KAN`` for ``kan``; longer names as they are typed."""
    return {"kan": "KAN", "mlp": "MLP"}.get(model, model)


def pair_title(compared: Any, reference: Any) -> str:
    """``KAN - MLP``."""
    return f"{model_title(compared.model)} - {model_title(reference.model)}"
