"""Which strategies can't work with which head or kind of incremental learning."""

from __future__ import annotations

from difflib import get_close_matches

from kancl.strategies.registry import STRATEGIES

REFUSED: dict[tuple[str, str], str] = {
    ("der", "growing"): "the outputs it keeps lack the classes that come later; "
    "use head=single, or strategy=er_ace or strategy=replay instead",
    ("der", "multi"): "it asks the network for outputs without a task label; "
    "use strategy=er_ace or strategy=replay instead",
}
"""(strategy, head or kind of incremental learning): why not; what to use instead."""
REFUSED_MODELS: dict[tuple[str, str], str] = {
    (
        "spline_bayes",
        "mlp",
    ): "it has no bases to take densities from; use model=kan, or "
    "strategy=nearest_mean or strategy=ridge_readout instead",
}
"""(strategy, model): why not; what to use instead."""
LEARNS_VALUES = frozenset(
    {"naive", "joint", "cumulative", "from_scratch", "l2_anchor", "si", "mas"}
) | {"occupancy", "gram"}
"""Strategies that never ask for classes, and so can serve a regression."""


def check_pair(
    strategy: str,
    *,
    model: str,
    head: str,
    incremental: str,
    regression: bool = False,
) -> None:
    """Refuse a strategy that can't work with this head or kind of stream.

    Args:
        strategy: its name in ``STRATEGIES``.
        model: name of the network.
        head: single, growing or multi.
        incremental: class, domain or task.
        regression: whether values are learned, not classes.
    Raises: ValueError naming both sides and what to use instead, or the nearest name of
        an unknown strategy.
    """
    if strategy not in STRATEGIES:
        nearest = get_close_matches(strategy, STRATEGIES, n=1)
        hint = f", did you mean {nearest[0]}?" if nearest else "."
        names = ", ".join(STRATEGIES)
        raise ValueError(f"strategy={strategy} is unknown{hint} There are {names}")
    reason = REFUSED_MODELS.get((strategy, model))
    if reason is not None:
        raise ValueError(f"strategy={strategy} can't serve model={model}: {reason}")
    if regression and strategy not in LEARNS_VALUES:
        raise ValueError(
            f"strategy={strategy} needs classes, and this scenario is a regression; "
            f"strategies that serve it: {', '.join(sorted(LEARNS_VALUES))}"
        )
    for side, value in (("head", head), ("incremental", incremental)):
        reason = REFUSED.get((strategy, value))
        if reason is not None:
            raise ValueError(
                f"strategy={strategy} can't train model={model} with {side}={value}: "
                f"{reason}"
            )
